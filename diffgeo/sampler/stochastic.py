"""Reverse diffusions: the law of x at every level is that of the flow, the paths are noisy.

With beta = -d log(scale)/dt and g^2 = scale^2 d(sigma^2)/dt the reverse of dx_t = -beta x_t dt + g dW is, going down in t,

    dx_t = (beta x_t + g^2 s_t) dt + g dW,      s_t = (D - x) / (scale sigma^2), the score of x_t = scale x.

    DDPM                   exact for a frozen D:      x' ~ N(D + (sigma'/sigma)^2 (x - D), sigma'^2 (1 - (sigma'/sigma)^2))
    EulerMaruyama          everything frozen at t
    ExponentialIntegrator  s_t frozen, the rest integrated exactly
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
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


@lru_cache(maxsize=4096)
def level(chart: Schedule, sigma: float) -> Level:
    """Cached: the levels of a grid come back with every batch."""
    s = torch.tensor(sigma, dtype=torch.float64)
    t = chart.t(s)
    return Level(*(float(v) for v in (t, chart.scale(s), chart.beta(t), chart.g2(t), chart.scale_integral(s))))


@dataclass(frozen=True)
class EulerMaruyama(ChartMethod):
    """Euler-Maruyama in the time and chart of a schedule; in VP, the EM row of Pierret and Galerne. Noise in the last step too."""

    chart: Schedule = OU()
    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        a, b = level(self.chart, sigma), level(self.chart, sigma_next)
        h = a.t - b.t
        denoised = denoise(x, sigma)
        x_t, score = a.scale * x, (denoised - x) / (a.scale * sigma**2)
        x_t = torch.add((1 + h * a.beta) * x_t, score, alpha=h * a.g2)
        x_t = torch.add(x_t, noise(), alpha=math.sqrt(h * a.g2))
        return Step(x_t / b.scale, sigma_next, denoised)

    def added_noise(self, sigma, sigma_next):
        a, b = level(self.chart, sigma), level(self.chart, sigma_next)
        return math.sqrt(a.g2 * (a.t - b.t)) / b.scale


@dataclass(frozen=True)
class ExponentialIntegrator(ChartMethod):
    """The score frozen over a step, all else exact: with E = scale'/scale and I(sigma) = int_0^sigma scale(s) d(s^2),

        x_t' = E x_t + scale' (I - I') s_t + scale' sqrt(sigma^2 - sigma'^2) w.

    In VP that is E x_t + 2 (E-1) s_t + sqrt(E^2-1) w, the EI row of Pierret and Galerne. Noise in the last step too.
    """

    chart: Schedule = OU()
    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        a, b = level(self.chart, sigma), level(self.chart, sigma_next)
        denoised = denoise(x, sigma)
        x_t, score = a.scale * x, (denoised - x) / (a.scale * sigma**2)
        x_t = torch.add(b.scale / a.scale * x_t, score, alpha=b.scale * (a.integral - b.integral))
        x_t = torch.add(x_t, noise(), alpha=b.scale * math.sqrt(sigma**2 - sigma_next**2))
        return Step(x_t / b.scale, sigma_next, denoised)

    def added_noise(self, sigma, sigma_next):
        return math.sqrt(sigma**2 - sigma_next**2)
