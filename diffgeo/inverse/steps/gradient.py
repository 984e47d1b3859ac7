"""Diffusion posterior sampling as it is published: a gradient step after each DDPM step.

    x' = DDPM(x) - zeta sqrt((1 + v)(1 + v')) grad_x |y - A D(x)|,        v = sigma^2,

the norm, not its square, of each sample by itself. The root is what the published step, stated in
x_t = x/sqrt(1 + v), becomes in x = x0 + sigma eps: without it a zeta of one chart is another's.
With S = v dD/dx and r = y - A D,

    grad_x |r| = -(dD/dx)' A' r/|r| = -S A' r/(v |r|).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement
from diffgeo.core import Denoiser, Sampler, Sigma, Step, expand
from diffgeo.inverse.jacobian import Tangent, tangent
from diffgeo.inverse.linear import finite, matching, pullback
from diffgeo.inverse.rules import check_strength
from diffgeo.inverse.steps.replacement import replaceable, replaced
from diffgeo.sampler.base import Method
from diffgeo.sampler.stochastic import DDPM


@dataclass(frozen=True)
class DPS:
    """DPS (Chung et al. 2023, algorithm 1), any operator; sigma_n is not looked at.

    zeta: the published zeta' (.3 for super-resolution and deblurring, .5 for inpainting, 1 for
        phase retrieval), in its chart. projected: replace what is measured after each step too,
        which is MCG (Chung et al. 2022), for linear operators.
    Does not sample the posterior: what is left of |y - A x| is set by zeta and not by sigma_n, and
    a norm has no law in the limit of many steps (tests/test_steps.py).
    Raises UsageError on a negative zeta.
    """

    zeta: float = 0.3
    projected: bool = False

    def __post_init__(self):
        check_strength(self.zeta)

    def told(self, measurement: Measurement) -> Sampler:
        operator = replaceable(measurement, "mcg") if self.projected else None
        return DPSStep(self.zeta, measurement, operator)


@dataclass(frozen=True, eq=False)
class DPSStep(Method):
    """A step of `DPS` for rows with this measurement.

    projects: the operator, where what it measures is replaced after the step.
    """

    zeta: float
    measurement: Measurement
    projects: Linear | None = None
    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.measurement, x)
        local = tangent(denoise, x, sigma)
        ancestral = DDPM().step(known(local.denoised), x, sigma, sigma_next, [], noise)
        slope = self.slope(local, sigma)
        chart = math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        moved = finite(torch.sub(ancestral.x, slope, alpha=self.zeta * chart))
        if self.projects is not None:
            moved = replaced(self.projects, self.measurement.y, moved, sigma_next, noise)
        return Step(moved, sigma_next, local.denoised)

    def slope(self, local: Tangent, sigma: float) -> Tensor:
        """grad_x |y - A D|, [B,*D]; 0 where nothing is left of the residual."""
        residual = self.measurement.residual(local.denoised)
        norm = residual.flatten(1).norm(dim=1)
        unit = residual / expand(torch.where(norm > 0, norm, 1.0), residual)
        back = pullback(self.measurement.operator, local.denoised, unit)
        return -local.product(back) / sigma**2


def known(denoised: Tensor) -> Denoiser:
    """A denoiser that has been asked already."""

    def denoise(x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return denoised

    return denoise
