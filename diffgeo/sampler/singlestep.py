"""Single-step methods of higher order for the flow dx/dsigma = eps, eps(x, sigma) = (x - D(x;
sigma))/sigma.

With h = log(sigma/sigma'), sigma_r = sigma e^(-r h), u_r the state predicted there and eps_r =
eps(u_r, sigma_r), the DPM-Solvers (Lu et al. 2022) integrate a polynomial in log sigma through
eps_r exactly; in x = x_t/alpha_t they read

    DPMSolver2   x' = x + (sigma'-sigma) (eps + (eps_r - eps)/(2r)),      u_r = x + (sigma_r-sigma) eps            r = 1/2 midpoint, 1 Heun
    DPMSolver3   x' = x + (sigma'-sigma) eps - 3/2 phi(1) (eps_2/3 - eps),                  phi(q) = (sigma - sigma_q)/(q h) - sigma_q
                      u_2/3 = x + (sigma_2/3 - sigma) eps - 2 phi(2/3) (eps_1/3 - eps),     u_1/3 = x + (sigma_1/3 - sigma) eps
    DPMpp2S      the same for D in place of eps:  x' = Dbar + (sigma'/sigma) (x - Dbar),   Dbar = D + (D_r - D)/(2r)
    RK4          the classical rule of Kutta in sigma

The step into sigma' = 0, where log sigma ends, is Euler's: x' = D. DPM-Solver-1 is Euler (DDIM). In
the code e = sigma eps = x - D: one tensor operation less an evaluation, the division by sigma being
left to the scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma, Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method

Residual = Callable[[Tensor, Sigma], Tensor]  # (x, sigma) -> e = sigma eps = x - D(x; sigma)
# (x, c, e) -> x + c e, for a number c or for one in each row
Add = Callable[[Tensor, Sigma, Tensor], Tensor]


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
    phi = lambda q, level: (sigma - level) / (q * h) - level
    e_1 = residual(add(x, (third - sigma) / sigma, e), third)
    bend = 2 * phi(2 / 3, two_thirds)
    e_2 = residual(
        add(add(x, (two_thirds - sigma + bend) / sigma, e), -bend / third, e_1), two_thirds
    )
    bend = 1.5 * phi(1, sigma_next)
    move = sigma_next - sigma
    return add(add(x, (move + bend) / sigma, e), -bend / two_thirds, e_2), e_1


def fraction(r: float) -> None:
    if not 0 < r <= 1:
        raise UsageError(
            f"sampler.r={r}: write 0 < r <= 1, where in log sigma the second evaluation lies (0.5 "
            "is the midpoint)"
        )


class SingleStep(Method):
    """Down to a positive level by `advance`; into 0 by Euler."""

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        return Step(
            self.advance(denoise, x, denoised, sigma, sigma_next) if sigma_next > 0 else denoised,
            sigma_next,
            denoised,
        )


class SlopeStep(SingleStep):
    """A rule that sees the denoiser through eps alone."""

    def advance(
        self, denoise: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        return self.integrate(lambda y, s: y - denoise(y, s), x, x - denoised, sigma, sigma_next)


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

    def integrate(
        self, residual: Residual, x: Tensor, e: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        return dpm_solver_2(residual, add, x, e, sigma, sigma_next, self.r)


@dataclass(frozen=True)
class DPMSolver3(SlopeStep):
    """DPM-Solver-3 with r1 = 1/3, r2 = 2/3 (Lu et al. 2022, Algorithm 2). Three evaluations a step."""

    order = 3

    def integrate(
        self, residual: Residual, x: Tensor, e: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        return dpm_solver_3(residual, add, x, e, sigma, sigma_next, math.log(sigma / sigma_next))[0]


@dataclass(frozen=True)
class RK4(SlopeStep):
    """Kutta's rule of 1901 on dx/dsigma = eps. Four evaluations a step."""

    order = 4

    def integrate(
        self, residual: Residual, x: Tensor, e: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        h = sigma_next - sigma
        middle = (sigma + sigma_next) / 2
        e_2 = residual(add(x, h / 2 / sigma, e), middle)
        e_3 = residual(add(x, h / 2 / middle, e_2), middle)
        e_4 = residual(add(x, h / middle, e_3), sigma_next)
        return add(
            add(add(x, h / 6 / sigma, e), h / 3 / middle, e_2 + e_3), h / 6 / sigma_next, e_4
        )


@dataclass(frozen=True)
class DPMpp2S(SingleStep):
    """DPM-Solver++(2S) (Lu et al. 2022, DPM-Solver++, Algorithm 1). Two evaluations a step. Raises
    UsageError unless 0 < r <= 1."""

    r: float = 0.5
    order = 2

    def __post_init__(self):
        fraction(self.r)

    def advance(
        self, denoise: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float
    ) -> Tensor:
        ratio = (sigma_next / sigma) ** self.r
        ahead = denoise(torch.lerp(denoised, x, ratio), ratio * sigma)
        return torch.lerp(torch.lerp(denoised, ahead, 1 / (2 * self.r)), x, sigma_next / sigma)
