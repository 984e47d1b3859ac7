"""Tangential W2: the error along the support, once the distance to it is projected away.

Let s_(1) <= ... <= s_(n) be the sorted arc-length coordinates of the projected samples, Q the exact
quantile function of the law's coordinate. On a line optimal transport is monotone, hence, exactly,

    W2^2 = int_0^1 (F_n^{-1}(u) - Q(u))^2 du = sum_i int_{(i-1)/n}^{i/n} (s_(i) - Q(u))^2 du.

On a closed curve of length L both sides are lifted, F^{-1}(u+1) = F^{-1}(u) + L, and the plan may
start anywhere: W2^2 = min_a int_0^1 (F_n^{-1}(u) - Q(u - a))^2 du, convex in a (Delon, Salomon,
Sobolevskii, SIAM J. Appl. Math. 2010). The truth is no sample here, so the floor is that of one
empirical law, not of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Manifold, Run
from diffgeo.metrics.points import points

# Gauss-Legendre in each cell; the outer cells are halved towards u = 0 and 1, where Q may be
# infinite
NODES = 4
HALVINGS = 20


def _rule(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes u and weights of int_0^1 du, exact to rounding for Q smooth on the n cells, and the
    cell of each node."""
    node, weight = (
        torch.as_tensor(v, dtype=torch.float64) / 2 for v in np.polynomial.legendre.leggauss(NODES)
    )
    tail = 0.5 ** torch.arange(HALVINGS, 0, -1, dtype=torch.float64) / n
    end = torch.tensor([0.0, 1.0], dtype=torch.float64)
    edges = (
        torch.cat([end, tail, torch.arange(1, n, dtype=torch.float64) / n, 1 - tail]).sort().values
    )
    width = edges.diff()[:, None]
    u = edges[:-1, None] + width * (node + 0.5)
    return u.flatten(), (width * weight).flatten(), (u * n).long().clamp(max=n - 1).flatten()


def tangential_w2(
    s: Tensor, quantile: Callable[[Tensor], Tensor], period: float | None = None
) -> float:
    """W2 between the empirical law of the coordinates s [n] and the law with quantile function Q,
    in data units.

    quantile: u in (0,1), float64 [m] -> coordinate [m]; period: length of a closed curve, None for
        an open one.
    """
    u, weight, cell = _rule(len(s))
    s = s.sort().values[cell]

    def squared(shift: float) -> float:
        turn = torch.floor(u - shift)
        return float(weight @ (s - quantile(u - shift - turn) - period * turn) ** 2)

    if period is None:
        return math.sqrt(float(weight @ (s - quantile(u)) ** 2))
    from scipy.optimize import minimize_scalar

    return math.sqrt(
        minimize_scalar(squared, bounds=(-1, 1), method="bounded", options={"xatol": 1e-7}).fun
    )


@dataclass(frozen=True)
class Tangential:
    """`tangential/w2`, for laws with an arc-length coordinate."""

    def __call__(self, run: Run, data: Manifold) -> dict[str, float]:
        if getattr(data, "coordinate", None) is None or getattr(data, "quantile", None) is None:
            return {}
        return {
            "tangential/w2": tangential_w2(
                data.coordinate(points(run.samples)), data.quantile, getattr(data, "period", None)
            )
        }
