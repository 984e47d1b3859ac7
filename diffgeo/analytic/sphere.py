"""The uniform law on a sphere of radius r in R^n.

The posterior on the sphere is von Mises-Fisher with kappa = r |x| / sigma^2, so D(x) = r A_n(kappa)
x/|x| with the mean resultant

    A_n(kappa) = I_{n/2}(kappa) / I_{n/2-1}(kappa).

`ratio` computes I_{v+1}/I_v for every v >= -1/2 and kappa >= 0. At a high order, Debye's uniform
expansion of I'_v/I_v (DLMF 10.41.9-11) holds for all kappa at once; the recurrence
rho_{v-1} = 1/(2v/kappa + rho_v) carries it down, where it is stable.
"""

from __future__ import annotations

from functools import cache

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
    steps = max(0, int(np.ceil(_ORDER - order)))
    v = order + steps
    root = torch.sqrt(v**2 + kappa**2)
    p = v / root
    u, w = (_series(terms, p, v) for terms in _debye())
    rho = kappa / (v + root) + kappa / root * w / u  # (1 - p^2) root / kappa = kappa / root
    for k in range(steps):
        rho = kappa / (2 * (v - k) + kappa * rho)
    return rho


def sphere(x: Tensor, sigma: Tensor, radius: float) -> Tensor:
    """E[x0|x] of the uniform law on the sphere of R^n, n = x.shape[1]: x [B,n], sigma [B] -> [B,n].
    At the centre it is 0."""
    norm = torch.linalg.vector_norm(x, dim=1)
    unit = x / norm.clamp(min=torch.finfo(x.dtype).tiny)[:, None]
    return radius * ratio(x.shape[1] / 2 - 1, radius * norm / sigma**2)[:, None] * unit
