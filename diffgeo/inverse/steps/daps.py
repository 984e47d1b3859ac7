"""Decoupled annealing: forget x but for a clean estimate of it, draw x0 from what that and y say
together, and noise x0 to the next level.

    x0 ~ N(x0; x^, v) p(y | x0),        x' = x0 + sigma' eps.

x^ is D(x), or where the probability flow ends from x. For a linear operator x0 is Gaussian, and

    x0 = argmin |y + s n - A z|^2/s^2 + |x^ + sigma w - z|^2/v,       w, n ~ N(0, I),

one prox, is a draw of it exactly: mean V (x^/v + A'y/s^2), covariance V = (1/v + A'A/s^2)^-1.
For any other operator Langevin's dynamics draws it: with h = size/(1/v + curvature/s^2),

    z <- z + h ((x^ - z)/v + A'(y - A z)/s^2) + sqrt(2 h) eps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement, prox
from diffgeo.core import Denoiser, Noise, Sampler, Step
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import finite, matching, measured_noise, noisy, pullback
from diffgeo.sampler import steps
from diffgeo.sampler.base import Method
from diffgeo.sampler.deterministic import Euler, Heun
from diffgeo.schedule import VE

END = 0.002  # the last level of the flow map, from where Euler's rule goes to 0


@dataclass(frozen=True)
class DAPS:
    """Decoupled annealing posterior sampling (Zhang et al. 2025).

    flow: steps of Heun's rule from x to x^, 2 evaluations each; 0: x^ = D(x). euler: of Euler's
        rule, of which 5 are published.
    langevin: steps of Langevin's dynamics; 0: the exact draw, for linear operators.
    size: of a step of it, at most 1 (stable below 2). curvature: the largest |A' u|^2 over |u|^2.
    Samples the posterior of a Gaussian prior as steps grow where x^ = D(x), and no other's; with
    the flow map the prior counts half (tests/test_restoration_limits.py).
    Raises UsageError on negative numbers, on an operator that is not linear without Langevin steps,
    and with them where sigma_n is 0.
    """

    flow: int = 0
    euler: bool = False
    langevin: int = 0
    size: float = 0.5
    curvature: float = 1.0

    def __post_init__(self):
        for name, count in (("flow", self.flow), ("langevin", self.langevin)):
            if count < 0:
                raise UsageError(f"algorithm.{name}={count} is a number of steps: write 0 or more")
        if not 0 < self.size <= 1:
            raise UsageError(f"algorithm.size={self.size}: write a number above 0, at most 1")
        if not self.curvature > 0:
            raise UsageError(f"algorithm.curvature={self.curvature}: write a number above 0")

    def told(self, measurement: Measurement) -> Sampler:
        operator = measurement.operator
        if self.langevin:
            noisy(measurement, "daps with langevin steps", "ddnm")
        elif not isinstance(operator, Linear):
            raise UsageError(
                f"algorithm=daps draws from a linear operator's posterior, and "
                f"{type(operator).__name__} is none: write algorithm.langevin=100"
            )
        return DAPSStep(self, measurement)


@dataclass(frozen=True, eq=False)
class DAPSStep(Method):
    """A step of `DAPS` for rows with this measurement."""

    options: DAPS
    measurement: Measurement
    order = 1

    def added_noise(self, sigma, sigma_next):
        return sigma_next

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.measurement, x)
        estimate = denoise(x, sigma) if not self.options.flow else self.flowed(denoise, x, sigma)
        drawn = self.drawn(estimate, sigma, noise)
        moved = torch.add(drawn, noise(), alpha=sigma_next) if sigma_next > 0 else drawn
        return Step(moved, sigma_next, estimate)

    def flowed(self, denoise: Denoiser, x: Tensor, sigma: float) -> Tensor:
        """Where the probability flow takes x, [B,*D]."""
        if sigma <= END:
            return denoise(x, sigma)
        sigmas = VE(sigma_min=END, sigma_max=sigma).grid(self.options.flow)
        method = Euler() if self.options.euler else Heun()
        for step in steps(method, denoise, x, sigmas, silent):
            x = step.x
        return x

    def drawn(self, estimate: Tensor, sigma: float, noise: Noise) -> Tensor:
        """A draw of x0, [B,*D]."""
        if self.options.langevin:
            return self.walked(estimate, sigma, noise)
        operator = self.measurement.operator
        assert isinstance(operator, Linear)
        s = self.measurement.sigma_n
        near = torch.add(estimate, noise(), alpha=sigma)
        y = self.measurement.y.to(near)
        if s > 0:
            y = y + s * measured_noise(noise, operator, near)
        return prox(operator, near, y, s**2 / sigma**2)

    def walked(self, estimate: Tensor, sigma: float, noise: Noise) -> Tensor:
        """The same by Langevin's dynamics from x^, near its law after many steps."""
        s = self.measurement.sigma_n
        operator = self.measurement.operator
        h = self.options.size / (1 / sigma**2 + self.options.curvature / s**2)
        z = estimate
        for _ in range(self.options.langevin):
            pull = pullback(operator, z, self.measurement.residual(z)) / s**2
            z = z + h * ((estimate - z) / sigma**2 + pull)
            z = torch.add(z, noise(), alpha=math.sqrt(2 * h))
        return finite(z)


def silent() -> Tensor:
    """The noise of a method that draws none."""
    raise AssertionError("the probability flow draws no noise")
