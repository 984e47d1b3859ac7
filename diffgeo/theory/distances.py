"""Distances between two Gaussians in closed form: commuting ones, given by their laws in each eigenspace, and matrices.

With variances v, w, means m, m' and multiplicities n in the common eigenspaces, r = v/w,

    W2^2 = sum n (sqrt v - sqrt w)^2 + (m - m')^2                                    (Frechet distance: W2^2, the FID of two Gaussians)
    KL   = 1/2 sum n (r - 1 - ln r) + (m - m')^2/w                                   inf where one law is singular and the other is not
    TV   = 1/2 (E_p |tanh(l/2)| + E_q |tanh(l/2)|),     l = ln p/q                   1 there

A mean is the norm of the mean in its eigenspace. Where r is the same everywhere and the means agree, l depends on a chi^2 variable alone.
Everything is float64; differences are taken before roots, so that equal laws are at distance 0.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import generator
from diffgeo.errors import UsageError


class Law(NamedTuple):
    """A Gaussian in each eigenspace: variance [k] and mean [k] (its norm there), or None for a centred law."""

    variance: Tensor
    mean: Tensor | None = None


def shift(a: Law, b: Law) -> Tensor:
    """m - m' [k]."""
    zero = torch.zeros_like(a.variance)
    return (zero if a.mean is None else a.mean) - (zero if b.mean is None else b.mean)


def roots(v: Tensor, w: Tensor) -> Tensor:
    """sqrt v - sqrt w = (v - w)/(sqrt v + sqrt w), inf where one of them is."""
    difference = torch.where(v == w, 0.0, (v - w) / (v.sqrt() + w.sqrt()).clamp(min=torch.finfo(v.dtype).tiny))
    return torch.where(v.isinf() | w.isinf(), math.inf, difference)


def frechet(a: Law, b: Law, counts: Tensor) -> float:
    """W2^2, in squared data units."""
    return float((counts * roots(a.variance, b.variance).square()).sum() + shift(a, b).square().sum())


def w2(a: Law, b: Law, counts: Tensor) -> float:
    """W2, in data units; `counts` [k] are the multiplicities of the eigenspaces."""
    return math.sqrt(frechet(a, b, counts))


def relative(a: Law, b: Law) -> tuple[Tensor, Tensor]:
    """(v - w)/w and (m - m')/sqrt w [k]: 0 where both laws are the same point, inf where they are singular to each other."""
    v, w, move = a.variance, b.variance, shift(a, b)
    same = (v == 0) & (w == 0)
    singular = (same & (move != 0)) | ((v == 0) != (w == 0)) | v.isinf() | w.isinf()
    safe = torch.where(same | singular, 1.0, w)
    x, z = (torch.where(same, 0.0, part) for part in ((torch.where(singular, 1.0, v) - safe) / safe, move / safe.sqrt()))
    return torch.where(singular, math.inf, x), torch.where(singular, 0.0, z)


def excess(x: Tensor) -> Tensor:
    """x - ln(1 + x) >= 0 without cancellation: with s = x/(2 + x), ln(1 + x) = 2 (s + s^3/3 + ...) and x - 2 s = x s."""
    s = torch.where(x.abs() < 0.25, x / (2 + x), 0.0)
    square, tail = s * s, torch.zeros_like(s)
    for odd in range(17, 1, -2):                                    # 1/3 + s^2/5 + s^4/7 + ...
        tail = tail * square + 1 / odd
    series = x * s - 2 * s * square * tail
    return torch.where(x.abs() < 0.25, series, torch.where(x.isinf(), math.inf, x - torch.log1p(x.clamp(max=1e300))))


def kl(a: Law, b: Law, counts: Tensor) -> float:
    """KL(a | b) in nats."""
    x, z = relative(a, b)
    return float((counts * excess(x) + z.square()).sum()) / 2


def tv(a: Law, b: Law, counts: Tensor, n: int = 40_000, seed: int = 0) -> float:
    """The total variation distance in [0, 1]: exact where variances are proportional and means equal, else from n draws of each law.

    The standard error of n draws is below .5/sqrt(n). Raises UsageError on n < 1.
    """
    if n < 1:
        raise UsageError(f"n={n}: write the number of draws, 1 or more")
    x, z = relative(a, b)
    if bool(x.isinf().any()):
        return 1.0
    kept = counts > 0
    x, z, counts = x[kept], z[kept], counts[kept]
    if not len(x):
        return 0.0
    if bool((x == x[0]).all()) and not bool(z.any()):
        return proportional(float(x[0]), float(counts.sum()))
    back = relative(b, a)
    return (one_sided(x, z, counts, n, seed) + one_sided(back[0][kept], back[1][kept], counts, n, seed + 1)) / 2


def proportional(x: float, d: float) -> float:
    """TV of N(0, r C) and N(0, C), r = 1 + x, in d dimensions: |F(u) - F(u/r)|, F of chi^2_d; densities cross at u = d r ln(r)/(r - 1)."""
    from scipy.stats import chi2

    if x == 0:
        return 0.0
    u = d * (1 + x) * math.log1p(x) / x
    return abs(float(chi2.cdf(u, d) - chi2.cdf(u / (1 + x), d)))


def one_sided(x: Tensor, z: Tensor, counts: Tensor, n: int, seed: int) -> float:
    """E_p |tanh(l/2)|: in units of q's deviation p is N(z, 1 + x), and for y = z + sqrt(1 + x) w, w ~ N(0, 1) in `counts` directions,

        2 l = sum y^2 - w^2 - n ln(1 + x) = sum x |w|^2 + 2 sqrt(1 + x) z w_1 + z^2 - n ln(1 + x).
    """
    g, total = generator(seed, *b"tv"), 0.0
    constant = (z.square() - counts * torch.log1p(x)).sum()
    linear = 2 * torch.sqrt(1 + x) * z
    rest = (counts - 1) / 2
    several = rest > 0
    for size in torch.arange(n).split(max(1, 2_000_000 // len(x))):
        w = torch.randn(len(size), len(x), generator=g, dtype=torch.float64)
        twice = constant + w @ linear + w.square() @ x
        if bool(several.any()):
            shape = rest[several].expand(len(size), -1).contiguous()
            twice += 2 * torch._standard_gamma(shape, generator=g) @ x[several]
        total += float(torch.tanh(twice.abs() / 4).sum())
    return total / n


def bures(mean0: Tensor, covariance0: Tensor, mean1: Tensor, covariance1: Tensor) -> float:
    """W2 of two Gaussians given by means [d] and covariances [d,d]:  W2^2 = |m0 - m1|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2).

    The difference of traces costs digits: absolute error about 1e-8 sqrt(trace), where `w2` of commuting laws has 1e-16.
    """
    from diffgeo.metrics.frechet import frechet as of_moments

    return math.sqrt(max(0.0, of_moments(mean0, covariance0, mean1, covariance1)))
