"""Predictor against corrector on a Gaussian, without Monte Carlo: what Song et al. 2021 (Table 1)
compare by FID, in W2.

Levels sigma_1 > ... > sigma_N of a variance-exploding process, equally spaced in log sigma, and
sigma_(N+1) = 0. On N(0, diag(lambda)) a score with relative errors delta_i is

    s_i = -c_i x_i,      c_i = (1 + delta_i)/(lambda_i + sigma^2),

so every step keeps each coordinate a centred Gaussian, and its variance v_i goes on by itself. With
u = sigma_k^2 - sigma_(k+1)^2 the predictors are

    reverse diffusion    x' = x + u s + sqrt(u) w
    ancestral            x' = x + u s + (sigma_(k+1)/sigma_k) sqrt(u) w
    flow                 x' = x + (u/2) s

the noise of the last step being dropped. The corrector, before the predictor at the same level, is
a step of Langevin dynamics whose length is set by a signal-to-noise ratio r,

    x <- x + e s + sqrt(2e) w,      e = 2 (r |w|/|s|)^2.

The published code takes the norms of the batch. Here they are those of the population, |w|^2 = d
and |s|^2 = sum_i c_i^2 v_i, to which those of a large batch tend.

The budgets of the table: P_N and P_2N, predictors alone on N and on 2N levels; C_2N, two correctors
at each of N levels and no predictor, the last noise kept; PC_N, one of each at N levels. All but
P_N cost 2N evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffgeo.errors import UsageError

Row = NDArray[np.float64]  # one number a coordinate, [d]
# (sigma, sigma') -> the coefficient of s, the variance of the noise
Predictor = Callable[[float, float], tuple[float, float]]


def reverse_diffusion(sigma: float, sigma_next: float) -> tuple[float, float]:
    u = sigma**2 - sigma_next**2
    return u, u


def ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    u = sigma**2 - sigma_next**2
    return u, u * (sigma_next / sigma) ** 2


def flow(sigma: float, sigma_next: float) -> tuple[float, float]:
    return (sigma**2 - sigma_next**2) / 2, 0.0


PREDICTORS: dict[str, Predictor] = {
    "ancestral": ancestral,
    "reverse diffusion": reverse_diffusion,
    "flow": flow,
}


@dataclass(frozen=True, eq=False)
class Problem:
    """A Gaussian, a score of it, and the levels.

    variance: lambda [d].    error: delta [d].
    low, high: the last and the first of the positive levels.
    ratio: r of the corrector.
    Raises UsageError on values that are none.
    """

    variance: Row
    error: Row
    low: float = 0.01
    high: float = 50.0
    ratio: float = 0.16

    def __post_init__(self):
        if not (self.variance > 0).all():
            raise UsageError(f"variance={self.variance.tolist()}: write numbers above 0")
        if not (np.abs(self.error) < 1).all():
            raise UsageError(f"error={self.error.tolist()}: write numbers between -1 and 1")
        if not 0 < self.low < self.high < math.inf:
            raise UsageError(
                f"low={self.low:g} high={self.high:g}: write two noise levels, 0 < low < high"
            )
        if not 0 < self.ratio < math.inf:
            raise UsageError(f"ratio={self.ratio:g}: write a number above 0")

    def levels(self, N: int) -> list[float]:
        """N positive levels, decreasing, then 0."""
        return [*np.geomspace(self.high, self.low, N).tolist(), 0.0]

    def slope(self, sigma: float) -> Row:
        """c [d], with s = -c x."""
        return (1 + self.error) / (self.variance + sigma**2)

    def corrected(self, v: Row, sigma: float) -> Row:
        """The variances [d] after one corrector."""
        c = self.slope(sigma)
        e = 2 * self.ratio**2 * len(v) / (c**2 * v).sum()
        return (1 - e * c) ** 2 * v + 2 * e

    def predicted(self, predictor: Predictor, v: Row, sigma: float, sigma_next: float) -> Row:
        """The variances [d] after one step; the step to 0 adds no noise."""
        weight, noise = predictor(sigma, sigma_next)
        v = (1 - weight * self.slope(sigma)) ** 2 * v
        return v + noise if sigma_next > 0 else v

    def end(self, predictor: Predictor | None, N: int, corrections: int) -> Row:
        """The variances [d] of the samples: N levels, `corrections` at each, then the predictor,
        if there is one."""
        levels = self.levels(N)
        v = np.full_like(self.variance, self.high**2)
        for k in range(N):
            for _ in range(corrections):
                v = self.corrected(v, levels[k])
            if predictor is not None:
                v = self.predicted(predictor, v, levels[k], levels[k + 1])
        return v

    def w2(self, v: Row) -> float:
        """From N(0, diag(v)) to the law."""
        return float(np.linalg.norm(np.sqrt(v) - np.sqrt(self.variance)))


def alternating(size: float, d: int) -> Row:
    """+size, -size, +size, ... [d]."""
    signs = np.ones(d)
    signs[1::2] = -1
    return size * signs


def table(problem: Problem, N: int) -> dict[str, dict[str, float]]:
    """W2 by predictor and budget; C_2N, which has no predictor, in every row."""
    alone = problem.w2(problem.end(None, N, 2))
    found = {}
    for name, predictor in PREDICTORS.items():
        found[name] = {
            f"P{N}": problem.w2(problem.end(predictor, N, 0)),
            f"P{2 * N}": problem.w2(problem.end(predictor, 2 * N, 0)),
            f"C{2 * N}": alone,
            f"PC{N}": problem.w2(problem.end(predictor, N, 1)),
        }
    return found
