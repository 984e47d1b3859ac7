"""Super-resolution: a smaller image is measured.

blur and keep   A = S K: convolve (circular), keep the pixels (i f, j f). A A' is a convolution on
                the small grid, F* G F with G the mean of |k^|^2 over the f x f blocks of the
                spectrum, so in the small Hartley basis
                    U = H,    s = sqrt(G).
bicubic         A x = M x M' with M [n/f, n] in each direction: Keys' kernel (a = -1/2) widened by f
                (antialiased), half-pixel centres, the border mirrored. With M = U s V',
                    A = (U (x) U) (s (x) s) (V (x) V)'.

The centre of a pixel of the first is the corner pixel of its square, (f-1)/2 pixels off that of the
second: align an image before the two are compared. DDRM's super-resolution is neither, it is
`pool`.

Keys, Cubic convolution interpolation for digital image processing (1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.core import Sigma
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, divided, f64, per_row
from diffgeo.inverse.operators.circular import filtered, hartley, transfer
from diffgeo.inverse.operators.kernels import check_fits, gaussian_kernel, read_kernel


@dataclass(frozen=True, eq=False)
class BlurAndKeep(Diagonal):
    """A circular blur of an image [C,H,W], of which every factor-th row and column is kept."""

    kernel: Tensor
    shape: tuple[int, ...]
    factor: int

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, H/f, W/f)"""
        return divided(self.shape, self.factor, "sr")

    @cached_property
    def response(self) -> Tensor:
        """k^ [H,W]."""
        return transfer(self.kernel, *self.shape[1:])

    @cached_property
    def square(self) -> Tensor:
        """G [H/f, W/f], 0 where it is rounding."""
        _, height, width = self.measured
        power = self.response.abs() ** 2
        blocks = power.reshape(self.factor, height, self.factor, width).mean((0, 2))
        rounding = blocks.max() * power.numel() * torch.finfo(f64).eps
        return torch.where(blocks > rounding, blocks, 0.0)

    @cached_property
    def seen(self) -> Tensor:
        """Where G > 0, among the pixels of a measurement, int64 [r]."""
        return (self.square > 0).expand(self.measured).flatten().nonzero().flatten()

    @property
    def values(self) -> Tensor:
        return self.square.sqrt().expand(self.measured).flatten()[self.seen]

    def __call__(self, x0):
        return filtered(x0, self.response)[..., :: self.factor, :: self.factor]

    def adjoint(self, y):
        spread = y.new_zeros(len(y), *self.shape)
        spread[..., :: self.factor, :: self.factor] = y
        return filtered(spread, self.response.conj())

    def left(self, y):
        return hartley(y).flatten(1)[:, self.seen.to(y.device)]

    def combine(self, coefficients):
        rows = len(coefficients)
        whole = coefficients.new_zeros(rows, self.square.numel() * self.shape[0])
        whole[:, self.seen.to(coefficients.device)] = coefficients
        return hartley(whole.reshape(rows, *self.measured))

    def solve(self, y: Tensor, rho: Sigma) -> Tensor:
        square = self.square.to(y)
        level = per_row(rho, y).reshape(-1, 1, 1, 1)
        inverse = torch.where(square > 0, 1 / (square + level), 0.0)
        half = inverse[..., : y.shape[-1] // 2 + 1]
        return torch.fft.irfft2(torch.fft.rfft2(y) * half, s=y.shape[-2:])

    def contents(self):
        return {"kernel": self.kernel}


@dataclass(frozen=True, eq=False)
class Separable(Diagonal):
    """M x M' of an image [C,H,W]: `rows` [h,H] acts on columns of pixels, `columns` [w,W] on
    rows."""

    rows: Tensor
    columns: Tensor
    shape: tuple[int, ...]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, h, w)"""
        return (self.shape[0], len(self.rows), len(self.columns))

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """U, s, V' of `rows`, then of `columns`; both have full rank."""
        return (
            *torch.linalg.svd(self.rows, full_matrices=False),
            *torch.linalg.svd(self.columns, full_matrices=False),
        )

    @property
    def values(self) -> Tensor:
        _, tall, _, _, wide, _ = self._svd
        return torch.outer(tall, wide).expand(self.measured).flatten()

    def __call__(self, x0):
        return self.rows.to(x0) @ x0 @ self.columns.to(x0).mT

    def adjoint(self, y):
        return self.rows.to(y).mT @ y @ self.columns.to(y)

    def left(self, y):
        u, _, _, w, _, _ = self._svd
        return (u.to(y).mT @ y @ w.to(y)).flatten(1)

    def combine(self, coefficients):
        u, _, _, w, _, _ = self._svd
        square = coefficients.reshape(len(coefficients), *self.measured)
        return u.to(square) @ square @ w.to(square).mT

    def right(self, x0):
        _, _, v, _, _, z = self._svd
        return (v.to(x0) @ x0 @ z.to(x0).mT).flatten(1)

    def back(self, coefficients):
        _, _, v, _, _, z = self._svd
        square = coefficients.reshape(len(coefficients), *self.measured)
        return v.to(square).mT @ square @ z.to(square)

    def contents(self):
        return {"rows": self.rows, "columns": self.columns}


def keys(t: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, of the distance t in pixels: 1 at 0, 0 at 1 and from 2 on."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))


def bicubic_matrix(n: int, factor: int) -> Tensor:
    """M [n/f, n]: row i weighs pixel j by keys((j + 1/2)/f - (i + 1/2)), rows of sum 1."""
    matrix = torch.zeros(n // factor, n, dtype=f64)
    reach = 2 * factor
    for i in range(n // factor):
        centre = (i + 0.5) * factor - 0.5
        pixel = torch.arange(int(centre) - reach, int(centre) + reach + 2, dtype=f64)
        weight = keys((pixel - centre) / factor)
        # the border is a mirror between two pixels: -1 is 0, n is n - 1, and so on
        turned = pixel.remainder(2 * n)
        inside = torch.where(turned < n, turned, 2 * n - 1 - turned)
        matrix[i].index_add_(0, inside.long(), weight / weight.sum())
    return matrix


def sr(
    shape: Sequence[int], factor: int = 4, std: float | None = None, kernel: str | None = None
) -> BlurAndKeep:
    """Super-resolution: blur, then keep every factor-th row and column, the first among them.

    shape: [C,H,W] of an image.
    factor: it divides height and width.
    std: of a Gaussian kernel, in pixels; None: factor/2.
    kernel: KERNEL.npy or KERNEL.csv [h,w] instead; it is divided by its sum.

    Raises UsageError.
    """
    _, small, narrow = divided(shape, factor, "sr")
    height, width = small * factor, narrow * factor
    if kernel is not None and std is not None:
        raise UsageError("operator.kernel= and operator.std= name two kernels: write one of them")
    if kernel is not None:
        chosen = read_kernel(kernel)
        check_fits(chosen, height, width, f"operator.kernel={kernel}")
        return BlurAndKeep(chosen, tuple(shape), factor)
    chosen = gaussian_kernel(factor / 2 if std is None else std, most=min(height, width))
    return BlurAndKeep(chosen, tuple(shape), factor)


def bicubic(shape: Sequence[int], factor: int = 4) -> Separable:
    """Super-resolution: the image made smaller by antialiased bicubic interpolation.

    shape: [C,H,W] of an image.
    factor: it divides height and width.

    Raises UsageError.
    """
    _, small, narrow = divided(shape, factor, "bicubic")
    tall = bicubic_matrix(small * factor, factor)
    wide = bicubic_matrix(narrow * factor, factor)
    return Separable(tall, wide, tuple(shape))
