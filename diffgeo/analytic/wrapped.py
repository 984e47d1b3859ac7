"""The formulas of a law that is made of another one, from those of the other.

Lifted      y = Q p, Q [n,d] with orthonormal columns: off the d-plane there is noise alone,
            log p(y) = log p_inner(Q^T y) + log N((I - Q Q^T) y; 0, sigma^2 I_(n-d)),
            Cov = Q Cov_inner Q^T
Convolved   p + s z.  With tau^2 = s^2 + sigma^2 the noisy law is that of p at tau, and
            Cov[p + s z | x] = (sigma/tau)^2 (s^2 I + (sigma/tau)^2 Cov_inner(x; tau))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from diffgeo.analytic.exact import Formulas, Posterior, Weighed


@dataclass(frozen=True, eq=False)
class Lifted:
    """`inner` on the plane that the columns of `frame` [n,d] span."""

    inner: Formulas
    frame: Tensor

    def lower(self, y: Tensor) -> Tensor:
        """Q^T y, [B,n] -> [B,d]."""
        return y @ self.frame.to(y)

    def lift(self, p: Tensor) -> Tensor:
        """Q p, [B,d] -> [B,n]."""
        return p @ self.frame.to(p).mT

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        lowered = self.lower(x)
        off = (x - self.lift(lowered)).square().sum(1)
        directions = self.frame.shape[0] - self.frame.shape[1]
        normal = off / (2 * sigma**2) + directions / 2 * (2 * math.pi * sigma**2).log()
        return self.inner.log_density(lowered, sigma) - normal

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.inner.trace(self.lower(x), sigma)

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return self.lift(self.inner.covariance_product(self.lower(x), sigma, self.lower(v)))


@dataclass(frozen=True, eq=False)
class LiftedWeights(Lifted):
    """`Lifted` of a law of atoms."""

    inner: Weighed

    def weighed(self, x: Tensor, sigma: Tensor) -> Posterior:
        found = self.inner.weighed(self.lower(x), sigma)
        return found._replace(mean=self.lift(found.mean))


@dataclass(frozen=True, eq=False)
class Convolved:
    """`inner` convolved with N(0, s^2 I)."""

    inner: Formulas
    s: float

    def _total(self, sigma: Tensor) -> Tensor:
        """tau, [B]."""
        return (self.s**2 + sigma**2).sqrt()

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.inner.log_density(x, self._total(sigma))

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        tau = self._total(sigma)
        own = self.s**2 * x.shape[1] + sigma**2 * self.inner.trace(x, tau)
        return own / tau**2

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        tau = self._total(sigma)
        share = (sigma / tau)[:, None] ** 2
        return share * (self.s**2 * v + share * self.inner.covariance_product(x, tau, v))
