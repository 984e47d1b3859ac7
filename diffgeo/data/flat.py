"""Straight pieces: a segment, a square, a tree of segments. Uniform laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic import segment as exact
from diffgeo.analytic.measurement import Linear, Operator
from diffgeo.data.law import Law
from diffgeo.errors import UsageError


class Segments(Law):
    """Uniform by length on k segments start_i + p direction_i, 0 <= p <= length_i; the coordinate
    lays them end to end."""

    dim = 1
    start: Tensor  # [k,d]
    direction: Tensor  # [k,d], of length 1
    length: Tensor  # [k]
    offset: Tensor  # [k+1], the coordinates of their ends

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
        variance = (share[:, None] * ((middle - mean) ** 2 + chord**2 / 12)).sum(0)
        self._derive(
            start=start,
            direction=chord / length[:, None],
            length=length,
            offset=offset,
            shape=(ends.shape[2],),
            mean=mean,
            std=float(variance.mean().sqrt()),
        )

    def quantile(self, u: Tensor) -> Tensor:
        return u * self.offset[-1].to(u)

    def point(self, s: Tensor) -> Tensor:
        """The point at coordinate s, [n] -> [n,d]."""
        offset = self.offset.to(s)
        k = torch.searchsorted(offset, s.contiguous(), right=True) - 1
        k = k.clamp(0, len(self.length) - 1)
        return self.start.to(s)[k] + (s - offset[k])[:, None] * self.direction.to(s)[k]

    def sample(self, n, generator):
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        return self.point(self.quantile(u))

    def _foot(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest segment and place on it, [n] each; rows in blocks, for k may be large."""
        start = self.start.to(x)
        direction = self.direction.to(x)
        length = self.length.to(x)
        segments = []
        places = []
        for part in x.split(max(1, (1 << 20) // len(length))):
            along = part @ direction.mT - (start * direction).sum(1)
            place = torch.minimum(along.clamp(min=0), length)
            off = part[:, None] - start - place[..., None] * direction
            nearest = off.square().sum(-1).argmin(1)
            segments.append(nearest)
            places.append(place.gather(1, nearest[:, None])[:, 0])
        return torch.cat(segments), torch.cat(places)

    def project(self, x):
        k, p = self._foot(x)
        return self.start.to(x)[k] + p[:, None] * self.direction.to(x)[k]

    def coordinate(self, x: Tensor) -> Tensor:
        k, p = self._foot(x)
        return self.offset.to(x)[k] + p

    def tangent(self, p):
        return self.direction.to(p)[self._foot(p)[0]][..., None]

    def posterior(self, x, sigma):
        return self._by_parts(exact.segments, x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._by_parts(exact.log_density, x, sigma)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._by_parts(exact.trace, x, sigma)

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return self._by_parts(exact.covariance_product, x, sigma, v)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """A truncated normal along each segment; by quadrature where A is not linear."""
        # the posterior is a law on segments too: the module that has it imports this one
        from diffgeo.data import flat_given, line_given

        posteriors.check(operator, y, sigma_n, self.shape)
        if isinstance(operator, Linear):
            return flat_given.given(self, operator, y, sigma_n)
        return line_given.given(self, operator, y, sigma_n)

    # as a `line_given.Line`, u being the coordinate

    def panels(self) -> tuple[Tensor, Tensor]:
        """The segments, [k] ends each."""
        return self.offset[:-1], self.offset[1:]

    def at(self, u: Tensor) -> Tensor:
        return self.point(u)

    def log_prior(self, u: Tensor) -> Tensor:
        return torch.full_like(u, -math.log(float(self.offset[-1])))

    def arc_length(self, u: Tensor) -> Tensor:
        return u

    def _by_parts(self, formula: Callable[..., Tensor], x: Tensor, *rows: Tensor) -> Tensor:
        """A formula of the segments, for as many rows at a time as stay in the cache."""
        start = self.start.to(x)
        direction = self.direction.to(x)
        length = self.length.to(x)
        columns = [column.split(512) for column in (x, *rows)]
        found = []
        for part in zip(*columns, strict=True):
            found.append(formula(*part[:2], start, direction, length, *part[2:]))
        return torch.cat(found)


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

    def parameters(self):
        return [("a", [float(v) for v in self.a]), ("b", [float(v) for v in self.b])]


MOST_LEAVES = 10**6  # of a tree


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
        many = self.depth * math.log(max(self.branching, 2)) > math.log(MOST_LEAVES)
        if self.branching < 1 or self.depth < 1 or many:
            raise UsageError(
                f"data.branching={self.branching}, data.depth={self.depth}: write 1 or more of "
                f"each, with branching^depth at most {MOST_LEAVES}"
            )
        ends = []
        above = torch.zeros(1, 2, dtype=torch.float64)
        for level in range(1, self.depth + 1):
            count = self.branching**level
            place = torch.arange(count, dtype=torch.float64)
            angle = 2 * math.pi * (place + 0.5) / count
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
        self._derive(
            shape=(self.n,),
            dim=self.n,
            mean=torch.zeros(self.n, dtype=torch.float64),
            std=self.half / math.sqrt(3),
        )

    def sample(self, n, generator):
        size = (n, self.n)
        u = torch.rand(size, generator=generator, dtype=torch.float64, device=generator.device)
        return self.half * (2 * u - 1)

    def project(self, x):
        return x.clamp(-self.half, self.half)

    def tangent(self, p):
        return torch.eye(self.n, dtype=p.dtype, device=p.device).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        return exact.box(x, sigma, self.half)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.box_log_density(x, sigma, self.half)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.box_variance(x, sigma, self.half).sum(1) / sigma**2

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return exact.box_variance(x, sigma, self.half) * v
