"""Functions of an eigenvalue on many eigenvalues from few: piecewise Chebyshev interpolation in u =
log lambda.

The law that a run makes is, in lambda, a rational function with its poles at lambda = -sigma_k^2:
in u on the lines Im u = +-pi. In the strip |Im u| < pi/2, where Re lambda > 0, every factor c =
sigma^2/(lambda + sigma^2) of it is below 1; so on a piece of length 1/2 the error of interpolation
at 16 Chebyshev points falls like 12.6^-16 = 3e-18 (Trefethen 2013, th. 8.2), beneath the rounding
of the functions themselves. 200 000 eigenvalues between 1e-6 and 1e3 are 700 nodes.

A piece with fewer eigenvalues than points, and the eigenvalue 0, keep their own. One eigenvalue of
each piece is a node too: a test.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

POINTS = 16  # of a piece
LENGTH = 0.5  # of a piece, in u
f64 = torch.float64


def chebyshev(t: Tensor) -> Tensor:
    """T_0 .. T_15 at t in [-1, 1]: [m] -> [16,m]."""
    rows = [torch.ones_like(t), t]
    while len(rows) < POINTS:
        rows.append(2 * t * rows[-1] - rows[-2])
    return torch.stack(rows)


ROOTS = torch.cos(math.pi * (torch.arange(POINTS, dtype=f64) + 0.5) / POINTS)
# values at the roots [.,16] -> of T_k [.,16]
COEFFICIENTS = chebyshev(ROOTS).mT * (2 - (torch.arange(POINTS) == 0).to(f64)) / POINTS


class LogPieces:
    """The interpolation for `values` [d] >= 0: evaluate a function at `nodes` [k], call with the
    result [*,k], get [*,d].

    pieces: of each the eigenvalues, as indices [m], and their weights on its nodes [16,m].
    """

    def __init__(self, values: Tensor):
        u, order = torch.sort(torch.log(values) / LENGTH)
        floors, sizes = torch.unique_consecutive(torch.floor(u), return_counts=True)
        self.d = len(values)
        self.pieces = []
        nodes = []
        own = []
        sizes = sizes.tolist()
        for floor, members, place in zip(floors, order.split(sizes), u.split(sizes), strict=True):
            if len(members) <= POINTS or floor.isinf():
                own.append(members)
                continue
            self.pieces.append((members, COEFFICIENTS @ chebyshev(2 * (place - floor) - 1)))
            nodes.append(torch.exp((floor + (ROOTS + 1) / 2) * LENGTH))
        tests = [members[len(members) // 2, None] for members, _ in self.pieces]
        self.own = torch.cat([order[:0], *own, *tests])
        self.nodes = torch.cat([*nodes, values[self.own]])

    def __call__(self, f: Tensor) -> Tensor:
        out = f.new_empty(*f.shape[:-1], self.d)
        for k, (members, weights) in enumerate(self.pieces):
            out[..., members] = f[..., k * POINTS : (k + 1) * POINTS] @ weights
        out[..., self.own] = f[..., -len(self.own) :]
        return out

    def good(self, f: Tensor) -> bool:
        """Whether f [*,k] is met at every test: to 1e-10 of itself, or to 1e-13 of its largest
        value."""
        tests = []
        for k, (_, weights) in enumerate(self.pieces):
            middle = weights.shape[1] // 2
            tests.append(f[..., k * POINTS : (k + 1) * POINTS] @ weights[:, middle, None])
        found = torch.cat(tests, -1)
        true = f[..., -len(self.pieces) :]
        return torch.allclose(found, true, rtol=1e-10, atol=1e-13 * float(true.abs().max()))
