"""Exact denoiser of a law on a plane curve: branch and bound, then Gauss-Legendre quadrature.

The posterior of the parameter u has density exp(-E(u)), E(u) = |x - g(u)|^2 / 2 sigma^2 + V(u). It
may live on an arc of length sigma or shorter, on several arcs (near the medial axis), or on the
whole curve. On a panel |u - m| <= h, E'' lies in [low, high], so

    E(m) + E'(m) t + low t^2/2  <=  E(m + t)  <=  E(m) + E'(m) t + high t^2/2 .

The upper parabola bounds the row's least E from above; the lower one leaves an interval of t where
E can be within `WINDOW` of it: the panel is dropped, shrunk to that interval, or halved, until
NODES Gauss-Legendre nodes resolve exp(-E). No minimum is searched for and none is missed; the work
follows the posterior; rows do not see each other. On a leaf everything is a difference,
c(t) = g(m + t) - g(m),   E(m) - E(m + t) = c.(x - g(m) - c/2)/sigma^2 - V(m + t) + V(m),   and likewise between a leaf and the row's
best centre g*, so that D = g* + <g - g*> is accurate relative to sigma even where |x|^2/sigma^2 is
1e12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.arcs import Arc, Pair

WINDOW = 36.0
NODES = 32
CURVATURE = 48.0
SLOPE = 26.0
DEPTH = 100
BLOCK = 16384


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


# (model, E(m) - least) -> which panels need no further division
Settled = Callable[[Model, Tensor], Tensor]


def _join(parts: list[Panels]) -> Panels:
    return Panels(*(torch.cat(v) for v in zip(*parts, strict=True)))


def _model(arc: Arc, p: Pair, beta: Tensor, m: Tensor, h: Tensor, prior: float) -> Model:
    """E = beta |p - g|^2/2 + prior V on the panels |u - m| <= h; everything broadcasts."""
    (gx, gy), (vx, vy), (ax, ay) = arc.jet(m)
    bend, twist = arc.bounds(m, h)
    speed2 = vx * vx + vy * vy
    stiff = prior * arc.stiffness
    speed = speed2.sqrt() + h * bend
    rx = p[0] - gx
    ry = p[1] - gy
    square = rx * rx + ry * ry
    curvature = beta * (speed2 - rx * ax - ry * ay) + stiff
    drift = beta * (square.sqrt() * (h * twist) + h * speed * (3 * bend + h * twist))  # h max|E'''|
    return Model(
        0.5 * beta * square + 0.5 * stiff * m * m,
        stiff * m - beta * (rx * vx + ry * vy),
        curvature - drift,
        curvature + drift,
        h,
    )


def _lowest(slope: Tensor, curvature: Tensor, h: Tensor) -> Tensor:
    """min over |t| <= h of slope t + curvature t^2/2."""
    s = slope.abs()
    return torch.where(curvature * h > s, -0.5 * s * s / curvature, h * (0.5 * curvature * h - s))


def _split(model: Model, panels: Panels, room: Tensor) -> Panels:
    """Replace panels by what the lower parabola leaves of them: one narrower panel, or two halves.
    room = least + window - E(m)."""
    _, slope, low, _, h = model
    reach = torch.sqrt((slope * slope + 2 * low * room).clamp(min=0)) / low
    convex = low > 0
    centre = -slope / low
    left = torch.where(convex, torch.maximum(centre - reach, -h), -h)
    right = torch.where(convex, torch.minimum(centre + reach, h), h)
    finer = torch.floor(-4 * torch.log2(((right - left) / (2 * h)).clamp(2.0**-20, 1.0)))
    narrow = h * torch.exp2(-finer / 4)
    middle = panels.middle + torch.maximum(
        torch.minimum((left + right) / 2, h - narrow), narrow - h
    )
    one = (finer >= 1).nonzero()[:, 0]
    two = (finer < 1).nonzero()[:, 0]
    shrunk = Panels(panels.row, middle, panels.level + finer).take(one)
    row, middle, level = panels.take(two)
    quarter = h.index_select(0, two) / 2
    return _join(
        [shrunk, Panels(row, middle - quarter, level + 4), Panels(row, middle + quarter, level + 4)]
    )


def _descend(
    arc: Arc, x: Tensor, beta: Tensor, window: float, prior: float, settled: Settled
) -> Panels:
    """The settled panels that may hold points where E is within `window` of the row's least, E =
    beta |x - g|^2/2 + prior V, beta [B]."""
    p = x.unbind(1)
    least = torch.full_like(beta, torch.inf)
    done = []
    rows = torch.arange(len(x), device=x.device)
    panels = None
    # the same panels for every row; first a coarse grid, which may do
    for middle, level in arc.grids:
        m = torch.tensor(middle, dtype=x.dtype, device=x.device)
        level = torch.tensor(level, dtype=x.dtype, device=x.device)
        model = _model(
            arc,
            (p[0][rows, None], p[1][rows, None]),
            beta[rows, None],
            m,
            arc.unit * torch.exp2(-level / 4),
            prior,
        )
        least[rows] = torch.minimum(
            least[rows], (model.energy + _lowest(*model[1:4:2], model.half)).amin(1)
        )
        excess = model.energy - least[rows, None]
        keep = _lowest(*model[1:3], model.half) <= window + 1e-13 * model.energy - excess
        ready = keep & settled(model, excess)
        closed = (ready == keep).all(1)
        row, k = (ready & closed[:, None]).nonzero(as_tuple=True)
        done.append(Panels(rows[row], m[k], level[k]))
        open_ = ~closed
        row, k = (keep & open_[:, None]).nonzero(as_tuple=True)
        panels = Panels(rows[row], m[k], level[k])
        rows = rows[open_]
    for _ in range(DEPTH):
        if not len(panels.row):
            break
        row, m, level = panels
        model = _model(
            arc, (p[0][row], p[1][row]), beta[row], m, arc.unit * torch.exp2(-level / 4), prior
        )
        least = least.scatter_reduce(
            0, row, model.energy + _lowest(*model[1:4:2], model.half), "amin"
        )
        excess = model.energy - least[row]
        room = window + 1e-13 * model.energy - excess
        keep = _lowest(*model[1:3], model.half) <= room
        ready = settled(model, excess)
        done.append(panels.take((keep & ready).nonzero()[:, 0]))
        rest = (keep & ~ready).nonzero()[:, 0]
        panels = _split(
            Model(*(v.index_select(0, rest) for v in model)),
            panels.take(rest),
            room.index_select(0, rest),
        )
    return _join(done)


def _resolved(model: Model, excess: Tensor) -> Tensor:
    """Panels on which the quadrature rule resolves exp(-E); steep ones may be wider where little
    mass is left."""
    _, slope, low, high, h = model
    return (torch.maximum(-low, high) * h * h <= 2 * CURVATURE) & (
        slope.abs() * h <= SLOPE + excess / 2
    )


def _convex(model: Model, excess: Tensor) -> Tensor:
    """Panels on which the squared distance is convex, or too short for it to matter."""
    return (model.low > 0) | (model.half < 1e-3)


def _block(arc: Arc, x: Tensor, sigma: Tensor) -> Tensor:
    beta = sigma**-2
    stiff = arc.stiffness
    leaves = _descend(arc, x, beta, WINDOW, 1.0, _resolved)
    levels, order = leaves.level.sort(stable=True)
    row, m, _ = leaves.take(order)
    precision = beta[row]
    px = x[:, 0][row]
    py = x[:, 1][row]
    gx, gy = arc.point(m)
    energy = 0.5 * precision * ((px - gx) ** 2 + (py - gy) ** 2) + 0.5 * stiff * m * m
    hit = (
        energy == torch.full_like(beta, torch.inf).scatter_reduce(0, row, energy, "amin")[row]
    ).nonzero()[:, 0]
    # each row's leaf of least E is its reference g*
    best = torch.zeros_like(beta).index_copy(0, row[hit], m[hit])
    b = best[row]
    (bx, by), (cx, cy) = arc.point(b), arc.between(b, m)
    # E(g*) - E(m)
    gain = precision * (cx * (px - bx - cx / 2) + cy * (py - by - cy / 2)) - 0.5 * stiff * (
        m - b
    ) * (m + b)
    exponent = arc.exponent(m, (px - gx, py - gy), precision)
    nodes, weights = (
        torch.as_tensor(v, dtype=x.dtype, device=x.device)
        for v in np.polynomial.legendre.leggauss(NODES)
    )
    values, counts = (v.tolist() for v in levels.unique_consecutive(return_counts=True))
    moments = []
    for level, part, shift in zip(
        values, exponent.split(counts), gain[:, None].split(counts), strict=True
    ):
        half = arc.unit * 2 ** (-level / 4)
        table = arc.basis(half * nodes)  # [NODES,K], shared by all leaves of this width
        weighted = half * weights[:, None] * torch.cat([torch.ones_like(table[:, :1]), table], 1)
        moments += [
            torch.addmm(h, c, table.mT).exp_() @ weighted
            for c, h in zip(part.split(1024), shift.split(1024), strict=True)
        ]
    moments = torch.cat(moments)
    mass, (mx, my) = moments[:, 0], arc.chords(m, moments[:, 1:])
    sums = torch.stack([mass, mx + cx * mass, my + cy * mass], 1)
    total, mean_x, mean_y = (
        torch.zeros(len(x), 3, dtype=x.dtype, device=x.device).index_add(0, row, sums).unbind(1)
    )
    bx, by = arc.point(best)
    return torch.stack([bx + mean_x / total, by + mean_y / total], 1)


def denoise(x: Tensor, sigma: Tensor, arc: Arc) -> Tensor:
    """E[x0|x] of the law on `arc`: x [B,2], sigma [B] -> [B,2], float64."""
    return torch.cat(
        [_block(arc, *part) for part in zip(x.split(BLOCK), sigma.split(BLOCK), strict=True)]
    )


def nearest(x: Tensor, arc: Arc) -> Tensor:
    """Parameter u of the globally nearest point of `arc` to each row of x [B,2], [B].

    The same descent, with window 0, to panels on which the squared distance is convex; Newton
    inside each, and the best of them.
    """
    return torch.cat([_nearest(arc, part) for part in x.split(BLOCK)])


def _nearest(arc: Arc, x: Tensor) -> Tensor:
    one = torch.ones_like(x[:, 0])
    row, m, level = _descend(arc, x, one, 0.0, 0.0, _convex)
    h = arc.unit * torch.exp2(-level / 4)
    u = m
    px, py = (v[row] for v in x.unbind(1))
    for _ in range(30):
        (gx, gy), (vx, vy), (ax, ay) = arc.jet(u)
        rx = px - gx
        ry = py - gy
        slope = -(rx * vx + ry * vy)
        hessian = vx * vx + vy * vy - rx * ax - ry * ay
        step = torch.where(hessian > 0, -slope / hessian, -slope.sign() * h)
        u, last = torch.maximum(torch.minimum(u + step, m + h), m - h), u
        if bool(((u - last).abs() <= 1e-15 * u.abs()).all()):
            break
    gx, gy = arc.point(u)
    square = (px - gx) ** 2 + (py - gy) ** 2
    hit = (
        square == torch.full_like(one, torch.inf).scatter_reduce(0, row, square, "amin")[row]
    ).nonzero()[:, 0]
    return torch.zeros_like(one).index_copy(0, row[hit], u[hit])
