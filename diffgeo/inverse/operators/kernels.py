"""Blur kernels [h,w]: Gaussian, the path of a shaking camera, one from a file.

A kernel sums to 1, so that a blur keeps grey as it is. Its centre is the entry (h//2, w//2), for
even sizes too. As an image it is what a blur makes of a white pixel: kernels are not flipped.
"""

from __future__ import annotations

from math import cos, pi, sin

import torch
from torch import Tensor

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import f64
from diffgeo.store.arrays import read_array

MOMENTS = 400  # at which the shutter sees the light of one point


def gaussian_kernel(std: float, size: int | None = None, most: int = 1 << 15) -> Tensor:
    """exp(-(i^2 + j^2)/2 std^2) on a square, normalized to sum 1, [size,size].

    std: in pixels, > 0. size: its side; None: the odd one that reaches 4 std, at most `most`.
    """
    if not std > 0:
        raise UsageError(f"operator.std={std}: write the deviation of the kernel in pixels, > 0")
    side = min(2 * int(4 * std + 0.5) + 1, most) if size is None else size
    if side < 1:
        raise UsageError(f"operator.size={side}: write the side of the kernel, 1 or more")
    place = torch.arange(side, dtype=f64) - side // 2
    line = torch.exp(-(place**2) / (2 * std**2))
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def motion_kernel(seed: int, size: int = 9, intensity: float = 0.5, image: int = 0) -> Tensor:
    """The path of a shaking camera, drawn from (seed, image), [size,size], of sum 1.

    The camera moves at constant speed; its direction is a Brownian motion that has turned by
    intensity * pi (one deviation) at the end of the exposure. intensity 0 is a straight line. The
    path is as long as the kernel is wide but for one pixel; its centre of mass is the centre of the
    kernel, and each moment's light falls on the four nearest pixels.
    """
    if not 2 <= size:
        raise UsageError(f"operator.size={size}: write the side of the kernel, 2 or more")
    if not 0 <= intensity <= 1:
        raise UsageError(f"operator.intensity={intensity}: write a number from 0 to 1")
    draws = torch.randn(MOMENTS, generator=generator(seed, image, size), dtype=f64).tolist()
    begun = torch.rand(1, generator=generator(seed, image, size, 1), dtype=f64).item()
    turn = intensity * pi / MOMENTS**0.5
    speed = (size - 1) / MOMENTS
    angle = 2 * pi * begun
    across, down = [], []
    column = row = 0.0
    for draw in draws:
        angle += turn * draw
        column += speed * cos(angle)
        row += speed * sin(angle)
        across.append(column)
        down.append(row)
    path = torch.tensor([down, across], dtype=f64)
    path = path - path.mean(1, keepdim=True) + size // 2
    return splat(path.clamp(0, size - 1), size)


def splat(path: Tensor, size: int) -> Tensor:
    """The light of a path [2,n] on pixels [size,size], bilinear, of sum 1."""
    low = path.floor().clamp(max=max(size - 2, 0)).long()
    share = path - low
    kernel = torch.zeros(size, size, dtype=f64)
    for i in (0, 1):
        for j in (0, 1):
            weight = (share[0] if i else 1 - share[0]) * (share[1] if j else 1 - share[1])
            kernel.index_put_((low[0] + i, low[1] + j), weight, accumulate=True)
    return kernel / kernel.sum()


def read_kernel(file: str) -> Tensor:
    """A kernel from FILE.npy or FILE.csv, divided by its sum. Raises UsageError."""
    return normalized(torch.from_numpy(read_array(file, "operator.file")), f"operator.file={file}")


def normalized(kernel: Tensor, name: str) -> Tensor:
    """A kernel divided by its sum. Raises UsageError on what is no kernel."""
    if kernel.dim() != 2:
        raise UsageError(
            f"{name} has shape {tuple(kernel.shape)}: a kernel is one of height x width for all "
            "channels"
        )
    if not bool(torch.isfinite(kernel).all()):
        raise UsageError(f"{name} holds entries that are not finite")
    total = kernel.sum()
    if abs(total) <= 1e-12 * kernel.abs().sum():
        raise UsageError(f"{name} sums to 0: a blur has a kernel whose sum can be made 1")
    return (kernel / total).to(f64)


def check_fits(kernel: Tensor, height: int, width: int, name: str) -> None:
    """Raise UsageError where a kernel is larger than the image."""
    rows, columns = kernel.shape
    if rows > height or columns > width:
        raise UsageError(
            f"{name} is a kernel of {rows} x {columns}, larger than the image of {height} x "
            f"{width}: write a smaller operator.size, or a smaller kernel"
        )
