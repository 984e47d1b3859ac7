"""Uniform laws on segments, given y = A x0 + s n: along each segment a truncated normal.

On a segment a + p e, 0 <= p <= L, both exponents are squares in p, so their sum is one too:

    |x - a - p e|^2/2 sigma^2 + |y - A a - p A e|^2/2 s^2 = (p - c)^2/2 w^2 + rest,
    1/w^2 = 1/sigma^2 + |A e|^2/s^2,
    c     = w^2 (e.(x - a)/sigma^2 + A e.(y - A a)/s^2).

Its mean, mass and variance on [0, L] are those of `segment.truncated`, and a segment counts with
its mass times exp(-rest). Without x the same with 1/sigma^2 = 0: the posterior itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.segment import truncated, variance

FLAT = 1e-6  # L/w below which the likelihood has no curvature along a segment


class Along(NamedTuple):
    """The law of p on each of k segments, [...,k] each."""

    centre: Tensor  # c
    width: Tensor  # w
    mean: Tensor  # E[p]
    log_mass: Tensor  # log of the integral over [0, L] of exp(-exponent)


@dataclass(frozen=True, eq=False)
class Told:
    """k segments and what a measurement says along them.

    start [k,d], direction [k,d] of length 1, length [k];
    residual [k,m]: (y - A a)/s; slope [k,m]: A e/s.
    """

    start: Tensor
    direction: Tensor
    length: Tensor
    residual: Tensor
    slope: Tensor

    def to(self, x: Tensor) -> Told:
        """The same in the dtype and on the device of x."""
        parts = (self.start, self.direction, self.length, self.residual, self.slope)
        return Told(*(part.to(x) for part in parts))

    def posterior(self) -> Along:
        """Of p(x0 | y), [k]."""
        precision = self.slope.square().sum(1).clamp(min=(FLAT / self.length) ** 2)
        pull = (self.slope * self.residual).sum(1)
        centre = pull / precision
        width = precision.rsqrt()
        mean, log_mass = truncated(centre, self.length, width)
        place = torch.minimum(centre.clamp(min=0), self.length)
        return Along(centre, width, mean, log_mass + width.log() - self._misfit(place))

    def given_x(self, x: Tensor, sigma: Tensor) -> Along:
        """Of p(x0 | x, y): x [B,d], sigma [B] -> [B,k]."""
        square = sigma[:, None] ** 2
        precision = 1 / square + self.slope.square().sum(1)
        foot = x @ self.direction.mT - (self.start * self.direction).sum(1)
        pull = foot / square + (self.slope * self.residual).sum(1)
        centre = pull / precision
        width = precision.rsqrt()
        mean, log_mass = truncated(centre, self.length, width)
        place = torch.minimum(centre.clamp(min=0), self.length)
        apart = x[:, None] - self.start - place[..., None] * self.direction
        exponent = apart.square().sum(-1) / (2 * square) + self._misfit(place)
        return Along(centre, width, mean, log_mass + width.log() - exponent)

    def _misfit(self, place: Tensor) -> Tensor:
        """|y - A(a + p e)|^2/2 s^2 at p, [...,k]."""
        return (self.residual - place[..., None] * self.slope).square().sum(-1) / 2

    def log_evidence(self, sigma_n: float) -> float:
        """log p(y), nats."""
        mass = self.posterior().log_mass.logsumexp(0) - self.length.sum().log()
        normal = self.slope.shape[1] / 2 * math.log(2 * math.pi * sigma_n**2)
        return float(mass - normal)


class Local:
    """The posterior p(x0 | x, y) of a batch: shares of the segments [B,k] and their means."""

    def __init__(self, told: Told, x: Tensor, sigma: Tensor):
        self.told = told
        self.x = x
        self.sigma = sigma
        self.along = told.given_x(x, sigma)
        self.share = self.along.log_mass.softmax(1)
        points = told.start + self.along.mean[..., None] * told.direction  # [B,k,d]
        heaviest = self.share.argmax(1)
        self.reference = points[torch.arange(len(x), device=x.device), heaviest]
        self.step = points - self.reference[:, None]

    def mean_step(self) -> Tensor:
        """D - reference, [B,d]."""
        return torch.einsum("bk,bkd->bd", self.share, self.step)

    def mean(self) -> Tensor:
        """D_y, [B,d]."""
        return self.reference + self.mean_step()

    def log_density(self) -> Tensor:
        """log p_sigma(x | y), [B]."""
        d = self.x.shape[1]
        mass = self.along.log_mass.logsumexp(1) - self.told.posterior().log_mass.logsumexp(0)
        return mass - d / 2 * (2 * math.pi * self.sigma**2).log()

    def _variance(self) -> Tensor:
        """Of p on each segment, [B,k]."""
        length = self.told.length.expand_as(self.along.centre)
        return variance(self.along.centre, length, self.along.width)

    def trace(self) -> Tensor:
        """tr dD/dx, [B]."""
        apart = self.step - self.mean_step()[:, None]
        spread = self._variance() + apart.square().sum(-1)
        return (self.share * spread).sum(1) / self.sigma**2

    def covariance_product(self, v: Tensor) -> Tensor:
        """Cov[x0 | x, y] v, [B,d]."""
        apart = self.step - self.mean_step()[:, None]
        along = self._variance() * (v @ self.told.direction.mT)
        across = (apart * v[:, None]).sum(-1)
        within = (self.share * along) @ self.told.direction
        return within + torch.einsum("bk,bkd->bd", self.share * across, apart)
