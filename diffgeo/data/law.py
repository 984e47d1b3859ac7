"""Laws whose exact denoiser is known, and two wrappers that every one of them takes.

    Ambient:   y = Q p, Q [n,d] with orthonormal columns.
               D(y) = Q D(Q^T y): noise off the d-plane says nothing about p.
    Blurred:   p + s z, z ~ N(0, I).   With tau^2 = s^2 + sigma^2,
               D_s(x; sigma) = (s^2 x + sigma^2 D(x; tau)) / tau^2
               (given x and p, the posterior mean of p + s z is p + (s/tau)^2 (x - p)).

A law of a few numbers is a frozen dataclass of them, a law of tables of numbers or of another law
is a class with a constructor; none of them changes. Everything that they return is float64 on the
device of what they are given.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic.exact import Formulas, Weighed, denoiser_of
from diffgeo.analytic.measurement import Operator
from diffgeo.analytic.wrapped import Convolved, Lifted, LiftedWeights
from diffgeo.core import Denoiser, generator
from diffgeo.errors import UsageError
from diffgeo.store.digest import of_code


class Law(ABC):
    """A law on R^d, a `core.Manifold`. A subclass gives shape, dim, mean, std, sample, project,
    tangent and posterior; what else a law may have is None here.

    shape: (d,). dim: of the support. mean: [d]. std: the root mean variance of a coordinate.
    coordinate, quantile, period: where the support is one curve, see `core.Data`. atoms [k,d],
    weights [k]: where it is finite. classes: 0, its samples have no labels. log_evidence: of a
    posterior, log p(y) in nats; ess: of one of weighted atoms, 1/sum w^2.
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
    log_evidence: float | None = None
    ess: float | None = None

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

    def store(self, x: Tensor) -> np.ndarray:
        """Samples [n,*D] as samples.npy holds them: a numpy array, float64 here."""
        return x.detach().double().cpu().numpy()

    def restore(self, array: np.ndarray) -> Tensor:
        """Samples [n,*D] from what `store` made, float64 here. Raises UsageError on an array of
        another shape."""
        x = torch.as_tensor(array, dtype=torch.float64)
        if tuple(x.shape[1:]) != tuple(self.shape) or not len(x):
            raise UsageError(
                f"the array has shape {tuple(x.shape)}, the law has points of shape "
                f"{tuple(self.shape)}: write an array of shape "
                f"(n, {', '.join(map(str, self.shape))}) or another data="
            )
        return x

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """p(x0 | y) of a measurement y [*M] = A(x0) + sigma_n n, n ~ N(0, I): a law again.

        Its `log_evidence` is log p(y), where that is known, and `ess` that of its weights, where it
        has some. A law that knows no closed form gives weighted draws of its own
        (`weighted.given_draws`). Raises UsageError on a y of another shape, on sigma_n < 0, and
        where no x0 of the law has this y.
        """
        # a law of points is a law: the module that has them imports this one
        from diffgeo.data.weighted import given_draws

        return given_draws(self, operator, y, sigma_n)

    def convolved(self, s: float) -> Law | None:
        """This law plus N(0, s^2 I) as a law with a closed form of its own; None where there is
        none."""
        return None

    def denoiser(self) -> Denoiser:
        """The exact `core.Denoiser` E[x0 | x0 + sigma z = x]: an `exact.Density` where the law has
        the `exact.Formulas` of one, a `Finite` where it has those of atoms."""
        return denoiser_of(self.posterior, self.shape, self.formulas())

    def formulas(self) -> object:
        """What may have the `exact.Formulas` of this law: as a rule the law."""
        return self

    @property
    def key(self) -> str:
        """Identifies the law and its parameters, stable across processes; of a law of somebody
        else's also its code, so that what is kept of it is made anew when that changes."""
        content = repr(self.parameters()) + of_code(type(self))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return f"{type(self).__name__.lower()}-{digest[:16]}"

    def known_by(self, log_evidence: float | None, ess: float | None = None) -> Self:
        """This law, which a measurement has made, with what is known of that."""
        self._derive(log_evidence=log_evidence, ess=ess)
        return self

    def _derive(self, **values) -> None:
        """Set what follows from the fields of a frozen dataclass: once, in its __post_init__."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def parameters(self) -> list[tuple[str, object]]:
        """What tells this law from others of its class: (name, number or list of numbers)."""
        if not is_dataclass(self):
            raise UsageError(
                f"{type(self).__name__} does not say its parameters: make it a frozen dataclass, "
                "or write its `parameters()`"
            )
        return [(field.name, vars(self)[field.name]) for field in fields(self)]


class Ambient(Law):
    """`law` on a fixed random d-plane through the origin of R^n. Its coordinates there, atoms and
    weights are those of `law`."""

    def __init__(self, law: Law, n: int, seed: int = 0):
        d = law.shape[0]
        if n < d:
            raise UsageError(
                f"ambient={n} is too small for a law in R^{d}: write ambient={d} or more"
            )
        self.law = law
        self.n = n
        self.seed = seed
        self.shape = (n,)
        self.dim = law.dim

        # Haar: the frame of a QR decomposition whose diagonal is made positive
        normal = torch.randn(n, d, generator=generator(seed, n), dtype=torch.float64)
        q, r = torch.linalg.qr(normal)
        self.frame = q * r.diagonal().sign()

        self.mean = self.lift(law.mean)
        self.std = law.std * (d / n) ** 0.5
        if law.coordinate is not None:
            self.coordinate = self._inner_coordinate
        self.quantile = law.quantile
        self.period = law.period
        if law.atoms is not None:
            self.atoms = self.lift(law.atoms)
        self.weights = law.weights

    def lift(self, p: Tensor) -> Tensor:
        """Q p, [...,d] -> [...,n]."""
        return p @ self.frame.to(p).mT

    def lower(self, y: Tensor) -> Tensor:
        """Q^T y, [...,n] -> [...,d]."""
        return y @ self.frame.to(y)

    def _inner_coordinate(self, y: Tensor) -> Tensor:
        assert self.law.coordinate is not None
        return self.law.coordinate(self.lower(y))

    def sample(self, n, generator):
        return self.lift(self.law.sample(n, generator))

    def project(self, x):
        return self.lift(self.law.project(self.lower(x)))

    def tangent(self, p):
        return self.frame.to(p) @ self.law.tangent(self.lower(p))

    def posterior(self, x, sigma):
        return self.lift(self.law.posterior(self.lower(x), sigma))

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """The posterior of `law`, measured through the plane, on the plane."""
        posteriors.check(operator, y, sigma_n, self.shape)
        inner = self.law.given(posteriors.through(operator, self.frame), y, sigma_n)
        found = Ambient(inner, self.n, self.seed)
        return found.known_by(inner.log_evidence, inner.ess)

    def formulas(self):
        inner = self.law.formulas()
        if isinstance(inner, Weighed):
            return LiftedWeights(inner, self.frame)
        return Lifted(inner, self.frame) if isinstance(inner, Formulas) else self

    def parameters(self):
        return [("law", self.law.key), ("n", self.n), ("seed", self.seed)]


class Blurred(Law):
    """`law` convolved with N(0, s^2 I): full-dimensional, so every point is its own projection."""

    def __init__(self, law: Law, s: float):
        if not s > 0:
            raise UsageError(f"blur={s} must be positive; write blur=0 for the law itself")
        self.law = law
        self.s = s
        self.shape = law.shape
        self.dim = law.shape[0]
        self.mean = law.mean
        self.std = (law.std**2 + s**2) ** 0.5

    def sample(self, n, generator):
        p = self.law.sample(n, generator)
        z = torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device)
        return p + self.s * z

    def project(self, x):
        return x.clone()

    def tangent(self, p):
        return torch.eye(p.shape[1], dtype=p.dtype, device=p.device).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        total = self.s**2 + sigma**2
        return x + (sigma**2 / total)[:, None] * (self.law.posterior(x, total.sqrt()) - x)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        closed = self.law.convolved(self.s)
        if closed is None:
            return super().given(operator, y, sigma_n)
        return closed.given(operator, y, sigma_n)

    def formulas(self):
        inner = self.law.formulas()
        return Convolved(inner, self.s) if isinstance(inner, Formulas) else self

    def parameters(self):
        return [("law", self.law.key), ("s", self.s)]


def make(law: Callable[..., Law], ambient: int | None = None, blur: float = 0.0, **options) -> Law:
    """The law that a data config asks for: `law(**options)`, embedded in R^ambient, then blurred
    there. Raises UsageError."""
    made = law(**options)
    if ambient is not None:
        made = Ambient(made, ambient)
    if blur != 0:
        made = Blurred(made, blur)
    return made
