"""One-step methods for the probability flow dx/dsigma = (x - D(x; sigma))/sigma.

Euler   x' = D + (sigma'/sigma) (x - D)
Heun    the same predictor, then the mean of the slopes at both ends
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diffgeo.core import Step
from diffgeo.sampler.base import Method


@dataclass(frozen=True)
class Euler(Method):
    """Euler's rule; DDIM (Song, Meng, Ermon 2021) is this in every chart. One evaluation a step."""

    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        return Step(torch.lerp(denoised, x, sigma_next / sigma), sigma_next, denoised)


@dataclass(frozen=True)
class Heun(Method):
    """Heun's rule (Karras et al. 2022, Algorithm 1). Two evaluations a step; one in the step to
    sigma = 0, which is Euler's.

    With r = sigma'/sigma, the prediction y = D + r (x - D) and the denoised D' there, the mean of
    the slopes (x - D)/sigma = (y - D)/sigma' and (y - D')/sigma' is (y - (D + D')/2)/sigma', so
    that

        x' = x + (sigma' - sigma) (y - (D + D')/2)/sigma' = y + (1/r - 1)/2 (D' - D).
    """

    order = 2

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        predicted = torch.lerp(denoised, x, sigma_next / sigma)
        if sigma_next == 0:
            return Step(predicted, sigma_next, denoised)
        change = torch.sub(denoise(predicted, sigma_next), denoised)
        x = torch.add(predicted, change, alpha=(sigma / sigma_next - 1) / 2)
        return Step(x, sigma_next, denoised)
