"""Tangential W2: the error along the support, once the distance to it is projected away.

Let s_(1) <= ... <= s_(n) be the sorted arc-length coordinates of the projected samples, Q the exact
quantile function of the law's coordinate. On a line optimal transport is monotone, hence, exactly,

    W2^2 = int_0^1 (F_n^{-1}(u) - Q(u))^2 du = sum_i int_{(i-1)/n}^{i/n} (s_(i) - Q(u))^2 du.

On a closed curve of length L both sides are lifted, F^{-1}(u+1) = F^{-1}(u) + L, and the plan may
start anywhere,

    W2^2 = min_a int_0^1 (F_n^{-1}(u) - Q(u - a))^2 du,

convex in a (Delon, Salomon, Sobolevskii, SIAM J. Appl. Math. 2010). The truth is no sample here, so
the floor is that of one empirical law, not of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Data, Run
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points

NODES = 4  # of Gauss-Legendre in each cell
HALVINGS = 20  # of the outer cells, towards u = 0 and 1, where Q may be infinite


class Rule(NamedTuple):
    """Nodes u and weights of int_0^1 du, and the number of the cell that each node lies in."""

    u: Tensor
    weight: Tensor
    cell: Tensor


def rule(n: int) -> Rule:
    """Exact to rounding for Q smooth on the n cells ((i-1)/n, i/n)."""
    abscissae, weights = np.polynomial.legendre.leggauss(NODES)  # on (-1, 1)
    node = torch.as_tensor(abscissae, dtype=torch.float64) / 2
    weight = torch.as_tensor(weights, dtype=torch.float64) / 2
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    tail = 0.5 ** torch.arange(HALVINGS, 0, -1, dtype=torch.float64) / n
    inner = torch.arange(1, n, dtype=torch.float64) / n
    edges = torch.cat([ends, tail, inner, 1 - tail]).sort().values
    width = edges.diff()[:, None]
    u = edges[:-1, None] + width * (node + 0.5)
    cell = (u * n).long().clamp(max=n - 1)
    return Rule(u.flatten(), (width * weight).flatten(), cell.flatten())


def tangential_w2(
    s: Tensor, quantile: Callable[[Tensor], Tensor], period: float | None = None
) -> float:
    """W2 between the empirical law of the coordinates s [n] and the law with quantile function Q,
    in data units.

    quantile: u in (0,1), float64 [m] -> coordinate [m]; period: length of a closed curve, None for
        an open one.
    """
    u, weight, cell = rule(len(s))
    s = s.sort().values[cell]
    if period is None:
        return math.sqrt(float(weight @ (s - quantile(u)) ** 2))
    from scipy.optimize import minimize_scalar

    def squared(shift: float) -> float:
        """W2^2 of the plan that starts at `shift`."""
        turn = torch.floor(u - shift)
        difference = s - quantile(u - shift - turn) - period * turn
        return float(weight @ difference**2)

    best = minimize_scalar(squared, bounds=(-1, 1), method="bounded", options={"xatol": 1e-7})
    return math.sqrt(best.fun)


@dataclass(frozen=True)
class Tangential(Measure):
    """`tangential/w2`, for laws with an arc-length coordinate."""

    cheap = True

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if data.coordinate is None or data.quantile is None:
            return {}
        s = data.coordinate(points(run.samples))
        return {"tangential/w2": tangential_w2(s, data.quantile, data.period)}
