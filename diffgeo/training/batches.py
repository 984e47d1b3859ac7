"""The batches of a training, drawn and prepared many at a time: chunk c of them is

    x0, label ~ law,  sigma ~ p(sigma),  eps ~ N(0, I)    one draw for all of it, keyed by (seed, c)
    x0, eps <- posterior means within groups              where trainer.pool > 1 (`loss.pool`)
    label <- -1 in a share of the rows                    for classifier-free guidance
    this process's rows of each batch
    inp x,  noise,  F*,  and the slope of L in F - F*     what the network and the loss take

Every process draws the whole of it, so that the draw does not depend on their number. In the plane,
where a step is a few small matrix products, a chunk holds a hundred batches; a batch of images is a
chunk of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import (
    Data,
    Parameterization,
    Schedule,
    Streamed,
    Weighting,
    expand,
    generator,
)
from diffgeo.machine.distributed import ALONE, World
from diffgeo.training import loss
from diffgeo.training.trainer import Trainer

DATA = 1  # the stream of a run that its batches are drawn from
NUMBERS = 131_072  # coordinates drawn at once: a chunk of batches
NULL = -1  # the label of a row whose class is hidden


class Points(NamedTuple):
    """Clean points [n,*D], their levels [n], their noise [n,*D] and, for a network that is told
    classes, their labels [n]."""

    x0: Tensor
    sigma: Tensor
    eps: Tensor
    label: Tensor | None


class Batch(NamedTuple):
    """A regression as the network meets it, [rows, ...]; or a chunk of them, [chunk, rows, ...]."""

    x: Tensor  # inp x
    noise: Tensor  # what it is told of sigma
    target: Tensor  # F*
    slope: Tensor  # what F - F* times gives dL/dF
    label: Tensor | None = None

    def columns(self) -> list[Tensor]:
        """What there is of it."""
        return [column for column in self if column is not None]

    def each(self) -> list[Batch]:
        """The batches of a chunk, one by one."""
        return [Batch(*row) for row in zip(*self.columns(), strict=True)]

    def pieces(self, number: int) -> list[Batch]:
        """A batch in so many passes of about equally many rows."""
        if number == 1:
            return [self]
        split = [column.tensor_split(number) for column in self.columns()]
        return [Batch(*piece) for piece in zip(*split, strict=True)]


class Batches:
    """Chunk c of the batches of a training, for c = 0, 1, ...; `chunk` is how many it holds.

    told: whether the network is told classes. The numbers are drawn on `device`; what the network
    takes is of its own `dtype`.
    """

    def __init__(
        self,
        trainer: Trainer,
        data: Data,
        schedule: Schedule,
        weighting: Weighting,
        parameterization: Parameterization,
        *,
        seed: int = 0,
        told: bool = False,
        world: World = ALONE,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.trainer = trainer
        self.data = data
        self.schedule = schedule
        self.weighting = weighting
        self.parameterization = parameterization
        self.seed = seed
        self.told = told
        self.world = world
        self.device = device
        self.dtype = dtype
        self.size = math.prod(data.shape)
        self.chunk = max(1, NUMBERS // (trainer.batch * self.size))
        # a law that is read ahead of its use, and its reading once it began
        self.source = data if isinstance(data, Streamed) and data.streams else None
        self.reading: Iterator[tuple[Tensor, Tensor | None]] | None = None

    def __call__(self, chunk: int) -> Batch:
        """The batches of one chunk [chunk, rows, ...], with this process's rows of each."""
        return self.prepared(self.own(self.points(chunk)))

    def points(self, chunk: int) -> Points:
        """The points of all its batches, one after the other, whoever works on them."""
        trainer = self.trainer
        n = self.chunk * trainer.batch
        g = generator(self.seed, DATA, chunk, device=self.device)
        x0, label = self.clean(chunk, n, g)
        sigma = self.schedule.draw(n, g)
        eps = torch.randn(x0.shape, generator=g, device=self.device, dtype=x0.dtype)
        if trainer.pool > 1:
            x0, eps = loss.pool(x0, sigma, eps, trainer.pool)
        if label is not None:
            hidden = torch.rand(n, generator=g, device=self.device) < trainer.unlabelled
            label = label.masked_fill(hidden, NULL)
        return Points(x0, sigma, eps, label)

    def clean(self, chunk: int, n: int, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The clean points of a chunk [n,*D] and, for a network that is told classes, their labels
        [n]; the same if they are streamed."""
        if self.source is not None:
            return self.streamed(self.source, chunk, n, g)
        if self.told:
            return self.data.sample_labelled(n, g)
        return self.data.sample(n, g), None

    def streamed(
        self, source: Streamed, chunk: int, n: int, g: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """The same, read ahead; the reading begins with the first chunk that is asked for."""
        if self.reading is None:
            ahead = (generator(self.seed, DATA, c, device=self.device) for c in count(chunk))
            self.reading = iter(source.stream(n, ahead))
        source.pick(n, g)  # what the stream drew from its own copy of g
        x0, label = next(self.reading)
        return x0, label if self.told else None

    def own(self, points: Points) -> Points:
        """This process's rows of every batch."""
        rows = self.world.rows(self.trainer.batch)

        def mine(v: Tensor) -> Tensor:
            batches = v.view(self.chunk, self.trainer.batch, *v.shape[1:])
            return batches[:, rows].flatten(0, 1)

        x0, sigma, eps, label = points
        return Points(mine(x0), mine(sigma), mine(eps), None if label is None else mine(label))

    def prepared(self, points: Points) -> Batch:
        """The regression for these points, batch by batch."""
        x0, sigma, eps, label = points
        x, noise, target, weight = loss.batch(self.parameterization, self.weighting, x0, sigma, eps)
        # L is a mean over batch and coordinates, of all processes
        slope = expand(2 / (self.trainer.batch * self.size) * weight, target)

        def batched(v: Tensor) -> Tensor:
            return v.view(self.chunk, -1, *v.shape[1:])

        return Batch(
            x=batched(x.to(self.dtype)),
            noise=batched(noise.to(self.dtype)),
            target=batched(target.to(self.dtype)),
            slope=batched(slope.to(self.dtype)),
            label=None if label is None else batched(label),
        )
