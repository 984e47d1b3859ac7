"""The total variation distance of products of densities that are known on a grid: theory.variation, where M is a sum."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from diffgeo.theory.variation import variation


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
