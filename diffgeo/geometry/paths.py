"""How straight a path is: N paths of L points each, [L,N,*D].

The deviation of a point from the chord is (Chen et al. 2023, section 3)

    d(x) = |(x_end - x) - <x_end - x, u> u|,       u = (x_end - x_first)/|x_end - x_first|,

and 0 at both ends. With unit steps t_k,

    arc = sum |x_(k+1) - x_k|,          turning = sum 2 asin(|t_(k+1) - t_k|/2),

asin and not acos, which loses half the digits where a path is nearly straight. A path whose arc is
half as long again as its chord is no straight line with an error: the ratio of deviation and chord
then says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST = 1.5  # of arc/chord, beyond which straightness has no verdict
ROUNDING = 64 * torch.finfo(torch.float64).eps  # of a length, in units of the largest number


def length(x: Tensor) -> Tensor:
    """|x| of every row, [N,*D] -> [N]."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def unit(x: Tensor) -> Tensor:
    """x/|x| of every row [N,d]; 0 where |x| = 0."""
    size = length(x)[:, None]
    return torch.where(size > 0, x / size.where(size > 0, 1.0), 0.0)


def across(x: Tensor) -> Tensor:
    """What of each point is off its path's chord, as a vector from the chord, [L,N,*D] ->
    [L,N,d]. Of a chord of no length: from its one point."""
    points = x.flatten(2)
    end = points[-1]
    u = unit(end - points[0])
    off = torch.empty_like(points)
    for k, point in enumerate(points):
        back = point - end
        off[k] = back - (back * u).sum(1, keepdim=True) * u
    return off


def chord(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each point's distance from the chord of its path, [L,N], and the length of the chord, [N]."""
    return torch.linalg.vector_norm(across(x), dim=2), length(x[-1] - x[0])


def arc(x: Tensor) -> Tensor:
    """The length of each path, [L,N,*D] -> [N]."""
    total = x.new_zeros(x.shape[1])
    for k in range(len(x) - 1):
        total = total + length(x[k + 1] - x[k])
    return total


def turning(x: Tensor) -> Tensor:
    """By how much each path turns in all, radians [N]; nan of a path that does not move. A step of
    no length, or of rounding alone, has no direction and is left out."""
    points = x.flatten(2)
    total = x.new_zeros(x.shape[1])
    last = torch.zeros_like(points[0])
    moved = torch.zeros_like(total, dtype=torch.bool)
    for k in range(len(points) - 1):
        step = points[k + 1] - points[k]
        far = length(step) > ROUNDING * (length(points[k]) + length(points[k + 1]))
        now = unit(step)
        angle = 2 * torch.asin((length(now - last) / 2).clamp(max=1))
        total = total + torch.where(far & moved, angle, 0.0)
        last = torch.where(far[:, None], now, last)
        moved = moved | far
    return torch.where(moved, total, torch.nan)


def falls(values: Tensor) -> Tensor:
    """Whether a series [L,...] never rises, by more than rounding, [...]."""
    room = 1e-12 * values.abs().amax(0)
    return (values.diff(dim=0) <= room).all(0)


def rises(values: Tensor) -> Tensor:
    """Whether a series [L,...] never falls, by more than rounding, [...]."""
    return falls(-values)
