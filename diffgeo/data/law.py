"""Laws whose exact denoiser is known, and two wrappers that every one of them takes.

    Ambient:  y = Q p, Q [n,d] with orthonormal columns.   D(y) = Q D(Q^T y): noise off the d-plane says nothing about p.
    Blurred:  p + s z, z ~ N(0, I).   With tau^2 = s^2 + sigma^2,   D_s(x; sigma) = (s^2 x + sigma^2 D(x; tau)) / tau^2
              (given x and p, the posterior mean of p + s z is p + (s/tau)^2 (x - p)).

All laws are frozen dataclasses of plain numbers; everything they return is float64 on the device of
what they are given.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffgeo.analytic.exact import Exact
from diffgeo.core import Denoiser, generator
from diffgeo.errors import UsageError


class Law(ABC):
    """A law on R^d. A subclass gives shape, dim, sample, project, tangent, posterior, mean and std.

    Attributes: `shape` (d,); `dim` of the support; `mean` [d]; `std`, the root mean variance of a
        coordinate. Where the support is one
    curve: `coordinate(x)`, the arc length at the projection of x [n]; `quantile(u)`, the u-quantile
    of the law in that coordinate [n]; `period` of a closed curve. Where it is finite: `atoms` [k,d]
    and `weights` [k]. What a law lacks is None.
    """

    shape: tuple[int, ...]
    dim: int
    mean: Tensor
    std: float
    coordinate: Callable[[Tensor], Tensor] | None = None
    quantile: Callable[[Tensor], Tensor] | None = None
    period: float | None = None
    atoms: Tensor | None = None
    weights: Tensor | None = None
    classes: int = 0

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, float64 [n,d] on the generator's device."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the support, [n,d] -> [n,d]."""

    @abstractmethod
    def tangent(self, p: Tensor) -> Tensor:
        """An orthonormal basis of the tangent space at support points p [n,d] -> [n,d,dim]."""

    @abstractmethod
    def posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] in float64: x [B,d], sigma [B] -> [B,d]. Use `denoiser()`, which checks its
        arguments."""

    def distance(self, x: Tensor) -> Tensor:
        """|x - project(x)|, [n,d] -> [n]."""
        return torch.linalg.vector_norm(x - self.project(x), dim=1)

    def store(self, x: Tensor):
        """Samples [n,*D] as samples.npy holds them: a numpy array, float64 here."""
        return x.detach().double().cpu().numpy()

    def restore(self, array) -> Tensor:
        """Samples [n,*D] from what `store` made, float64 here. Raises UsageError on an array of
        another shape."""
        x = torch.as_tensor(array, dtype=torch.float64)
        if tuple(x.shape[1:]) != tuple(self.shape) or not len(x):
            raise UsageError(
                f"the array has shape {tuple(x.shape)}, the law has points of shape "
                f"{tuple(self.shape)}: "
                f"write an array of shape (n, {', '.join(map(str, self.shape))}) or "
                "another data="
            )
        return x

    def denoiser(self) -> Denoiser:
        """The exact `core.Denoiser` E[x0 | x0 + sigma z = x]."""
        return Exact(self.posterior, self.shape)

    @property
    def key(self) -> str:
        """Identifies the law and its parameters, stable across processes."""
        text = repr([(f.name, self._identity(getattr(self, f.name))) for f in fields(self)])
        return f"{type(self).__name__.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _identity(self, value: object) -> object:
        return value


@dataclass(frozen=True)
class Ambient(Law):
    """`law` on a fixed random d-plane through the origin of R^n."""

    law: Law
    n: int
    seed: int = 0

    def __post_init__(self):
        if self.n < self.law.shape[0]:
            raise UsageError(
                f"ambient={self.n} is too small for a law in R^{self.law.shape[0]}: write "
                f"ambient={self.law.shape[0]} or more"
            )
        self.__dict__["coordinate"] = self.law.coordinate and (
            lambda y: self.law.coordinate(self.lower(y))
        )
        self.__dict__.update(
            shape=(self.n,), dim=self.law.dim, quantile=self.law.quantile, period=self.law.period
        )
        normal = torch.randn(
            self.n, self.law.shape[0], generator=generator(self.seed, self.n), dtype=torch.float64
        )
        q, r = torch.linalg.qr(normal)
        # Haar: the frame of a QR with positive diagonal
        self.__dict__["frame"] = q * r.diagonal().sign()
        self.__dict__.update(
            mean=self.lift(self.law.mean), std=self.law.std * (self.law.shape[0] / self.n) ** 0.5
        )
        self.__dict__.update(
            atoms=None if self.law.atoms is None else self.lift(self.law.atoms),
            weights=self.law.weights,
        )

    def lift(self, p: Tensor) -> Tensor:
        """Q p, [...,d] -> [...,n]."""
        return p @ self.frame.to(p).mT

    def lower(self, y: Tensor) -> Tensor:
        """Q^T y, [...,n] -> [...,d]."""
        return y @ self.frame.to(y)

    def sample(self, n, generator):
        return self.lift(self.law.sample(n, generator))

    def project(self, x):
        return self.lift(self.law.project(self.lower(x)))

    def tangent(self, p):
        return self.frame.to(p) @ self.law.tangent(self.lower(p))

    def posterior(self, x, sigma):
        return self.lift(self.law.posterior(self.lower(x), sigma))

    def _identity(self, value):
        return getattr(value, "key", value)


@dataclass(frozen=True)
class Blurred(Law):
    """`law` convolved with N(0, s^2 I): full-dimensional, so every point is its own projection."""

    law: Law
    s: float

    def __post_init__(self):
        if not self.s > 0:
            raise UsageError(f"blur={self.s} must be positive; write blur=0 for the law itself")
        self.__dict__.update(
            shape=self.law.shape,
            dim=self.law.shape[0],
            mean=self.law.mean,
            std=(self.law.std**2 + self.s**2) ** 0.5,
        )

    def sample(self, n, generator):
        p = self.law.sample(n, generator)
        return p + self.s * torch.randn(
            p.shape, generator=generator, dtype=p.dtype, device=p.device
        )

    def project(self, x):
        return x.clone()

    def tangent(self, p):
        return torch.eye(p.shape[1], dtype=p.dtype, device=p.device).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        total = self.s**2 + sigma**2
        return x + (sigma**2 / total)[:, None] * (self.law.posterior(x, total.sqrt()) - x)

    def _identity(self, value):
        return getattr(value, "key", value)


def make(law: Callable[..., Law], ambient: int | None = None, blur: float = 0.0, **options) -> Law:
    """The law that a data config asks for: `law(**options)`, embedded in R^ambient, then blurred
    there. Raises UsageError."""
    made = law(**options)
    made = made if ambient is None else Ambient(made, ambient)
    return made if blur == 0 else Blurred(made, blur)
