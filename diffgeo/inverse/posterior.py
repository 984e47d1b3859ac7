"""The exact denoiser E[x0 | x, y] of rows that each have their own y.

`law.given(operator, y, sigma_n)` is the posterior law of one y. Of a batch, what does not depend on
y is done once: a Gaussian's covariances, the measured points of a set (`Rowwise`). Other laws are
conditioned once for each y that is another, and asked for the rows that have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.exact import Density
from diffgeo.analytic.given import check_rows
from diffgeo.analytic.measurement import Measurement, Operator
from diffgeo.core import Data, Denoiser, Known, Sigma, column
from diffgeo.errors import UsageError


@runtime_checkable
class Posterior(Known, Protocol):
    """The law p(x0 | y)."""

    @property
    def log_evidence(self) -> float | None: ...  # log p(y), nats; None where it is not known
    @property
    def ess(self) -> float | None: ...  # of weighted atoms, 1/sum w^2; None of other laws


@runtime_checkable
class Prior(Data, Protocol):
    """A law whose posterior is known: every law of diffgeo."""

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Posterior: ...  # y [*M]


@runtime_checkable
class Rowwise(Prior, Protocol):
    """A law that conditions many rows at once."""

    # E[x0 | x, y_b] of row b, y [B,*M]; None where there is no closed form of this operator
    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser | None: ...


@dataclass(frozen=True, eq=False)
class ByRow:
    """The denoisers of several laws, each for the rows that are its own.

    parts: the denoisers; own [B]: the number of that of each row.
    Raises UsageError where x has another number of rows.
    """

    parts: tuple[Denoiser, ...]
    own: Tensor

    def filled(self, found: Tensor, x: Tensor, ask: Callable[[Any, Tensor], Tensor]) -> Tensor:
        """`found`, each part's rows filled in by what it is asked of them."""
        check_rows(x, self.own)
        own = self.own.to(x.device)
        for number, part in enumerate(self.parts):
            rows = (own == number).nonzero()[:, 0]
            found[rows] = ask(part, rows)
        return found

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        levels = column(sigma, x)
        return self.filled(torch.empty_like(x), x, lambda part, rows: part(x[rows], levels[rows]))


@dataclass(frozen=True, eq=False)
class DensityByRow(ByRow):
    """`ByRow` of denoisers that are each an `exact.Density`."""

    parts: tuple[Density, ...]

    def number(self, x: Tensor, ask: Callable[[Density, Tensor], Tensor]) -> Tensor:
        """A float64 number of each row, [B]."""
        return self.filled(torch.empty(len(x), dtype=torch.float64, device=x.device), x, ask)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        levels = column(sigma, x)
        return self.number(x, lambda part, rows: part.log_density(x[rows], levels[rows]))

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        levels = column(sigma, x)
        return self.number(x, lambda part, rows: part.trace(x[rows], levels[rows]))

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        levels = column(sigma, x)

        def product(part: Density, rows: Tensor) -> Tensor:
            return part.covariance_product(x[rows], levels[rows], v[rows])

        return self.filled(torch.empty_like(x), x, product)


def laws(data: Data, measurement: Measurement) -> tuple[list[Posterior], Tensor]:
    """The posterior of each y that is another, and the number of that of each row [B]. Raises
    UsageError where the law knows of none."""
    if not isinstance(data, Prior):
        raise UsageError(
            f"{type(data).__name__} does not know its posterior: write algorithm=diffpir, or data= "
            "a law or a set of images of diffgeo's"
        )
    y = measurement.y
    different, own = y.flatten(1).unique(dim=0, return_inverse=True)
    found = []
    for one in different:
        one_y = one.view(measurement.operator.measured)
        found.append(data.given(measurement.operator, one_y, measurement.sigma_n))
    return found, own


def posterior_denoiser(data: Data, measurement: Measurement) -> Denoiser:
    """E[x0 | x, y_b] of row b, or of all rows where they share one y: the plain denoiser of the law
    p(x0 | y). An `exact.Density` where that law's is one.

    Raises UsageError where the law does not know its posterior or cannot have this y, and later
    where x has another number of rows than y.
    """
    operator = measurement.operator
    if isinstance(data, Prior) and measurement.shared:
        return data.given(operator, measurement.y, measurement.sigma_n).denoiser()
    if isinstance(data, Rowwise):
        found = data.given_rows(operator, measurement.y, measurement.sigma_n)
        if found is not None:
            return found
    several, own = laws(data, measurement)
    parts = tuple(law.denoiser() for law in several)
    densities = tuple(part for part in parts if isinstance(part, Density))
    if len(densities) == len(parts):
        return DensityByRow(densities, own)
    return ByRow(parts, own)
