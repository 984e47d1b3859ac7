"""Uniform laws on spheres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic import sphere as exact
from diffgeo.analytic.measurement import Operator
from diffgeo.data.law import Law
from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Sphere(Law):
    """Uniform on the sphere of radius `radius` in R^n; its dimension is n - 1."""

    radius: float = 1.0
    n: int = 3

    def __post_init__(self):
        if not self.radius > 0 or self.n < 1:
            raise UsageError("radius must be positive and n at least 1")
        self._derive(
            shape=(self.n,),
            dim=self.n - 1,
            mean=torch.zeros(self.n, dtype=torch.float64),
            std=self.radius / math.sqrt(self.n),
        )

    def sample(self, n, generator):
        size = (n, self.n)
        z = torch.randn(size, generator=generator, dtype=torch.float64, device=generator.device)
        return self.project(z)

    def project(self, x):
        """r x/|x|; the centre, where every point is nearest, goes to the first axis."""
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        first = torch.eye(1, self.n, dtype=x.dtype, device=x.device)
        return self.radius * torch.where(norm > 0, x / norm, first)

    def distance(self, x):
        return (torch.linalg.vector_norm(x, dim=1) - self.radius).abs()

    def tangent(self, p):
        """The last n - 1 columns of the Householder reflection that takes the first axis to
        -+p/|p|."""
        unit = p / torch.linalg.vector_norm(p, dim=1, keepdim=True)
        v = unit.clone()
        v[:, 0] += torch.where(unit[:, 0] < 0, -1.0, 1.0)
        eye = torch.eye(self.n, dtype=p.dtype, device=p.device)
        reflection = eye - 2 * v[:, :, None] * v[:, None] / (v * v).sum(1)[:, None, None]
        return reflection[:, :, 1:]

    def posterior(self, x, sigma):
        return exact.sphere(x, sigma, self.radius)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.log_density(x, sigma, self.radius)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return exact.trace(x, sigma, self.radius)

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return exact.covariance_product(x, sigma, self.radius, v)


class Circle(Sphere):
    """Uniform on the circle of radius `radius`; the coordinate is radius times the angle in
    [0, 2 pi)."""

    def __init__(self, radius: float = 1.0):
        super().__init__(radius, 2)
        self._derive(period=2 * math.pi * radius)

    def coordinate(self, x: Tensor) -> Tensor:
        return self.radius * torch.atan2(x[:, 1], x[:, 0]).remainder(2 * math.pi)

    def quantile(self, u: Tensor) -> Tensor:
        return 2 * math.pi * self.radius * u

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """By quadrature over the angle, whatever A is."""
        # the posterior is a law too: the module that has it imports that of all laws
        from diffgeo.data import line_given

        posteriors.check(operator, y, sigma_n, self.shape)
        return line_given.given(self, operator, y, sigma_n)

    # as a `line_given.Line`, u being the angle

    def panels(self) -> tuple[Tensor, Tensor]:
        """The quarters."""
        ends = math.pi / 2 * torch.arange(5, dtype=torch.float64)
        return ends[:-1], ends[1:]

    def at(self, u: Tensor) -> Tensor:
        return self.radius * torch.stack([u.cos(), u.sin()], 1)

    def log_prior(self, u: Tensor) -> Tensor:
        return torch.full_like(u, -math.log(2 * math.pi))

    def arc_length(self, u: Tensor) -> Tensor:
        return self.radius * u
