"""The forward process of Gaussian theory, dx = -beta x dt + sqrt(2 beta) dW, as a schedule."""

from __future__ import annotations

from collections.abc import Sequence

from diffgeo.errors import UsageError
from diffgeo.schedule import VP

LARGEST = 1e6  # of a rate, and of a time
DEPTH = 300.0  # of B = int_0^T beta dt, beyond which e^(-2B) is no number


def process(rates: Sequence[float], horizon: float) -> VP:
    """The process with the rate beta, affine on [0, T] between two values, or one constant. VP's
    rates are twice these. Raises UsageError on rates or a time that make none."""
    low = rates[0]
    high = rates[-1]
    if len(rates) > 2 or not 0 < low <= high < LARGEST:
        shown = ", ".join(f"{rate:g}" for rate in rates)
        raise UsageError(
            f"beta=[{shown}]: write [beta_min,beta_max] with 0 < beta_min <= beta_max, or one "
            "constant"
        )
    if not 0 < horizon < LARGEST:
        raise UsageError(f"T={horizon:g}: write a positive time")
    depth = (low + high) * horizon / 2
    if depth > DEPTH:
        raise UsageError(
            f"beta and T={horizon:g}: e^(-2B) vanishes with B = (beta_min + beta_max) T/2 = "
            f"{depth:g}: write rates or a time that leave B at {DEPTH:g} or less"
        )
    slope = (high - low) / horizon
    return VP(t_min=0.0, t_max=horizon, beta_min=2 * low, beta_max=2 * (low + slope))
