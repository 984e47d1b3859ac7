"""Steps that form a clean estimate and give it fresh noise.

With D^ and e = (x - D^)/sigma,

    x' = D^ + sigma' (sqrt(1 - zeta) e + sqrt(zeta) eps):

zeta = 0 is DDIM, zeta = 1 forgets x. At small sigma this is Langevin's dynamics at temperature

    T = (1 + sqrt(1 - zeta))/2,

so many steps at a fixed zeta sample p(x | y)^(1/T): under the exact D_y the variance is T times the
posterior's, a half at zeta = 1. T = 1 needs zeta -> 0 more slowly than 1/steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Noise, Sampler, Step
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import linear
from diffgeo.inverse.rules import Prox
from diffgeo.sampler.base import Method


def check_share(zeta: float) -> None:
    """Raise UsageError unless zeta is a share of the noise."""
    if not 0 <= zeta <= 1:
        raise UsageError(
            f"algorithm.zeta={zeta} is the share of fresh noise: write a number from 0 to 1"
        )


@dataclass(frozen=True)
class Renoise(Method):
    """x' = D + sigma' (sqrt(1 - zeta) e + sqrt(zeta) eps), of whatever denoiser it is given.

    A step that looks at no measurement: under a rule it moves D^. Does not sample the posterior at
    a fixed zeta > 0 (tests/test_restoration_limits.py: the factor T).
    Raises UsageError on a zeta outside [0, 1].
    """

    zeta: float = 1.0
    order = 1

    def __post_init__(self):
        check_share(self.zeta)

    def told(self, measurement: Measurement) -> Sampler:
        """The same step for every measurement."""
        return self

    def added_noise(self, sigma, sigma_next):
        return math.sqrt(self.zeta) * sigma_next

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        return Step(self.renoised(x, denoised, sigma, sigma_next, noise), sigma_next, denoised)

    def renoised(
        self, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise
    ) -> Tensor:
        """x' [B,*D]."""
        kept = math.sqrt(1 - self.zeta) * sigma_next / sigma
        moved = torch.lerp(denoised, x, kept)
        if added := self.added_noise(sigma, sigma_next):
            moved = torch.add(moved, noise(), alpha=added)
        return moved


@dataclass(frozen=True)
class DiffPIR:
    """DiffPIR (Zhu et al. 2023): the prox of the data at D, then `Renoise`. The step to 0 takes D
    as it is, as published.

    zeta: share of fresh noise. lam: lambda in rho = lambda sigma_n^2/sigma^2.
    Does not sample the posterior: at lambda = 1 and a fixed zeta > 0 the mean is right on a
    Gaussian and the variance is (1 + sqrt(1 - zeta))/2 of the posterior's, at zeta = 1 a half; at
    zeta = 0 both are wrong (tests/test_restoration_limits.py).
    Raises UsageError on a zeta outside [0, 1] and a lambda that is not positive.
    """

    zeta: float = 0.3
    lam: float = 1.0

    def __post_init__(self):
        check_share(self.zeta)
        Prox(self.lam)  # refuses a wrong lambda

    def told(self, measurement: Measurement) -> Sampler:
        linear(measurement, "diffpir")
        return ProxRenoise(Renoise(self.zeta), Prox(self.lam), measurement)


@dataclass(frozen=True, eq=False)
class ProxRenoise(Method):
    """`Renoise` of the prox, told a measurement."""

    renoise: Renoise
    rule: Prox
    measurement: Measurement
    order = 1

    def added_noise(self, sigma, sigma_next):
        return self.renoise.added_noise(sigma, sigma_next)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        if sigma_next > 0:
            denoise = self.rule.told(denoise, self.measurement)
        return self.renoise.step(denoise, x, sigma, sigma_next, history, noise)
