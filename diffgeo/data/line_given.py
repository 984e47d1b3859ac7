"""The posterior of a law on a curve, by quadrature over its parameter: any operator.

    p(x0 | y) = int delta(g(u)) q(u) exp(-|y - A(g(u))|^2/2 s^2) du / Z,

q the law's own density in u. Panels of the parameter are halved until 32 Gauss-Legendre nodes on a
panel and on its halves give the same integral of the likelihood to `RELATIVE` of the whole. Then

    E[f(x0) | y] = sum_j w_j f(g(u_j))

for every f that is as smooth, and for f = exp(-|x - g|^2/2 sigma^2), which makes D, where the
panels are no longer than 8 sigma. So each octave of sigma has nodes of its own, made at the first
use; D and what it knows beside it are then those of a weighted cloud (`analytic.clouds`). That is
D to 1e-9 sigma for x within ten sigma of the curve, and to 1e-3 sigma a hundred sigma beyond an
open end, where the likeliest point is the end itself.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic import clouds
from diffgeo.analytic import given as posteriors
from diffgeo.analytic import points as exact
from diffgeo.analytic.measurement import Operator
from diffgeo.data.law import Law
from diffgeo.errors import UsageError

NODES = 32
RELATIVE = 1e-13  # of the evidence: how well a panel is to be integrated
REACH = 4.0  # half a panel in units of sigma
DEPTH = 60  # halvings at most
NOTHING = -700.0  # the logarithm of a weight that is left out, counted from the largest
MOST = 1 << 22  # nodes


@runtime_checkable
class Line(Protocol):
    """A law on a curve g(u)."""

    def panels(self) -> tuple[Tensor, Tensor]: ...  # ends [P] of intervals of u, in order
    def at(self, u: Tensor) -> Tensor: ...  # g, [n] -> [n,d]
    def log_prior(self, u: Tensor) -> Tensor: ...  # log of the density in u, [n]
    def arc_length(self, u: Tensor) -> Tensor: ...  # the law's coordinate, [n]


def rule(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.as_tensor(nodes).to(like), torch.as_tensor(weights).to(like)


@dataclass(frozen=True, eq=False)
class Panels:
    """Intervals [left, right] of the parameter, [P] each, in order."""

    left: Tensor
    right: Tensor

    def nodes(self) -> tuple[Tensor, Tensor]:
        """Parameters and quadrature weights, [P,NODES] each."""
        t, w = rule(self.left)
        half = (self.right - self.left)[:, None] / 2
        return (self.left + self.right)[:, None] / 2 + half * t, half * w

    def halved(self, which: Tensor) -> Panels:
        """These panels with some of them, [P], in two."""
        middle = (self.left + self.right) / 2
        left = torch.cat([self.left, middle[which]])
        right = torch.cat([torch.where(which, middle, self.right), self.right[which]])
        order = left.argsort(stable=True)
        return Panels(left[order], right[order])


class GivenLine(Law):
    """p(x0 | y) of a law on a curve.

    law: a `Line` too. operator, y [*M], sigma_n: the measurement.
    Raises UsageError where the likelihood needs more than `MOST` nodes, and without noise.
    """

    dim = 1

    def __init__(self, law: Law, operator: Operator, y: Tensor, sigma_n: float):
        assert isinstance(law, Line)
        self.law = law
        self.line: Line = law
        self.operator = operator
        self.y = y.double()
        self.sigma_n = sigma_n
        self.shape = law.shape
        self.period = law.period
        self.coordinate = law.coordinate
        self.panels = self._resolved(Panels(*self.line.panels()))
        u, log_weight = self._weights(self.panels)
        total = log_weight.flatten().logsumexp(0)
        noise = y.numel() / 2 * math.log(2 * math.pi * sigma_n**2)
        self.log_evidence = float(total - noise)
        self.log_total = total
        share = (log_weight - total).exp()  # [P,NODES]
        self.mass = share.sum(1)  # of each panel
        points = self.line.at(u.flatten())
        self.mean = share.flatten() @ points
        square = (points - self.mean).square().mean(1)
        self.std = float((share.flatten() @ square).sqrt())
        self._clouds: dict[tuple[int, torch.device], exact.Streamed | exact.Dense] = {}

    # the quadrature

    def _log_density(self, u: Tensor) -> Tensor:
        """log of q(u) exp(-|y - A(g(u))|^2/2 s^2), [n]."""
        rows = self.line.at(u)
        likely = posteriors.log_likelihood(self.operator, rows, self.y[None], self.sigma_n)
        return self.line.log_prior(u) + likely[0]

    def _weights(self, panels: Panels) -> tuple[Tensor, Tensor]:
        """Parameters of the nodes and the logarithms of their weights, [P,NODES] each."""
        u, w = panels.nodes()
        return u, w.log() + self._log_density(u.flatten()).view_as(u)

    def _resolved(self, panels: Panels) -> Panels:
        """Panels on which the rule integrates the likelihood."""
        for _ in range(DEPTH):
            whole = self._weights(panels)[1].logsumexp(1)
            halves = panels.halved(torch.ones_like(panels.left, dtype=torch.bool))
            parts = self._weights(halves)[1].logsumexp(1).view(-1, 2).logsumexp(1)
            top = parts.logsumexp(0)
            error = ((whole - top).exp() - (parts - top).exp()).abs()
            wrong = (error > RELATIVE) | self._coarse(panels)
            if not bool(wrong.any()):
                return panels
            panels = panels.halved(wrong)
            self._check(panels)
        return panels

    def _coarse(self, panels: Panels) -> Tensor:
        """Panels along which A(g) goes farther than a likelihood is wide: a peak between two nodes
        would not be seen, [P]."""
        u, _ = panels.nodes()
        measured = self.operator(self.line.at(u.flatten())).flatten(1).view(*u.shape, -1)
        way = torch.linalg.vector_norm(measured.diff(dim=1), dim=2).sum(1)
        return way > 2 * REACH * self.sigma_n

    def _check(self, panels: Panels) -> None:
        if NODES * len(panels.left) > MOST:
            raise UsageError(
                f"sigma_n={self.sigma_n:g} is too small beside this curve: its posterior takes "
                f"more than {MOST} nodes; write a larger one"
            )

    def _fine(self, octave: int) -> Panels:
        """Panels no longer than 2 REACH 2^octave on the curve."""
        mass = self.mass.log()
        held = mass > mass.max() + NOTHING
        panels = Panels(self.panels.left[held], self.panels.right[held])
        longest = 2 * REACH * 2.0**octave
        while True:
            u, _ = panels.nodes()
            points = self.line.at(u.flatten()).view(*u.shape, -1)
            way = torch.linalg.vector_norm(points.diff(dim=1), dim=2).sum(1)
            if not bool((way > longest).any()):
                return panels
            panels = panels.halved(way > longest)
            self._check(panels)

    def cloud(self, octave: int, device: torch.device) -> exact.Streamed | exact.Dense:
        """The nodes for 2^octave <= sigma < 2^(octave+1), as weighted points."""
        if (octave, device) not in self._clouds:
            u, log_weight = self._weights(self._fine(octave))
            weight = log_weight.flatten() - self.log_total
            held = weight > weight.max() + NOTHING
            points = self.line.at(u.flatten()[held])
            made = exact.cloud(points.to(device), weight[held].to(device))
            self._clouds[octave, device] = made
        return self._clouds[octave, device]

    # the law

    def inverse(self, q: Tensor) -> Tensor:
        """The parameter below which the law has the mass q, [n] -> [n]: the panel by its mass, then
        Newton's method within it, bracketed."""
        ends = torch.cat([self.mass.new_zeros(1), self.mass.cumsum(0)]).to(q)
        target = q * ends[-1]
        k = (torch.searchsorted(ends, target.contiguous(), right=True) - 1).clamp(
            0, len(self.mass) - 1
        )
        left = self.panels.left.to(q)[k]
        low = left
        high = self.panels.right.to(q)[k]
        wanted = target - ends[k]
        t, w = rule(q)
        u = (low + high) / 2
        for _ in range(60):
            half = (u - left)[:, None] / 2
            nodes = left[:, None] + half * (1 + t)
            inside = (self._log_density(nodes.flatten()) - self.log_total).exp().view_as(nodes)
            excess = (half * w * inside).sum(1) - wanted
            low = torch.where(excess < 0, u, low)
            high = torch.where(excess < 0, high, u)
            slope = (self._log_density(u) - self.log_total).exp()
            newton = u - excess / slope
            last = u
            u = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
            if bool(((u - last).abs() <= 1e-13 * (1 + u.abs())).all()):
                break
        return u

    def sample(self, n, generator):
        q = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        return self.line.at(self.inverse(q))

    def quantile(self, u: Tensor) -> Tensor:
        return self.line.arc_length(self.inverse(u))

    def project(self, x):
        return self.law.project(x)

    def tangent(self, p):
        return self.law.tangent(p)

    def _by_octave(self, formula, x: Tensor, sigma: Tensor, *more: Tensor) -> Tensor:
        """A formula of weighted clouds, each row by the nodes of its level."""
        octaves = sigma.log2().floor().int()
        found = None
        for octave in octaves.unique().tolist():
            rows = (octaves == octave).nonzero()[:, 0]
            cloud = self.cloud(octave, x.device)
            part = formula(cloud, x[rows], sigma[rows], *(column[rows] for column in more))
            if found is None:
                found = part.new_empty(len(x), *part.shape[1:])
            found[rows] = part
        assert found is not None
        return found

    def posterior(self, x, sigma):
        return self._by_octave(lambda cloud, *rows: cloud(*rows), x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._by_octave(clouds.log_density, x, sigma)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._by_octave(trace, x, sigma)

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return self._by_octave(clouds.covariance_product, x, sigma, v)

    def parameters(self):
        content = hashlib.sha256()
        points = self.line.at(self.panels.nodes()[0].flatten())
        for part in (self.y, self.operator(points)):
            content.update(part.double().cpu().contiguous().numpy().tobytes())
        return [("law", self.law.key), ("measured", content.hexdigest()), ("s", self.sigma_n)]


def trace(cloud: exact.Streamed | exact.Dense, x: Tensor, sigma: Tensor) -> Tensor:
    """tr dD/dx of a weighted cloud, [B]."""
    return clouds.weighed(cloud, x, sigma).trace


def given(law: Law, operator: Operator, y: Tensor, sigma_n: float) -> GivenLine:
    """The posterior of a law on a curve, y [*M]. Raises UsageError."""
    if sigma_n == 0:
        raise UsageError(
            "sigma_n=0: on a curve a measurement without noise leaves points; write a small one, "
            "such as sigma_n=1e-3"
        )
    return GivenLine(law, operator, y, sigma_n)
