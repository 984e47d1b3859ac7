"""The scheme of the CEM paper, in its own chart: x_t = e^(-t/2) x, sigma^2 = e^t - 1, abar = e^(-t)
= 1/(1+sigma^2).

Down from t to t' = t - D, with f = E[x0 | x_t] and S = (x_t - sqrt(abar) f)/(1 - abar), minus the
score (eq. 32):

    Splitting      x_t' = e^(D/2) (x_t - D S) + sqrt(1-e^(-D)) xi             eqs. (23), (39)
    PublicCode     x_t' = e^(-D/2) (x_t - D (S - x_t)) + sqrt(1-e^(-D)) xi    its public 2-D code
    NoiseFirst     x_t' = y - D (S(y) - y/2),   y = x_t + sqrt(D) xi          its analytic part

All three are of weak order 1 for the reverse of dx_t = -x_t/2 dt + dW. The paper's networks are S
itself (SGM), eps = sqrt(1-abar) S (DDPM) and f (CEM); here each is a Denoiser that gives f. The
times come from sigma, so any schedule may lay the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from diffgeo.core import Chart, Step
from diffgeo.sampler.base import ChartMethod
from diffgeo.sampler.stochastic import ReverseSDE
from diffgeo.schedule import OU


def time(sigma: float) -> float:
    """The paper's t of a level."""
    return math.log1p(sigma**2)


@dataclass(frozen=True)
class Splitting(ReverseSDE):
    """Eqs. (23) and (39): the drift by a step of Euler and the growth e^(D/2), then noise.

    last_noise: the paper adds noise in the last step too, which leaves N(0, (1-e^(-t_1)) I) on
        every sample; False leaves it out.
    """

    last_noise: bool = True
    chart: Chart = field(default=OU(), init=False)

    def drift(self, D: float) -> tuple[float, float]:
        """What multiplies x_t and -S."""
        return math.exp(D / 2), math.exp(D / 2) * D

    def coefficients(self, now, then, sigma, sigma_next):
        D = now.t - then.t
        keep, pull = self.drift(D)
        added = math.sqrt(-math.expm1(-D)) if sigma_next > 0 or self.last_noise else 0.0
        return keep, pull, added


@dataclass(frozen=True)
class PublicCode(Splitting):
    """The variant of the paper's public 2-D code: S - x_t in place of S, e^(-D/2) in place of
    e^(D/2)."""

    def drift(self, D: float) -> tuple[float, float]:
        return math.exp(-D / 2) * (1 + D), math.exp(-D / 2) * D


@dataclass(frozen=True)
class NoiseFirst(ChartMethod):
    """The variant of the paper's analytic experiments: noise first, then the drift at the noised
    point; the last step leaves none."""

    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        t = time(sigma)
        D = time(sigma) - time(sigma_next)
        # e^(t/2) times the paper's y
        y = torch.add(x, noise(), alpha=math.exp(t / 2) * math.sqrt(D))
        f = denoise(y, sigma)
        pull = math.exp(-D / 2) * D / -math.expm1(-t)  # S(y) = (y - f)/((1 - abar) e^(t/2))
        keep = math.exp(-D / 2) * (1 + D / 2) - pull
        return Step(torch.add(keep * y, f, alpha=pull), sigma_next, f)

    def added_noise(self, sigma, sigma_next):
        # normal to the support, where f does not move with the noise
        t = time(sigma)
        t_next = time(sigma_next)
        D = t - t_next
        return math.exp(t_next / 2) * math.sqrt(D) * abs(1 - D * (-1 / math.expm1(-t) - 0.5))
