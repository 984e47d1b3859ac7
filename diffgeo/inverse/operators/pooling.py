"""Operators that average: over squares of pixels, or over the channels.

    pool f   y = the mean of each f x f square,    A A' = 1/f^2,      s = 1/f,
    grey     y = sum_c w_c x_c,                    A A' = |w|^2,      s = |w|.

Both have one singular value, and the rows of A do not overlap: V' is f (or 1/|w|) times A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, divided, f64, image_shape


@dataclass(frozen=True)
class Pool(Diagonal):
    """The mean of each factor x factor square of an image [C,H,W]."""

    shape: tuple[int, ...]
    factor: int

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, H/f, W/f)"""
        return divided(self.shape, self.factor, "pool")

    @property
    def values(self) -> Tensor:
        return torch.full((prod(self.measured),), 1 / self.factor, dtype=f64)

    def __call__(self, x0):
        channels, height, width = self.measured
        squares = x0.reshape(len(x0), channels, height, self.factor, width, self.factor)
        return squares.mean((3, 5))

    def adjoint(self, y):
        tall = y.repeat_interleave(self.factor, dim=-2)
        return tall.repeat_interleave(self.factor, dim=-1) / self.factor**2


@dataclass(frozen=True)
class Grey(Diagonal):
    """The weighted sum of the channels of an image [C,H,W]; one weight a channel."""

    shape: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(1, H, W)"""
        return (1, *self.shape[1:])

    @property
    def values(self) -> Tensor:
        norm = sum(weight**2 for weight in self.weights) ** 0.5
        return torch.full((prod(self.measured),), norm, dtype=f64)

    def _column(self, like: Tensor) -> Tensor:
        """The weights [C,1,1]."""
        return torch.tensor(self.weights, dtype=like.dtype, device=like.device)[:, None, None]

    def __call__(self, x0):
        return (x0 * self._column(x0)).sum(1, keepdim=True)

    def adjoint(self, y):
        return y * self._column(y)

    def contents(self):
        return {"weights": torch.tensor(self.weights, dtype=f64)}


def pool(shape: Sequence[int], factor: int = 4) -> Pool:
    """Super-resolution as DDRM has it: y is the mean of each square of factor x factor pixels.

    shape: [C,H,W] of an image.
    factor: the side of a square; it divides height and width.

    Raises UsageError.
    """
    divided(shape, factor, "pool")
    return Pool(tuple(shape), factor)


def grey(shape: Sequence[int], weights: Sequence[float] | None = None) -> Grey:
    """Colorization: y is the grey picture.

    shape: [C,H,W] of an image.
    weights: one a channel; None: equal ones, 1/C.

    Raises UsageError.
    """
    channels, _, _ = image_shape(shape, "grey")
    if channels == 1:
        raise UsageError(
            "operator=grey: the images of data= are grey already; write data=cifar10, or another "
            "operator="
        )
    chosen = [1 / channels] * channels if weights is None else [float(w) for w in weights]
    if len(chosen) != channels or not any(chosen):
        raise UsageError(
            f"operator.weights={list(chosen)}: write {channels} numbers, one a channel, not all 0"
        )
    return Grey(tuple(shape), tuple(chosen))
