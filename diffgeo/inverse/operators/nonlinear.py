"""Measurements that are not linear: they have a forward map and its gradient, and no adjoint.

    phase retrieval    y = |F pad(x)|,            F unitary
    HDR                y = clip(gain x, -1, 1)

Phase retrieval does not tell x from its shifts (within the padding), from its image through the
centre, nor, where x may be negative, from -x: its posterior has several modes. Oversampling 2 pads
a quarter of the image at each side, as DPS and DAPS do. The gradient of HDR is 0 where it clips.

The exact posterior of either is known on points and image sets, by their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import image_shape


@dataclass(frozen=True)
class PhaseRetrieval:
    """|F pad(x)| of an image [C,H,W], with `rows` and `columns` pixels of 0 at each side.

    unit: of the image in [0,1], (x + 1)/2, else of x itself.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int
    unit: bool

    @property
    def measured(self) -> tuple[int, ...]:
        """(C, H + 2 rows, W + 2 columns)"""
        channels, height, width = self.shape
        return channels, height + 2 * self.rows, width + 2 * self.columns

    def __call__(self, x0: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,*M]."""
        light = (x0 + 1) / 2 if self.unit else x0
        sides = (self.columns, self.columns, self.rows, self.rows)
        padded = torch.nn.functional.pad(light, sides)
        return torch.fft.fft2(padded, norm="ortho").abs()


@dataclass(frozen=True)
class HDR:
    """clip(gain x, -1, 1), of a signal of any shape."""

    shape: tuple[int, ...]
    gain: float

    @property
    def measured(self) -> tuple[int, ...]:
        """That of a signal."""
        return self.shape

    def __call__(self, x0: Tensor) -> Tensor:
        """[B,*D] -> [B,*D]."""
        return (self.gain * x0).clamp(-1, 1)


def phase_retrieval(
    shape: Sequence[int], oversampling: float = 2.0, unit: bool = True
) -> PhaseRetrieval:
    """The modulus of the Fourier transform of the padded image.

    shape: [C,H,W] of an image.
    oversampling: the padding at each side is oversampling/8 of the side, rounded down.
    unit: of the image in [0,1], as DAPS measures; false: in [-1,1], as DPS does.

    Raises UsageError.
    """
    _, height, width = image_shape(shape, "phase_retrieval")
    if not 0 <= oversampling <= 16:
        raise UsageError(f"operator.oversampling={oversampling}: write a number from 0 to 16")
    rows = int(oversampling / 8 * height)
    columns = int(oversampling / 8 * width)
    return PhaseRetrieval(tuple(shape), rows, columns, unit)


def hdr(shape: Sequence[int], gain: float = 2.0) -> HDR:
    """A picture whose exposure was too long: clip(gain x, -1, 1).

    shape: of a signal.
    gain: > 0.

    Raises UsageError.
    """
    if not gain > 0:
        raise UsageError(f"operator.gain={gain}: write what the image is multiplied by, above 0")
    return HDR(tuple(shape), gain)
