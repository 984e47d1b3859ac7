"""Distances between two Gaussians in closed form: commuting ones, given by their laws in each
eigenspace, and matrices.

With variances v, w, means m, m' and multiplicities n in the common eigenspaces, r = v/w,

    W2^2 = sum n (sqrt v - sqrt w)^2 + (m - m')^2
    KL   = 1/2 sum n (r - 1 - ln r) + (m - m')^2/w
    TV   = 1/(2 pi) int (1 - M(-1/2 + i u))/(1/4 + u^2) du          (theory.variation),
    ln M(s) = 1/2 sum n (-s ln r - ln(1 + s (1 - r))) + s (1 + s) (m - m')^2/(w (1 + s (1 - r))).

The Frechet distance, the FID of two Gaussians, is W2^2. Where one law is singular and the other is
not, KL is inf and TV is 1. A mean is the norm of the mean in its eigenspace. Everything is float64;
differences are taken before roots, so that equal laws are at distance 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.metrics.frechet import frechet as of_moments
from diffgeo.theory.variation import variation

EIGENSPACES = 4096  # whose M is found together, at every point of the integral: bounds the memory


class Law(NamedTuple):
    """A Gaussian in each eigenspace: variance [k] and mean [k] (its norm there), or None for a
    centred law."""

    variance: Tensor
    mean: Tensor | None = None


def shift(a: Law, b: Law) -> Tensor:
    """m - m' [k]."""
    zero = torch.zeros_like(a.variance)
    return (zero if a.mean is None else a.mean) - (zero if b.mean is None else b.mean)


def roots(v: Tensor, w: Tensor) -> Tensor:
    """sqrt v - sqrt w = (v - w)/(sqrt v + sqrt w), inf where one of them is."""
    total = (v.sqrt() + w.sqrt()).clamp(min=torch.finfo(v.dtype).tiny)
    difference = torch.where(v == w, 0.0, (v - w) / total)
    return torch.where(v.isinf() | w.isinf(), math.inf, difference)


def frechet(a: Law, b: Law, counts: Tensor) -> float:
    """W2^2, in squared data units."""
    spread = (counts * roots(a.variance, b.variance).square()).sum()
    return float(spread + shift(a, b).square().sum())


def w2(a: Law, b: Law, counts: Tensor) -> float:
    """W2, in data units; `counts` [k] are the multiplicities of the eigenspaces."""
    return math.sqrt(frechet(a, b, counts))


def relative(a: Law, b: Law) -> tuple[Tensor, Tensor]:
    """(v - w)/w and (m - m')/sqrt w [k]: 0 where both laws are the same point, inf where they are
    singular to each other."""
    v = a.variance
    w = b.variance
    move = shift(a, b)
    same = (v == 0) & (w == 0)
    singular = (same & (move != 0)) | ((v == 0) != (w == 0)) | v.isinf() | w.isinf()
    safe = torch.where(same | singular, 1.0, w)
    x = torch.where(same, 0.0, (torch.where(singular, 1.0, v) - safe) / safe)
    z = torch.where(same, 0.0, move / safe.sqrt())
    return torch.where(singular, math.inf, x), torch.where(singular, 0.0, z)


def excess(x: Tensor) -> Tensor:
    """x - ln(1 + x) >= 0 without cancellation: with s = x/(2 + x), ln(1 + x) = 2 (s + s^3/3 + ...)
    and x - 2 s = x s."""
    near = x.abs() < 0.25
    s = torch.where(near, x / (2 + x), 0.0)
    square = s * s
    tail = torch.zeros_like(s)
    for odd in range(17, 1, -2):  # 1/3 + s^2/5 + s^4/7 + ...
        tail = tail * square + 1 / odd
    series = x * s - 2 * s * square * tail
    plain = torch.where(x.isinf(), math.inf, x - torch.log1p(x.clamp(max=1e300)))
    return torch.where(near, series, plain)


def kl(a: Law, b: Law, counts: Tensor) -> float:
    """KL(a | b) in nats."""
    x, z = relative(a, b)
    return float((counts * excess(x) + z.square()).sum()) / 2


def tv(a: Law, b: Law, counts: Tensor) -> float:
    """The total variation distance in [0, 1], to about 1e-9 of itself (1e-6 in one dimension); 1
    where one is singular to the other."""
    kept = counts > 0
    n = counts[kept]
    # p = b and q = a in theory.variation: r = 1 + x
    x, z = (part[kept] for part in relative(b, a))
    if bool(x.isinf().any()):
        return 1.0
    blocks = list(
        zip(x.split(EIGENSPACES), z.split(EIGENSPACES), n.split(EIGENSPACES), strict=True)
    )

    def log_m(s: Tensor) -> Tensor:
        return sum(log_bhattacharyya(s[:, None], *block).sum(1) for block in blocks)

    spread = (n * torch.log1p(x) ** 2).sum() / 2 + z.square().sum()
    return variation(log_m, math.sqrt(float(spread)))


def log_bhattacharyya(s: Tensor, x: Tensor, z: Tensor, n: Tensor) -> Tensor:
    """What each eigenspace [k] adds to ln M at s [m,1], for variances 1 + x of p in units of q's,
    means z deviations apart and multiplicities n: [m,k]."""
    variance = n / 2 * (-s * torch.log1p(x) - torch.log(1 - s * x))
    mean = s * (1 + s) / 2 * z**2 / (1 - s * x)
    return variance + mean


def bures(mean0: Tensor, covariance0: Tensor, mean1: Tensor, covariance1: Tensor) -> float:
    """W2 of two Gaussians given by means [d] and covariances [d,d],

        W2^2 = |m0 - m1|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2).

    The difference of traces costs digits: absolute error about 1e-8 sqrt(trace), where `w2` of
    commuting laws has 1e-16.
    """
    return math.sqrt(max(0.0, of_moments(mean0, covariance0, mean1, covariance1)))


def commuting(
    mean0: Tensor, covariance0: Tensor, mean1: Tensor, covariance1: Tensor
) -> tuple[Law, Law]:
    """Both Gaussians where the second is N(0, I) and the first is diagonal, for the distances that
    no linear map changes: `kl`, `tv`.

    A singular second Gaussian has no such coordinates: it is returned as a point and the first as
    none, at KL inf and TV 1.
    """
    values, basis = torch.linalg.eigh(covariance1)
    if float(values[0]) <= len(values) * torch.finfo(values.dtype).eps * float(values[-1]):
        return Law(torch.ones_like(values)), Law(torch.zeros_like(values))
    whiten = basis / values.sqrt()
    v, turn = torch.linalg.eigh(whiten.mT @ covariance0 @ whiten)
    return Law(v.clamp(min=0), turn.mT @ (whiten.mT @ (mean0 - mean1))), Law(torch.ones_like(v))
