"""Finitely many points: a few weighted atoms, or a whole data set.

D(x) = sum_i p_i a_i,  p = softmax(log w_i - |x - a_i|^2 / 2 sigma^2).  The logit of atom i against a reference atom r is

    (a_i - a_r).(x - (a_i + a_r)/2) / sigma^2,

a product of differences: nothing of size |x|^2/sigma^2 is ever formed and cancelled. `atoms` takes the nearest atom as r (exact at
ties too). A data set is prepared once (`cloud`); with y = x - c and a_i counted from c its logits are y.a_i - |a_i|^2/2 up to a constant:

    Streamed   few coordinates, where exp is the work: float64 logits, in blocks that stay in the cache, with a running maximum and sum
    Dense      many coordinates, where two matrix products are the work: these in the data's own dtype, then the largest logits
               again by differences in float64; a rounding of |x|^2 is no longer small against sigma^2 and would move the weights
"""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

ROWS, BLOCK = 64, 4096                  # of `Streamed`: 2 MiB of logits at a time
LOGITS = 64 << 20                       # of `Dense`: bytes of logits at a time; its softmax takes as much again
REFINED = 32                            # logits a row that `Dense` takes again by differences


def nearest(x: Tensor, points: Tensor, block: int = 1 << 20) -> Tensor:
    """Index of the nearest point for each row, [B] (argmax of x.a - |a|^2/2, centred); memory bounded by `block` products."""
    centre = points.mean(0)
    a = points - centre
    bias = -(a**2).sum(1) / 2
    return torch.cat([torch.addmm(bias, part - centre, a.mT).argmax(1) for part in x.split(1 + block // len(a))])


def atoms(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """E[x0|x] of sum_i weights_i delta(points_i): points [k,d], weights [k] -> [B,d]. For few atoms: O(B k d) memory."""
    reference = points[nearest(x, points)][:, None]                                     # [B,1,d]
    step = points - reference
    logit = (step * (x[:, None] - (points + reference) / 2)).sum(-1) / sigma[:, None] ** 2 + weights.log()
    return reference[:, 0] + torch.einsum("bk,bkd->bd", logit.softmax(-1), step)


def cloud(points: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x0|x] of the empirical law of points [N,d], prepared once: a function of x [B,d], sigma [B] (float64) -> [B,d].

    Up to 16 coordinates exp costs more than the products, so float64 logits are nearly free; beyond, they would double the time.
    """
    return (Streamed if points.shape[1] <= 16 else Dense)(points)


class Streamed:
    """Logits in float64, weights and sums in the points' dtype: float32 points keep |error| below 1e-3 sigma, float64 points 1e-6 sigma.

    Prepared: a table [d+2,N] of the rows -|a|^2/2, a, 1. Its first d+1 rows are the keys, its last d+1 the values.
    """

    def __init__(self, points: Tensor):
        self.centre = points.mean(0, dtype=torch.float64)
        a = points.mT - self.centre[:, None]
        table = torch.cat([-a.square().sum(0, keepdim=True) / 2, a, torch.ones_like(a[:1])])
        self.keys, self.values = table[:-1], table[1:].to(points.dtype)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        query = torch.cat([torch.ones_like(x[:, :1]), x - self.centre], 1) * (math.log2(math.e) / sigma[:, None] ** 2)
        return self.centre + torch.cat([self._mean(rows) for rows in query.split(ROWS)])

    def _mean(self, query: Tensor) -> Tensor:
        top, total = query.new_full((len(query), 1), -torch.inf), query.new_zeros(len(self.values), len(query))
        block = BLOCK if query.device.type == "cpu" else 16 * BLOCK
        for keys, values in zip(self.keys.split(block, 1), self.values.split(block, 1), strict=True):
            logit = query @ keys
            last, top = top, torch.maximum(top, logit.detach().amax(1, keepdim=True))
            weight = logit.sub_(top).to(values).clamp_(min=-120).exp2_()        # exp2 is slow where it underflows; 2^-120 is nothing
            total = total * (last - top).exp2_().mT + values @ weight.mT
        return (total[:-1] / total[-1]).mT


class Dense:
    """Products in the points' dtype: float32 points keep |error| below 1e-3 sigma for data of unit size and sigma from 1e-3.

    Centring takes a copy of the data; it is made only where the mean is larger than the spread, and the products would lose by it.
    """

    def __init__(self, points: Tensor):
        mean, square = points.mean(0, dtype=torch.float64), sum(float(block.double().square().sum()) for block in points.split(BLOCK))
        centred = 2 * float(mean @ mean) > square / len(points)
        self.centre = mean if centred else torch.zeros_like(mean)
        self.points = torch.cat([(block - mean).to(points.dtype) for block in points.split(BLOCK)]) if centred else points
        self.bias = torch.cat([-block.double().square().sum(1) / 2 for block in self.points.split(BLOCK)]).to(points.dtype)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        rows = max(1, LOGITS // (len(self.points) * self.points.element_size()))
        parts = zip((x - self.centre).split(rows), sigma.split(rows), strict=True)
        return self.centre + torch.cat([self._mean(y, s) for y, s in parts])

    def _mean(self, y: Tensor, sigma: Tensor) -> Tensor:
        logit = torch.addmm(self.bias, y.to(self.points), self.points.mT)       # |y|^2/2 - |y - a|^2/2
        top = logit.detach().topk(min(REFINED, logit.shape[1]), 1, sorted=False).indices
        exact = torch.stack([-(row - self.points[i]).square().sum(1) / 2 for row, i in zip(y, top, strict=True)])
        best = exact.detach().amax(1, keepdim=True)                             # counted from the best, small logits keep small errors
        logit = logit.sub_((y.square().sum(1, keepdim=True) / 2 + best).to(logit)).scatter_(1, top, (exact - best).to(logit))
        return (logit.div_(sigma[:, None].to(logit) ** 2).softmax(1) @ self.points).to(y)
