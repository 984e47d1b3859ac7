"""Some Fourier coefficients of an image, as in magnetic resonance imaging.

    y = M F x,    F unitary (a pixel's transform has length 1), M the measured frequencies.

y is real: the real parts, then the imaginary parts. For a real image A A' is not the identity, as
x^ at -q is the conjugate of x^ at q: with Z = y on the grid and Z~(q) = conj(Z(-q)),

    A A' Z = M (Z + Z~)/2,    s = 1 where q and -q are measured, 1/sqrt2 where one of them is.

V is the real Fourier basis: per pair (q, -q) of which one is measured, sqrt2 Re x^ and
sqrt2 Im x^; Re x^ alone where q = -q. So prox is F* of
F(Re F* y + rho x0)/(w + rho), w(q) = (M(q) + M(-q))/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.core import Sigma, generator
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, f64, image_shape, per_row


@dataclass(frozen=True, eq=False)
class Fourier(Diagonal):
    """The Fourier coefficients of an image [C,H,W] where `kept` [H,W] is true, frequency 0 first;
    measured [2,C,k], real and imaginary parts."""

    kept: Tensor
    shape: tuple[int, ...]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(2, C, k)"""
        return (2, self.shape[0], len(self.index))

    @cached_property
    def index(self) -> Tensor:
        """Of the measured frequencies, int64 [k]."""
        return self.kept.flatten().nonzero().flatten()

    @cached_property
    def twin(self) -> Tensor:
        """The index of -q for each frequency q, int64 [H*W]."""
        _, height, width = self.shape
        row = (-torch.arange(height)).remainder(height)
        column = (-torch.arange(width)).remainder(width)
        return (row[:, None] * width + column).flatten()

    @cached_property
    def share(self) -> Tensor:
        """w = (M(q) + M(-q))/2 of every frequency: 1, 1/2 or 0, [H*W]."""
        mask = self.kept.flatten().to(f64)
        return (mask + mask[self.twin]) / 2

    @cached_property
    def pairs(self) -> Tensor:
        """One frequency of each pair (q, -q) with a measured one, int64 [p]."""
        mask = self.kept.flatten()
        number = torch.arange(len(mask))
        first = (number <= self.twin) | ~mask[self.twin]
        return (mask & first).nonzero().flatten()

    @cached_property
    def turned(self) -> Tensor:
        """Which of `pairs` have an imaginary part: q is not -q, bool [p]."""
        return self.twin[self.pairs] != self.pairs

    @property
    def values(self) -> Tensor:
        each = self.share[self.pairs].sqrt()
        both = torch.cat([each, each[self.turned]])
        return both.expand(self.shape[0], -1).flatten()

    def __call__(self, x0):
        found = torch.fft.fft2(x0, norm="ortho").flatten(-2)[..., self.index.to(x0.device)]
        return torch.stack([found.real, found.imag], 1)

    def adjoint(self, y):
        return torch.fft.ifft2(self._grid(y), norm="ortho").real

    def _grid(self, y: Tensor) -> Tensor:
        """y [B,2,C,k] on all frequencies, complex [B,C,H,W], 0 where nothing is measured."""
        channels, height, width = self.shape
        given = torch.complex(y[:, 0].contiguous(), y[:, 1].contiguous())
        grid = given.new_zeros(len(y), channels, height * width)
        grid[..., self.index.to(y.device)] = given
        return grid.reshape(len(y), *self.shape)

    def _reached(self, y: Tensor) -> Tensor:
        """The part of y that a real image can have, at `pairs`: complex [B,C,p]."""
        grid = self._grid(y).flatten(-2)
        twins = grid[..., self.twin.to(y.device)].conj()
        sum_of_both = (grid + twins)[..., self.pairs.to(y.device)]
        weight = 2 * self.share[self.pairs].to(y)  # 2 where both are measured
        real = sum_of_both.real / weight
        imaginary = torch.where(self.turned.to(y.device), sum_of_both.imag / weight, 0.0)
        return torch.complex(real, imaginary)

    def left(self, y):
        found = self._reached(y)
        scale = self._scale(y) * self.share[self.pairs].sqrt().to(y)
        return self._flat(found * scale)

    def combine(self, coefficients):
        scale = self._scale(coefficients) * self.share[self.pairs].sqrt().to(coefficients)
        return self._measured(self._complex(coefficients) / scale)

    def right(self, x0):
        found = torch.fft.fft2(x0, norm="ortho").flatten(-2)[..., self.pairs.to(x0.device)]
        return self._flat(found * self._scale(x0))

    def back(self, coefficients):
        found = self._complex(coefficients) / self._scale(coefficients)
        grid = self._spread(found).reshape(len(coefficients), *self.shape)
        return torch.fft.ifft2(grid, norm="ortho").real

    def solve(self, y: Tensor, rho: Sigma) -> Tensor:
        found = self._reached(y)
        level = per_row(rho, y)
        level = level if level.dim() == 0 else level[..., None]
        return self._measured(found / (self.share[self.pairs].to(y) + level))

    def _scale(self, like: Tensor) -> Tensor:
        """The length of a pair's coefficients in V: sqrt2, and 1 where q = -q, [p]."""
        return torch.where(self.turned, 2.0, 1.0).sqrt().to(like)

    def _flat(self, found: Tensor) -> Tensor:
        """Complex [B,C,p] -> real coefficients [B,r]."""
        imaginary = found.imag[..., self.turned.to(found.device)]
        return torch.cat([found.real, imaginary], -1).flatten(1)

    def _complex(self, coefficients: Tensor) -> Tensor:
        """The inverse of `_flat`."""
        split = coefficients.reshape(len(coefficients), self.shape[0], -1)
        pairs = len(self.pairs)
        imaginary = torch.zeros_like(split[..., :pairs])
        imaginary[..., self.turned.to(split.device)] = split[..., pairs:]
        return torch.complex(split[..., :pairs].contiguous(), imaginary)

    def _spread(self, found: Tensor) -> Tensor:
        """Complex [B,C,p] on all frequencies, the twins conjugated, [B,C,H*W]."""
        grid = found.new_zeros(*found.shape[:2], len(self.twin))
        pairs = self.pairs.to(found.device)
        grid[..., self.twin.to(found.device)[pairs]] = found.conj()
        grid[..., pairs] = found
        return grid

    def _measured(self, found: Tensor) -> Tensor:
        """Complex [B,C,p] at the measured frequencies, as a measurement [B,2,C,k]."""
        kept = self._spread(found)[..., self.index.to(found.device)]
        return torch.stack([kept.real, kept.imag], 1)

    def contents(self):
        return {"mask": self.kept.to(torch.uint8)}


def fourier(
    shape: Sequence[int], share: float = 0.3, lines: int | None = None, seed: int = 0
) -> Fourier:
    """Some of the Fourier coefficients of an image.

    shape: [C,H,W] of an image.
    share: of the frequencies that are measured, above 0, at most 1: as many as that, rounded, the
        frequency 0 always, the others at random.
    lines: measure whole columns of the spectrum instead, so many: a quarter of them (rounded up)
        the lowest, the others at random.
    seed: of which.

    Raises UsageError.
    """
    _, height, width = image_shape(shape, "fourier")
    if lines is not None:
        if not 1 <= lines <= width:
            raise UsageError(
                f"operator.lines={lines}: write how many of the {width} columns are measured"
            )
        columns = torch.zeros(width, dtype=torch.bool)
        columns[lowest_first(width, -(-lines // 4), lines, seed)] = True
        return Fourier(columns.expand(height, width), tuple(shape))
    if not 0 < share <= 1:
        raise UsageError(
            f"operator.share={share}: write the share of frequencies that is measured, above 0 "
            "and at most 1"
        )
    number = max(round(share * height * width), 1)
    kept = torch.zeros(height * width, dtype=torch.bool)
    kept[0] = True
    others = torch.randperm(height * width - 1, generator=generator(seed, height, width)) + 1
    kept[others[: number - 1]] = True
    return Fourier(kept.reshape(height, width), tuple(shape))


def lowest_first(width: int, low: int, number: int, seed: int) -> Tensor:
    """`number` of the frequencies 0..width-1 of one axis: the `low` lowest (0, 1, -1, 2, ...), the
    others at random, int64 [number]."""
    frequency = torch.arange(width)
    distance = torch.minimum(frequency, width - frequency)
    order = torch.argsort(distance, stable=True)
    others = torch.randperm(width - low, generator=generator(seed, width))[: number - low]
    return torch.cat([order[:low], order[low:][others]])
