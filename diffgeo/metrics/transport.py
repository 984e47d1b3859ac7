"""Distances between two clouds, x [n,d] and y [m,d].

    exact W2      W2^2 = min over permutations p of 1/n sum_i |x_i - y_p(i)|^2               (n = m)
    sliced W2     SW2^2 = mean over directions theta of W2^2(<theta,x>, <theta,y>),
                  each by sorting                                                           (n = m)
    energy        E^2 = 2 mean|x-y| - mean|x-x'| - mean|y-y'|
                  (V-statistic; Szekely and Rizzo 2013, scipy's convention)

They are three different quantities: for a shift v, W2 = |v| and SW2 is about |v|/sqrt(d).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffgeo.core import Data, Run, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points

DUALS = 4  # dual potentials that are kept
_duals: dict[bytes, np.ndarray] = {}  # of the last few second clouds, by digest, [n] each


def matching(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The squared distances [n,n] of two clouds [n,d], and the permutation of least cost as indices
    of rows and of columns: by Jonker-Volgenant, the first time by POT's network simplex when
    installed.

    The simplex leaves a dual potential v, and c_ij - v_j - min_k (c_ik - v_k) has the same best
    permutations. In a sweep the next x, from the same noise, is nearly the last one and is compared
    with the same y: so reduced it is nearly solved, in a sixth of the time.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(x, y, "sqeuclidean")
    name = hashlib.sha256(y.tobytes()).digest()
    if name in _duals:
        reduced = cost - _duals[name]
        return cost, *linear_sum_assignment(reduced - reduced.min(1, keepdims=True))
    try:
        import ot
    except ImportError:
        return cost, *linear_sum_assignment(cost)
    # POT's default stops early, with a warning, at 10^5
    plan, log = ot.emd([], [], cost, numItermax=10**9, log=True)
    while len(_duals) >= DUALS:
        _duals.pop(next(iter(_duals)))
    _duals[name] = log["v"]
    return cost, np.arange(len(cost)), plan.argmax(1)


def w2(x: np.ndarray, y: np.ndarray) -> float:
    """Exact W2 of two clouds of n points, [n,d] each. O(n^3): .6 CPU s at n = 2000, 25 at 10^4."""
    cost, rows, columns = matching(x, y)
    return math.sqrt(cost[rows, columns].mean())


def matched(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x [n,d] renumbered so that W2^2 = 1/n sum_i |x_i - y_i|^2: each point in the place of the one
    that it is matched with."""
    _, rows, columns = matching(x, y)
    out = np.empty_like(x)
    out[columns] = x[rows]
    return out


@lru_cache
def directions(projections: int, d: int) -> np.ndarray:
    """The fixed unit directions [projections,d]: the same for every run, every law of this
    dimension and every floor."""
    import torch

    theta = torch.randn(projections, d, generator=generator(0, *b"directions"), dtype=torch.float64)
    return (theta / theta.norm(dim=1, keepdim=True)).numpy()


def sliced_w2(x: np.ndarray, y: np.ndarray, projections: int = 200) -> float:
    """Sliced W2 of two clouds of n points over the fixed `directions`, [n,d] each. O(n log n)."""
    squares = []
    for theta in directions(projections, x.shape[1]):
        along = np.sort(x @ theta) - np.sort(y @ theta)
        squares.append(np.mean(along**2))
    return math.sqrt(np.mean(squares))


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """Energy distance of x [n,d] and y [m,d], the square root of E^2."""
    from scipy.spatial.distance import cdist, pdist

    within = sum(2 * pdist(z).sum() / len(z) ** 2 for z in (x, y))
    square = 2 * cdist(x, y).mean() - within
    return math.sqrt(max(square, 0.0))  # nan stays nan


@dataclass(frozen=True)
class Transport(Measure):
    """`transport/w2` and `transport/energy` of the first n samples, `transport/sliced_w2` of all,
    against as many fresh true samples.

    The reference samples depend on the run's seed alone. Fewer than n samples are compared with as
    many true ones.
    """

    n: int = 2_000
    projections: int = 200

    def __post_init__(self):
        for name, value in (("n", self.n), ("projections", self.projections)):
            if value < 1:
                raise UsageError(f"metrics.transport.{name}={value}: give a positive number")

    def steady(self, key: str, n: int) -> bool:
        return n >= self.n and key != "transport/sliced_w2"

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        x = points(run.samples).flatten(1).numpy()
        y = points(data.sample(len(x), generator(run.seed, *b"transport"))).flatten(1).numpy()
        first = slice(self.n)
        return {
            "transport/w2": w2(x[first], y[first]),
            "transport/sliced_w2": sliced_w2(x, y, self.projections),
            "transport/energy": energy(x[first], y[first]),
        }
