"""Optimizers: algorithms that end in a point, not in a draw from the posterior."""

from __future__ import annotations

from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.steps.descent import ProjectedGradient, RedDiff


def reddiff(lam: float | None = None, rate: float = 0.1, passes: int = 1) -> Algorithm:
    """RED-diff (Mardani et al. 2024): Adam on the data term and the denoiser's residual. Does not
    sample the posterior: a point whose prior's weight sinks with the level
    (tests/test_regularizer.py)."""
    return Algorithm(step=RedDiff(lam, rate, passes))


def regularizer(
    lipschitz: float | None = None, level: float | None = None, passes: int = 1
) -> Algorithm:
    """Least squares with half the squared distance to the support: projected gradient, with D for
    the projection. Does not sample the posterior: a point, of a rate and a bias in closed form on
    subspaces (tests/test_regularizer.py)."""
    return Algorithm(step=ProjectedGradient(lipschitz, level, passes))


def constraint(lipschitz: float | None = None, passes: int = 1, noise: float = 1.0) -> Algorithm:
    """min |y - A(x)|^2/2 on the support, by denoising steps down the levels, for any operator that
    autograd can follow. Does not sample the posterior: its draws end in minima on the support
    (tests/test_regularizer.py)."""
    return Algorithm(step=ProjectedGradient(lipschitz, None, passes, noise))
