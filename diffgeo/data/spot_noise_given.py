"""A texture given a measurement y = A x0 + s n: a Gaussian of pictures again.

    x0 | y ~ N(mean(y), R R'),     R R' = C - K A C, the same whatever y is

(`analytic.given.Update`). It is stationary no longer, so that it is held by its matrix R.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffgeo.analytic import normal as formulas
from diffgeo.analytic.exact import check_direction, checked
from diffgeo.analytic.gaussian import GaussianDenoiser
from diffgeo.analytic.given import Update, check_rows
from diffgeo.core import Denoiser, Sigma
from diffgeo.data.gaussian import spectrum
from diffgeo.data.law import Law

if TYPE_CHECKING:
    from diffgeo.data.spot_noise import Texture


class GivenTexture(Law):
    """p(x0 | y): N(mean, root root') in the shape [C,H,W] of its prior's pictures."""

    def __init__(self, update: Update, mean: Tensor, prior: Texture):
        self.covariance = update.covariance
        self.basis, self.variance = spectrum(self.covariance)
        self.prior = prior
        self.root = prior.root
        self.name = prior.name
        self.split = prior.split
        self.low = prior.low
        self.high = prior.high
        self.shape = prior.shape
        self.picture = prior.shape
        self.mean = mean.view(prior.shape)
        self.dim = int((self.variance > 0).sum())
        self.std = math.sqrt(float(self.variance.mean()))

    def quantize(self, x: Tensor) -> Tensor:
        """As the prior's."""
        return self.prior.quantize(x)

    def sample(self, n, generator):
        size = (n, len(self.variance))
        z = torch.randn(size, generator=generator, dtype=torch.float64, device=generator.device)
        flat = z * self.variance.sqrt().to(z) @ self.basis.to(z).mT
        return self.mean.to(z) + flat.view(n, *self.shape)

    def project(self, x):
        span = self.basis[:, : self.dim].to(x)
        z = (x - self.mean.to(x)).flatten(1)
        return self.mean.to(x) + (z @ span @ span.mT).view_as(x)

    def distance(self, x):
        """|x - project(x)|, [n,C,H,W] -> [n]."""
        return torch.linalg.vector_norm((x - self.project(x)).flatten(1), dim=1)

    def tangent(self, p):
        return self.basis[:, : self.dim].to(p).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        return self.denoiser()(x, sigma)

    def denoiser(self) -> Denoiser:
        return GaussianDenoiser(self.mean.flatten(), self.basis, self.variance, self.shape)

    def parameters(self):
        content = hashlib.sha256(self.covariance.contiguous().numpy().tobytes())
        content.update(self.mean.contiguous().numpy().tobytes())
        return [("prior", self.prior.key), ("given", content.hexdigest())]


@dataclass(frozen=True, eq=False)
class TextureRows:
    """E[x0 | x, y_b] of row b, an `exact.Density`: N(means[b], basis diag(variance) basis').

    means [B,d], basis [d,d], variance [d]; shape: [C,H,W] of a picture, d numbers.
    """

    means: Tensor
    basis: Tensor
    variance: Tensor
    shape: tuple[int, ...]

    classes = 0

    @classmethod
    def of(cls, update: Update, means: Tensor, shape: tuple[int, ...]) -> TextureRows:
        basis, variance = spectrum(update.covariance)
        return cls(means, basis, variance, shape)

    def _parts(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, ...]:
        """x [B,d], sigma [B], and the numbers on x's device."""
        wide, levels = checked(x, sigma, self.shape)
        check_rows(x, self.means)
        parts = (self.means, self.basis, self.variance)
        return wide.flatten(1), levels, *(part.to(wide) for part in parts)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return formulas.gaussian(*self._parts(x, sigma)).view_as(x).to(x.dtype)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return formulas.log_density(*self._parts(x, sigma))

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        _, levels, _, _, variance = self._parts(x, sigma)
        return formulas.trace(levels, variance)

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        check_direction(v, x)
        _, levels, _, basis, variance = self._parts(x, sigma)
        flat = v.double().flatten(1)
        return formulas.covariance_product(flat, levels, basis, variance).view_as(x).to(x)
