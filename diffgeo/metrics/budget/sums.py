"""What an error budget needs to know of its six clouds: one mean for each group of samples, so that
the jackknife may leave out one group at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Manifold
from diffgeo.data.gaussian import Gaussian
from diffgeo.metrics.budget.clouds import Clouds, differences
from diffgeo.metrics.points import points
from diffgeo.metrics.transport import matched

AXES = 64  # dimensions up to which moments and matchings are worth their noise


class Sums(NamedTuple):
    """Means over each of G groups of samples; r and s run over ROWS. None where the law has no such
    thing."""

    gram: Tensor  # <u_r, u_s>, [G,6,6]
    tangential: Tensor | None  # the same of their tangential parts
    distance: Tensor | None  # mean distance of the clouds to the support, [G,6]
    mean: Tensor | None  # of the clouds along d axes, [G,6,d]
    square: Tensor | None  # the same of their squares
    # squared distances of matched points, [G,6]; that of the interaction means nothing
    w2: Tensor | None = None


def to_places(cloud: Tensor, other: Tensor) -> Tensor:
    """`cloud` [n,d] renumbered: each point in the place of the point of `other` that it is matched
    with."""
    return torch.from_numpy(matched(cloud.numpy(), other.numpy()))


def coupled(made: Clouds) -> Clouds:
    """The clouds [n,d] renumbered: fine and run as truth's points are matched with theirs, start,
    grid and net as fine's are."""
    fine = to_places(made.fine, made.truth)
    return Clouds(
        truth=made.truth,
        fine=fine,
        start=to_places(made.start, fine),
        grid=to_places(made.grid, fine),
        net=to_places(made.net, fine),
        run=to_places(made.run, made.truth),
    )


def displacements(made: Clouds) -> Tensor:
    """u_r of every sample, [6,n,d]."""
    return torch.stack(differences([cloud.flatten(1) for cloud in made]))


def gram(u: Tensor, groups: int) -> Tensor:
    """<u_r, u_s> in each group, from u [6,n,d]: [G,6,6]."""
    v = u.unflatten(1, (groups, -1))  # [6,G,m,d]
    return torch.einsum("rgmd,sgmd->grs", v, v) / v.shape[2]


def tangential(made: Clouds, data: Manifold, u: Tensor) -> Tensor:
    """The parts of u [6,n,d] along the support, at the points of truth."""
    basis = data.tangent(data.project(made.truth))
    return torch.einsum("nik,njk,rnj->rni", basis, basis, u)


def distances(made: Clouds, data: Manifold, groups: int) -> Tensor:
    """The mean distance of the clouds to the support in each group, [G,6]."""
    means = []
    for cloud in made:
        each = points(data.distance(cloud))
        means.append(each.unflatten(0, (groups, -1)).mean(1))
    return torch.stack(means, 1)


def moments(made: Clouds, data: Data, groups: int) -> tuple[Tensor, Tensor]:
    """Means and mean squares of the clouds along orthogonal axes in each group, [G,6,d] both. The
    axes are those of a Gaussian law, else those of truth."""
    if isinstance(data, Gaussian):
        axes = data.basis
    else:
        d = made.truth.shape[1]
        axes = torch.linalg.eigh(torch.cov(made.truth.mT).reshape(d, d)).eigenvectors
    along = torch.stack([(cloud @ axes).unflatten(0, (groups, -1)) for cloud in made])  # [6,G,m,d]
    mean = along.mean(2).transpose(0, 1)
    square = along.square().mean(2).transpose(0, 1)
    return mean, square


def sums(made: Clouds, data: Data, groups: int, match: bool = False) -> Sums:
    """What the budget of these clouds needs, in `groups` of consecutive samples. match: whether
    their matched points are wanted beside their own."""
    u = displacements(made)
    _, n, d = u.shape
    held = Sums(gram(u, groups), None, None, None, None)
    if isinstance(data, Manifold) and data.dim < d:
        held = held._replace(distance=distances(made, data, groups))
        if data.dim > 0:
            held = held._replace(tangential=gram(tangential(made, data, u), groups))
    if made.truth.dim() == 2 and d <= min(AXES, n // 8):
        mean, square = moments(made, data, groups)
        held = held._replace(mean=mean, square=square)
    if match:
        between_matched = gram(displacements(coupled(made)), groups)
        held = held._replace(w2=between_matched.diagonal(dim1=1, dim2=2))
    return held
