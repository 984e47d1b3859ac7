"""The Frechet distance: exact W2 between the Gaussians that have the moments of two clouds of
features.

    F = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

(Dowson and Landau 1982; of Inception features: FID, Heusel 2017). S1 S2 is not symmetric, but with
any factor S1 = A A^T its non-zero eigenvalues are those of the symmetric A^T S2 A, so

    tr (S1 S2)^(1/2) = sum_i sqrt(lambda_i(A^T S2 A)),

A the Cholesky factor of whichever covariance has one, else V sqrt(L) of the eigendecomposition
S1 = V L V^T. n points have a covariance of rank n - 1 at most: with fewer points than features the
other eigenvalues are rounding, whose square roots would add up, and are left out.

Moments are streamed in float64: with c the mean of the first batch, s = sum (f - c) and
G = sum (f - c)(f - c)^T,

    m = c + s/n,     S = (G - s s^T/n) / (n - 1)

(n - 1: as in numpy.cov, hence torch-fidelity, pytorch-fid and EDM).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.errors import DiffgeoError

f64 = torch.float64


class Moments(NamedTuple):
    """Mean [d] and covariance [d,d] of n points, float64 on the CPU; n is None where a file does
    not tell."""

    mean: Tensor
    covariance: Tensor
    n: int | None = None


class Stream:
    """The moments of points that arrive in batches; memory d^2 + batch, whatever their number."""

    n = 0

    def add(self, features: Tensor) -> None:
        """features [B,d], any dtype and device."""
        x = features.detach().to("cpu", f64)
        if not self.n:
            self.centre = x.mean(0)
            self.sum = x.new_zeros(x.shape[1])
            self.gram = x.new_zeros(x.shape[1], x.shape[1])
        x = x - self.centre
        self.n += len(x)
        self.sum += x.sum(0)
        self.gram.addmm_(x.mT, x)

    def moments(self) -> Moments:
        """Mean and covariance so far. Raises DiffgeoError below 2 points and on features that are
        not finite."""
        if self.n < 2:
            raise DiffgeoError(f"{self.n} points have no covariance: give 2 at least")
        if not bool(self.sum.isfinite().all()):
            raise DiffgeoError("the features of some images are not finite")
        covariance = (self.gram - torch.outer(self.sum, self.sum) / self.n) / (self.n - 1)
        return Moments(self.centre + self.sum / self.n, (covariance + covariance.mT) / 2, self.n)


def moments(features: Tensor) -> Moments:
    """The moments of features [n,d]."""
    stream = Stream()
    for part in features.split(4096):
        stream.add(part)
    return stream.moments()


def factor(covariance: Tensor) -> tuple[Tensor, bool]:
    """A [d,d] with A A^T = covariance, positive semi-definite float64, and whether it is a Cholesky
    factor."""
    a, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return a, True
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt(), False


def frechet(
    mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor, rank: int | None = None
) -> float:
    """F above, squared data units, float64; means [d], covariances [d,d] symmetric.

    rank: an upper bound on the rank of the product, min(n1, n2) - 1 for moments of n1 and n2
        points; None: d.

    About 2 CPU s at d = 2048.
    """
    given = (mean1, covariance1, mean2, covariance2)
    m1, s1, m2, s2 = (torch.as_tensor(v).to("cpu", f64) for v in given)
    if not m1.shape == m2.shape == s1.shape[:1] == s2.shape[:1]:
        raise DiffgeoError(f"moments of {len(m1)} and of {len(m2)} features cannot be compared")
    a, regular = factor(s2)  # the reference has more points as a rule: its factor is tried first
    if regular:
        product = a.mT @ s1 @ a
    else:
        b, regular = factor(s1)
        product = b.mT @ s2 @ b if regular else a.mT @ s1 @ a
    values = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0)  # increasing
    rounding = 0 if rank is None else max(len(values) - rank, 0)
    root = values[rounding:].sqrt().sum()
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * root)


def between(a: Moments, b: Moments) -> float:
    """The Frechet distance of two clouds from their moments."""
    known = [n for n in (a.n, b.n) if n is not None]
    rank = min(known) - 1 if known else None
    return frechet(a.mean, a.covariance, b.mean, b.covariance, rank)
