"""Single-step methods of higher order for the flow dx/dsigma = eps, eps(x, sigma) = (x - D(x;
sigma))/sigma.

With h = log(sigma/sigma'), sigma_r = sigma e^(-r h), u_r the state predicted there and eps_r =
eps(u_r, sigma_r), the DPM-Solvers (Lu et al. 2022) integrate a polynomial in log sigma through
eps_r exactly; in x = x_t/alpha_t they read

    DPMSolver2   x' = x + (sigma' - sigma) (eps + (eps_r - eps)/(2r))
                 u_r = x + (sigma_r - sigma) eps                r = 1/2 the midpoint rule, 1 Heun's

    DPMSolver3   x' = x + (sigma' - sigma) eps - 3/2 phi(1) (eps_2/3 - eps)
                 u_2/3 = x + (sigma_2/3 - sigma) eps - 2 phi(2/3) (eps_1/3 - eps)
                 u_1/3 = x + (sigma_1/3 - sigma) eps
                 phi(q) = (sigma - sigma_q)/(q h) - sigma_q

    DPMpp2S      the same for D in place of eps
                 x' = Dbar + (sigma'/sigma) (x - Dbar),     Dbar = D + (D_r - D)/(2r)

    RK4          the classical rule of Kutta in sigma

The step into sigma' = 0, where log sigma ends, is Euler's: x' = D. DPM-Solver-1 is Euler (DDIM). In
the code e = sigma eps = x - D: one tensor operation less an evaluation, the division by sigma being
left to the scalars.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma, Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method

# Levels are floats for the whole batch (a fixed grid), or tensors that broadcast against x (a level
# for each row: adaptive.py); `Any`, since what is given as one or the other comes back as it.
Residual = Callable[[Tensor, Any], Tensor]  # (x, sigma) -> e = sigma eps = x - D(x; sigma)
Add = Callable[[Tensor, Any, Tensor], Tensor]  # (x, c, e) -> x + c e


def add(x: Tensor, c: float, e: Tensor) -> Tensor:
    return torch.add(x, e, alpha=c)


def dpm_solver_2(
    residual: Residual,
    add: Add,
    x: Tensor,
    e: Tensor,
    sigma: Sigma,
    sigma_next: Sigma,
    r: float = 0.5,
) -> Tensor:
    """x' by DPM-Solver-2, given e at x. The levels are floats, or broadcast against x."""
    middle = sigma * (sigma_next / sigma) ** r
    move = sigma_next - sigma
    w = 1 / (2 * r)
    e_r = residual(add(x, (middle - sigma) / sigma, e), middle)
    if w != 1:
        x = add(x, (1 - w) * move / sigma, e)
    return add(x, w * move / middle, e_r)


def dpm_solver_3(
    residual: Residual, add: Add, x: Tensor, e: Tensor, sigma: Sigma, sigma_next: Sigma, h: Sigma
) -> tuple[Tensor, Tensor]:
    """x' by DPM-Solver-3, given e at x and h = log(sigma/sigma'); and e_1/3, met on the way."""
    ratio = sigma_next / sigma
    third = sigma * ratio ** (1 / 3)
    two_thirds = sigma * ratio ** (2 / 3)

    def phi(q: float, level: Sigma) -> Sigma:
        return (sigma - level) / (q * h) - level

    e_1 = residual(add(x, (third - sigma) / sigma, e), third)
    bend = 2 * phi(2 / 3, two_thirds)
    y = add(x, (two_thirds - sigma + bend) / sigma, e)
    y = add(y, -bend / third, e_1)
    e_2 = residual(y, two_thirds)
    bend = 1.5 * phi(1, sigma_next)
    x = add(x, (sigma_next - sigma + bend) / sigma, e)
    return add(x, -bend / two_thirds, e_2), e_1


def fraction(r: float) -> None:
    """Raise UsageError unless 0 < r <= 1."""
    if not 0 < r <= 1:
        raise UsageError(
            f"sampler.r={r}: write 0 < r <= 1, where in log sigma the second evaluation lies (0.5 "
            "is the midpoint)"
        )


class SingleStep(Method):
    """Down to a positive level by `advance`; into 0 by Euler."""

    @abstractmethod
    def advance(
        self, denoise: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        """x' at the positive level sigma_next, given D at x."""

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            return Step(denoised, sigma_next, denoised)
        return Step(self.advance(denoise, x, denoised, sigma, sigma_next), sigma_next, denoised)


class SlopeStep(SingleStep):
    """A rule that sees the denoiser through eps alone."""

    @abstractmethod
    def integrate(
        self, residual: Residual, x: Tensor, e: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        """x' at the positive level sigma_next, given e at x."""

    def advance(self, denoise, x, denoised, sigma, sigma_next):
        def residual(y: Tensor, s: float) -> Tensor:
            return y - denoise(y, s)

        return self.integrate(residual, x, x - denoised, sigma, sigma_next)


@dataclass(frozen=True)
class DPMSolver2(SlopeStep):
    """DPM-Solver-2 (Lu et al. 2022). r = 1/2 is the midpoint rule at sqrt(sigma sigma'),
    k-diffusion's dpm_2; r = 1 is Heun's rule.

    Two evaluations a step. Raises UsageError unless 0 < r <= 1.
    """

    r: float = 0.5
    order = 2

    def __post_init__(self):
        fraction(self.r)

    def integrate(self, residual, x, e, sigma, sigma_next):
        return dpm_solver_2(residual, add, x, e, sigma, sigma_next, self.r)


@dataclass(frozen=True)
class DPMSolver3(SlopeStep):
    """DPM-Solver-3 with r1 = 1/3, r2 = 2/3 (Lu et al. 2022, Algorithm 2). Three evaluations a
    step."""

    order = 3

    def integrate(self, residual, x, e, sigma, sigma_next):
        h = math.log(sigma / sigma_next)
        x_next, _ = dpm_solver_3(residual, add, x, e, sigma, sigma_next, h)
        return x_next


@dataclass(frozen=True)
class RK4(SlopeStep):
    """Kutta's rule of 1901 on dx/dsigma = eps. Four evaluations a step."""

    order = 4

    def integrate(self, residual, x, e, sigma, sigma_next):
        h = sigma_next - sigma
        middle = (sigma + sigma_next) / 2
        e_2 = residual(add(x, h / 2 / sigma, e), middle)
        e_3 = residual(add(x, h / 2 / middle, e_2), middle)
        e_4 = residual(add(x, h / middle, e_3), sigma_next)
        x = add(x, h / 6 / sigma, e)
        x = add(x, h / 3 / middle, e_2 + e_3)
        return add(x, h / 6 / sigma_next, e_4)


@dataclass(frozen=True)
class DPMpp2S(SingleStep):
    """DPM-Solver++(2S) (Lu et al. 2022, DPM-Solver++, Algorithm 1). Two evaluations a step. Raises
    UsageError unless 0 < r <= 1."""

    r: float = 0.5
    order = 2

    def __post_init__(self):
        fraction(self.r)

    def advance(self, denoise, x, denoised, sigma, sigma_next):
        ratio = (sigma_next / sigma) ** self.r
        ahead = denoise(torch.lerp(denoised, x, ratio), ratio * sigma)
        mean = torch.lerp(denoised, ahead, 1 / (2 * self.r))
        return torch.lerp(mean, x, sigma_next / sigma)
