"""What the posterior of a whole cloud says beside D: N atoms of equal weight, prepared once
(`points.Streamed`, `points.Dense`), and counted from the heaviest one of each row (`weights`).
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
        trace=weights.trace(found.excess, found.step, x - found.heaviest, sigma),
    )


def log_density(cloud: Streamed | Dense, x: Tensor, sigma: Tensor) -> Tensor:
    """log p_sigma(x), [B]."""
    found = summed(cloud, x, sigma)
    square = (x - found.heaviest).square().sum(1)
    mass = found.mass.log() - math.log(cloud.count)
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
    heaviest = cloud.atom(place)
    step = moment / total[:, None] + cloud.centre - heaviest
    return Summed(place, LOG2 * below / total, total, square / total**2, heaviest, step)


def _dense(cloud: Dense, x: Tensor, sigma: Tensor) -> Summed:
    """All weights of some rows at once."""
    y = (x - cloud.centre)[:, None]
    logit, top, exact = cloud.logits(y)
    place = top.flatten(1).gather(1, exact.flatten(1).argmax(1, keepdim=True))[:, 0]
    weight = cloud.weights(y, sigma, logit, top, exact)
    total = weights.total(weight)
    excess = weights.entropy(weight) / total + weights.log_heaviest(weight)
    atom = cloud.atom(place)
    step = cloud.mean(weight)[:, 0] / total[:, None] + cloud.centre - atom
    mass = total / weight.amax((1, 2)).double()
    return Summed(place, excess, mass, weights.collision(weight), atom, step)


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
    top = cloud.logit_of(found.heaviest, x, sigma)
    product = torch.zeros_like(x)
    for _, logit, atoms in cloud.logits(x, sigma):
        along = v @ atoms - (v * mean).sum(1, keepdim=True)
        weight = torch.exp2(logit - top[:, None]) / found.mass[:, None] * along
        product = product + weight @ atoms.mT - weight.sum(1, keepdim=True) * mean
    return product


def _dense_product(cloud: Dense, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
    y = (x - cloud.centre)[:, None]
    weight = cloud.weights(y, sigma, *cloud.logits(y))
    weight = weight / weights.total(weight)[:, None, None].to(weight)
    along = cloud.along(v[:, None])
    centre = (weight * along).sum((1, 2), dtype=torch.float64, keepdim=True)
    return cloud.mean(weight.mul_(along.sub_(centre.to(along))))[:, 0]
