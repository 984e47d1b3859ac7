"""Analytic-DPM: ancestral sampling whose noise knows how uncertain D is (Bao, Li, Zhu, Zhang 2022).

A step of DDIM or DDPM draws x' from q(x' | x, x0) with D in the place of x0. Averaged over x0 | x
instead, x' has the further covariance (1 - sigma_down/sigma)^2 Cov[x0 | x]; with its mean over x
and coordinates, v(sigma) = E |x0 - D|^2 / d,

    x' = D + (sigma_down/sigma) (x - D) + sqrt(sigma_up^2 + (1 - sigma_down/sigma)^2 v(sigma)) w,

the isotropic Gaussian closest to the truth in KL. The paper writes v = sigma^2 (1 - Gamma) with
Gamma = E |eps|^2 / d, the same for the exact D; for a learned one E |x0 - D|^2 is still the best
variance (Bao, Li, Sun, Zhu, Zhang 2022).
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch

from diffgeo.core import Data, Denoiser, generator
from diffgeo.errors import UsageError
from diffgeo.sampler.stochastic import EulerAncestral

LEVELS = tuple(10 ** (k / 8) for k in range(-24, 25))  # .001 to 1000, eight a decade
TINY = 1e-300


@torch.no_grad()
def posterior_variance(
    denoise: Denoiser, data: Data, levels: Sequence[float], n: int, seed: int = 0
) -> tuple[float, ...]:
    """v = E |x0 - D(x0 + sigma eps; sigma)|^2 / d at each level, from n forward samples of the
    law."""
    g = generator(seed, *b"posterior variance")
    x0 = data.sample(n, g).to(torch.float64)
    variances = []
    for sigma in levels:
        x = x0 + sigma * torch.randn(x0.shape, generator=g, dtype=torch.float64)
        variances.append(float((denoise(x, sigma) - x0).square().mean()))
    return tuple(variances)


@dataclass(frozen=True)
class AnalyticVariance(EulerAncestral):
    """A-DDIM (eta = 0) and A-DDPM (eta = 1). One evaluation a step; x' = D in the step to 0.

    levels, variances: the table of v, sigma increasing: straight lines in log v over log sigma,
        beyond its ends v ~ sigma^2 below and constant above. A config has none: `fit` measures it.
    n: forward samples a level in `fit`.
    Raises UsageError on a negative eta, on n < 1, on levels and variances that are no table, and in
    a step without a table.
    """

    eta: float = 0.0
    levels: tuple[float, ...] = field(default=(), repr=False)
    variances: tuple[float, ...] = field(default=(), repr=False)
    n: int = 4096

    def __post_init__(self):
        super().__post_init__()
        increasing = all(a < b for a, b in pairwise(self.levels))
        if len(self.variances) not in (0, len(self.levels)) or not increasing:
            raise UsageError(
                f"sampler.levels ({len(self.levels)}) and sampler.variances "
                f"({len(self.variances)}): write increasing levels and one variance for each"
            )
        if any(s <= 0 for s in self.levels) or any(v < 0 for v in self.variances):
            raise UsageError(
                "sampler.levels and sampler.variances: write levels above 0, and variances of 0 or "
                "more"
            )
        if self.n < 1:
            raise UsageError(
                f"sampler.n={self.n}: write the number of forward samples a level, 1 or more"
            )

    def fit(self, denoise: Denoiser, data: Data, seed: int = 0) -> AnalyticVariance:
        """This sampler with the table measured on the law: n forward samples at each of its levels,
        or of 49 from .001 to 1000."""
        levels = self.levels or LEVELS
        variances = posterior_variance(denoise, data, levels, self.n, seed)
        return replace(self, levels=levels, variances=variances)

    @cached_property
    def table(self) -> tuple[list[float], list[float]]:
        """log sigma and log v, with one more entry at either end: v falls as sigma^2 below, stays
        above."""
        if not self.variances:
            raise UsageError(
                "AnalyticVariance has no posterior variances: none were given, and it was not "
                "fitted to a law first"
            )
        x = [math.log(s) for s in self.levels]
        y = [math.log(max(v, TINY)) for v in self.variances]
        return [x[0] - 100, *x, x[-1] + 100], [y[0] - 200, *y, y[-1]]

    def variance(self, sigma: float) -> float:
        """v(sigma), in squared data units."""
        x, y = self.table
        at = math.log(sigma)
        k = bisect(x, at)
        t = (at - x[k - 1]) / (x[k] - x[k - 1])
        return math.exp(y[k - 1] + t * (y[k] - y[k - 1]))

    def added_noise(self, sigma, sigma_next):
        if sigma_next == 0:
            return 0.0
        down, up = self.split(sigma, sigma_next)
        return math.hypot(up, (1 - down / sigma) * math.sqrt(self.variance(sigma)))
