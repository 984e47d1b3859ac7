"""Steps in the singular vectors of the operator, A = U S V', one component at a time.

Of a component of the signal let D, e, eps be those of the denoised estimate, of (x - D)/sigma and
of fresh noise, and y_ = U'y/S, whose noise has deviation s/S. DDRM takes

    S = 0            x' = D + sqrt(1 - eta^2) sigma' e + eta sigma' eps
    sigma' S >= s    x' = (1 - eta_b) D + eta_b y_ + sqrt(v' - eta_b^2 s^2/S^2) eps
    else             x' = D + sqrt(1 - eta^2) sigma' (S/s) (y_ - D) + eta sigma' eps,

and starts from y_ + sqrt(v - s^2/S^2) eps where sigma S >= s. DDNM+ takes, with D^ = D + lambda (y_
- D),

    sigma' S >= s    lambda = 1, noise of variance v' - s^2/S^2
    else             lambda = sqrt(1 - eta^2) sigma' S/s, noise of deviation eta sigma':

DDRM at eta_b = 1, where s > 0. At s = 0 it is DDNM as published: its noise of deviation sigma' is
split between eps and e, that of D or that of D^.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Decomposed, Linear, Measurement, prox
from diffgeo.core import Sampler, Step
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import decomposed, linear, matching
from diffgeo.sampler.base import Method


def check_shares(**options: float) -> None:
    """Raise UsageError unless all are from 0 to 1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise UsageError(f"algorithm.{name}={value}: write a number from 0 to 1")


@dataclass(frozen=True)
class DDRM:
    """Denoising diffusion restoration models (Kawar et al. 2022).

    eta: share of fresh noise in what y says nothing of, or less than x does. eta_b: share of y in
        what it says more of than x. informed: start from y where it says more than the first level
        does, as published; else from noise alone.
    Does not sample the posterior: with s > 0 the prior is forgotten, the mean of an observed
    component tends to y/h and its variance to 0. Best at few steps and worse with more: on N(0, 1)
    at 20, on G4 at 50 to 100 (tests/test_restoration_theory.py, tests/test_restoration_limits.py).
    Raises UsageError on shares outside [0, 1] and on an operator without singular vectors.
    """

    eta: float = 0.85
    eta_b: float = 1.0
    informed: bool = True

    def __post_init__(self):
        check_shares(eta=self.eta, eta_b=self.eta_b)

    def told(self, measurement: Measurement) -> Sampler:
        operator = decomposed(measurement, "ddrm")
        return DDRMStep(self, operator, Spectral(operator, measurement))


class Spectral:
    """A measurement in singular vectors.

    values: S, [r]. said: y_ = U'y/S, [1,r] or [B,r]. deviation: s/S, [r].
    """

    def __init__(self, operator: Decomposed, measurement: Measurement):
        self.measurement = measurement
        y = measurement.y[None] if measurement.shared else measurement.y
        self.values = operator.values.to(y)
        self.said = operator.left(y) / self.values
        self.deviation = measurement.sigma_n / self.values

    def share(self, sigma: float) -> Tensor:
        """min(sigma S/s, 1) in the components that are seen better at sigma than in y, else 1."""
        heard = self.deviation <= sigma
        return torch.where(heard, 1.0, sigma / torch.where(heard, 1.0, self.deviation))

    def left_over(self, sigma: float, taken: float = 1.0) -> Tensor:
        """sqrt(v - taken^2 s^2/S^2), 0 where that is negative."""
        return (sigma**2 - (taken * self.deviation) ** 2).clamp(min=0).sqrt()


@dataclass(frozen=True, eq=False)
class DDRMStep(Method):
    """A step of `DDRM` for rows with this measurement."""

    options: DDRM
    operator: Decomposed
    spectral: Spectral
    order = 1

    def start(self, noise, sigma):
        x = sigma * noise
        if not self.options.informed:
            return x
        fresh = self.operator.right(noise)
        heard = self.spectral.deviation <= sigma
        informed = self.spectral.said + self.spectral.left_over(sigma) * fresh
        change = torch.where(heard, informed - sigma * fresh, 0.0)
        return x + self.operator.back(change)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.spectral.measurement, x)
        denoised = denoise(x, sigma)
        eta = self.options.eta
        kept = math.sqrt(1 - eta**2)
        fresh = noise() if sigma_next > 0 else torch.zeros_like(x)
        plain = torch.lerp(denoised, x, kept * sigma_next / sigma) + eta * sigma_next * fresh
        seen = self.observed(self.operator.right(denoised), self.operator.right(fresh), sigma_next)
        moved = plain + self.operator.back(seen - self.operator.right(plain))
        return Step(moved, sigma_next, denoised)

    def observed(self, denoised: Tensor, fresh: Tensor, sigma: float) -> Tensor:
        """The observed components of x' at the level sigma, [B,r]."""
        eta, eta_b = self.options.eta, self.options.eta_b
        said = self.spectral.said
        better = denoised + eta_b * (said - denoised)
        better = better + self.spectral.left_over(sigma, eta_b) * fresh
        kept = math.sqrt(1 - eta**2) * self.spectral.share(sigma)
        worse = denoised + kept * (said - denoised) + eta * sigma * fresh
        return torch.where(self.spectral.deviation <= sigma, better, worse)


@dataclass(frozen=True)
class DDNMPlus:
    """DDNM+ (Wang, Yu, Zhang 2023), and DDNM where sigma_n = 0.

    eta: share of fresh noise. corrected: whether the old noise that a step keeps is (x - D^)/sigma,
        as InverseBench has it, or (x - D)/sigma as published; they differ at sigma_n = 0 alone.
    Does not sample the posterior: with sigma_n > 0 it is DDRM at eta_b = 1, and forgets the prior.
    Raises UsageError on shares outside [0, 1], and with sigma_n > 0 on an operator without singular
    vectors.
    """

    eta: float = 0.85
    corrected: bool = False

    def __post_init__(self):
        check_shares(eta=self.eta)

    def told(self, measurement: Measurement) -> Sampler:
        if measurement.sigma_n > 0:
            operator = decomposed(measurement, "ddnm_plus")
            spectral = Spectral(operator, measurement)
            return DDRMStep(DDRM(self.eta, informed=False), operator, spectral)
        return DDNMStep(self, linear(measurement, "ddnm_plus"), measurement)


@dataclass(frozen=True, eq=False)
class DDNMStep(Method):
    """A step of DDNM for rows with this measurement, without noise."""

    options: DDNMPlus
    operator: Linear
    measurement: Measurement
    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.measurement, x)
        denoised = denoise(x, sigma)
        moved = prox(self.operator, denoised, self.measurement.y, 0.0)
        if sigma_next == 0:
            return Step(moved, sigma_next, moved)
        eta = self.options.eta
        old = x - (moved if self.options.corrected else denoised)
        kept = math.sqrt(1 - eta**2) * sigma_next / sigma
        return Step(moved + kept * old + eta * sigma_next * noise(), sigma_next, moved)
