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
    """Heun's rule (Karras et al. 2022, Algorithm 1). Two evaluations a step; one in the step to sigma = 0, which is Euler's."""

    order = 2

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        predicted = torch.lerp(denoised, x, sigma_next / sigma)
        if sigma_next == 0:
            return Step(predicted, sigma_next, denoised)
        slope = (x - denoised) / sigma
        slope_next = (predicted - denoise(predicted, sigma_next)) / sigma_next
        return Step(torch.add(x, slope + slope_next, alpha=(sigma_next - sigma) / 2), sigma_next, denoised)
