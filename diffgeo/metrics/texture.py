"""W2 of samples of a texture to its law, in the basis that the law is known to be diagonal in.

The law is N(mean, sum lambda_i h_i h_i'), and of n samples one needs no more than the second moment
v_i of each coordinate about the law's own mean (Pierret and Galerne 2024, the empirical column):

    W2emp^2 = sum_i (sqrt v_i - sqrt lambda_i)^2.

Of n samples of N(mean, sum v_i h_i h_i') the v_i are v_i chi^2_n/n, so that E sqrt v_i is
sqrt v_i (1 - 1/4n) and its variance v_i/2n, to first order in 1/n:

    E W2emp^2   = W2^2 + sum_i sqrt(v_i lambda_i)/(2n),
    Var W2emp^2 = sum_i 4 a_i^2 s_i + 2 s_i^2,     a_i = sqrt v_i - sqrt lambda_i,  s_i = v_i/2n.

Directions of eigenvalue 0 add the whole of their v_i and no bias, whatever basis they are given.
The noise floor, W2emp of n samples of the law itself, is the same with v = lambda: no cloud needs
to be drawn for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Run
from diffgeo.data import Texture
from diffgeo.metrics.base import Measure

BLOCK = 1 << 22  # numbers that are transformed at a time


class Moments(NamedTuple):
    """Second moments of n samples: of each coordinate along [HW], and of all across together."""

    along: Tensor
    across: float
    n: int


def moments(samples: Tensor, data: Texture) -> Moments:
    """The second moments of samples [n,C,H,W] about the mean of a texture's law."""
    along = torch.zeros_like(data.noise.values).flatten()
    across = 0.0
    for part in samples.split(max(1, BLOCK // samples[0].numel())):
        coordinates, square = data.noise.coordinates(part.detach().to("cpu", torch.float64))
        along += coordinates.flatten(1).square().sum(0)
        across += float(square.sum())
    n = len(samples)
    # where an eigenvalue is 0 its coordinate is 0 too: what is there is counted across
    return Moments(along / n, across / n, n)


@dataclass(frozen=True)
class TextureW2(Measure):
    """`texture/w2`, as it is of n samples, with its standard error `_se` and its floor;
    `texture/w2_unbiased`, without what n samples of the same Gaussian add to it (0 where that is
    all); and the parts of w2 along the law's support and across it, where its eigenvalues are 0.
    {} of other laws."""

    floors = False  # they have a closed form

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not isinstance(data, Texture):
            return {}
        found = moments(run.samples, data)
        values = data.noise.values.flatten()
        apart = found.along.sqrt() - values.sqrt()
        along = float(apart.square().sum())
        square = along + found.across
        bias = float((found.along * values).sqrt().sum()) / (2 * found.n)
        floor = math.sqrt(float(values.sum()) / (2 * found.n))
        floor_spread = float(values.norm()) / (2 * found.n) * math.sqrt(2)
        return {
            "texture/w2": math.sqrt(square),
            "texture/w2_se": self.error(found, apart, data) / (2 * math.sqrt(square)),
            "texture/w2_floor": floor,
            "texture/w2_floor_sd": floor_spread / (2 * floor),
            "texture/w2_unbiased": math.sqrt(max(0.0, square - bias)),
            "texture/w2_along": math.sqrt(along),
            "texture/w2_across": math.sqrt(found.across),
        }

    def error(self, found: Moments, apart: Tensor, data: Texture) -> float:
        """The standard error of W2emp^2, as of a Gaussian whose variance across is the same in
        every direction."""
        noise = found.along / (2 * found.n)
        least = float((2 * noise**2).sum())
        # what is seen of a_i^2 is s_i too large
        variance = max(least, float((4 * apart**2 * noise - 2 * noise**2).sum()))
        directions = math.prod(data.shape) - data.dim
        if directions:
            variance += 2 * found.across**2 / (directions * found.n)
        return math.sqrt(variance)
