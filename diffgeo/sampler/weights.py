"""Where the weights of every multistep rule come from: a polynomial through the last few slopes,
integrated over the step.

A rule that replaces f by its interpolant through f_j = f(u_j), u in units of the step (0 now, 1 its
end, negative the past), is a weighted mean sum_j w_j f_j, and the weights solve one small
Vandermonde system, sum_j w_j u_j^k = m_k, k = 0..n-1. The moments m_k say what the interpolant is
integrated against:

    m_k = int_0^1 u^k du = 1/(k+1)

for eps over sigma (Adams-Bashforth), and

    m_k = int_0^1 e^(z(1-u)) u^k du / int_0^1 e^(z(1-u)) du = k! phi_(k+1)(z)/phi_1(z)

with z = h = log(sigma/sigma') for eps in log sigma (DPM-Solver, DEIS in log rho), z = -h for D in
log sigma (DPM-Solver++, UniPC). As z -> 0 the second becomes the first. What sets the
published methods apart is their u_j and where they bend these moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Moments = Callable[[int, float], Sequence[float]]  # (number of points, z) -> m_0 = 1, m_1, ...
Levels = tuple[float, ...]  # of the points, in sigma: that of the state first


def phi(k: int, z: float) -> float:
    """phi_k(z) = sum_n z^n/(n+k)! = (phi_(k-1)(z) - 1/(k-1)!)/z, phi_0 = exp; by its series near 0,
    where the recursion cancels."""
    if abs(z) < 1:
        return sum(z**n / math.factorial(n + k) for n in range(18))
    if k == 0:
        return math.exp(z)
    return (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def exact(n: int, z: float) -> list[float]:
    """The moments k! phi_(k+1)(z)/phi_1(z), k < n; at z = 0 they are 1/(k+1)."""
    return [math.factorial(k) * phi(k + 1, z) / phi(1, z) for k in range(n)]


def solve(nodes: Sequence[float], moments: Sequence[float]) -> tuple[float, ...]:
    """The weights w with sum_j w_j nodes_j^k = moments_k, one for each node."""
    return tuple(np.linalg.solve(np.vander(nodes, increasing=True).T, moments).tolist())


@lru_cache(maxsize=4096)
def in_sigma(levels: Levels, end: float) -> tuple[float, ...]:
    """Adams-Bashforth weights on uneven steps: sum_j w_j eps(levels_j) is the mean over [end,
    levels_0] of the interpolant in sigma."""
    nodes = [(s - levels[0]) / (end - levels[0]) for s in levels]
    return solve(nodes, exact(len(levels), 0.0))


@lru_cache(maxsize=4096)
def in_log_sigma(
    levels: Levels, end: float, rate: float, moments: Moments = exact
) -> tuple[float, ...]:
    """The weights of an interpolant in log sigma, end > 0, for z = rate h: rate = 1 where it is
    eps's, -1 where it is D's."""
    h = math.log(levels[0] / end)
    nodes = [math.log(levels[0] / s) / h for s in levels]
    return solve(nodes, moments(len(levels), rate * h))


def combine(weights: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """sum_j w_j terms_j."""
    total = torch.mul(terms[0], weights[0])
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total.add_(term, alpha=weight)
    return total


def towards_data(
    x: Tensor, levels: Levels, terms: Sequence[Tensor], end: float, moments: Moments
) -> Tensor:
    """x' = Dbar + (sigma'/sigma) (x - Dbar), Dbar = sum_j w_j D_j: the flow of x at levels_0 to
    `end` with D interpolated in log sigma.

    One term, or a step into 0, makes it Euler's.
    """
    mean = terms[0]
    if len(terms) > 1 and end > 0:
        mean = combine(in_log_sigma(levels, end, -1, moments), terms)
    return torch.lerp(mean, x, end / levels[0])
