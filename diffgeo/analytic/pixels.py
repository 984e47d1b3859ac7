"""Images as rows of numbers: their bytes, the order of these, the orientations in which they occur.

An image is x0 = low + (high - low) a/255 with a_j in {0..255}; with `flip` a law holds it and its
mirror image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.errors import UsageError


def as_it_is(x: Tensor) -> Tensor:
    return x


def mirrored(x: Tensor) -> Tensor:
    return x.flip(-1)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images of bytes [N,C,H,W].

    low, high: the values of x0 that 0 and 255 stand for. flip: whether mirror images count too.
    Raises UsageError for images of another kind.
    """

    images: Tensor
    low: float = -1.0
    high: float = 1.0
    flip: bool = False

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or not len(self.images):
            raise UsageError(
                f"images must be uint8 [N,C,H,W], not {self.images.dtype} {list(self.images.shape)}"
            )
        if not self.high > self.low:
            raise UsageError(
                f"low={self.low} high={self.high}: the value of white must be above the value of "
                "black"
            )

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)"""
        return tuple(self.images.shape[1:])

    @cached_property
    def scale(self) -> float:
        """Bytes per unit of x0."""
        return 255 / (self.high - self.low)

    def check_shape(self, x: Tensor) -> None:
        """Raise UsageError unless x is [B,C,H,W]."""
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(
                f"this law lives in {list(self.shape)}; x must be [B, "
                f"{', '.join(map(str, self.shape))}], not {list(x.shape)}"
            )

    def bytes(self, x: Tensor) -> Tensor:
        """x in bytes, float64: (x - low) scale, or the bytes that they are."""
        return (x.double() - self.low) * self.scale if x.is_floating_point() else x.double()

    # rows of pixels, in the order in which the pixels lie in memory

    @cached_property
    def _order(self) -> list[int]:
        """The axes C, H, W (1, 2, 3) of the images, the one of the largest stride first."""
        strides = self.images.stride()
        return sorted((1, 2, 3), key=lambda axis: -strides[axis])

    def flat(self, x: Tensor) -> Tensor:
        """[n,C,H,W] -> [n,d]."""
        return x.permute(0, *self._order).flatten(1)

    def unflat(self, y: Tensor) -> Tensor:
        """[n,d] -> [n,C,H,W]."""
        sizes = [self.images.shape[axis] for axis in self._order]
        inverse = [self._order.index(axis) + 1 for axis in (1, 2, 3)]
        return y.unflatten(1, sizes).permute(0, *inverse)

    # orientations

    @property
    def turns(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The orientations in which an image occurs; each is its own inverse."""
        return (as_it_is, mirrored) if self.flip else (as_it_is,)

    def turned(self, y: Tensor) -> Tensor:
        """Every orientation of y, [n,C,H,W] -> [n,G,d]."""
        return torch.stack([self.flat(turn(y)) for turn in self.turns], 1)

    def upright(self, y: Tensor) -> Tensor:
        """The sum over the orientations, each turned back, [n,G,d] -> [n,C,H,W]."""
        image = y.new_zeros(())
        for turn, part in zip(self.turns, y.unbind(1), strict=True):
            image = image + turn(self.unflat(part))
        return image
