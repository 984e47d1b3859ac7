"""Exact denoiser of a law on a plane curve: branch and bound, then Gauss-Legendre quadrature.

The posterior of the parameter u has density exp(-E(u)), E(u) = |x - g(u)|^2 / 2 sigma^2 + V(u). It
may live on an arc of length sigma or shorter, on several arcs (near the medial axis), or on the
whole curve. On a panel |u - m| <= h, E'' lies in [low, high], so

    E(m) + E'(m) t + low t^2/2  <=  E(m + t)  <=  E(m) + E'(m) t + high t^2/2 .

The upper parabola bounds the row's least E from above; the lower one leaves an interval of t where
E can be within `WINDOW` of it: the panel is dropped, shrunk to that interval, or halved, until
NODES Gauss-Legendre nodes resolve exp(-E). No minimum is searched for and none is missed; the work
follows the posterior; rows do not see each other. On a leaf everything is a difference,

    c(t) = g(m + t) - g(m),     E(m) - E(m + t) = c.(x - g(m) - c/2)/sigma^2 - V(m + t) + V(m),

and likewise between a leaf and the row's best centre g*, so that D = g* + <g - g*> is accurate
relative to sigma even where |x|^2/sigma^2 is 1e12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.arcs import Arc, Pair

WINDOW = 36.0  # a point whose E is larger than the least by so much weighs nothing
NODES = 32  # of the quadrature on a leaf
# what they resolve: of h half the width of a leaf, |E''| h^2 / 2 and |E'| h
CURVATURE = 48.0
SLOPE = 26.0
DEPTH = 100  # divisions of a panel at most
BLOCK = 16384  # rows at a time


class Panels(NamedTuple):
    """Panels |u - middle| <= unit 2^(-level/4) of rows of x, [P] each."""

    row: Tensor
    middle: Tensor
    level: Tensor

    def take(self, which: Tensor) -> Panels:
        return Panels(*(v.index_select(0, which) for v in self))


class Model(NamedTuple):
    """E(m), E'(m), bounds of E'' on each panel, and the half-widths; all of one broadcast shape."""

    energy: Tensor
    slope: Tensor
    low: Tensor
    high: Tensor
    half: Tensor

    def take(self, which: Tensor) -> Model:
        return Model(*(v.index_select(0, which) for v in self))

    def above(self) -> Tensor:
        """An upper bound of the panel's least E."""
        return self.energy + _lowest(self.slope, self.high, self.half)

    def dip(self) -> Tensor:
        """A lower bound of E - E(m) on the panel, 0 or negative."""
        return _lowest(self.slope, self.low, self.half)


# (model, E(m) - least) -> which panels need no further division
Settled = Callable[[Model, Tensor], Tensor]


def _join(parts: list[Panels]) -> Panels:
    return Panels(
        torch.cat([part.row for part in parts]),
        torch.cat([part.middle for part in parts]),
        torch.cat([part.level for part in parts]),
    )


def _model(arc: Arc, p: Pair, beta: Tensor, m: Tensor, h: Tensor, prior: float) -> Model:
    """E = beta |p - g|^2/2 + prior V on the panels |u - m| <= h. Everything broadcasts."""
    (gx, gy), (vx, vy), (ax, ay) = arc.jet(m)
    bend, twist = arc.bounds(m, h)
    speed2 = vx * vx + vy * vy
    stiff = prior * arc.stiffness
    speed = speed2.sqrt() + h * bend
    rx = p[0] - gx
    ry = p[1] - gy
    square = rx * rx + ry * ry
    curvature = beta * (speed2 - rx * ax - ry * ay) + stiff
    # h max|E'''|
    drift = beta * (square.sqrt() * (h * twist) + h * speed * (3 * bend + h * twist))
    return Model(
        energy=0.5 * beta * square + 0.5 * stiff * m * m,
        slope=stiff * m - beta * (rx * vx + ry * vy),
        low=curvature - drift,
        high=curvature + drift,
        half=h,
    )


def _lowest(slope: Tensor, curvature: Tensor, h: Tensor) -> Tensor:
    """min over |t| <= h of slope t + curvature t^2/2."""
    s = slope.abs()
    return torch.where(curvature * h > s, -0.5 * s * s / curvature, h * (0.5 * curvature * h - s))


def _split(model: Model, panels: Panels, room: Tensor) -> Panels:
    """Replace panels by what the lower parabola leaves of them: one narrower panel, or two halves.
    room: see `Search._room`."""
    _, slope, low, _, h = model
    reach = torch.sqrt((slope * slope + 2 * low * room).clamp(min=0)) / low
    convex = low > 0
    centre = -slope / low
    left = torch.where(convex, torch.maximum(centre - reach, -h), -h)
    right = torch.where(convex, torch.minimum(centre + reach, h), h)
    share = ((right - left) / (2 * h)).clamp(2.0**-20, 1.0)
    finer = torch.floor(-4 * torch.log2(share))
    narrow = h * torch.exp2(-finer / 4)
    shift = torch.maximum(torch.minimum((left + right) / 2, h - narrow), narrow - h)
    middle = panels.middle + shift
    one = (finer >= 1).nonzero()[:, 0]
    two = (finer < 1).nonzero()[:, 0]
    shrunk = Panels(panels.row, middle, panels.level + finer).take(one)
    row, middle, level = panels.take(two)
    quarter = h.index_select(0, two) / 2
    lower = Panels(row, middle - quarter, level + 4)
    upper = Panels(row, middle + quarter, level + 4)
    return _join([shrunk, lower, upper])


class Search(NamedTuple):
    """The settled panels that may hold points where E is within `window` of the row's least, of
    E = beta |x - g|^2/2 + prior V."""

    arc: Arc
    x: Tensor  # [B,2]
    beta: Tensor  # [B]
    window: float
    prior: float
    settled: Settled

    def panels(self) -> Panels:
        """All of them, in no order."""
        least, done, panels = self._survey()
        for _ in range(DEPTH):
            if not len(panels.row):
                break
            least, settled, panels = self._refine(least, panels)
            done.append(settled)
        return _join(done)

    def _model(self, row: Tensor, m: Tensor, level: Tensor) -> Model:
        p = self.x[:, 0][row], self.x[:, 1][row]
        half = self.arc.unit * torch.exp2(-level / 4)
        return _model(self.arc, p, self.beta[row], m, half, self.prior)

    def _room(self, model: Model, excess: Tensor) -> Tensor:
        """How far below E(m) a point must lie to be within the window; excess = E(m) - least."""
        return self.window + 1e-13 * model.energy - excess

    def _survey(self) -> tuple[Tensor, list[Panels], Panels]:
        """The same panels for every row; first a coarse grid, which may do, then finer ones for the
        rows that are not done.

        Returns an upper bound of each row's least E, the settled panels, and those of the last grid
        that are to be divided.
        """
        least = torch.full_like(self.beta, torch.inf)
        rows = torch.arange(len(self.x), device=self.x.device)
        done = []
        for middles, levels in self.arc.grids:
            m = torch.tensor(middles, dtype=self.x.dtype, device=self.x.device)
            level = torch.tensor(levels, dtype=self.x.dtype, device=self.x.device)
            model = self._model(rows[:, None], m, level)
            least[rows] = torch.minimum(least[rows], model.above().amin(1))
            excess = model.energy - least[rows, None]
            keep = model.dip() <= self._room(model, excess)
            ready = keep & self.settled(model, excess)
            closed = (ready == keep).all(1)
            row, k = (ready & closed[:, None]).nonzero(as_tuple=True)
            done.append(Panels(rows[row], m[k], level[k]))
            row, k = (keep & ~closed[:, None]).nonzero(as_tuple=True)
            rest = Panels(rows[row], m[k], level[k])
            rows = rows[~closed]
        return least, done, rest

    def _refine(self, least: Tensor, panels: Panels) -> tuple[Tensor, Panels, Panels]:
        """One division of panels; returns as `_survey` does."""
        row = panels.row
        model = self._model(row, panels.middle, panels.level)
        least = least.scatter_reduce(0, row, model.above(), "amin")
        excess = model.energy - least[row]
        room = self._room(model, excess)
        keep = model.dip() <= room
        ready = self.settled(model, excess)
        done = panels.take((keep & ready).nonzero()[:, 0])
        rest = (keep & ~ready).nonzero()[:, 0]
        divided = _split(model.take(rest), panels.take(rest), room.index_select(0, rest))
        return least, done, divided


def _resolved(model: Model, excess: Tensor) -> Tensor:
    """Panels on which the quadrature rule resolves exp(-E); steep ones may be wider where little
    mass is left."""
    _, slope, low, high, h = model
    flat = torch.maximum(-low, high) * h * h <= 2 * CURVATURE
    return flat & (slope.abs() * h <= SLOPE + excess / 2)


def _convex(model: Model, excess: Tensor) -> Tensor:
    """Panels on which the squared distance is convex, or too short for it to matter."""
    return (model.low > 0) | (model.half < 1e-3)


def _least(value: Tensor, row: Tensor, place: Tensor, rows: int) -> Tensor:
    """The place of the least value of each row, [P] -> [rows]."""
    lowest = value.new_full((rows,), torch.inf).scatter_reduce(0, row, value, "amin")
    hit = (value == lowest[row]).nonzero()[:, 0]
    return place.new_zeros(rows).index_copy(0, row[hit], place[hit])


class Leaves(NamedTuple):
    """The panels that carry the posterior of rows of x, by level, and what the quadrature on them
    needs; [P] each."""

    row: Tensor
    middle: Tensor
    levels: Tensor
    exponent: Tensor  # coefficients of E(m) - E(m + t) in the basis, [P,K]
    gain: Tensor  # E(g*) - E(m)
    apart: Pair  # g(m) - g*
    best: Tensor  # the parameter of g*, the centre of least E, [B]
    least: Tensor  # E(g*), [B]


def leaves(arc: Arc, x: Tensor, sigma: Tensor) -> Leaves:
    """The leaves of as many rows as are taken at a time."""
    beta = sigma**-2
    stiff = arc.stiffness
    panels = Search(arc, x, beta, WINDOW, 1.0, _resolved).panels()
    levels, order = panels.level.sort(stable=True)
    row, m, _ = panels.take(order)
    precision = beta[row]
    px = x[:, 0][row]
    py = x[:, 1][row]
    gx, gy = arc.point(m)
    energy = 0.5 * precision * ((px - gx) ** 2 + (py - gy) ** 2) + 0.5 * stiff * m * m
    # each row's leaf of least E is its reference g*
    best = _least(energy, row, m, len(x))
    b = best[row]
    bx, by = arc.point(b)
    cx, cy = arc.between(b, m)
    # E(g*) - E(m)
    gain = precision * (cx * (px - bx - cx / 2) + cy * (py - by - cy / 2))
    gain = gain - 0.5 * stiff * (m - b) * (m + b)
    exponent = arc.exponent(m, (px - gx, py - gy), precision)
    least = energy.new_full((len(x),), torch.inf).scatter_reduce(0, row, energy, "amin")
    return Leaves(row, m, levels, exponent, gain, (cx, cy), best, least)


def _block(arc: Arc, x: Tensor, sigma: Tensor) -> Tensor:
    """`denoise` of as many rows as are taken at a time."""
    found = leaves(arc, x, sigma)
    cx, cy = found.apart
    moments = _moments(arc, found.levels, found.exponent, found.gain)
    mass = moments[:, 0]
    mx, my = arc.chords(found.middle, moments[:, 1:])
    sums = torch.stack([mass, mx + cx * mass, my + cy * mass], 1)
    total, mean_x, mean_y = x.new_zeros(len(x), 3).index_add(0, found.row, sums).unbind(1)
    bx, by = arc.point(found.best)
    return torch.stack([bx + mean_x / total, by + mean_y / total], 1)


def _moments(arc: Arc, levels: Tensor, exponent: Tensor, gain: Tensor) -> Tensor:
    """Integrals over each leaf of exp(E(g*) - E) and of its products with the basis functions,
    [P,1+K]. levels: sorted, so that leaves of one width share one table of nodes."""
    rule = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (
        torch.as_tensor(v, dtype=exponent.dtype, device=exponent.device) for v in rule
    )
    values, counts = (v.tolist() for v in levels.unique_consecutive(return_counts=True))
    moments = []
    parts = zip(values, exponent.split(counts), gain[:, None].split(counts), strict=True)
    for level, coefficients, shift in parts:
        half = arc.unit * 2 ** (-level / 4)
        table = arc.basis(half * nodes)  # [NODES,K]
        weighted = half * weights[:, None] * torch.cat([torch.ones_like(table[:, :1]), table], 1)
        for c, h in zip(coefficients.split(1024), shift.split(1024), strict=True):
            moments.append(torch.addmm(h, c, table.mT).exp_() @ weighted)
    return torch.cat(moments)


def denoise(x: Tensor, sigma: Tensor, arc: Arc) -> Tensor:
    """E[x0|x] of the law on `arc`: x [B,2], sigma [B] -> [B,2], float64."""
    blocks = zip(x.split(BLOCK), sigma.split(BLOCK), strict=True)
    return torch.cat([_block(arc, rows, levels) for rows, levels in blocks])


def nearest(x: Tensor, arc: Arc) -> Tensor:
    """Parameter u of the globally nearest point of `arc` to each row: x [B,2] -> [B].

    The same descent, with window 0, to panels on which the squared distance is convex; Newton
    inside each, and the best of them.
    """
    return torch.cat([_nearest(arc, part) for part in x.split(BLOCK)])


def _nearest(arc: Arc, x: Tensor) -> Tensor:
    one = torch.ones_like(x[:, 0])
    row, m, level = Search(arc, x, one, 0.0, 0.0, _convex).panels()
    h = arc.unit * torch.exp2(-level / 4)
    px, py = (v[row] for v in x.unbind(1))
    u = _newton(arc, (px, py), m, h)
    gx, gy = arc.point(u)
    return _least((px - gx) ** 2 + (py - gy) ** 2, row, u, len(x))


def _newton(arc: Arc, p: Pair, m: Tensor, h: Tensor) -> Tensor:
    """The nearest point to p on each panel |u - m| <= h, by Newton's method from the middle."""
    u = m
    for _ in range(30):
        (gx, gy), (vx, vy), (ax, ay) = arc.jet(u)
        rx = p[0] - gx
        ry = p[1] - gy
        slope = -(rx * vx + ry * vy)
        hessian = vx * vx + vy * vy - rx * ax - ry * ay
        step = torch.where(hessian > 0, -slope / hessian, -slope.sign() * h)
        last = u
        u = torch.maximum(torch.minimum(u + step, m + h), m - h)
        if bool(((u - last).abs() <= 1e-15 * u.abs()).all()):
            break
    return u
