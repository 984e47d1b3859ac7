"""Multistep methods: one evaluation a step, the last ones remembered.

    GradientEstimation   x' = x + (sigma_down - sigma) (gamma eps + (1-gamma) eps_prev)
                              + sqrt(sigma'^2 - sigma_down^2) w
    DPMpp2M, DPMpp3M     x' = Dbar + (sigma'/sigma) (x - Dbar)
                         Dbar = sum_j w_j D_j,     h = log(sigma/sigma')

Dbar is the mean of D over the step under the weight e^(-(1-u)h) of the linear flow in log sigma, D
replaced by its secant or parabola through the last two or three estimates (weights.py). Adams
methods in eps are in adams.py, predictor-corrector UniPC in unipc.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.weights import Moments, exact, towards_data


@dataclass(frozen=True)
class GradientEstimation(Method):
    """Gradient estimation (Permenter and Yuan 2024): DDIM and DDPM seen as gradient descent on the
    distance to the data.

    gamma: 1 is DDIM; 1.5 is iPNDM2, the second-order Adams-Bashforth rule of equal steps in sigma,
        which keeps its order on every grid whose neighbouring steps grow alike; 2, the default,
        over-extrapolates on purpose and is of order 1. To clip the history wrap the denoiser: the
        eps remembered is that of the estimate it returned.
    mu in [0, 1): sigma' = sigma^mu sigma_down^(1-mu), the way from sigma_down back up to sigma'
    being fresh noise; 1/2 is DDPM.
    """

    gamma: float = 2.0
    mu: float = 0.0
    memory = 1

    def __post_init__(self):
        if not 0 <= self.mu < 1:
            raise UsageError(f"sampler.mu={self.mu}: write 0 <= mu < 1 (0 is DDIM, 0.5 is DDPM)")

    @property
    def order(self) -> int:
        return 2 if (self.gamma, self.mu) == (1.5, 0) else 1

    def down(self, sigma: float, sigma_next: float) -> float:
        """sigma_down."""
        return (sigma_next / sigma**self.mu) ** (1 / (1 - self.mu))

    def added_noise(self, sigma, sigma_next):
        if not self.mu:
            return 0.0
        return math.sqrt(sigma_next**2 - self.down(sigma, sigma_next) ** 2)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        eps = (x - denoised) / sigma
        if history:
            eps = torch.lerp(history[-1].eps, eps, self.gamma)
        x = torch.add(x, eps, alpha=self.down(sigma, sigma_next) - sigma)
        if self.mu and sigma_next > 0:
            x = torch.add(x, noise(), alpha=self.added_noise(sigma, sigma_next))
        return Step(x, sigma_next, denoised)


def midpoint(n: int, z: float) -> list[float]:
    """Moments 1, 1/2 of two points, as the secant has been published everywhere; 1/2 + h/12 +
    O(h^2) would be exact. More points: exact."""
    return [1.0, 0.5] if n == 2 else exact(n, z)


def halved(n: int, z: float) -> list[float]:
    """The published parabola: its last moment is phi_3/phi_1, half of what it has to be."""
    moments = midpoint(n, z)
    if n == 3:
        moments[-1] = moments[-1] / 2
    return moments


class DataPrediction(Method):
    """x' = Dbar + (sigma'/sigma) (x - Dbar) over the estimates shown; a subclass says how many it
    looks at and the moments of Dbar.

    Shown no earlier step, and into sigma' = 0, it is Euler's step (DPM-Solver++(1) = DDIM).
    """

    @property
    def moments(self) -> Moments:
        return midpoint

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        past = history[::-1]
        levels = (sigma, *(p.sigma for p in past))
        terms = [denoised, *(p.denoised for p in past)]
        return Step(towards_data(x, levels, terms, sigma_next, self.moments), sigma_next, denoised)


@dataclass(frozen=True)
class DPMpp2M(DataPrediction):
    """DPM-Solver++(2M) (Lu et al. 2022): Dbar = D + (h/(2 h_prev)) (D - D_prev)."""

    order = 2
    memory = 1


@dataclass(frozen=True)
class DPMpp3M(DataPrediction):
    """DPM-Solver++(3M): D a parabola in u, the log sigma in units of the step from the present
    level on,

        x' = (sigma'/sigma) x + h (phi_1 D + phi_2 dD/du + phi_3 d2D/du2),    phi_k = phi_k(-h).

    weights: `exact`, of order 3, or `legacy`, the widespread formula: it takes the second divided
        difference for d2D/du2, which is twice that, and so is of order 2 (the code of DPM-Solver++,
        k-diffusion and diffusers; a test measures both). With one earlier step it is 2M.
    """

    weights: str = "exact"
    memory = 2
    MOMENTS: ClassVar[dict[str, Moments]] = {"exact": midpoint, "legacy": halved}

    def __post_init__(self):
        if self.weights not in self.MOMENTS:
            raise UsageError(f"sampler.weights={self.weights}: write {' or '.join(self.MOMENTS)}")

    @property
    def order(self) -> int:
        return 3 if self.weights == "exact" else 2

    @property
    def moments(self) -> Moments:
        return self.MOMENTS[self.weights]
