"""The total variation distance in any dimension: one integral of an analytic Bhattacharyya
coefficient.

With the log density ratio l = ln p/q and M(s) = E_p e^(s l) = int p^(1+s) q^(-s), the two
transforms of P_p(l > 0) - P_q(l > 0) have their poles at s = 0 and s = -1; inverted on the line
between, Re s = -1/2, they give

    TV(p, q) = 1/(2 pi) int (1 - M(-1/2 + i u)) / (1/4 + u^2) du,
    |M(-1/2 + i u)| <= M(-1/2),  the Bhattacharyya coefficient.

M of a product is the product of the Ms. So TV costs a quadrature whatever the dimension is, and no
sampling. For two Gaussians see theory.distances; for densities on a grid M is a sum (`product_tv`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

NODES = 24  # Gauss-Legendre nodes of a panel
BLOCK = 2  # panels that are taken together
POINTS = 2000  # of the integral, taken together over all nodes of a density
LOST = math.log(1e-18)  # of |M|: beneath the rounding of 1 - M


def variation(
    log_m: Callable[[Tensor], Tensor], spread: float, reach: float = 400.0, panels: int = 400
) -> float:
    """TV from ln M: complex [n] -> complex [n]. `spread` is the deviation of l, the scale on which
    M falls along the line.

    Beyond u = reach/spread, and after panels on which M is lost in rounding, M is dropped: there 1
    - M is 1, and the rest of the integral is known.
    """
    if spread == 0:
        return 0.0
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(NODES))
    width = reach / panels
    total = 0.0
    end = 0.0
    for block in torch.arange(panels, dtype=torch.float64).split(BLOCK):
        w = (width * (block[:, None] + (nodes + 1) / 2)).flatten()
        z = log_m(torch.complex(torch.full_like(w, -0.5), w / spread))
        # 1 - Re M, small where u is
        lost = -torch.expm1(z.real) * torch.cos(z.imag) + 2 * torch.sin(z.imag / 2) ** 2
        terms = weights.repeat(len(block)) * lost / (spread**2 / 4 + w**2)
        total += float(terms.sum()) * width / 2
        end = width * float(block[-1] + 1)
        if float(z.real.max()) < LOST:
            break
    rest = 2 / math.pi * math.atan(spread / (2 * end))
    return min(1.0, total * spread / math.pi + rest)


def product_tv(p: Tensor, q: Tensor, weights: Tensor, copies: int) -> float:
    """TV of the `copies`-fold products of two densities on nodes [n] with quadrature weights; exact
    for 1 copy by |p - q| itself."""
    if copies == 1:
        return float((weights * (p - q).abs()).sum()) / 2
    kept = (p > 0) & (q > 0)
    mass = (weights * p)[kept]
    ratio = torch.log(p / q)[kept]
    spread = math.sqrt(copies * float((mass * ratio**2).sum()))

    def log_m(s: Tensor) -> Tensor:
        m = [torch.exp(part[:, None] * ratio) @ mass.to(s) for part in s.split(POINTS)]
        return copies * torch.log(torch.cat(m))

    return variation(log_m, spread, reach=60.0, panels=60)
