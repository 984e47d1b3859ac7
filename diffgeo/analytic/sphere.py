"""The uniform law on a sphere of radius r in R^n.

The posterior on the sphere is von Mises-Fisher with kappa = r |x| / sigma^2, so D(x) = r A_n(kappa)
x/|x| with the mean resultant

    A_n(kappa) = I_{n/2}(kappa) / I_{n/2-1}(kappa).

`ratio` computes I_{v+1}/I_v for every v >= -1/2 and kappa >= 0. At a high order, Debye's uniform
expansion of I'_v/I_v (DLMF 10.41.9-11) holds for all kappa at once; the recurrence
rho_{v-1} = 1/(2v/kappa + rho_v) carries it down, where it is stable.

With v = n/2 - 1, u = x/|x| and E the mean of exp(kappa u.a) over the unit sphere,

    E = Gamma(v+1) (2/kappa)^v I_v(kappa),
    log p_sigma(x) = -(|x| - r)^2/2 sigma^2 + (log E - kappa) - n/2 log 2 pi sigma^2,
    Cov[x0 | x] = r^2 [A' u u^T + (A/kappa) (I - u u^T)],      A' = 1 - A^2 - (n-1) A/kappa.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

_ORDER = 50.0
_TERMS = 8


@cache
def _debye() -> tuple[list[Polynomial], list[Polynomial]]:
    """U_k(p) and W_k(p) with V_k = U_k + (1 - p^2) W_k, k < _TERMS (DLMF 10.41.9 and 10.41.11)."""
    p = Polynomial([0.0, 1.0])
    u = [Polynomial([1.0])]
    w = [Polynomial([0.0])]
    for _ in range(_TERMS - 1):
        last = u[-1]
        w.append(-p * last / 2 - p**2 * last.deriv())
        u.append(p**2 * (1 - p**2) * last.deriv() / 2 + ((1 - 5 * p**2) * last).integ() / 8)
    return u, w


def _horner(polynomial: Polynomial, p: Tensor) -> Tensor:
    """A polynomial at p, by Horner's rule."""
    value = torch.zeros_like(p)
    for c in polynomial.coef[::-1]:
        value = value * p + float(c)
    return value


def _series(terms: list[Polynomial], p: Tensor, v: float) -> Tensor:
    """sum_k terms_k(p) / v^k."""
    total = torch.zeros_like(p)
    for k, term in enumerate(terms):
        total = total + _horner(term, p) / v**k
    return total


def ratio(order: float, kappa: Tensor) -> Tensor:
    """I_{order+1}(kappa) / I_order(kappa), order >= -1/2, kappa >= 0."""
    if order == 0:  # the circle: torch has these two, thirty times faster
        return torch.special.i1e(kappa) / torch.special.i0e(kappa)
    steps, v, rho, _ = _high(order, kappa)
    for k in range(steps):
        rho = kappa / (2 * (v - k) + kappa * rho)
    return rho


def _high(order: float, kappa: Tensor) -> tuple[int, float, Tensor, Tensor]:
    """How many orders above `order` Debye's expansion is taken, that order v, I_{v+1}/I_v there,
    and the sum of U_k/v^k."""
    steps = max(0, int(np.ceil(_ORDER - order)))
    v = order + steps
    root = torch.sqrt(v**2 + kappa**2)
    p = v / root
    u, w = (_series(terms, p, v) for terms in _debye())
    rho = kappa / (v + root) + kappa / root * w / u  # (1 - p^2) root / kappa = kappa / root
    return steps, v, rho, u


def log_mean(order: float, kappa: Tensor) -> Tensor:
    """log[Gamma(order+1) (2/kappa)^order I_order(kappa)] - kappa: 0 at kappa = 0, and no difference
    of large numbers anywhere. Down the orders the first part gains log(1 + kappa rho/2v)."""
    if order == 0:
        return torch.special.i0e(kappa).log()
    steps, v, rho, u = _high(order, kappa)
    z = kappa / v
    root = torch.sqrt(1 + z * z)
    stirling = math.lgamma(v + 1) - (v * math.log(v) - v + math.log(2 * math.pi * v) / 2)
    # v (sqrt(1+z^2) - 1) - kappa, as one fraction
    drop = kappa * (1 + 1 / (root + z)) / (1 + root)
    found = stirling - v * ((1 + root) / 2).log() - drop - root.log() / 2 + u.log()
    for k in range(steps):
        found = found + torch.log1p(kappa * rho / (2 * (v - k)))
        rho = kappa / (2 * (v - k) + kappa * rho)
    return found


def sphere(x: Tensor, sigma: Tensor, radius: float) -> Tensor:
    """E[x0|x] of the uniform law on the sphere of R^n, n = x.shape[1]: x [B,n], sigma [B] -> [B,n].
    At the centre it is 0."""
    norm = torch.linalg.vector_norm(x, dim=1)
    unit = x / norm.clamp(min=torch.finfo(x.dtype).tiny)[:, None]
    return radius * ratio(x.shape[1] / 2 - 1, radius * norm / sigma**2)[:, None] * unit


class Local(NamedTuple):
    """What the posterior on the sphere is at some x."""

    unit: Tensor  # x/|x|, [B,n]
    norm: Tensor  # |x|, [B]
    kappa: Tensor  # [B]
    along: Tensor  # A', [B]
    across: Tensor  # A/kappa, [B]


def local(x: Tensor, sigma: Tensor, radius: float) -> Local:
    """The posterior's direction and spread; at the centre it is uniform."""
    n = x.shape[1]
    norm = torch.linalg.vector_norm(x, dim=1)
    unit = x / norm.clamp(min=torch.finfo(x.dtype).tiny)[:, None]
    kappa = radius * norm / sigma**2
    safe = kappa.clamp(min=1e-150)
    mean = ratio(n / 2 - 1, safe)
    across = torch.where(kappa > 1e-150, mean / safe, 1 / n)
    along = 1 - mean**2 - (n - 1) * across
    # at large kappa that is a difference of numbers near 1, and a short series is exact
    far = (n - 1) / (2 * safe**2) * (1 - (n - 3) / (2 * safe))
    along = torch.where(safe > 1e4 * n, far, along)
    return Local(unit, norm, kappa, along, across)


def log_density(x: Tensor, sigma: Tensor, radius: float) -> Tensor:
    """log p_sigma(x), [B]."""
    n = x.shape[1]
    norm = torch.linalg.vector_norm(x, dim=1)
    spread = log_mean(n / 2 - 1, radius * norm / sigma**2)
    gap = (norm - radius) / sigma
    return spread - gap**2 / 2 - n / 2 * (2 * math.pi * sigma**2).log()


def trace(x: Tensor, sigma: Tensor, radius: float) -> Tensor:
    """tr dD/dx, [B]."""
    found = local(x, sigma, radius)
    return (radius / sigma) ** 2 * (found.along + (x.shape[1] - 1) * found.across)


def covariance_product(x: Tensor, sigma: Tensor, radius: float, v: Tensor) -> Tensor:
    """Cov[x0 | x] v, [B,n]."""
    found = local(x, sigma, radius)
    radial = (found.unit * v).sum(1, keepdim=True) * found.unit
    along = found.along[:, None] * radial
    return radius**2 * (along + found.across[:, None] * (v - radial))
