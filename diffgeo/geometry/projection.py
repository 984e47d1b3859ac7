"""A path in three dimensions, and how it bends and twists there.

Coordinates (Chen et al. 2025): along the chord from the end of the path, and in the first two
principal components of what is off the chord, each path its own. The signs and the turn of the last
two are nobody's, so a path is laid on a reference path by the orthogonal map that brings it nearest
(Procrustes; reflections are allowed, so the sign of a torsion is that of the reference).

With derivatives by any parameter,

    curvature = |x' x x''|/|x'|^3,        torsion = (x' x x'').x'''/|x' x x''|^2.

The derivatives at a level are those of the cubic that fits the path best (least squares, in sigma)
over a window of levels about it. The published fit takes 101 of 1000 steps equally spaced in sigma;
near an end the window here holds the nearest levels, to one side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.geometry.paths import across, unit

PUBLISHED = 10  # a window is this part of the steps: 101 of 1000
LEAST = 5  # levels in a window: a cubic and one to spare


def project(x: Tensor) -> Tensor:
    """Paths [L,N,*D] in their own three coordinates, from their ends, [L,N,3]."""
    points = x.flatten(2)
    end = points[-1]
    along = ((points - end) * unit(points[0] - end)).sum(2)
    off = across(x).transpose(0, 1)  # [N,L,d]
    coordinates = x.new_zeros(*points.shape[:2], 3)
    coordinates[:, :, 0] = along
    centred = off - off.mean(1, keepdim=True)
    vectors, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    scores = (vectors * sizes[:, None])[:, :, :2]
    scores = scores - scores[:, -1:]  # from the end
    # a sign for each, so that no library chooses it: the largest coordinate is positive
    largest = scores.gather(1, scores.abs().argmax(1, keepdim=True))
    scores = scores * torch.where(largest < 0, -1.0, 1.0)
    # of a path in a plane, or of a straight one, rounding is no direction
    there = sizes[:, None, : scores.shape[2]] > 1e-10 * along.abs().amax(0)[:, None, None]
    scores = torch.where(there, scores, 0.0)
    coordinates[:, :, 1 : 1 + scores.shape[2]] = scores.transpose(0, 1)
    return coordinates


def laid_on(paths: Tensor, reference: Tensor) -> Tensor:
    """Each path [L,N,3] under the orthogonal map about its end that brings it nearest to the
    reference [L,3] (Procrustes)."""
    ours = (paths - paths[-1]).transpose(0, 1)  # [N,L,3]
    theirs = reference - reference[-1]
    left, _, right = torch.linalg.svd(ours.mT @ theirs)
    return (ours @ (left @ right)).transpose(0, 1)


def window_of(levels: int, window: int | None) -> int:
    """The levels of a window: as asked for, or the published part of them. Raises UsageError where
    a cubic cannot be fitted to so few."""
    if window is None:
        window = min(levels, max(LEAST, levels // PUBLISHED + 1))
    if not 4 <= window <= levels:
        raise UsageError(
            f"window={window}: a cubic needs 4 levels or more, and the grid has {levels}"
        )
    return window


def derivatives(path: Tensor, sigma: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first three derivatives by sigma [L] of paths [L,N,d], from local cubic fits over
    `window` levels, [L,N,d] each."""
    levels = len(sigma)
    first = torch.empty_like(path)
    second = torch.empty_like(path)
    third = torch.empty_like(path)
    for k in range(levels):
        begin = min(max(k - window // 2, 0), levels - window)
        part = slice(begin, begin + window)
        reach = float((sigma[part] - sigma[k]).abs().max())
        s = (sigma[part] - sigma[k]) / reach  # in -1 .. 1, so that the fit is well conditioned
        powers = torch.stack([torch.ones_like(s), s, s**2, s**3], 1)
        cubic = torch.linalg.lstsq(powers, path[part].flatten(1)).solution.unflatten(
            1, path.shape[1:]
        )
        first[k] = cubic[1] / reach
        second[k] = 2 * cubic[2] / reach**2
        third[k] = 6 * cubic[3] / reach**3
    return first, second, third


def frenet(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
    """Curvature and torsion [...] of curves with these derivatives [...,3]; no number where a
    curve stands still, and no torsion where it is straight."""
    normal = torch.linalg.cross(first, second)
    size = normal.norm(dim=-1)
    curvature = size / first.norm(dim=-1) ** 3
    torsion = (normal * third).sum(-1) / size**2
    return curvature, torsion
