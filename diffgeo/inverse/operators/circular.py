"""Blurs on a torus: true convolution with a kernel, the image going on at its other side.

    A x = F* (k^ . F x),    A' y = F* (conj(k^) . F y),    A A' = F* |k^|^2 F,

F the unitary Fourier transform, k^ the transform of the kernel with its centre (h//2, w//2) rolled
to the first pixel. In the Hartley basis H = Re F - Im F, which is real, symmetric and its own
inverse, A'A and A A' are diagonal too (k^ of -q is the conjugate of that of q), so

    V = H,    s = |k^|,    U'y = H F* (conj(k^)/|k^| . F y).

Padding is circular here, as in DiffPIR; DPS reflects, DDRM pads with 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.core import Sigma
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, f64, image_shape, per_row
from diffgeo.inverse.operators.kernels import (
    check_fits,
    gaussian_kernel,
    motion_kernel,
    normalized,
    read_kernel,
)


def hartley(x: Tensor) -> Tensor:
    """Re F x - Im F x of the last two axes: real, orthonormal, symmetric, its own inverse."""
    found = torch.fft.fft2(x, norm="ortho")
    return found.real - found.imag


def transfer(kernel: Tensor, height: int, width: int) -> Tensor:
    """k^ [H,W], complex128: the transform of a kernel whose centre is the first pixel."""
    rows, columns = kernel.shape
    padded = torch.zeros(height, width, dtype=f64, device=kernel.device)
    padded[:rows, :columns] = kernel
    return torch.fft.fft2(padded.roll((-(rows // 2), -(columns // 2)), (0, 1)))


def filtered(x: Tensor, response: Tensor) -> Tensor:
    """F* (response . F x) of real x, the response complex or real [H,W] and of a real kernel."""
    kind = torch.complex64 if x.dtype == torch.float32 else torch.complex128
    half = response[:, : x.shape[-1] // 2 + 1].to(x.device, kind)
    return torch.fft.irfft2(torch.fft.rfft2(x) * half, s=x.shape[-2:])


@dataclass(frozen=True, eq=False)
class Circular(Diagonal):
    """Convolution of an image [C,H,W] with one kernel [h,w] for all channels."""

    kernel: Tensor
    shape: tuple[int, ...]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, H, W)"""
        return self.shape

    @cached_property
    def response(self) -> Tensor:
        """k^ [H,W]."""
        return transfer(self.kernel, *self.shape[1:])

    @cached_property
    def size(self) -> Tensor:
        """|k^| [H,W], 0 where it is rounding."""
        found = self.response.abs()
        rounding = found.max() * found.numel() * torch.finfo(f64).eps
        return torch.where(found > rounding, found, 0.0)

    @cached_property
    def seen(self) -> Tensor:
        """Where |k^| > 0, among the pixels of all channels, int64 [r]."""
        return (self.size > 0).expand(self.shape).flatten().nonzero().flatten()

    @cached_property
    def phase(self) -> Tensor:
        """conj(k^)/|k^| [H,W], 0 where k^ is."""
        return torch.where(self.size > 0, self.response.conj() / self.size, 0.0)

    @property
    def values(self) -> Tensor:
        return self.size.expand(self.shape).flatten()[self.seen]

    def __call__(self, x0):
        return filtered(x0, self.response)

    def adjoint(self, y):
        return filtered(y, self.response.conj())

    def solve(self, y: Tensor, rho: Sigma) -> Tensor:
        square = self.size.to(y) ** 2
        level = per_row(rho, y).reshape(-1, 1, 1, 1)
        inverse = torch.where(square > 0, 1 / (square + level), 0.0)
        half = inverse[..., : y.shape[-1] // 2 + 1]
        return torch.fft.irfft2(torch.fft.rfft2(y) * half, s=y.shape[-2:])

    def left(self, y):
        return hartley(filtered(y, self.phase)).flatten(1)[:, self.seen.to(y.device)]

    def combine(self, coefficients):
        return filtered(self.back(coefficients), self.phase.conj())

    def right(self, x0):
        return hartley(x0).flatten(1)[:, self.seen.to(x0.device)]

    def back(self, coefficients):
        rows = len(coefficients)
        whole = coefficients.new_zeros(rows, self.size.numel() * self.shape[0])
        whole[:, self.seen.to(coefficients.device)] = coefficients
        return hartley(whole.reshape(rows, *self.shape))

    def contents(self):
        return {"kernel": self.kernel}


@dataclass(frozen=True, eq=False)
class Shaken(Circular):
    """A blur by the shake of a camera, which differs from image to image; this one is image 0's."""

    seed: int
    intensity: float

    def of_image(self, number: int) -> Circular:
        """The blur of the image with this number."""
        kernel = motion_kernel(self.seed, len(self.kernel), self.intensity, number)
        return Circular(kernel, self.shape)


def blur(shape: Sequence[int], std: float = 1.0, size: int | None = None) -> Circular:
    """A Gaussian blur, circular.

    shape: [C,H,W] of an image.
    std: of the kernel, in pixels, > 0.
    size: the side of the kernel; None: the odd one that reaches 4 std, at most the image.

    Raises UsageError.
    """
    _, height, width = image_shape(shape, "blur")
    kernel = gaussian_kernel(std, size, most=min(height, width))
    check_fits(kernel, height, width, f"operator.size={size}")
    return Circular(kernel, tuple(shape))


def motion(shape: Sequence[int], seed: int = 0, size: int = 9, intensity: float = 0.5) -> Shaken:
    """The blur of a shaking camera, circular, another one for each image.

    shape: [C,H,W] of an image.
    seed: of the paths; image i has the one of (seed, i).
    size: the side of the kernel, in pixels.
    intensity: how much the path turns, from 0, a straight line, to 1.

    Raises UsageError.
    """
    _, height, width = image_shape(shape, "motion")
    kernel = motion_kernel(seed, size, intensity)
    check_fits(kernel, height, width, f"operator.size={size}")
    return Shaken(kernel, tuple(shape), seed, intensity)


def kernel(
    shape: Sequence[int], file: str | None = None, entries: Tensor | None = None
) -> Circular:
    """The blur of a given kernel, circular; the kernel is divided by its sum.

    shape: [C,H,W] of an image.
    file: KERNEL.npy or KERNEL.csv [h,w], what the blur makes of one white pixel.
    entries: the kernel itself, instead of a file.

    Raises UsageError on a kernel larger than the image, of sum 0, or with entries not finite.
    """
    _, height, width = image_shape(shape, "kernel")
    given = given_kernel(file, entries)
    check_fits(given, height, width, "the kernel" if file is None else f"operator.file={file}")
    return Circular(given, tuple(shape))


def given_kernel(file: str | None, entries: Tensor | None) -> Tensor:
    """The kernel of a file or of numbers. Raises UsageError."""
    if file is not None and entries is None:
        return read_kernel(file)
    if entries is not None and file is None:
        return normalized(torch.as_tensor(entries, dtype=f64), "the kernel")
    raise UsageError("operator=kernel takes one kernel: write operator.file=KERNEL.npy")
