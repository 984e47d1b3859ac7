"""Laws on plane curves. The geometry is in `analytic.arcs`, the exact denoiser in
`analytic.curve`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic import arcs, curve, curve_density
from diffgeo.analytic import given as posteriors
from diffgeo.analytic.measurement import Operator
from diffgeo.data.law import Law
from diffgeo.errors import UsageError

MOST_TURNS = 1000  # of a spiral, and arms: each turn is some panels of the quadrature


class Planar(Law):
    """A law on a plane curve `arc`, whose parameter has the law's own density; the coordinate is
    arc length, pieces laid end to end."""

    shape = (2,)
    dim = 1
    arc: arcs.Arc

    def _lay(self, arc: arcs.Arc) -> None:
        """Take the uniform law in the parameter of `arc`."""
        mean, std = uniform_moments(arc)
        self._derive(arc=arc, mean=mean, std=std)

    def sample(self, n, generator):
        q = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        return torch.stack(self.arc.point(self.arc.quantile(q)), 1)

    def project(self, x):
        return torch.stack(self.arc.point(curve.nearest(x, self.arc)), 1)

    def coordinate(self, x: Tensor) -> Tensor:
        return self.arc.length(curve.nearest(x, self.arc))

    def quantile(self, u: Tensor) -> Tensor:
        return self.arc.length(self.arc.quantile(u))

    def tangent(self, p):
        velocity = torch.stack(self.arc.jet(curve.nearest(p, self.arc))[1], 1)
        return (velocity / torch.linalg.vector_norm(velocity, dim=1, keepdim=True))[..., None]

    def posterior(self, x, sigma):
        return curve.denoise(x, sigma, self.arc)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return curve_density.log_density(x, sigma, self.arc)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        covariance = curve_density.covariance(x, sigma, self.arc)
        return covariance.diagonal(dim1=1, dim2=2).sum(1) / sigma**2

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        covariance = curve_density.covariance(x, sigma, self.arc)
        return torch.einsum("bij,bj->bi", covariance, v)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """By quadrature over the parameter, whatever A is."""
        # the posterior is a law too: the module that has it imports that of all laws
        from diffgeo.data import line_given

        posteriors.check(operator, y, sigma_n, self.shape)
        return line_given.given(self, operator, y, sigma_n)

    # as a `line_given.Line`

    def panels(self) -> tuple[Tensor, Tensor]:
        """The root panels that have more than e^-80 of the mass."""
        middles, levels = (torch.tensor(part, dtype=torch.float64) for part in self.arc.grids[0])
        half = self.arc.unit * torch.exp2(-levels / 4)
        nearest = (middles.abs() - half).clamp(min=0)
        held = self.arc.stiffness * nearest**2 / 2 < 80
        return (middles - half)[held], (middles + half)[held]

    def at(self, u: Tensor) -> Tensor:
        return torch.stack(self.arc.point(u), 1)

    def log_prior(self, u: Tensor) -> Tensor:
        return -self.arc.stiffness * u**2 / 2 - math.log(self.arc.mass)

    def arc_length(self, u: Tensor) -> Tensor:
        return self.arc.length(u)


def uniform_moments(arc: arcs.Arc) -> tuple[Tensor, float]:
    """Mean [2] and std of the law that is uniform in the parameter of `arc`, by Gauss-Legendre
    quadrature on the root panels."""
    rule = np.polynomial.legendre.leggauss(32)
    nodes, weights = (torch.as_tensor(values) for values in rule)
    middle = torch.tensor(arc.grids[0][0], dtype=torch.float64)
    u = (middle[:, None] + arc.unit * nodes).flatten()
    mass = (weights / 2 / len(middle)).repeat(len(middle))
    points = torch.stack(arc.point(u), 1)
    mean = mass @ points
    variance = mass @ (points - mean) ** 2  # of each coordinate
    return mean, float(variance.mean().sqrt())


def winding(first: float, last: float, scale: float, arms: int = 1) -> arcs.Archimedes:
    """`arms` Archimedean spirals scale a e^(ia), first <= a <= last. Raises UsageError."""
    if not 0 <= first < last or last - first > MOST_TURNS * 2 * math.pi:
        raise UsageError(
            f"data.first={first:g}, data.last={last:g}: the angle must grow from 0 or more, "
            f"0 <= first < last, in at most {MOST_TURNS} turns"
        )
    return arcs.Archimedes(first, last, arms, scale)


@dataclass(frozen=True)
class Curve(Planar):
    """(u cos u, u sin u), u ~ U[first, last]: the curve of the CEM paper (type 5), of arc length
    85.2316 on [1, 13]."""

    first: float = 1.0
    last: float = 13.0

    def __post_init__(self):
        self._lay(winding(self.first, self.last, 1.0))


@dataclass(frozen=True)
class Swissroll(Planar):
    """(t cos t, t sin t)/last, t ~ U[first, last] (distance.md A8)."""

    first: float = math.pi / 2
    last: float = 5 * math.pi

    def __post_init__(self):
        self._lay(winding(self.first, self.last, 1 / (self.last or 1.0)))


@dataclass(frozen=True)
class Spiral(Planar):
    """`arms` Archimedean arms from the origin to radius `radius` over `turns` turns, uniform in the
    angle.

    With 2 arms of 1.5 turns, the curves under the "two spirals" benchmark (Lang & Witbrock 1988;
    FFJORD's toy set), without its noise.
    """

    arms: int = 2
    turns: float = 1.5
    radius: float = 1.0

    def __post_init__(self):
        few = 1 <= self.arms <= MOST_TURNS and 0 < self.turns <= MOST_TURNS
        if not few or not 0 < self.radius < math.inf:
            raise UsageError(
                f"data.arms={self.arms}, data.turns={self.turns:g}, data.radius={self.radius:g}: "
                f"write arms from 1, turns and a radius above 0; at most {MOST_TURNS} of the first "
                "two"
            )
        last = 2 * math.pi * self.turns
        self._lay(winding(0.0, last, self.radius / last, self.arms))


@dataclass(frozen=True)
class Moons(Planar):
    """The two half circles (cos a, sin a) and (1 - cos a, 1/2 - sin a), 0 <= a <= pi, half of the
    mass each (scikit-learn's, no noise)."""

    def __post_init__(self):
        self._lay(arcs.HalfCircles())


@dataclass(frozen=True)
class Parabola(Planar):
    """(x, x^2), x ~ N(0, 1) (type 3 of the CEM paper); the coordinate is the arc length from the
    vertex, signed."""

    def __post_init__(self):
        mean = torch.tensor([0.0, 1.0], dtype=torch.float64)
        self._derive(arc=arcs.Parabola(), mean=mean, std=math.sqrt(1.5))
