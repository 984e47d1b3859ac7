"""Multistep methods: one evaluation a step, and the last one remembered.

    GradientEstimation   x' = x + (sigma_down - sigma) (gamma eps + (1-gamma) eps_prev) + sqrt(sigma'^2 - sigma_down^2) w
    DPMpp2M              x' = Dbar + (sigma'/sigma) (x - Dbar),   Dbar = D + (h/(2 h_prev)) (D - D_prev),   h = log(sigma/sigma')
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method


@dataclass(frozen=True)
class GradientEstimation(Method):
    """Gradient estimation (Permenter and Yuan 2024): DDIM and DDPM seen as gradient descent on the distance to the data.

    gamma: 1 is DDIM; 1.5 is iPNDM2, the second-order Adams-Bashforth rule of equal steps in sigma, which keeps its order on every
        grid whose neighbouring steps grow alike; 2, the default, over-extrapolates on purpose and is of order 1.
    mu in [0, 1): sigma' = sigma^mu sigma_down^(1-mu), the way from sigma_down back up to sigma' being fresh noise; 1/2 is DDPM.
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
        return (sigma_next / sigma**self.mu) ** (1 / (1 - self.mu))

    def added_noise(self, sigma, sigma_next):
        return math.sqrt(sigma_next**2 - self.down(sigma, sigma_next) ** 2) if self.mu else 0.0

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        eps = (x - denoised) / sigma
        if history:
            eps = torch.lerp(history[-1].eps, eps, self.gamma)
        x = torch.add(x, eps, alpha=self.down(sigma, sigma_next) - sigma)
        if self.mu and sigma_next > 0:
            x = torch.add(x, noise(), alpha=self.added_noise(sigma, sigma_next))
        return Step(x, sigma_next, denoised)


@dataclass(frozen=True)
class DPMpp2M(Method):
    """DPM-Solver++(2M) (Lu et al. 2022): the integral of D over log sigma by a secant. Euler on the first step and into 0."""

    order = 2
    memory = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = extrapolated = denoise(x, sigma)
        if history and sigma_next > 0:
            past = history[-1]
            h, h_past = math.log(sigma / sigma_next), math.log(past.sigma / sigma)
            extrapolated = torch.lerp(past.denoised, denoised, 1 + h / (2 * h_past))
        return Step(torch.lerp(extrapolated, x, sigma_next / sigma), sigma_next, denoised)
