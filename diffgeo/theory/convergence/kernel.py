"""The law that a sampler makes of a one-dimensional mixture, exactly: its transition kernel on a
grid of states.

A step of a stochastic one-step sampler takes x to N(mean(x), std^2): `mean` is the step itself
without noise, `std` the noise it says it adds. With the density q on n equidistant nodes of spacing
dx,

    q'(y_i) = dx sum_j N(y_i; mean(y_j), std^2) q(y_j),

which converges faster than any power of dx once the spacing is below the kernel's width. A flow
takes x to y(x) and q(y(x)) = p(x)/y'(x), the derivative taken through the run itself. Entropy,
Fisher information and distances are sums over the nodes. States are the chart's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Noise, Sampler
from diffgeo.data import Mixture
from diffgeo.sampler import steps
from diffgeo.theory.convergence.experiment import chart, final


class Grid(NamedTuple):
    """A density q [n] on nodes [n] with quadrature weights [n]."""

    nodes: Tensor
    weights: Tensor
    q: Tensor


@dataclass(frozen=True)
class Modes:
    """sum_j weights_j N(means_j, variance) on the line, and its forward process."""

    means: Sequence[float]
    weights: Sequence[float]
    variance: float = 1.0

    def components(self, x: Tensor, t: float) -> tuple[Tensor, Tensor, float]:
        """Densities of the components at x, weighted [n,k], their means [k] and variance, at time
        t."""
        a = math.exp(-t)
        means = a * torch.tensor(self.means, dtype=torch.float64)
        variance = a * a * self.variance - math.expm1(-2 * t)
        shape = torch.exp(-((x[:, None] - means) ** 2) / (2 * variance))
        density = shape / math.sqrt(2 * math.pi * variance)
        return density * torch.tensor(self.weights, dtype=torch.float64), means, variance

    def density(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.components(x, t)[0].sum(1)

    def score(self, x: Tensor, t: float = 0.0) -> Tensor:
        parts, means, variance = self.components(x, t)
        return (parts @ means / parts.sum(1) - x) / variance

    def cdf(self, x: Tensor, t: float = 0.0) -> Tensor:
        _, means, variance = self.components(x[:1], t)
        of_each = torch.special.ndtr((x[:, None] - means) / math.sqrt(variance))
        return of_each @ torch.tensor(self.weights, dtype=torch.float64)

    def denoiser(self) -> Denoiser:
        """The package's exact denoiser of this law."""
        means = [[m] for m in self.means]
        covariances = [[[self.variance]] for _ in self.means]
        return Mixture(means, covariances, list(self.weights)).denoiser()

    def fisher(self, t: float, nodes: Tensor) -> float:
        """J = E (d ln p_t/dx)^2, on equidistant nodes."""
        density = self.density(nodes, t) * self.score(nodes, t) ** 2
        return float(density.sum() * (nodes[1] - nodes[0]))

    def entropy(self, t: float, nodes: Tensor) -> float:
        p = self.density(nodes, t)
        return -float(torch.xlogy(p, p).sum() * (nodes[1] - nodes[0]))


def line(half: float, nodes: int) -> Tensor:
    """`nodes` equidistant states from -half to half."""
    return torch.linspace(-half, half, nodes, dtype=torch.float64)


def matrix(mean: Tensor, std: float, nodes: Tensor) -> Tensor:
    """K [n,n] of x -> N(mean(x), std^2) on equidistant nodes: q' = K q."""
    z = (nodes[:, None] - mean) / std
    weight = float(nodes[1] - nodes[0]) / (std * math.sqrt(2 * math.pi))
    return torch.exp(-z.square_().div_(2)).mul_(weight)


def silence(x: Tensor) -> Noise:
    """Draws of 0."""
    zero = torch.zeros_like(x)
    return lambda: zero


def propagate(law: Modes, sampler: Sampler, times: Tensor, nodes: Tensor) -> Grid:
    """The density at the last time of a run of a stochastic one-step `sampler` from N(0, 1) down
    `times`, on equidistant nodes."""
    path = chart(float(times[0]))
    denoise = law.denoiser()
    sigmas = path.sigma(times)
    q = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    levels = zip(sigmas.tolist(), path.scale(sigmas).tolist(), strict=True)
    for (sigma, scale), (sigma_next, scale_next) in pairwise(levels):
        x = (nodes / scale)[:, None]
        step = sampler.step(denoise, x, sigma, sigma_next, [], silence(x))
        std = sampler.added_noise(sigma, sigma_next) * scale_next
        q = matrix(step.x[:, 0] * scale_next, std, nodes) @ q
    return Grid(nodes, torch.full_like(nodes, float(nodes[1] - nodes[0])), q)


def transport(law: Modes, sampler: Sampler, times: Tensor, nodes: Tensor) -> Grid:
    """The density at the last time of a run of a deterministic `sampler` from N(0, 1): on the
    states to which it takes the nodes."""
    path = chart(float(times[0]))
    sigmas = path.sigma(times)
    start = nodes.clone().requires_grad_()
    x = (start / path.scale(sigmas[0]))[:, None]
    last = final(steps(sampler, law.denoiser(), x, sigmas, silence(x)))
    end = last[:, 0] * path.scale(sigmas[-1])
    (slope,) = torch.autograd.grad(end.sum(), start)
    p = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return Grid(end.detach(), slope * (nodes[1] - nodes[0]), p / slope)


def kl(law: Modes, grid: Grid) -> float:
    """KL(p_0 | q)."""
    p = law.density(grid.nodes)
    return float((grid.weights * (torch.xlogy(p, p) - torch.xlogy(p, grid.q))).sum())


def tv(law: Modes, grid: Grid) -> float:
    """TV(p_0, q)."""
    return float((grid.weights * (law.density(grid.nodes) - grid.q).abs()).sum()) / 2
