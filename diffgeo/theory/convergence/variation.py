"""The total variation distance, exact in any dimension: one integral of an analytic Bhattacharyya coefficient.

With the log density ratio l = ln p/q and M(s) = E_p e^(s l) = int p^(1+s) q^(-s), the two transforms of P_p(l > 0) - P_q(l > 0) have their
poles at s = 0 and s = -1; inverted on the line between, Re s = -1/2, they give

    TV(p, q) = 1/(2 pi) int (1 - M(-1/2 + i u)) / (1/4 + u^2) du,        |M(-1/2 + i u)| <= M(-1/2), the Bhattacharyya coefficient.

M of a product is the product of the Ms: for N(0, v) against N(m, w) in n directions, r = v/w and k = m^2/w in all,

    ln M = n/2 (-s ln r - ln(1 + s (1 - r))) + s (1 + s)/2 k/(1 + s (1 - r)),

and for a density known on a grid a sum. So TV costs a quadrature whatever d is, and no sampling.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diffgeo.theory.distances import Law, relative

NODES = 24


def variation(log_m: Callable[[Tensor], Tensor], spread: float, reach: float = 400.0, panels: int = 400) -> float:
    """TV from ln M: complex [n] -> complex [n]. `spread` is the deviation of l, the scale on which M falls along the line.

    Beyond u = reach/spread M is dropped; there 1 - M is 1, and the rest of the integral is known. Gauss-Legendre nodes on equal panels.
    """
    if spread == 0:
        return 0.0
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(NODES))
    width = reach / panels
    w = (width * (torch.arange(panels, dtype=torch.float64)[:, None] + (nodes + 1) / 2)).flatten()
    z = log_m(torch.complex(torch.full_like(w, -0.5), w / spread))
    lost = -torch.expm1(z.real) * torch.cos(z.imag) + 2 * torch.sin(z.imag / 2) ** 2             # 1 - Re M, small where u is
    inner = float((weights.repeat(panels) * width / 2 * lost / (spread**2 / 4 + w**2)).sum()) * spread / math.pi
    return inner + 2 / math.pi * math.atan(spread / (2 * reach))


def tv(a: Law, b: Law, counts: Tensor) -> float:
    """TV of two commuting Gaussians in [0, 1], to about 1e-9 of itself (1e-6 in one dimension); 1 where one is singular to the other."""
    kept = counts > 0
    x, z, n = *(part[kept] for part in relative(b, a)), counts[kept]            # (w - v)/v, and the distance of the means over sqrt v
    if bool(x.isinf().any()):
        return 1.0

    def log_m(s: Tensor) -> Tensor:                             # p = b, q = a in the docstring: 1 - r = -x
        s, shear = s[:, None], 1 - s[:, None] * x
        return (n / 2 * (-s * torch.log1p(x) - torch.log(shear)) + s * (1 + s) / 2 * z**2 / shear).sum(1)

    return variation(log_m, math.sqrt(float((n * torch.log1p(x) ** 2).sum() / 2 + z.square().sum())))


def product_tv(p: Tensor, q: Tensor, weights: Tensor, copies: int) -> float:
    """TV of the `copies`-fold products of two densities on nodes [n] with quadrature weights; exact for 1 copy by |p - q| itself."""
    if copies == 1:
        return float((weights * (p - q).abs()).sum()) / 2
    kept = (p > 0) & (q > 0)
    mass, ratio = (weights * p)[kept], torch.log(p / q)[kept]
    spread = math.sqrt(copies * float((mass * ratio**2).sum()))

    def log_m(s: Tensor) -> Tensor:
        return copies * torch.log(torch.cat([torch.exp(part[:, None] * ratio) @ mass.to(s) for part in s.split(2000)]))

    return variation(log_m, spread, 60.0, 60)
