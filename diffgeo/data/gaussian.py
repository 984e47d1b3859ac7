"""Gaussian laws: normal, any mean and covariance, the line of the CEM paper, and mixtures, those of
identity covariance among them.

C = U diag(v) U^T; the support is the affine space m + range(C). Cholesky would refuse singular C,
so samples are m + U sqrt(v) z.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic import normal as exact
from diffgeo.analytic.measurement import Linear, Operator
from diffgeo.core import Denoiser
from diffgeo.data.law import Law
from diffgeo.errors import UsageError

_NULL = 1e-12  # variances below this fraction of the largest one are zero


def spectrum(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """(basis [d,d], variance [d] decreasing) of a covariance. Raises UsageError where it is
    none."""
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
    """A list of numbers, or of lists of them, as a float64 tensor."""
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{name} must be a regular list of numbers, e.g. [[1,0],[0,.5]]"
        ) from error


class Gaussian(Law):
    """N(mean, covariance) in R^d; the covariance may be singular. `mean` [d] and `covariance` [d,d]
    are lists of numbers."""

    def __init__(
        self, mean: Sequence[float] | Tensor, covariance: Sequence[Sequence[float]] | Tensor
    ):
        self.mean = _table(mean, "mean")
        self.covariance = _table(covariance, "covariance")
        self.basis, self.variance = spectrum(self.covariance)
        if self.mean.shape != self.variance.shape:
            raise UsageError(
                f"mean has shape {list(self.mean.shape)}, covariance "
                f"{list(self.covariance.shape)}: write {len(self.variance)} means"
            )
        self.shape = (len(self.mean),)
        self.dim = int((self.variance > 0).sum())
        self.std = float(self.variance.mean().sqrt())

    def sample(self, n, generator):
        size = (n, self.shape[0])
        z = torch.randn(size, generator=generator, dtype=torch.float64, device=generator.device)
        return self.mean.to(z) + z * self.variance.sqrt().to(z) @ self.basis.to(z).mT

    def project(self, x):
        span = self.basis[:, : self.dim].to(x)
        mean = self.mean.to(x)
        return mean + (x - mean) @ span @ span.mT

    def tangent(self, p):
        return self.basis[:, : self.dim].to(p).expand(len(p), -1, -1)

    def update(self, operator: Linear, sigma_n: float) -> posteriors.Update:
        """What a measurement by this operator makes of the law, whatever y is."""
        a = posteriors.matrix(operator)
        return posteriors.update(a, sigma_n, self.mean, self.basis, self.variance)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """N(m + K (y - A m), C - K A C); weighted draws where A is not linear."""
        posteriors.check(operator, y, sigma_n, self.shape)
        if not isinstance(operator, Linear):
            return super().given(operator, y, sigma_n)
        update = self.update(operator, sigma_n)
        mean, log_evidence = update.of(y)
        return Gaussian(mean, update.covariance).known_by(log_evidence)

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser | None:
        """The posterior mean of rows with measurements y [B,*M]; None where A is not linear."""
        if not isinstance(operator, Linear):
            return None
        update = self.update(operator, sigma_n)
        rows = y.double().flatten(1)
        posteriors.check_possible(update.log_evidence(rows)[:, None])
        basis, variance = spectrum(update.covariance)
        one = torch.ones(len(rows), 1, dtype=torch.float64)
        means = update.mean_of(rows)[:, None]
        return posteriors.RowMixture(one, means, basis[None], variance[None])

    def convolved(self, s: float) -> Gaussian:
        return Gaussian(self.mean, self.covariance + s**2 * torch.eye(len(self.mean)))

    def posterior(self, x, sigma):
        return exact.gaussian(x, sigma, self.mean.to(x), self.basis.to(x), self.variance.to(x))

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.log_density(x, sigma, self.mean.to(x), self.basis.to(x), self.variance.to(x))

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.trace(sigma, self.variance.to(x))

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return exact.covariance_product(v, sigma, self.basis.to(x), self.variance.to(x))

    def parameters(self):
        return [("mean", self.mean.tolist()), ("covariance", self.covariance.tolist())]


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


class Mixture(Law):
    """sum_k weights_k N(means_k, covariances_k): means [k,d], covariances [k,d,d] (singular ones
    allowed), weights [k], equal if None.

    components: the weights, of sum 1. (`weights` is None, as of every law without atoms.)
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]] | Tensor,
        covariances: Sequence[Sequence[Sequence[float]]] | Tensor,
        weights: Sequence[float] | Tensor | None = None,
    ):
        self.means = _table(means, "means")
        self.covariances = _table(covariances, "covariances")
        if weights is None:
            shares = torch.ones(self.means.shape[:1], dtype=torch.float64)
            shares = shares / shares.sum()
        else:
            shares = _table(weights, "weights")
        self._check(shares)
        self.components = shares / shares.sum()

        spectra = [spectrum(covariance) for covariance in self.covariances]
        self.bases = torch.stack([basis for basis, _ in spectra])
        self.variances = torch.stack([variance for _, variance in spectra])
        self.ranks = (self.variances > 0).sum(1)

        self.shape = (self.means.shape[1],)
        self.dim = int(self.ranks.max())
        self.mean = self.components @ self.means
        within = self.covariances.diagonal(dim1=1, dim2=2)
        between = (self.means - self.mean) ** 2
        variance = (self.components[:, None] * (within + between)).sum(0)  # of each coordinate
        self.std = float(variance.mean().sqrt())

    def _check(self, weights: Tensor) -> None:
        """Raise UsageError unless means, covariances and weights go together."""
        means = self.means
        covariances = self.covariances
        if (
            means.ndim != 2
            or not means.numel()
            or covariances.shape != (*means.shape, means.shape[1])
            or weights.shape != (len(means),)
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

    def sample(self, n, generator):
        device = generator.device
        k = torch.multinomial(self.components.to(device), n, replacement=True, generator=generator)
        z = torch.randn(n, self.shape[0], generator=generator, dtype=torch.float64, device=device)
        local = z * self.variances.sqrt().to(z)[k]  # in the axes of the component
        return self.means.to(z)[k] + torch.einsum("nde,ne->nd", self.bases.to(z)[k], local)

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

    def updates(self, operator: Linear, sigma_n: float) -> list[posteriors.Update]:
        """What a measurement by this operator makes of each component, whatever y is."""
        a = posteriors.matrix(operator)
        parts = zip(self.means, self.bases, self.variances, strict=True)
        return [posteriors.update(a, sigma_n, *part) for part in parts]

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """Each component given y, of weight w_k N(y; A m_k, A C_k A' + sigma_n^2); weighted draws
        where A is not linear. Components of weight 0 are left out."""
        posteriors.check(operator, y, sigma_n, self.shape)
        if not isinstance(operator, Linear):
            return super().given(operator, y, sigma_n)
        updates = self.updates(operator, sigma_n)
        row = y.double().reshape(1, -1)
        logs = posteriors.mixture_weights(updates, self.components.log(), row)[0]
        weights = logs.softmax(0)
        means = []
        covariances = []
        known = True
        for part, weight in zip(updates, weights, strict=True):
            if weight > 0:
                means.append(part.mean_of(row)[0])
                covariances.append(part.covariance)
                known = known and part.has_density
        shares = weights[weights > 0]
        found = Mixture(torch.stack(means), torch.stack(covariances), shares)
        return found.known_by(float(logs.logsumexp(0)) if known else None)

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser | None:
        """As `Gaussian.given_rows`."""
        if not isinstance(operator, Linear):
            return None
        updates = self.updates(operator, sigma_n)
        rows = y.double().flatten(1)
        weights = posteriors.mixture_weights(updates, self.components.log(), rows).softmax(1)
        means = torch.stack([part.mean_of(rows) for part in updates], 1)
        spectra = [spectrum(part.covariance) for part in updates]
        bases = torch.stack([basis for basis, _ in spectra])
        variances = torch.stack([variance for _, variance in spectra])
        return posteriors.RowMixture(weights, means, bases, variances)

    def convolved(self, s: float) -> Mixture:
        noise = s**2 * torch.eye(self.shape[0], dtype=torch.float64)
        return Mixture(self.means, self.covariances + noise, self.components)

    def posterior(self, x, sigma):
        return self._local(x, sigma).mean()

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._local(x, sigma).log_density()

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._local(x, sigma).trace()

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return self._local(x, sigma).covariance_product(v)

    def _local(self, x: Tensor, sigma: Tensor) -> exact.Local:
        return exact.Local(
            x,
            sigma,
            self.components.to(x),
            self.means.to(x),
            self.bases.to(x),
            self.variances.to(x),
        )

    def parameters(self):
        return [
            ("means", self.means.tolist()),
            ("covariances", self.covariances.tolist()),
            ("weights", self.components.tolist()),
        ]


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
    means = radius * torch.eye(k, n, dtype=torch.float64)
    covariances = torch.eye(n, dtype=torch.float64).expand(k, n, n)
    return Mixture(means, covariances, weights)
