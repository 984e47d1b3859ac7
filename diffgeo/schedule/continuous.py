"""Schedules: one monotone map sigma(t), a way to draw sigma in training, a way to grid it in
sampling, and a chart x_t = scale x.

A Gaussian path x_t = alpha(t) x0 + sigma_t eps is, with sigma = sigma_t/alpha and scale = alpha,
the forward diffusion

    dx_t = -beta(t) x_t dt + g(t) dW,     beta = -d log(scale)/dt,     g^2 = scale^2 d(sigma^2)/dt.

    OU       dx_t = -x_t/2 dt + dW         sigma^2 = e^t - 1                    scale = e^(-t/2)
    VP       beta_min .. beta_max          sigma^2 = exp(int_0^t beta) - 1      (1+sigma^2)^(-1/2)
    Cosine   angle a = pi/2 (t+s)/(1+s)    sigma^2 = cos^2 a_0 / cos^2 a - 1    cos a / cos a_0
    Flow     x_t = (1-t) x0 + t eps        sigma = t/(1-t)                      1 - t
    VE       x_t = x0 + t eps              sigma = t                            1

(OU: Lu, Wang, Bal, eq. 14; VP: Song et al. 2021; Cosine: Nichol, Dhariwal 2021; Flow: Lipman et al.
2023; VE: Karras et al. 2022.)

Where the levels lie in [t_min, t_max] is said by a spacing (for grid) and a training rule (for
draw): see spacing.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.path import Path, VarianceExploding, VariancePreserving
from diffgeo.schedule.spacing import Continuous, Exponential, Power, Rho, Spacing, Training


@dataclass(frozen=True, kw_only=True)
class OU(VariancePreserving, Path):
    """x_t = e^(-t/2) x0 + sqrt(1-e^(-t)) eps, sigma^2 = e^t - 1; t = 10 is sigma = 148.4 (CEM
    paper, eqs. 14-16)."""

    t_min: float = 1e-4
    t_max: float = 10.0

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.expm1(t))

    def t(self, sigma: Tensor) -> Tensor:
        return torch.log1p(sigma**2)

    def g2(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True, kw_only=True)
class VP(VariancePreserving, Path):
    """g^2(t) = beta_min + t (beta_max - beta_min), sigma^2 = exp(int_0^t g^2) - 1 (Song et al.
    2021, eq. 32).

    Pierret and Galerne write beta for half of it: their (.05, 10) is Song's (.1, 20), the default.
    """

    t_min: float = 1e-3
    t_max: float = 1.0
    beta_min: float = 0.1
    beta_max: float = 20.0
    spacing: Spacing = Power()

    def __post_init__(self):
        lowest_rate = self.beta_min + (self.beta_max - self.beta_min) * self.t_min
        if not (self.beta_min <= self.beta_max and lowest_rate > 0):
            raise UsageError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max}: "
                "write 0 < beta_min <= beta_max"
            )
        super().__post_init__()

    @classmethod
    def through(cls, sigma_min: float, sigma_max: float, t_min: float = 1e-3, **options) -> VP:
        """The process with sigma(t_min) = sigma_min and sigma(1) = sigma_max, in whose time DEIS
        lays its levels ("time_uniform").

        Its rate is positive on [t_min, 1]; over EDM's range beta_min = -.0048 is not, and sigma = 0
        lies at t = 5.4e-4.
        """
        if not 0 < sigma_min < sigma_max:
            raise UsageError(
                f"sigma_min={sigma_min}, sigma_max={sigma_max}: write 0 < sigma_min < sigma_max"
            )
        if not 0 < t_min < 1:
            raise UsageError(f"t_min={t_min}: write 0 < t_min < 1")
        # the mean of g^2 over [0, t_min] and over [0, 1]
        first = math.log1p(sigma_min**2) / t_min
        whole = math.log1p(sigma_max**2)
        growth = 2 * (whole - first) / (1 - t_min)
        beta_min = whole - growth / 2
        return cls(t_min=t_min, beta_min=beta_min, beta_max=beta_min + growth, **options)

    def sigma(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2
        return torch.sqrt(torch.expm1(integral))

    def t(self, sigma: Tensor) -> Tensor:
        integral = torch.log1p(sigma**2)
        growth = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 + 2 * growth * integral)
        # either way without cancellation
        if self.beta_min > 0:
            return 2 * integral / (self.beta_min + root)
        return (root - self.beta_min) / growth

    def g2(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t


@dataclass(frozen=True, kw_only=True)
class Cosine(VariancePreserving, Path):
    """alpha^2 = cos^2 a / cos^2 a_0, a = pi/2 (t+offset)/(1+offset); sigma is infinite at t = 1
    (Nichol and Dhariwal 2021, eq. 17)."""

    t_min: float = 1e-3
    t_max: float = 0.999
    offset: float = 0.008
    spacing: Spacing = Power()

    def __post_init__(self):
        if self.t_max >= 1:
            raise UsageError(f"t_max={self.t_max}: sigma is infinite at t = 1; write t_max below 1")
        if self.offset < 0:
            raise UsageError(f"offset={self.offset}: write 0 or more")
        super().__post_init__()

    @property
    def _speed(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    def sigma(self, t: Tensor) -> Tensor:
        # cos^2 a_0 - cos^2 a = sin(a - a_0) sin(a + a_0), and cos a = sin(pi/2 - a)
        w = self._speed
        difference = torch.sin(w * t) * torch.sin(w * (t + 2 * self.offset))
        return torch.sqrt(difference) / torch.sin(w * (1 - t))

    def t(self, sigma: Tensor) -> Tensor:
        # tan(a - a_0) from tan a and tan a_0, their difference taken without cancellation
        s0 = math.sin(self._speed * self.offset)
        c0 = math.cos(self._speed * self.offset)
        root = torch.sqrt(s0**2 + sigma**2)
        tangent = sigma**2 / (root + s0) * c0 / (c0**2 + root * s0)
        return torch.atan(tangent) / self._speed

    def g2(self, t: Tensor) -> Tensor:
        return 2 * self._speed / torch.tan(self._speed * (1 - t))


@dataclass(frozen=True, kw_only=True)
class Flow(Path):
    """x_t = (1-t) x0 + t eps: flow matching on straight paths; sigma is infinite at t = 1 (Lipman
    et al. 2023; Liu et al. 2023)."""

    t_min: float = 1e-3
    t_max: float = 0.999
    spacing: Spacing = Power()

    def __post_init__(self):
        if self.t_max >= 1:
            raise UsageError(f"t_max={self.t_max}: sigma is infinite at t = 1; write t_max below 1")
        super().__post_init__()

    def sigma(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def t(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)

    def scale(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def beta(self, t: Tensor) -> Tensor:
        return 1 / (1 - t)

    def g2(self, t: Tensor) -> Tensor:
        return 2 * t / (1 - t)

    def scale_integral(self, sigma: Tensor) -> Tensor:
        return 2 * (sigma - torch.log1p(sigma))


@dataclass(frozen=True, kw_only=True)
class VE(VarianceExploding, Path):
    """t = sigma, scale = 1. With Rho(7) the EDM grid, with Exponential (log-linear) Song's."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    spacing: Spacing = Rho()
    training: Training = Continuous(Exponential())

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max
