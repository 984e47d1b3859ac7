"""The denoised estimate of a point and its derivative, whoever the denoiser is.

    Cov[x0 | x] v = sigma^2 J v,      J = dD/dx, symmetric where D is a posterior mean.

An exact denoiser has this in closed form. Of any other, a network, autograd gives sigma^2 J' v: one
pass back through D, which leaves D's graph to further products. A network is no gradient, so its J
is symmetric only as far as it is trained; the gradients that algorithms ask for are those with J'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma, WithCovariance, expand
from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Tangent:
    """What a denoiser is near one batch of points.

    denoised: D, [B,*D]. product: v -> Cov[x0 | x] v, [B,*D] -> [B,*D].
    """

    denoised: Tensor
    product: Callable[[Tensor], Tensor]


def tangent(denoise: Denoiser, x: Tensor, sigma: Sigma, **cond) -> Tangent:
    """D at x [B,*D] and the products with its derivative there. Raises UsageError where a denoiser
    has neither a covariance nor a graph."""
    if isinstance(denoise, WithCovariance):
        knows = denoise

        def closed(v: Tensor) -> Tensor:
            return knows.covariance_product(x, sigma, v, **cond)

        return Tangent(denoise(x, sigma, **cond), closed)

    with torch.enable_grad():
        point = x.detach().requires_grad_()
        denoised = denoise(point, sigma, **cond)
    if not denoised.requires_grad:
        raise UsageError(
            "this denoiser has no derivative: write an algorithm without one, such as "
            "algorithm=diffpir or algorithm=ddrm"
        )

    def by_autograd(v: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(denoised, point, v.to(denoised), retain_graph=True)
        return expand(sigma, x) ** 2 * gradient

    return Tangent(denoised.detach(), by_autograd)


def covariance_product(denoise: Denoiser, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
    """Cov[x0 | x] v = sigma^2 J v, [B,*D]: the product alone."""
    if isinstance(denoise, WithCovariance):
        return denoise.covariance_product(x, sigma, v, **cond)
    return tangent(denoise, x, sigma, **cond).product(v)
