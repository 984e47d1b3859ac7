"""What linear operators share: an orthonormal basis of the measurement in which A A' is diagonal.

    A A' = U diag(s^2) U',    (A A' + rho)^-1 y = U (U'y / (s^2 + rho)),
    V    = A' U / s:          V'x = U'A x / s,     V c = A' U (c / s).

Every linear operator of this package has such a U, real: the pixels (inpainting, pooling, grey),
the Hartley basis (blurs), a product of two small ones (bicubic), or one that is computed (a
matrix). So it has an svd, a pseudo-inverse and a prox, and none of them divides by rho.

Where A has fewer independent rows than rows, U holds the part of a measurement that A can reach:
`solve` leaves out the rest of y, which A' does not see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.measurement import Operator
from diffgeo.core import Sigma
from diffgeo.errors import UsageError

f64 = torch.float64


@runtime_checkable
class Stored(Protocol):
    """An operator that is made of numbers which a run keeps: a mask, a kernel, a matrix."""

    def contents(self) -> dict[str, Tensor]: ...  # by name; with `shape` they say all of it


@runtime_checkable
class Imagewise(Protocol):
    """An operator that differs from image to image, such as the shake of a camera."""

    # that of the image with this number; the operator itself is that of image 0
    def of_image(self, number: int) -> Operator: ...


class Diagonal(ABC):
    """A linear operator whose A A' is diagonal in a known basis U [*M, r] of its measurements.

    A subclass has `shape`, `measured`, `values`, the call, `adjoint`, `left` (U') and `combine`
    (U); where it knows V by itself, `right` and `back` too.
    """

    shape: tuple[int, ...]
    measured: tuple[int, ...]

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """The positive singular values s, float64 [r]."""

    @abstractmethod
    def __call__(self, x0: Tensor) -> Tensor:
        """A x0, [B,*D] -> [B,*M]."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A' y, [B,*M] -> [B,*D]."""

    def left(self, y: Tensor) -> Tensor:
        """U' y, [B,*M] -> [B,r]."""
        return y.flatten(1)  # U is the identity

    def combine(self, coefficients: Tensor) -> Tensor:
        """U c, [B,r] -> [B,*M]."""
        return coefficients.reshape(len(coefficients), *self.measured)

    def right(self, x0: Tensor) -> Tensor:
        """V' x0, [B,*D] -> [B,r]."""
        return self.left(self(x0)) / self.values.to(x0)

    def back(self, coefficients: Tensor) -> Tensor:
        """V c, [B,r] -> [B,*D]."""
        return self.adjoint(self.combine(coefficients / self.values.to(coefficients)))

    def solve(self, y: Tensor, rho: Sigma) -> Tensor:
        """(A A' + rho)^-1 y, [B,*M] -> [B,*M]; rho >= 0, a number or one a row. At rho = 0 the
        pseudo-inverse."""
        coefficients = self.left(y)
        square = self.values.to(coefficients) ** 2
        return self.combine(coefficients / (square + per_row(rho, coefficients)))

    def contents(self) -> dict[str, Tensor]:
        """The numbers that the operator is made of."""
        return {}


def per_row(rho: Sigma, coefficients: Tensor) -> Tensor:
    """rho beside coefficients [B,r]: [] or [B,1]."""
    one = torch.as_tensor(rho, dtype=coefficients.dtype, device=coefficients.device)
    return one if one.dim() == 0 else one.reshape(-1, 1)


def image_shape(shape: Sequence[int], operator: str) -> tuple[int, int, int]:
    """A shape [C,H,W]. Raises UsageError on any other."""
    if len(shape) != 3:
        raise UsageError(
            f"operator={operator} is of images, and data= has points of shape {tuple(shape)}: "
            "write data=mnist, or operator=matrix operator.file=A.npy"
        )
    channels, height, width = shape
    return channels, height, width


def divided(shape: Sequence[int], factor: int, operator: str) -> tuple[int, int, int]:
    """The shape [C,H/f,W/f] of an image that is `factor` times smaller. Raises UsageError where the
    factor does not divide."""
    channels, height, width = image_shape(shape, operator)
    if factor < 1 or height % factor or width % factor:
        raise UsageError(
            f"operator.factor={factor} does not divide an image of {height} x {width}: write "
            f"one of {', '.join(map(str, common_divisors(height, width)))}"
        )
    return channels, height // factor, width // factor


def common_divisors(height: int, width: int) -> list[int]:
    """The factors that divide both sides of an image, but 1."""
    return [factor for factor in range(2, height + 1) if not height % factor and not width % factor]
