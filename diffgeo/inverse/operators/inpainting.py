"""Inpainting: some pixels are measured, the others are not.

    y = the kept pixels,     A A' = I,     A'y = y where it was, 0 elsewhere.

y holds the kept pixels only; one mask serves all channels. A signal that is no image, a point of
R^n, is one channel of n pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, f64, image_shape
from diffgeo.store.arrays import read_array


@dataclass(frozen=True, eq=False)
class Kept(Diagonal):
    """The pixels that a mask keeps, of every channel.

    index: of the kept pixels among those of a channel, increasing, int64 [k].
    shape: *D of a signal: [C,H,W], or [n].
    """

    index: Tensor
    shape: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """(C,) of images, () of points."""
        return self.shape[:-2]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, k), or (k,)"""
        return (*self.channels, len(self.index))

    @property
    def values(self) -> Tensor:
        return torch.ones(prod(self.measured), dtype=f64)

    def __call__(self, x0):
        pixels = x0.reshape(len(x0), *self.channels, -1)
        return pixels[..., self.index.to(x0.device)]

    def adjoint(self, y):
        pixels = y.new_zeros(len(y), *self.channels, prod(area(self.shape)))
        pixels[..., self.index.to(y.device)] = y
        return pixels.reshape(len(y), *self.shape)

    def contents(self):
        mask = torch.zeros(prod(area(self.shape)), dtype=torch.uint8)
        mask[self.index] = 1
        return {"mask": mask.reshape(area(self.shape))}


def area(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a mask: [H,W] of images [C,H,W], else that of the signal. Raises UsageError."""
    if len(shape) not in (1, 3):
        raise UsageError(f"a mask is of images [C,H,W] or of points [n], not of {tuple(shape)}")
    return tuple(shape[-2:])


def keeping(mask: Tensor, shape: Sequence[int], said: str) -> Kept:
    """The operator of a mask [H,W] or [n] of true where a pixel is kept. Raises UsageError on one
    that keeps nothing."""
    index = mask.flatten().nonzero().flatten()
    if not len(index):
        raise UsageError(f"{said} hides every pixel: nothing is measured")
    return Kept(index, tuple(shape))


def inpaint_box(
    shape: Sequence[int], size: int = 14, top: int | None = None, left: int | None = None
) -> Kept:
    """A square of pixels is hidden.

    shape: [C,H,W] of an image.
    size: the side of the square, in pixels.
    top, left: its first row and column; None: the middle of the image.

    Raises UsageError.
    """
    _, height, width = image_shape(shape, "inpaint_box")
    said = f"operator.size={size}"
    if not 1 <= size <= min(height, width):
        raise UsageError(
            f"{said}: write the side of the hidden square, from 1 to {min(height, width)} pixels"
        )
    row = (height - size) // 2 if top is None else top
    column = (width - size) // 2 if left is None else left
    if not 0 <= row <= height - size or not 0 <= column <= width - size:
        raise UsageError(
            f"operator.top={row} operator.left={column}: a square of {size} does not fit there in "
            f"{height} x {width}; write at most {height - size} and {width - size}"
        )
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[row : row + size, column : column + size] = False
    return keeping(mask, shape, said)


def inpaint_random(shape: Sequence[int], keep: float = 0.1, seed: int = 0) -> Kept:
    """Pixels at random are kept, the others hidden.

    shape: [C,H,W] of an image, or [n] of a point.
    keep: the share of the pixels that is kept, above 0, at most 1; as many as that, rounded.
    seed: of which.

    Raises UsageError.
    """
    if not 0 < keep <= 1:
        raise UsageError(
            f"operator.keep={keep}: write the share of pixels that is kept, above 0 and at most 1"
        )
    pixels = prod(area(shape))
    order = torch.randperm(pixels, generator=generator(seed, pixels))
    mask = torch.zeros(pixels, dtype=torch.bool)
    mask[order[: round(keep * pixels)]] = True
    return keeping(mask, shape, f"operator.keep={keep}")


def mask(shape: Sequence[int], file: str | None = None, kept: Tensor | None = None) -> Kept:
    """The pixels of a given mask.

    shape: [C,H,W] of an image, or [n] of a point.
    file: MASK.npy or MASK.csv [H,W], or [n]: 1 where a pixel is measured, 0 where it is hidden.
    kept: the mask itself, instead of a file.

    Raises UsageError on a mask of another size, and on one of other numbers than 0 and 1.
    """
    if (file is None) == (kept is None):
        raise UsageError("operator=mask takes one mask: write operator.file=MASK.npy")
    name = "the mask" if file is None else f"operator.file={file}"
    given = torch.as_tensor(kept if file is None else read_mask(file))
    if tuple(given.shape) != area(shape):
        raise UsageError(
            f"{name} has shape {tuple(given.shape)}, and data= has points of shape "
            f"{tuple(shape)}: write one mask of shape {area(shape)}"
            + (" for all channels" if len(shape) == 3 else "")
        )
    if not bool(((given == 0) | (given == 1)).all()):
        raise UsageError(f"{name} holds other numbers than 0 (hidden) and 1 (measured)")
    return keeping(given == 1, shape, name)


def read_mask(file: str) -> Tensor:
    """A mask from a file, [1,n] of a table being [n]."""
    array = torch.from_numpy(read_array(file, "operator.file", booleans=True))
    return array[0] if len(array) == 1 and array.dim() == 2 else array
