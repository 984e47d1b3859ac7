"""Ralston's rule (1962): the second-order method of two stages with the least error bound."""

from dataclasses import dataclass

from diffgeo.core import Step
from diffgeo.sampler.base import Method


@dataclass(frozen=True)
class Ralston(Method):
    """x' = x + h (k_1 + 3 k_2)/4 with the slopes k = (x - D)/sigma, k_2 at sigma + 2h/3 and
    x + 2h/3 k_1; two evaluations a step."""

    order = 2

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        h = sigma_next - sigma
        denoised = denoise(x, sigma)
        first = (x - denoised) / sigma
        middle = sigma + 2 * h / 3
        inside = x + 2 * h / 3 * first
        second = (inside - denoise(inside, middle)) / middle
        return Step(x + h * (first + 3 * second) / 4, sigma_next, denoised)
