"""Gaussian laws: normal, any mean and covariance, the line of the CEM paper, and mixtures, those of
identity covariance among them.

C = U diag(v) U^T; the support is the affine space m + range(C). Cholesky would refuse singular C,
so samples are m + U sqrt(v) z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import gaussian as exact
from diffgeo.data.law import Law
from diffgeo.errors import UsageError

_NULL = 1e-12  # variances below this fraction of the largest one are zero


def spectrum(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """(basis [d,d], variance [d] decreasing) of a covariance; raises UsageError where it is none."""
    shape = tuple(covariance.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise UsageError(
            f"a covariance is a square matrix; this one has shape {list(shape)}: write one list a "
            "row, e.g. [[1,0],[0,.5]]"
        )
    if not bool(covariance.isfinite().all()):
        raise UsageError("the covariance has entries that are not finite: write finite numbers")
    if not torch.allclose(covariance, covariance.mT, rtol=1e-9, atol=1e-12):
        raise UsageError("the covariance is not symmetric: write C[i][j] = C[j][i]")
    variance, basis = torch.linalg.eigh((covariance + covariance.mT) / 2)
    scale = float(variance.abs().max())
    if float(variance.min()) < -1e-9 * scale:
        raise UsageError(
            f"the covariance has a negative eigenvalue, {float(variance.min()):.3g}: a covariance "
            "is positive semidefinite"
        )
    return basis.flip(1), torch.where(variance > _NULL * scale, variance, 0.0).flip(0)


def _table(values: Sequence | Tensor, name: str) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{name} must be a regular list of numbers, e.g. [[1,0],[0,.5]]"
        ) from error


@dataclass(frozen=True, eq=False)
class Gaussian(Law):
    """N(mean, covariance) in R^d; the covariance may be singular. `mean` [d] and `covariance` [d,d]
    are lists of numbers."""

    mean: Sequence[float]
    covariance: Sequence[Sequence[float]]

    def __post_init__(self):
        mean = _table(self.mean, "mean")
        covariance = _table(self.covariance, "covariance")
        basis, variance = spectrum(covariance)
        if mean.shape != variance.shape:
            raise UsageError(
                f"mean has shape {list(mean.shape)}, covariance {list(covariance.shape)}: write "
                f"{len(variance)} means"
            )
        self.__dict__.update(
            mean=mean,
            covariance=covariance,
            basis=basis,
            variance=variance,
            shape=(len(mean),),
            dim=int((variance > 0).sum()),
            std=float(variance.mean().sqrt()),
        )

    def sample(self, n, generator):
        z = torch.randn(
            n, self.shape[0], generator=generator, dtype=torch.float64, device=generator.device
        )
        return self.mean.to(z) + z * self.variance.sqrt().to(z) @ self.basis.to(z).mT

    def project(self, x):
        span = self.basis[:, : self.dim].to(x)
        mean = self.mean.to(x)
        return mean + (x - mean) @ span @ span.mT

    def tangent(self, p):
        return self.basis[:, : self.dim].to(p).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        return exact.gaussian(x, sigma, self.mean.to(x), self.basis.to(x), self.variance.to(x))

    def _identity(self, value):
        return value.tolist()


def normal(n: int = 2) -> Gaussian:
    """N(0, I_n)."""
    if n < 1:
        raise UsageError(f"n={n} must be at least 1")
    return Gaussian(torch.zeros(n), torch.eye(n))


class Line(Gaussian):
    """(x1, 0) with x1 ~ N(0, 1): the line of the CEM paper (type 1). Its arc length is x1."""

    def __init__(self):
        super().__init__([0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])

    def coordinate(self, x: Tensor) -> Tensor:
        return x[:, 0]

    def quantile(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(u)


@dataclass(frozen=True, eq=False)
class Mixture(Law):
    """sum_k weights_k N(means_k, covariances_k): means [k,d], covariances [k,d,d] (singular ones
    allowed), weights [k], equal if None."""

    means: Sequence[Sequence[float]]
    covariances: Sequence[Sequence[Sequence[float]]]
    weights: Sequence[float] | None = None

    def __post_init__(self):
        means = _table(self.means, "means")
        covariances = _table(self.covariances, "covariances")
        k = len(means)
        weights = (
            torch.full((k,), 1 / k, dtype=torch.float64)
            if self.weights is None
            else _table(self.weights, "weights")
        )
        if (
            means.ndim != 2
            or covariances.shape != (*means.shape, means.shape[1])
            or weights.shape != (k,)
        ):
            shapes = ", ".join(str(list(v.shape)) for v in (means, covariances, weights))
            raise UsageError(
                "a mixture takes means [k,d], covariances [k,d,d] and weights [k]; these have "
                f"shapes {shapes}"
            )
        if not bool((weights > 0).all()):
            raise UsageError(
                "the weights of a mixture must be positive: leave out a component of weight 0"
            )
        weights = weights / weights.sum()
        bases, variances = (
            torch.stack(v) for v in zip(*(spectrum(c) for c in covariances), strict=True)
        )
        ranks = (variances > 0).sum(1)
        mean = weights @ means
        spread = (
            weights[:, None] * (covariances.diagonal(dim1=1, dim2=2) + (means - mean) ** 2)
        ).sum(0)
        self.__dict__.update(
            means=means,
            covariances=covariances,
            bases=bases,
            variances=variances,
            ranks=ranks,
            shape=(means.shape[1],),
            dim=int(ranks.max()),
            mean=mean,
            std=float(spread.mean().sqrt()),
            components=weights,
            weights=None,
        )

    def sample(self, n, generator):
        device = generator.device
        k = torch.multinomial(self.components.to(device), n, replacement=True, generator=generator)
        z = torch.randn(n, self.shape[0], generator=generator, dtype=torch.float64, device=device)
        return self.means.to(z)[k] + torch.einsum(
            "nde,ne->nd", self.bases.to(z)[k], z * self.variances.sqrt().to(z)[k]
        )

    def _feet(self, x: Tensor) -> Tensor:
        """The nearest point on each component's affine support, [n,k,d]."""
        span = self.bases.to(x) * (self.variances > 0).to(x)[:, None]
        means = self.means.to(x)
        return means + torch.einsum("nkd,kde,kfe->nkf", x[:, None] - means, span, span)

    def project(self, x):
        feet = self._feet(x)
        k = (x[:, None] - feet).square().sum(-1).argmin(1)
        return feet[torch.arange(len(x), device=x.device), k]

    def tangent(self, p):
        """The tangent of the component that holds p; columns beyond its rank are zero."""
        k = (p[:, None] - self._feet(p)).square().sum(-1).argmin(1)
        return (self.bases * (self.variances > 0)[:, None]).to(p)[k][:, :, : self.dim]

    def posterior(self, x, sigma):
        return exact.mixture(
            x,
            sigma,
            self.components.to(x),
            self.means.to(x),
            self.bases.to(x),
            self.variances.to(x),
        )

    def _identity(self, value):
        return (self.components if value is None else value).tolist()


def simplex(
    n: int = 8, radius: float = 4.0, weights: Sequence[float] = (0.1, 0.2, 0.3, 0.4)
) -> Mixture:
    """sum_j weights_j N(radius e_j, I_n), as many components as weights, n of them at most; radius
    sqrt(2) apart from each other."""
    k = len(weights)
    if not 1 <= k <= n:
        raise UsageError(
            f"{k} weights for means along the axes of R^{n}: write from 1 to n={n} weights, or a "
            "larger n"
        )
    return Mixture(
        radius * torch.eye(k, n, dtype=torch.float64),
        torch.eye(n, dtype=torch.float64).expand(k, n, n),
        weights,
    )
