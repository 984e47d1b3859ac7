"""Straight pieces: a segment, a square, a tree of segments. Uniform laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import segment as exact
from diffgeo.data.law import Law
from diffgeo.errors import UsageError


class Segments(Law):
    """Uniform by length on k segments start_i + p direction_i, 0 <= p <= length_i; the coordinate
    lays them end to end."""

    dim = 1

    def _build(self, ends: Tensor) -> None:
        """ends [k,2,d], float64."""
        start = ends[:, 0]
        chord = ends[:, 1] - ends[:, 0]
        length = torch.linalg.vector_norm(chord, dim=1)
        if not bool((length > 0).all()):
            raise UsageError("a segment needs two different ends")
        offset = torch.cat([length.new_zeros(1), length.cumsum(0)])
        share = length / offset[-1]
        middle = ends.mean(1)
        mean = share @ middle
        spread = (share[:, None] * ((middle - mean) ** 2 + chord**2 / 12)).sum(0)
        self.__dict__.update(
            start=start,
            direction=chord / length[:, None],
            length=length,
            offset=offset,
            shape=(ends.shape[2],),
            mean=mean,
            std=float(spread.mean().sqrt()),
        )

    def quantile(self, u: Tensor) -> Tensor:
        return u * self.offset[-1].to(u)

    def point(self, s: Tensor) -> Tensor:
        """The point at coordinate s, [n] -> [n,d]."""
        k = (torch.searchsorted(self.offset.to(s), s.contiguous(), right=True) - 1).clamp(
            0, len(self.length) - 1
        )
        return self.start.to(s)[k] + (s - self.offset.to(s)[k])[:, None] * self.direction.to(s)[k]

    def sample(self, n, generator):
        return self.point(
            self.quantile(
                torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
            )
        )

    def _foot(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest segment and place on it, [n] each; rows in blocks, for k may be large."""
        start = self.start.to(x)
        direction = self.direction.to(x)
        length = self.length.to(x)
        found = []
        for part in x.split(max(1, (1 << 20) // len(length))):
            p = torch.minimum(
                (part @ direction.mT - (start * direction).sum(1)).clamp(min=0), length
            )
            k = (part[:, None] - start - p[..., None] * direction).square().sum(-1).argmin(1)
            found.append((k, p.gather(1, k[:, None])[:, 0]))
        k, p = zip(*found, strict=True)
        return torch.cat(k), torch.cat(p)

    def project(self, x):
        k, p = self._foot(x)
        return self.start.to(x)[k] + p[:, None] * self.direction.to(x)[k]

    def coordinate(self, x: Tensor) -> Tensor:
        k, p = self._foot(x)
        return self.offset.to(x)[k] + p

    def tangent(self, p):
        return self.direction.to(p)[self._foot(p)[0]][..., None]

    def posterior(self, x, sigma):
        parts = zip(x.split(512), sigma.split(512), strict=True)  # cache-sized
        return torch.cat(
            [
                exact.segments(*part, self.start.to(x), self.direction.to(x), self.length.to(x))
                for part in parts
            ]
        )


@dataclass(frozen=True, eq=False)
class Segment(Segments):
    """Uniform on the segment from `a` to `b`, two points of R^d."""

    a: Sequence[float] = (-1.0, 0.0)
    b: Sequence[float] = (1.0, 0.0)

    def __post_init__(self):
        ends = [torch.as_tensor(v, dtype=torch.float64) for v in (self.a, self.b)]
        if ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
            raise UsageError(
                "a and b must be two points of the same dimension, e.g. a=[-1,0] b=[1,0]"
            )
        self._build(torch.stack(ends)[None])

    def _identity(self, value):
        return [float(v) for v in value]


@dataclass(frozen=True)
class Tree(Segments):
    """Uniform on the branches of a tree rooted at 0: nodes of level l at radius l/depth, each over
    the middle of its `branching` children.

    The branching**depth leaves are equally spaced on the unit circle (distance.md A8: branching 4,
    depth 3).
    """

    branching: int = 4
    depth: int = 3

    def __post_init__(self):
        if self.branching < 1 or self.depth < 1:
            raise UsageError("branching and depth must be at least 1")
        ends = []
        above = torch.zeros(1, 2, dtype=torch.float64)
        for level in range(1, self.depth + 1):
            count = self.branching**level
            angle = 2 * math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
            below = torch.stack([angle.cos(), angle.sin()], 1) * (level / self.depth)
            ends.append(torch.stack([above.repeat_interleave(self.branching, 0), below], 1))
            above = below
        self._build(torch.cat(ends))


@dataclass(frozen=True)
class Square(Law):
    """Uniform on the cube [-half, half]^n."""

    half: float = 1.0
    n: int = 2

    def __post_init__(self):
        if not self.half > 0 or self.n < 1:
            raise UsageError("half must be positive and n at least 1")
        self.__dict__.update(
            shape=(self.n,),
            dim=self.n,
            std=self.half / math.sqrt(3),
            mean=torch.zeros(self.n, dtype=torch.float64),
        )

    def sample(self, n, generator):
        return self.half * (
            2
            * torch.rand(
                n, self.n, generator=generator, dtype=torch.float64, device=generator.device
            )
            - 1
        )

    def project(self, x):
        return x.clamp(-self.half, self.half)

    def tangent(self, p):
        return torch.eye(self.n, dtype=p.dtype, device=p.device).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        return exact.box(x, sigma, self.half)
