"""From formulas to a denoiser: checks, float64, one sigma a row; and what an exact denoiser knows
beside D.

With x = x0 + sigma z, z ~ N(0, I), and p_sigma the law of x,

    Cov[x0 | x] = sigma^2 dD/dx,        tr dD/dx = tr Cov[x0 | x] / sigma^2,
    grad log p_sigma = (D - x)/sigma^2,
    d log p_sigma / d log sigma = tr dD/dx + |x - D|^2/sigma^2 - d      (the heat equation).

No autograd: every law has these in closed form, or by the quadrature that D itself takes. A law of
finitely many atoms also tells its posterior weights apart (`Posterior`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Sigma, column
from diffgeo.errors import UsageError


class Posterior(NamedTuple):
    """D, and what the posterior weights p_i of finitely many atoms say. Of a set of images a mirror
    image counts as an image of its own."""

    mean: Tensor  # E[x0 | x], like x [B,*D]
    entropy: Tensor  # H = -sum_i p_i log p_i, nats, float64 [B]
    neighbours: Tensor  # exp(H), how many atoms the mean is an average of, [B]
    nearest: Tensor  # number of the heaviest atom (of the image that it mirrors), int64 [B]
    collision: Tensor  # sum_i p_i^2, float64 [B]: that two draws from the posterior are the same
    trace: Tensor  # tr dD/dx = sum_i p_i |a_i - D|^2 / sigma^2, float64 [B]
    classes: Tensor | None = None  # sum of p_i over each class, [B,C]; None where no atom has one


@runtime_checkable
class Density(Protocol):
    """An exact denoiser that also knows p_sigma and the posterior's covariance. x [B,*D]; sigma a
    number, or one a row [B]; every number is float64, every vector like x."""

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor: ...
    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor: ...  # log p_sigma, nats, [B]
    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor: ...  # tr dD/dx, [B]
    # Cov[x0 | x] v = sigma^2 (dD/dx) v, [B,*D]
    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor: ...


@runtime_checkable
class Finite(Density, Protocol):
    """The exact denoiser of a law of finitely many atoms."""

    def posterior(self, x: Tensor, sigma: Sigma, **cond) -> Posterior: ...


@runtime_checkable
class Formulas(Protocol):
    """What a law itself computes of x [B,d] and sigma [B], float64 both and checked already."""

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor: ...  # [B]
    def trace(self, x: Tensor, sigma: Tensor) -> Tensor: ...  # [B]
    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor: ...  # [B,d]


@runtime_checkable
class Weighed(Formulas, Protocol):
    """The same of a law of atoms, with its posterior."""

    def weighed(self, x: Tensor, sigma: Tensor) -> Posterior: ...


@dataclass(frozen=True)
class Exact:
    """The `core.Denoiser` of a posterior mean.

    `mean(x [B,d], sigma [B]) -> [B,d]` is evaluated in float64; the answer has the dtype and device
    of x. Raises UsageError where x does not have the law's width or some sigma is not positive
    (sigma = 0 is only ever the target of a step).
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        return self.mean(wide, levels).to(x.dtype) if len(x) else x.clone()


@dataclass(frozen=True)
class ExactDensity(Exact):
    """A `Density`: `Exact` with the law's further formulas. Raises UsageError as `Exact` does, and
    where v is not like x."""

    formulas: Formulas = field(compare=False)  # two denoisers are the same if their means are

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        return self.formulas.log_density(wide, levels) if len(x) else levels

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        return self.formulas.trace(wide, levels) if len(x) else levels

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        check_direction(v, x)
        return self.formulas.covariance_product(wide, levels, v.to(wide)).to(x)


@dataclass(frozen=True)
class ExactFinite(ExactDensity):
    """A `Finite`: `ExactDensity` with the posterior of atoms."""

    formulas: Weighed = field(compare=False)

    def posterior(self, x: Tensor, sigma: Sigma, **cond) -> Posterior:
        wide, levels = checked(x, sigma, self.shape)
        found = self.formulas.weighed(wide, levels)
        return found._replace(mean=found.mean.to(x.dtype))


def denoiser_of(mean: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], law) -> Exact:
    """The exact denoiser of a law, with as much beside D as the law has formulas for."""
    if isinstance(law, Weighed):
        return ExactFinite(mean, shape, law)
    if isinstance(law, Formulas):
        return ExactDensity(mean, shape, law)
    return Exact(mean, shape)


def checked(x: Tensor, sigma: Sigma, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x in float64, and a positive sigma for each row [B]. Raises UsageError."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise UsageError(
            f"this law lives in {list(shape)}; x must be [B, {', '.join(map(str, shape))}], not "
            f"{list(x.shape)}"
        )
    wide = x.to(torch.float64)
    levels = column(sigma, wide)
    if not bool((levels > 0).all()):
        raise UsageError(
            "sigma must be positive; sigma = 0 is only a target of a step: write a level above 0"
        )
    return wide, levels


def check_direction(v: Tensor, x: Tensor) -> None:
    """Raise UsageError unless there is one direction v for each row of x."""
    if v.shape != x.shape:
        raise UsageError(
            f"x has shape {list(x.shape)} and v {list(v.shape)}: give one direction v a row of x"
        )
