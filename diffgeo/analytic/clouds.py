"""What the posterior of a whole cloud says beside D: N atoms, prepared once (`points.Streamed`,
`points.Dense`), and counted from the heaviest one of each row (`weights`).

Where the atoms have weights w_i of their own, the logarithms of the posterior's hold them too:

    |y - a_i|^2 = |y - b|^2 + 2 sigma^2 (log(p_b/p_i) - log(w_b/w_i)),

so the trace takes the mean of log(w_b/w_i) off, the `lean` of a row; of equal weights it is 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic import points, weights
from diffgeo.analytic.exact import Posterior
from diffgeo.analytic.points import Dense, Streamed

LOG2 = math.log(2)


class Summed(NamedTuple):
    """Sums over the cloud, a row each."""

    place: Tensor  # number of the heaviest atom b, [B]
    excess: Tensor  # sum_i p_i log(p_b/p_i), [B]
    mass: Tensor  # 1/p_b, [B]
    collision: Tensor  # sum_i p_i^2, [B]
    heaviest: Tensor  # b, [B,d]
    step: Tensor  # D - b, [B,d]
    lean: Tensor  # sum_i p_i log(w_b/w_i), [B]


def weighed(cloud: Streamed | Dense, x: Tensor, sigma: Tensor) -> Posterior:
    """D and what its weights say: x [B,d], sigma [B], float64."""
    found = summed(cloud, x, sigma)
    entropy = found.excess + found.mass.log()
    return Posterior(
        mean=found.heaviest + found.step,
        entropy=entropy,
        neighbours=entropy.exp(),
        nearest=found.place,
        collision=found.collision,
        trace=weights.trace(found.excess - found.lean, found.step, x - found.heaviest, sigma),
    )


def log_density(cloud: Streamed | Dense, x: Tensor, sigma: Tensor) -> Tensor:
    """log p_sigma(x), [B]."""
    found = summed(cloud, x, sigma)
    square = (x - found.heaviest).square().sum(1)
    if cloud.log_weight is None:
        mass = found.mass.log() - math.log(cloud.count)
    else:
        mass = found.mass.log() + cloud.log_weight[found.place]
    return weights.log_density(square, mass, sigma, x.shape[1])


def summed(cloud: Streamed | Dense, x: Tensor, sigma: Tensor) -> Summed:
    """The sums over the cloud, as many rows at a time as fit."""
    size = rows(cloud)
    parts = []
    for row, level in zip(x.split(size), sigma.split(size), strict=True):
        if isinstance(cloud, Streamed):
            parts.append(_streamed(cloud, row, level))
        else:
            parts.append(_dense(cloud, row, level))
    return Summed(*(torch.cat(column) for column in zip(*parts, strict=True)))


def rows(cloud: Streamed | Dense) -> int:
    """How many rows of x to take at a time."""
    return points.ROWS if isinstance(cloud, Streamed) else cloud.rows(cloud.count)


def _streamed(cloud: Streamed, x: Tensor, sigma: Tensor) -> Summed:
    """Block by block, counted from the largest logit so far."""
    top = x.new_full((len(x),), -torch.inf)
    place = torch.zeros_like(top, dtype=torch.int64)
    total = torch.zeros_like(top)
    square = torch.zeros_like(top)
    below = torch.zeros_like(top)  # sum of weights times how far their logit is below the top
    moment = torch.zeros_like(x)
    prior = torch.zeros_like(top)  # sum of weights times log w
    for first, logit, atoms in cloud.logits(x, sigma):
        best, at = logit.max(1)
        last = top
        top = torch.maximum(top, best)
        place = torch.where(best > last, first + at, place)
        rise = torch.where(last.isinf(), 0.0, top - last)
        kept = torch.exp2(-rise)
        gap = top[:, None] - logit
        weight = torch.exp2(-gap)
        below = (below + rise * total) * kept + (weight * gap).sum(1)
        total = total * kept + weight.sum(1)
        square = square * kept**2 + weight.square().sum(1)
        moment = moment * kept[:, None] + weight @ atoms.mT
        if cloud.log_weight is not None:
            own = cloud.log_weight[first : first + weight.shape[1]]
            prior = prior * kept + weight @ own.to(weight)
    heaviest = cloud.atom(place)
    step = moment / total[:, None] + cloud.centre - heaviest
    lean = _lean(cloud, place, prior / total)
    return Summed(place, LOG2 * below / total, total, square / total**2, heaviest, step, lean)


def _lean(cloud: Streamed | Dense, place: Tensor, mean: Tensor) -> Tensor:
    """log w_b of the atoms so numbered less the mean of log w, [B]."""
    return mean if cloud.log_weight is None else cloud.log_weight[place].to(mean) - mean


def _dense(cloud: Dense, x: Tensor, sigma: Tensor) -> Summed:
    """All weights of some rows at once."""
    y = (x - cloud.centre)[:, None]
    logit, top, exact = cloud.logits(y, prior=cloud.prior(sigma))
    place = top.flatten(1).gather(1, exact.flatten(1).argmax(1, keepdim=True))[:, 0]
    weight = cloud.weights(y, sigma, logit, top, exact)
    total = weights.total(weight)
    excess = weights.entropy(weight) / total + weights.log_heaviest(weight)
    atom = cloud.atom(place)
    step = cloud.mean(weight)[:, 0] / total[:, None] + cloud.centre - atom
    mass = total / weight.amax((1, 2)).double()
    prior = torch.zeros_like(total)
    if cloud.log_weight is not None:
        prior = weight[:, 0].double() @ cloud.log_weight / total
    lean = _lean(cloud, place, prior)
    return Summed(place, excess, mass, weights.collision(weight), atom, step, lean)


def covariance_product(cloud: Streamed | Dense, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
    """Cov[x0 | x] v = sum_i p_i (a_i - D) ((a_i - D).v), [B,d]."""
    size = rows(cloud)
    found = []
    for row, level, own in zip(x.split(size), sigma.split(size), v.split(size), strict=True):
        if isinstance(cloud, Streamed):
            found.append(_streamed_product(cloud, row, level, own))
        else:
            found.append(_dense_product(cloud, row, level, own))
    return torch.cat(found)


def _streamed_product(cloud: Streamed, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
    found = _streamed(cloud, x, sigma)
    mean = found.heaviest + found.step - cloud.centre
    # the logit of the heaviest atom, of base 2, from which the weights are counted
    top = cloud.logit_of(found.heaviest, found.place, x, sigma)
    product = torch.zeros_like(x)
    for _, logit, atoms in cloud.logits(x, sigma):
        along = v @ atoms - (v * mean).sum(1, keepdim=True)
        weight = torch.exp2(logit - top[:, None]) / found.mass[:, None] * along
        product = product + weight @ atoms.mT - weight.sum(1, keepdim=True) * mean
    return product


def _dense_product(cloud: Dense, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
    y = (x - cloud.centre)[:, None]
    weight = cloud.weights(y, sigma, *cloud.logits(y, prior=cloud.prior(sigma)))
    weight = weight / weights.total(weight)[:, None, None].to(weight)
    along = cloud.along(v[:, None])
    centre = (weight * along).sum((1, 2), dtype=torch.float64, keepdim=True)
    return cloud.mean(weight.mul_(along.sub_(centre.to(along))))[:, 0]
