"""Mean, standard deviation and count of numbers that come in batches.

Of two batches with counts n and m, means a and b, and sums of squares S and T about them,

    mean = a + (b - a) m/(n + m),        square = S + T + (b - a)^2 n m/(n + m)

(Chan, Golub and LeVeque 1983): no batch has to be kept, and nothing of the size of the mean squared
is formed and cancelled. A nan stands for a number that a sample does not have (the kappa of a path
of no length); it is left out, and the count says so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """What is kept of a number of every sample, all float64 of one shape: one entry a level."""

    count: Tensor  # of the samples that have the number
    mean: Tensor  # 0 where none has
    square: Tensor  # sum of the squares about the mean

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """Of one batch, [...,B] -> [...]."""
        values = values.to(torch.float64)
        there = ~values.isnan()
        count = there.sum(-1).to(torch.float64)
        known = values.nan_to_num(nan=0.0)
        mean = known.sum(-1) / count.clamp(min=1)
        off = torch.where(there, known - mean[..., None], 0.0)
        return cls(count, mean, off.square().sum(-1))

    def merged(self, other: Spread) -> Spread:
        """Of both batches together."""
        count = self.count + other.count
        share = other.count / count.clamp(min=1)
        step = other.mean - self.mean
        return Spread(
            count=count,
            mean=self.mean + step * share,
            square=self.square + other.square + step.square() * self.count * share,
        )

    @property
    def sd(self) -> Tensor:
        """Standard deviation over the samples; nan where fewer than two have the number."""
        sd = (self.square / (self.count - 1).clamp(min=1)).sqrt()
        return torch.where(self.count > 1, sd, torch.nan)

    def known(self) -> Tensor:
        """The mean; nan where no sample has the number."""
        return torch.where(self.count > 0, self.mean, torch.nan)
