"""Plane curves with a density: what `curve.denoise` and `curve.nearest` need to know.

A curve is a map g(u) with a density proportional to exp(-V(u)) on a few root panels. It may have
several pieces (arms); their parameter ranges are disjoint, one unit apart. Chords within a piece
are sums of a few functions of t alone,

    g(u + t) - g(u) = sum_k c_k(u) b_k(t),      e.g. for e^(iu):  b = (cos t - 1, sin t),

each computed without cancellation (cos t - 1 = -2 sin^2(t/2)). So a chord keeps its digits however
short it is, and on panels of one width E and its moments are matrix products with a small table
b_k(t_j): no trigonometry at the nodes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Grid = tuple[tuple[float, ...], tuple[float, ...]]  # middles and levels of panels
Pair = tuple[Tensor, Tensor]  # the two coordinates of points or vectors of the plane


class Arc(Protocol):
    """A plane curve; u is any tensor [P] of parameters, K the number of basis functions."""

    @property
    def unit(self) -> float: ...  # panels have half-width unit 2^(-level/4)
    @property
    def grids(self) -> tuple[Grid, ...]: ...  # covers of the whole curve, coarse ones first
    @property
    def stiffness(self) -> float: ...  # V'' (V is a quadratic)
    @property
    def mass(self) -> float: ...  # the integral of exp(-V)
    def point(self, u: Tensor) -> Pair: ...  # g
    def jet(self, u: Tensor) -> tuple[Pair, Pair, Pair]: ...  # g, g', g''
    # bounds of |g''| and |g'''| on [u - h, u + h]
    def bounds(self, u: Tensor, h: Tensor) -> Pair: ...
    def basis(self, t: Tensor) -> Tensor: ...  # b_k(t_j), [n] -> [n,K]
    # coefficients [P,K] of beta c.(r - c/2) - V(u + t) + V(u), c the chord
    def exponent(self, u: Tensor, r: Pair, beta: Tensor) -> Tensor: ...
    # sum_k c_k(u) moments_k, moments [P,K]
    def chords(self, u: Tensor, moments: Tensor) -> Pair: ...
    def between(self, u: Tensor, v: Tensor) -> Pair: ...  # g(v) - g(u) for any two points
    def quantile(self, q: Tensor) -> Tensor: ...  # the u below which the law has mass q
    def length(self, u: Tensor) -> Tensor: ...  # arc length, all pieces laid end to end


@dataclass(frozen=True)
class Pieces(ABC):
    """`count` pieces over [first, last], V = 0: u = k (last - first + 1) + angle on piece k."""

    first: float
    last: float
    count: int = 1
    stiffness = 0.0

    @abstractmethod
    def point(self, u: Tensor) -> Pair: ...

    @property
    def mass(self) -> float:
        return self.count * (self.last - self.first)

    @property
    def unit(self) -> float:
        span = self.last - self.first
        return span / (2 * math.ceil(span / (2 * math.pi)))

    @property
    def grids(self) -> tuple[Grid, ...]:
        finest = 4 * max(2, round(math.log2(self.unit / 0.4)))
        return self._grid(0), self._grid(4), self._grid(finest)

    def _grid(self, level: int) -> Grid:
        half = self.unit * 2 ** (-level / 4)
        stride = self.last - self.first + 1
        count = round((self.last - self.first) / (2 * half))
        middles = []
        for k in range(self.count):
            for j in range(count):
                middles.append(self.first + k * stride + (2 * j + 1) * half)
        return tuple(middles), (float(level),) * len(middles)

    def split(self, u: Tensor) -> Pair:
        """Piece number and angle."""
        stride = self.last - self.first + 1
        k = torch.floor((u - self.first + 0.5) / stride) if self.count > 1 else torch.zeros_like(u)
        return k, u - k * stride

    def quantile(self, q: Tensor) -> Tensor:
        k = (q * self.count).floor().clamp(max=self.count - 1)
        return self.first + (self.last - self.first) * q * self.count + k

    def between(self, u: Tensor, v: Tensor) -> Pair:
        ax, ay = self.point(u)
        bx, by = self.point(v)
        return bx - ax, by - ay


@dataclass(frozen=True)
class Archimedes(Pieces):
    """g = scale a e^(ia), first <= a <= last, as a complex number; piece k is turned by
    2 pi k / count. Uniform in the angle a.

    In the frame e^(ia) the chord is scale (a (cos t - 1) + t cos t, a sin t + t sin t), and
    |chord|^2 = scale^2 (t^2 - 2 a (a + t) (cos t - 1)); the basis is
    (t, cos t - 1, sin t, t (cos t - 1), t sin t, t^2).
    """

    scale: float = 1.0

    def _frame(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, a = self.split(u)
        turned = a if self.count == 1 else a + 2 * math.pi / self.count * k
        return a, self.scale * torch.cos(turned), self.scale * torch.sin(turned)

    def point(self, u: Tensor) -> Pair:
        a, c, s = self._frame(u)
        return a * c, a * s

    def jet(self, u: Tensor) -> tuple[Pair, Pair, Pair]:
        a, c, s = self._frame(u)
        x = a * c
        y = a * s
        return (x, y), (c - y, s + x), (-2 * s - x, 2 * c - y)

    def bounds(self, u: Tensor, h: Tensor) -> Pair:
        square = (self.split(u)[1] + h) ** 2
        return self.scale * torch.sqrt(4 + square), self.scale * torch.sqrt(9 + square)

    def basis(self, t: Tensor) -> Tensor:
        s = torch.sin(t / 2)
        c = torch.cos(t / 2)
        cos1 = -2 * s * s
        sin = 2 * s * c
        return torch.stack([t, cos1, sin, t * cos1, t * sin, t * t], 1)

    def exponent(self, u: Tensor, r: Pair, beta: Tensor) -> Tensor:
        a, c, s = self._frame(u)
        p = beta * (r[0] * c + r[1] * s)
        q = beta * (r[1] * c - r[0] * s)
        b = beta * self.scale**2
        mixed = p + b * a
        return torch.stack([p, a * mixed, a * q, mixed, q, -b / 2], 1)

    def chords(self, u: Tensor, moments: Tensor) -> Pair:
        a, c, s = self._frame(u)
        t, cos1, sin, t_cos1, t_sin, _ = moments.unbind(1)
        p = a * cos1 + t + t_cos1
        q = a * sin + t_sin
        return c * p - s * q, s * p + c * q

    def length(self, u: Tensor) -> Tensor:
        k, a = self.split(u)
        ends = torch.tensor([self.first, self.last], dtype=u.dtype, device=u.device)
        start, stop = self._from_centre(ends)
        return k * (stop - start) + self._from_centre(a) - start

    def _from_centre(self, a: Tensor) -> Tensor:
        """Arc length of a spiral from its centre to the angle a."""
        return self.scale / 2 * (a * torch.sqrt(1 + a * a) + torch.asinh(a))


@dataclass(frozen=True)
class HalfCircles(Pieces):
    """The two moons: e^(ia) and its point reflection 1 + i/2 - e^(ia), 0 <= a <= pi, half of the
    mass each. The basis is (cos t - 1, sin t)."""

    first: float = 0.0
    last: float = math.pi
    count: int = 2

    def _frame(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, a = self.split(u)
        sign = 1 - 2 * k
        return k, sign * torch.cos(a), sign * torch.sin(a)

    def point(self, u: Tensor) -> Pair:
        k, c, s = self._frame(u)
        return c + k, s + k / 2

    def jet(self, u: Tensor) -> tuple[Pair, Pair, Pair]:
        k, c, s = self._frame(u)
        return (c + k, s + k / 2), (-s, c), (-c, -s)

    def bounds(self, u: Tensor, h: Tensor) -> Pair:
        return torch.ones_like(u), torch.ones_like(u)

    def basis(self, t: Tensor) -> Tensor:
        s = torch.sin(t / 2)
        c = torch.cos(t / 2)
        return torch.stack([-2 * s * s, 2 * s * c], 1)

    def exponent(self, u: Tensor, r: Pair, beta: Tensor) -> Tensor:
        _, c, s = self._frame(u)
        cos1 = beta * (r[0] * c + r[1] * s + 1)
        sin = beta * (r[1] * c - r[0] * s)
        return torch.stack([cos1, sin], 1)

    def chords(self, u: Tensor, moments: Tensor) -> Pair:
        _, c, s = self._frame(u)
        cos1, sin = moments.unbind(1)
        return c * cos1 - s * sin, s * cos1 + c * sin

    def length(self, u: Tensor) -> Tensor:
        k, a = self.split(u)
        return k * math.pi + a


@dataclass(frozen=True)
class Parabola:
    """g = (u, u^2) under u ~ N(0, 1), V = u^2/2; the basis is (t, t^2, t^3, t^4). The root panels
    reach |u| = 4096: any |x| below 8e6."""

    unit: float = 1.0
    stiffness = 1.0
    mass = math.sqrt(2 * math.pi)

    @property
    def grids(self) -> tuple[Grid, ...]:
        # [0, 2], [2, 4], [4, 8], ..., and the same on the left
        middles = [1.0] + [3 * 2.0**k for k in range(11)]
        levels = [0.0] + [-4.0 * k for k in range(11)]
        mirrored = [-middle for middle in reversed(middles)]
        return ((tuple(mirrored + middles), tuple(levels[::-1] + levels)),)

    def point(self, u: Tensor) -> Pair:
        return u, u * u

    def jet(self, u: Tensor) -> tuple[Pair, Pair, Pair]:
        velocity = torch.ones_like(u), 2 * u
        acceleration = torch.zeros_like(u), torch.full_like(u, 2.0)
        return self.point(u), velocity, acceleration

    def bounds(self, u: Tensor, h: Tensor) -> Pair:
        return torch.full_like(u, 2.0), torch.zeros_like(u)

    def basis(self, t: Tensor) -> Tensor:
        return torch.stack([t, t**2, t**3, t**4], 1)

    def exponent(self, u: Tensor, r: Pair, beta: Tensor) -> Tensor:
        return torch.stack(
            [
                beta * (r[0] + 2 * u * r[1]) - u,
                beta * (r[1] - 0.5 - 2 * u * u) - 0.5,
                -2 * u * beta,
                -beta / 2,
            ],
            1,
        )

    def chords(self, u: Tensor, moments: Tensor) -> Pair:
        t, t2, _, _ = moments.unbind(1)
        return t, 2 * u * t + t2

    def between(self, u: Tensor, v: Tensor) -> Pair:
        return v - u, (v - u) * (v + u)

    def quantile(self, q: Tensor) -> Tensor:
        return torch.special.ndtri(q)

    def length(self, u: Tensor) -> Tensor:
        """Signed, from the vertex."""
        return (u * torch.sqrt(1 + 4 * u * u) + torch.asinh(2 * u) / 2) / 2
