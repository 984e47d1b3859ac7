"""What a simulation starts from at its first level sigma', in the place of its sampler's own start.

    Own           as the sampler starts at any level: sigma' z for most
    Prior         N(0, sigma'^2 I), exactly
    InChart       N(0, (1 + sigma'^2) I): the state x_t = x/sqrt(1 + sigma'^2) is unit normal
    GaussianAt    N(m, C + sigma'^2 I): the law of x = x0 + sigma' eps to second order (Raya &
                  Ambrogioni 2023, "Gaussian late start", who fit it to noised samples)
    Teleport      the sampler's start at a higher level S, carried to sigma' by the closed flow of
                  N(m, C) at no evaluation (Wang & Vastola 2023, "analytical teleportation")

The unit noise z of a sample is its own first draw, whatever it starts from: starts of one sample
differ in what is made of z. `GaussianAt` takes the symmetric root, m + (C + sigma'^2)^(1/2) z, the
nearest to sigma' z that has the law.

Far above the law all of them agree; at sigma' they differ by O(|m| + |C|/sigma'), and by what a
Gaussian does not know of p_sigma' below the level where the law splits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Protocol

from diffgeo.analytic.gaussian import GaussianDenoiser
from diffgeo.core import Sampler, Schedule
from diffgeo.schedule.discrete import Discrete


class Initial(Protocol):
    """What samples are at a level, made of unit noise."""

    # unit normal noise [n,*D], level -> states [n,*D]
    def __call__(self, noise: Tensor, sigma: float) -> Tensor: ...


@dataclass(frozen=True)
class Own:
    """The start of the sampler itself, at whatever level."""

    sampler: Sampler

    def __call__(self, noise: Tensor, sigma: float) -> Tensor:
        return self.sampler.start(noise, sigma)


@dataclass(frozen=True)
class Prior:
    """sigma z: the law of the noise alone."""

    def __call__(self, noise: Tensor, sigma: float) -> Tensor:
        return sigma * noise


@dataclass(frozen=True)
class InChart:
    """sqrt(1 + sigma^2) z: N(0, I) in the variance-preserving chart, the start of DDPM (Ho et al.
    2020) and of all that came from it, whatever the method. Of data of unit variance it has the
    variance of x = x0 + sigma eps; sigma z is too small by 1/(2 sigma^2)."""

    def __call__(self, noise: Tensor, sigma: float) -> Tensor:
        return math.hypot(1, sigma) * noise


@dataclass(frozen=True, eq=False)
class GaussianAt:
    """m + (C + sigma^2)^(1/2) z of a Gaussian N(m, C)."""

    gaussian: GaussianDenoiser

    def __call__(self, noise: Tensor, sigma: float) -> Tensor:
        mean, basis, variance = self.gaussian.on(noise.device)
        root = torch.sqrt(variance + sigma**2)
        spread = (noise.double().flatten(1) @ basis * root) @ basis.mT
        return (mean + spread).view_as(noise)


@dataclass(frozen=True, eq=False)
class Teleport:
    """The start of `sampler` at the level `top`, or another one there, `begin`, taken down by the
    flow of a Gaussian."""

    gaussian: GaussianDenoiser
    sampler: Sampler
    top: float
    begin: Initial | None = None

    def __call__(self, noise: Tensor, sigma: float) -> Tensor:
        begin = self.sampler.start if self.begin is None else self.begin
        x = begin(noise, self.top).to(torch.float64)
        return self.gaussian.flow(x, self.top, sigma)


def of_schedule(chart: Schedule) -> Initial | None:
    """The start that a schedule asks of every sampler, None for the sampler's own. (A scheme that
    is stated in a chart starts in it anyway.)"""
    return InChart() if isinstance(chart, Discrete) and chart.starts_in_chart else None
