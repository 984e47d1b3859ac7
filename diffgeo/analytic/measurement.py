"""A measurement of a signal, and what has to be known of the operator that made it.

    y = A(x0) + sigma_n n,      n ~ N(0, I),
    log p(y | x0) = -|y - A(x0)|^2 / (2 sigma_n^2) + a constant of x0.

y is real, in the units of A(x0), and sigma_n is the deviation of one entry of y. Of a linear A all
that an algorithm asks is the adjoint A' and (A A' + rho)^-1, m x m:

    prox(x0; rho) = argmin_z |y - A z|^2 + rho |x0 - z|^2
                  = x0 + A' (A A' + rho)^-1 (y - A x0),

and rho -> 0 gives x0 + A^+ (y - A x0) without a division by rho.

Shapes: *D of a signal, *M of its measurement, B rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Sigma


@runtime_checkable
class Operator(Protocol):
    """What a measurement is made by."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # *D of a signal
    @property
    def measured(self) -> tuple[int, ...]: ...  # *M of its measurement
    def __call__(self, x0: Tensor) -> Tensor: ...  # A(x0), [B,*D] -> [B,*M], differentiable


@runtime_checkable
class Linear(Operator, Protocol):
    """A matrix A, mostly without its entries."""

    def adjoint(self, y: Tensor) -> Tensor: ...  # A' y, [B,*M] -> [B,*D]
    # (A A' + rho)^-1 y, [B,*M] -> [B,*M]; rho >= 0, a number or one a row; at 0 the pseudo-inverse
    def solve(self, y: Tensor, rho: Sigma) -> Tensor: ...


@runtime_checkable
class Decomposed(Linear, Protocol):
    """A = U diag(s) V' with its r positive singular values, coefficients real or complex."""

    @property
    def values(self) -> Tensor: ...  # s, float64 [r], all > 0
    def left(self, y: Tensor) -> Tensor: ...  # U' y, [B,*M] -> [B,r]
    def right(self, x0: Tensor) -> Tensor: ...  # V' x0, [B,*D] -> [B,r]
    def back(self, coefficients: Tensor) -> Tensor: ...  # V c, [B,r] -> [B,*D], real


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A(x0) + sigma_n n of some rows.

    operator: A. y: one measurement [*M] that all rows share, or one a row [B,*M]; float64.
    sigma_n: the deviation of the noise, >= 0.
    """

    operator: Operator
    y: Tensor
    sigma_n: float

    @property
    def shared(self) -> bool:
        """Whether all rows have one y."""
        return self.y.dim() == len(self.operator.measured)

    def residual(self, x0: Tensor) -> Tensor:
        """y - A(x0), [B,*M]."""
        return self.y.to(x0) - self.operator(x0)

    def square(self, x0: Tensor) -> Tensor:
        """|y - A(x0)|^2, [B]."""
        return self.residual(x0).flatten(1).square().sum(1)

    def of(self, rows: Tensor | slice) -> Measurement:
        """The measurement of some of the rows."""
        return self if self.shared else replace(self, y=self.y[rows])


def pinv(operator: Linear, y: Tensor) -> Tensor:
    """A^+ y, [B,*M] -> [B,*D]."""
    return operator.adjoint(operator.solve(y, 0.0))


def prox(operator: Linear, x0: Tensor, y: Tensor, rho: Sigma) -> Tensor:
    """argmin_z |y - A z|^2 + rho |x0 - z|^2, [B,*D]; rho a number or one a row, 0 allowed."""
    return x0 + operator.adjoint(operator.solve(y.to(x0) - operator(x0), rho))
