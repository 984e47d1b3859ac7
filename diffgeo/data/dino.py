"""Clouds laid along drawn lines: equally spaced points, every one an atom of its empirical law.

The outline is this package's own drawing, in the spirit of the Datasaurus (Cairo 2016; Matejka and
Fitzmaurice 2017), none of whose coordinates it shares. The roll is the one that smalldiffusion's
toy examples are made of, t = pi/2 .. 11 pi/2 (distance.md, A8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffgeo.data.points import Cloud
from diffgeo.errors import UsageError

OUTLINE = (
    (5, 77),
    (8, 85),
    (14, 88),
    (20, 84),
    (25, 76),
    (30, 65),
    (37, 58),
    (47, 61),
    (58, 61),
    (68, 57),
    (77, 49),
    (86, 43),
    (97, 44),
    (88, 36),
    (79, 34),
    (75, 29),
    (76, 10),
    (67, 10),
    (65, 25),
    (57, 23),
    (48, 25),
    (47, 10),
    (38, 10),
    (37, 31),
    (29, 41),
    (23, 55),
    (19, 69),
    (14, 75),
    (5, 77),
)
EYE = ((12, 82), (14.5, 82))
MOUTH = ((5, 77), (10, 79))


def spaced(lines: Sequence[Sequence[tuple[float, float]]], count: int) -> Tensor:
    """`count` points [count,2] along polylines laid end to end, equally spaced by length, the first
    half a space from the first end."""
    corners = [torch.tensor(line, dtype=torch.float64) for line in lines]
    start = torch.cat([c[:-1] for c in corners])
    step = torch.cat([c.diff(dim=0) for c in corners])
    length = torch.linalg.vector_norm(step, dim=1)
    end = length.cumsum(0)
    s = (torch.arange(count, dtype=torch.float64) + 0.5) / count * end[-1]  # lengths of the points
    k = torch.searchsorted(end, s, right=True)  # and the edges that hold them
    share = (s - end[k] + length[k]) / length[k]
    return start[k] + step[k] * share[:, None]


def dino(count: int = 142) -> Cloud:
    """A dinosaur of `count` points in the square [-1, 1]^2."""
    if count < 2:
        raise UsageError(f"data.count={count}: write 2 points or more")
    return Cloud(points=(spaced((OUTLINE, EYE, MOUTH), count) - 50) / 50)


def roll(count: int = 100) -> Cloud:
    """The Swiss roll (t cos t, t sin t)/(5 pi) at `count` equally spaced t from pi/2 to
    pi/2 + 5 pi."""
    if count < 2:
        raise UsageError(f"data.count={count}: write 2 points or more")
    t = math.pi / 2 + 5 * math.pi * torch.linspace(0, 1, count, dtype=torch.float64)
    return Cloud(points=torch.stack([t * t.cos(), t * t.sin()], 1) / (5 * math.pi))
