"""Reverse diffusions: the law of x at every level is that of the flow, the paths are noisy.

With beta = -d log(scale)/dt and g^2 = scale^2 d(sigma^2)/dt the reverse of dx_t = -beta x_t dt + g dW is, going down in t,

    dx_t = (beta x_t + g^2 s_t) dt + g dW,      s_t = (D - x) / (scale sigma^2), the score of x_t = scale x.

    DDPM                   exact for a frozen D:      x' ~ N(D + (sigma'/sigma)^2 (x - D), sigma'^2 (1 - (sigma'/sigma)^2))
    EulerMaruyama          everything frozen at t
    ExponentialIntegrator  s_t frozen, the rest integrated exactly
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import torch

from diffgeo.core import Schedule, Step
from diffgeo.sampler.base import ChartMethod, Method
from diffgeo.schedule import OU


@dataclass(frozen=True)
class DDPM(Method):
    """Ancestral sampling: the Gaussian posterior of x' given x and x0 = D (Ho, Jain, Abbeel 2020, eqs. 6-7)."""

    order = 1

    def added_noise(self, sigma, sigma_next):
        return sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        x = torch.lerp(denoised, x, (sigma_next / sigma) ** 2)
        if sigma_next > 0:
            x = torch.add(x, noise(), alpha=self.added_noise(sigma, sigma_next))
        return Step(x, sigma_next, denoised)


class Level(NamedTuple):
    """A chart at one noise level, in Python floats."""

    t: float
    scale: float
    beta: float
    g2: float
    integral: float


def level(chart: Schedule, sigma: float) -> Level:
    s = torch.tensor(sigma, dtype=torch.float64)
    t = chart.t(s)
    return Level(*(float(v) for v in (t, chart.scale(s), chart.beta(t), chart.g2(t), chart.scale_integral(s))))


@dataclass(frozen=True)
class ReverseSDE(ChartMethod):
    """x_t' = a x_t + b s_t + c w in the time and chart of a schedule; a scheme says what a, b, c are."""

    chart: Schedule = OU()
    order = 1

    @cached_property
    def level(self) -> Callable[[float], Level]:
        """The chart at a noise level, remembered: the levels of a grid come back with every batch."""
        return lru_cache(maxsize=4096)(partial(level, self.chart))

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        now, then = self.level(sigma), self.level(sigma_next)
        a, b, c = self.coefficients(now, then, sigma, sigma_next)
        denoised = denoise(x, sigma)
        keep, pull = a * now.scale / then.scale, b / (now.scale * then.scale * sigma**2)        # of x, and of s_t's D - x
        x = torch.add((keep - pull) * x, denoised, alpha=pull)
        return Step(torch.add(x, noise(), alpha=c / then.scale), sigma_next, denoised)

    def added_noise(self, sigma, sigma_next):
        now, then = self.level(sigma), self.level(sigma_next)
        return self.coefficients(now, then, sigma, sigma_next)[2] / then.scale


@dataclass(frozen=True)
class EulerMaruyama(ReverseSDE):
    """x_t' = (1 + h beta) x_t + h g^2 s_t + sqrt(h g^2) w; in VP, the EM row of Pierret and Galerne. Noise in the last step too."""

    def coefficients(self, now: Level, then: Level, sigma: float, sigma_next: float) -> tuple[float, float, float]:
        h = now.t - then.t
        return 1 + h * now.beta, h * now.g2, math.sqrt(h * now.g2)


@dataclass(frozen=True)
class ExponentialIntegrator(ReverseSDE):
    """The score frozen over a step, all else exact: with E = scale'/scale and I(sigma) = int_0^sigma scale(s) d(s^2),

        x_t' = E x_t + scale' (I - I') s_t + scale' sqrt(sigma^2 - sigma'^2) w.

    In VP that is E x_t + 2 (E-1) s_t + sqrt(E^2-1) w, the EI row of Pierret and Galerne. Noise in the last step too.
    """

    def coefficients(self, now: Level, then: Level, sigma: float, sigma_next: float) -> tuple[float, float, float]:
        return then.scale / now.scale, then.scale * (now.integral - then.integral), then.scale * math.sqrt(sigma**2 - sigma_next**2)
