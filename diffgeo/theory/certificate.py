"""Which grids of noise levels a denoiser with relative error eta can be trusted on (Permenter and
Yuan 2024).

A DDIM step from sigma_i to sigma_(i-1) is a gradient step of size beta_i = 1 - sigma_(i-1)/sigma_i
on dist^2/2. With relative error eta each step multiplies dist by a factor between 1 - beta (1+eta)
and 1 - beta (1-eta), and sigma by 1 - beta. The grid is (eta, nu)-admissible when dist cannot leave
the band sigma sqrt(n)/nu .. nu sigma sqrt(n): for every t, over the steps t .. N taken so far,

    prod (1 + beta_i (eta-1)) / prod (1 - beta_i)           <= nu,
    prod (1 - beta_i)         / prod (1 - beta_i (1+eta))   <= nu,

and all factors of the last product positive. The least such nu is the grid's certificate. With a
constant beta, the log-linear grid,

    admissible for N steps  <=>  beta <= beta*_N = c/(eta + c),     c = 1 - nu^(-1/N),

and as N grows sigma can fall by nu^(-1/eta) and dist by nu^(-(1-eta)/eta) in all.
A worst case: it bounds the distance, it does not rank schedules by sample quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from diffgeo.errors import UsageError

Eta = float | Sequence[float]  # one relative error for the whole grid, or one for each step


def betas(sigmas: Sequence[float]) -> list[float]:
    """beta_i = 1 - sigma_(i-1)/sigma_i of the decreasing levels [K+1], first step first [K]; a step
    into 0 has beta = 1."""
    if len(sigmas) < 2 or sigmas[-1] < 0 or any(b >= a for a, b in pairwise(sigmas)):
        raise UsageError("a certificate needs two or more decreasing levels, the last 0 or more")
    return [1 - b / a for a, b in pairwise(sigmas)]


def each_step(eta: Eta, steps: int) -> list[float]:
    """`eta` as one number a step. Raises UsageError on a negative or missing one."""
    if np.shape(eta) not in ((), (steps,)) or not np.all(np.greater_equal(eta, 0)):
        raise UsageError(
            f"eta={eta}: write one number of 0 or more, or one for each of the {steps} steps"
        )
    return np.broadcast_to(np.asarray(eta, dtype=float), steps).tolist()


def bounds(sigmas: Sequence[float], eta: Eta) -> tuple[list[float], list[float]]:
    """The theorem's bounds on dist(x_t)/dist(x_N) at every level [K+1]: running products of 1 -
    beta (eta+1) and of 1 + beta (eta-1).

    A lower factor that is not positive says nothing more: the lower bound is 0 from there on.
    """
    beta = betas(sigmas)
    lower = [1.0]
    upper = [1.0]
    for b, e in zip(beta, each_step(eta, len(beta)), strict=True):
        lower.append(lower[-1] * max(0.0, 1 - b * (e + 1)))
        upper.append(upper[-1] * (1 + b * (e - 1)))
    return lower, upper


def nu_min(sigmas: Sequence[float], eta: Eta) -> float:
    """The certificate: the least nu for which the grid is (eta, nu)-admissible; inf when some beta
    >= 1/(1+eta)."""
    first = sigmas[0]
    nu = 1.0
    for sigma, lower, upper in zip(sigmas, *bounds(sigmas, eta), strict=True):
        if sigma == 0 or lower == 0:
            return math.inf
        nu = max(nu, upper * first / sigma, sigma / (first * lower))
    return nu


def beta_star(eta: float, nu: float, steps: int) -> float:
    """The largest constant beta that is (eta, nu)-admissible for that many steps: c/(eta + c), c =
    1 - nu^(-1/steps)."""
    if not (eta >= 0 and nu > 1 and steps >= 1):
        raise UsageError(
            f"eta={eta}, nu={nu}, steps={steps}: write eta of 0 or more, nu above 1 and 1 step or "
            "more"
        )
    c = -math.expm1(-math.log(nu) / steps)
    return c / (eta + c)


def reachable(eta: float, nu: float, steps: int) -> float:
    """sigma_0/sigma_N of the steepest admissible log-linear grid, (1 - beta*_N)^N."""
    return (1 - beta_star(eta, nu, steps)) ** steps


def limits(eta: float, nu: float) -> tuple[float, float]:
    """The limits N -> inf of that grid: of sigma_0/sigma_N, nu^(-1/eta), and of the upper bound on
    dist, nu^(-(1-eta)/eta)."""
    if not (eta > 0 and nu > 1):
        raise UsageError(f"eta={eta}, nu={nu}: write eta above 0 and nu above 1")
    return nu ** (-1 / eta), nu ** (-(1 - eta) / eta)


def steps_needed(ratio: float, eta: float, nu: float, most: int = 100_000) -> float:
    """The least number of log-linear steps that are (eta, nu)-admissible down to sigma_0/sigma_N =
    ratio; inf when no number is."""
    if eta > 0 and ratio <= limits(eta, nu)[0]:
        return math.inf
    low = 0
    high = 1
    while reachable(eta, nu, high) > ratio:  # it falls with the number of steps
        low = high
        high = 2 * high
        if high > most:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if reachable(eta, nu, middle) <= ratio:
            high = middle
        else:
            low = middle
    return high


def certify(sigmas: Sequence[float], eta: float, nu: float) -> dict[str, float]:
    """The numbers of one eta for the positive levels `sigmas` [K+1]; `nu` is beta*'s band."""
    steps = len(sigmas) - 1
    return {
        "nu_min": nu_min(sigmas, eta),
        "nu_min_but_last": nu_min(sigmas[:-1], eta) if steps > 1 else 1.0,
        "beta_star": beta_star(eta, nu, steps),
        "reachable": reachable(eta, nu, steps),
        "steps_needed": steps_needed(sigmas[-1] / sigmas[0], eta, nu),
    }
