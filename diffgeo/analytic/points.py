"""Finitely many points: a few weighted atoms, or a whole data set.

    D(x) = sum_i p_i a_i,       p = softmax(log w_i - |x - a_i|^2 / 2 sigma^2).

The logit of atom i against a reference atom r is

    (a_i - a_r).(x - (a_i + a_r)/2) / sigma^2,

a product of differences: nothing of size |x|^2/sigma^2 is ever formed and cancelled. `atoms` takes
the nearest atom as r (exact at ties too). A data set is prepared once (`cloud`); with y = x - c and
a_i counted from c its logits are y.a_i - |a_i|^2/2 up to a constant:

    Streamed   few coordinates, where exp is the work: float64 logits, in blocks that stay in the
               cache, with a running maximum and sum
    Dense      many coordinates, where two matrix products are the work: these in the data's own
               dtype, then the largest logits again by differences in float64; a rounding of |x|^2
               is no longer small against sigma^2 and would move the weights. Images are this too,
               as whole numbers: `analytic.images`
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# of `Streamed`: 2 MiB of logits at a time
ROWS = 64
BLOCK = 4096
# of `Dense`: bytes of logits and of float64 queries at a time; all that is made of them: six times
LOGITS = 32 << 20
PRODUCT = 3 << 20  # of `Dense`: bytes of points in one product
REFINED = 32  # logits a row that `Dense` takes again by differences


def nearest(x: Tensor, points: Tensor, block: int = 1 << 20) -> Tensor:
    """Index of the nearest point for each row, [B] (argmax of x.a - |a|^2/2, centred); memory
    bounded by `block` products."""
    centre = points.mean(0)
    a = points - centre
    bias = -(a**2).sum(1) / 2
    parts = x.split(1 + block // len(a))
    return torch.cat([torch.addmm(bias, part - centre, a.mT).argmax(1) for part in parts])


def atoms(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """E[x0|x] of sum_i weights_i delta(points_i): points [k,d], weights [k] -> [B,d]. For few
    atoms: O(B k d) memory."""
    reference = points[nearest(x, points)][:, None]  # [B,1,d]
    step = points - reference
    product = (step * (x[:, None] - (points + reference) / 2)).sum(-1)
    logit = product / sigma[:, None] ** 2 + weights.log()
    return reference[:, 0] + torch.einsum("bk,bkd->bd", logit.softmax(-1), step)


def cloud(
    points: Tensor, log_weight: Tensor | None = None, mapped: bool = False
) -> Streamed | Dense:
    """E[x0|x] of points [N,d] of weights exp(log_weight) [N], of sum 1, or equal ones, prepared
    once: a function of x [B,d] and sigma [B], both float64, to [B,d].

    Up to 16 coordinates exp costs more than the products, so float64 logits are nearly free;
    beyond, they would double the time.

    mapped: whether the points lie in a file that may not fit into memory: nothing of their size is
        made then, and each block of them is prepared where it is read. They weigh the same.
    """
    few = points.shape[1] <= 16
    if mapped:
        return StreamedFile(points) if few else Dense(points, mapped=True)
    return Streamed(points, log_weight) if few else Dense(points, log_weight)


def prepared(points: Tensor, centre: Tensor) -> Tensor:
    """The table of `Streamed` of some points [n,d], float64 [d+2,n]."""
    a = points.mT - centre[:, None]
    return torch.cat([-a.square().sum(0, keepdim=True) / 2, a, torch.ones_like(a[:1])])


class Streamed:
    """Logits in float64, weights and sums in the points' dtype: float32 points keep |error| below
    1e-3 sigma, float64 points 1e-6 sigma.

    Prepared: a table [d+2,N] of the rows -|a|^2/2, a, 1. Its first d+1 rows are the keys, its last
    d+1 the values; weights are one more key.
    """

    def __init__(self, points: Tensor, log_weight: Tensor | None = None):
        self.centre = points.mean(0, dtype=torch.float64)
        table = prepared(points, self.centre)
        self.keys = table[:-1]
        self.values = table[1:].to(points.dtype)
        self.count = len(points)
        self.log_weight = log_weight
        if log_weight is not None:
            self.keys = torch.cat([self.keys, log_weight[None].to(self.keys)])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        query = self._query(x, sigma)
        return self.centre + torch.cat([self._mean(rows) for rows in query.split(ROWS)])

    def _query(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the keys are multiplied by for logits of base 2, [B,d+1] or [B,d+2]."""
        query = torch.cat([torch.ones_like(x[:, :1]), x - self.centre], 1)
        query = query * (math.log2(math.e) / sigma[:, None] ** 2)
        if self.log_weight is None:
            return query
        return torch.cat([query, torch.full_like(x[:, :1], math.log2(math.e))], 1)

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The keys and values of `size` atoms at a time."""
        return zip(self.keys.split(size, 1), self.values.split(size, 1), strict=True)

    def logits(self, x: Tensor, sigma: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Block by block: the number of its first atom, the logits of base 2 [B,n], and the atoms
        counted from the centre [d,n]; float64."""
        query = self._query(x, sigma)
        axes = slice(1, 1 + x.shape[1])
        first = 0
        for keys, _ in self.blocks(BLOCK if query.device.type == "cpu" else 16 * BLOCK):
            yield first, query @ keys, keys[axes]
            first += keys.shape[1]

    def logit_of(self, atom: Tensor, place: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The logits of base 2 of one atom a row, [B,d], whose numbers are [B]: [B]."""
        a = atom - self.centre
        keys = torch.cat([-a.square().sum(1, keepdim=True) / 2, a], 1)
        if self.log_weight is not None:
            keys = torch.cat([keys, self.log_weight[place][:, None]], 1)
        return (self._query(x, sigma) * keys).sum(1)

    def atom(self, place: Tensor) -> Tensor:
        """The atoms of these numbers, [B] -> float64 [B,d]."""
        return self.keys[1 : len(self.centre) + 1, place].mT + self.centre

    def _mean(self, query: Tensor) -> Tensor:
        top = query.new_full((len(query), 1), -torch.inf)
        total = query.new_zeros(len(self.centre) + 1, len(query))
        for keys, values in self.blocks(BLOCK if query.device.type == "cpu" else 16 * BLOCK):
            logit = query @ keys
            last = top
            top = torch.maximum(top, logit.detach().amax(1, keepdim=True))
            # exp2 is slow where it underflows; 2^-120 is nothing
            weight = logit.sub_(top).to(values).clamp_(min=-120).exp2_()
            total = total * (last - top).exp2_().mT + values @ weight.mT
        return (total[:-1] / total[-1]).mT


class StreamedFile(Streamed):
    """`Streamed` of points of equal weight in a file: the table of a block is made when the block
    is read, and goes with it."""

    def __init__(self, points: Tensor):
        self.points = points
        self.count = len(points)
        self.log_weight = None
        total = sum(part.sum(0, dtype=torch.float64) for part in points.split(BLOCK))
        self.centre = total / len(points)

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self.points.split(size):
            table = prepared(part, self.centre)
            yield table[:-1], table[1:].to(part.dtype)

    def atom(self, place: Tensor) -> Tensor:
        return self.points[place].double()


class Dense:
    """Products in the points' dtype: float32 points keep |error| below 1e-3 sigma for data of unit
    size and sigma from 1e-3.

    Points [N,d] of uint8 stay uint8. Blocks of them become float32 as they are multiplied, counted
    from the mean rounded to whole numbers, so that points and their differences are exact. Floating
    points are centred only where the mean is larger than the spread and the products would lose by
    it; that takes a copy of the data, or with `mapped` one of each block.

    Queries y, counted from `centre`, come as [B,G,d]: the G queries of a row share one
    normalization (an image and its mirror image).
    """

    def __init__(self, points: Tensor, log_weight: Tensor | None = None, mapped: bool = False):
        self.points = points
        self.count = len(points)
        self.log_weight = log_weight
        self.bytes = not points.is_floating_point()
        self.counted = self.bytes  # whether a block is counted from the centre when it is read
        blocks = points.split(max(1, PRODUCT // (8 * points.shape[1])))
        total = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
        for block in blocks:
            total = total + block.sum(0, dtype=torch.float64)
        self.centre = total / len(points)
        if self.bytes:
            self.centre = self.centre.round()
        elif self._is_far(blocks) and mapped:
            self.counted = True
        elif self._is_far(blocks):
            self.points = torch.cat([(block - self.centre).to(points.dtype) for block in blocks])
        else:
            self.centre = torch.zeros_like(self.centre)
        # what `points` still hold of the centre
        self.offset = self.centre if self.counted else torch.zeros_like(self.centre)
        self.bias = torch.empty(
            len(points), dtype=torch.float32 if self.bytes else points.dtype, device=points.device
        )
        for part, block in self.blocks():
            self.bias[part] = (
                -torch.linalg.vector_norm(block, dim=1, dtype=torch.float64).square() / 2
            )

    def atom(self, place: Tensor) -> Tensor:
        """The points of these numbers, [B] -> float64 [B,d]."""
        return self.points[place].double() + (self.centre - self.offset)

    def _is_far(self, blocks: Sequence[Tensor]) -> bool:
        """Whether the mean of the points is larger than their spread."""
        square = sum(float(block.double().square().sum()) for block in blocks)
        return 2 * float(self.centre @ self.centre) * len(self.points) > square

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        rows = self.rows(len(self.points))
        means = []
        for part, level in zip(x.split(rows), sigma.split(rows), strict=True):
            weight = self._softmax((part - self.centre)[:, None], level)
            means.append(self.mean(weight)[:, 0])
        return self.centre + torch.cat(means)

    def _softmax(self, y: Tensor, sigma: Tensor) -> Tensor:
        """The posterior weights; a call of its own, after which the logits are gone."""
        logit, top, exact = self.logits(y, prior=self.prior(sigma))
        return self.weights(y, sigma, logit, top, exact)

    def prior(self, sigma: Tensor) -> Tensor | None:
        """What the weights of the points add to the logits at these levels [B], [B,1,N]; None where
        they are equal."""
        if self.log_weight is None:
            return None
        return sigma[:, None, None] ** 2 * self.log_weight

    def rows(self, points: int, queries: int = 1) -> int:
        """How many rows of x, each so many queries against so many points, to take at a time: few
        points leave the queries to bound."""
        bytes_ = points * self.bias.element_size() + 8 * self.points.shape[1]  # of one query
        return max(1, LOGITS // (queries * bytes_))

    def blocks(self, columns: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """All points, or those numbered `columns`, counted from the centre in the dtype of the
        products: blocks that stay in the cache of a CPU, or keep a GPU busy, each with its place.
        """
        element = 4 if self.bytes else self.points.element_size()
        size = PRODUCT // (self.points.shape[1] * element)
        size = max(1, size if self.points.device.type == "cpu" else 64 * size)
        offset = self.offset.float() if self.bytes else self.offset
        count = len(self.points) if columns is None else len(columns)
        for first in range(0, count, size):
            part = slice(first, first + size)
            if columns is None:
                block = self.points[part]
            else:
                block = self.points.index_select(0, columns[part])
            if self.bytes:
                block = block.float().sub_(offset)
            elif self.counted:
                block = (block - offset).to(self.points.dtype)
            yield part, block

    def logits(
        self,
        y: Tensor,
        columns: Tensor | None = None,
        hidden: Tensor | None = None,
        prior: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The logits of queries y [B,G,d] and the points `columns` (None: all).

        Returns -|y - a|^2/2 + |y|^2/2, [B,G,n]; the places of the largest of them, [B,G,k]; and
        the -|y - a|^2/2 of these by differences, float64 [B,G,k].
        hidden [B]: the place of a point that is left out, -1 for none; its logits are -inf.
        prior [B,G,n] or [B,1,n], float64: added to both, sigma^2 times the logarithms of weights.
        """
        query = y.flatten(0, 1).to(self.bias)
        bias = self.bias if columns is None else self.bias[columns]
        # pieces to be joined would break up the heap
        logit = query.new_empty(len(query), len(bias))
        for part, block in self.blocks(columns):
            logit[:, part] = torch.addmm(bias[part], query, block.mT)
        logit = logit.view(*y.shape[:2], -1)
        if prior is not None:
            logit.add_(prior)
        if hidden is not None:
            rows = (hidden >= 0).nonzero()[:, 0]
            logit[rows, :, hidden[rows]] = -torch.inf
        values, top = logit.detach().topk(min(REFINED, logit.shape[2]), 2, sorted=False)
        numbers = top if columns is None else columns[top]
        exact = self._refined(y.flatten(0, 1), numbers.flatten(0, 1)).view(top.shape)
        if prior is not None:
            exact = exact + prior.expand(logit.shape).gather(2, top)
        return logit, top, exact.masked_fill(values.isneginf(), -torch.inf)

    def _refined(self, y: Tensor, numbers: Tensor) -> Tensor:
        """-|y - a|^2/2 by differences of queries [Q,d] and of k points each, [Q,k] -> [Q,k]."""
        exact = y.new_empty(numbers.shape)
        few = max(1, LOGITS // (16 * self.points.shape[1]))  # points at a time
        for k, (row, own) in enumerate(zip(y, numbers, strict=True)):
            for first in range(0, len(own), few):
                step = row + self.offset - self.points.index_select(0, own[first : first + few])
                # in place, and not joined: as for the logits
                exact[k, first : first + few] = step.square_().sum(1) / -2
        return exact

    def weights(
        self, y: Tensor, sigma: Tensor, logit: Tensor, top: Tensor, exact: Tensor
    ) -> Tensor:
        """The posterior weights [B,G,n], in the memory of `logit` and as much again; each row sums
        to 1 over G and n."""
        # counted from the best, small logits keep small errors
        best = exact.detach().amax((1, 2), keepdim=True)
        logit = logit.sub_((y.square().sum(2, keepdim=True) / 2 + best).to(logit))
        logit = logit.scatter_(2, top, (exact - best).to(logit))
        logit = logit.div_(sigma[:, None, None].to(logit) ** 2)
        return logit.flatten(1).softmax(1).view(logit.shape)

    def along(self, v: Tensor, columns: Tensor | None = None) -> Tensor:
        """a_i . v for directions v [B,G,d] and the points `columns` (None: all), counted from the
        centre, [B,G,n]."""
        direction = v.flatten(0, 1).to(self.bias)
        count = len(self.points) if columns is None else len(columns)
        product = direction.new_empty(len(direction), count)
        for part, block in self.blocks(columns):
            product[:, part] = direction @ block.mT
        return product.view(*v.shape[:2], -1)

    def mean(self, weight: Tensor, columns: Tensor | None = None) -> Tensor:
        """sum_i weight_i a_i, [B,G,n] -> float64 [B,G,d], weights of either sign. Points that weigh
        nothing in any row are not read: at small sigma, most."""
        w = weight.flatten(0, 1)
        total = weight.new_zeros(weight.shape[0] * weight.shape[1], self.points.shape[1])
        low, high = w.detach().aminmax(dim=0)
        seen = torch.maximum(high, -low) > 1e-20
        if 2 * int(seen.sum()) < len(seen):  # otherwise gathering them costs more than it saves
            w = w[:, seen]
            columns = seen.nonzero()[:, 0] if columns is None else columns[seen]
        for part, block in self.blocks(columns):
            total.addmm_(w[:, part], block)
        return total.view(*weight.shape[:2], -1).double()
