"""When is the probability flow optimal transport? (Pierret and Galerne 2024, Proposition 4;
Lavenant and Santambrogio 2022)

The flow dx/d(ln sigma) = x - D takes the law of x at sigma_T to that at a lower sigma, by a map S.
S is the optimal map for the squared distance if and only if it is the gradient of a convex function
(Brenier), so its Jacobian J must be symmetric. J solves the flow's own variational equation,

    dJ/d(ln sigma) = (I - dD/dx) J,        J = I at sigma_T,

a product of symmetric matrices, which is symmetric where they commute: of a Gaussian
J = sqrt((C + sigma^2)/(C + sigma_T^2)), the optimal map. Elsewhere the asymmetry

    a(x) = |J - J'| / (sqrt 2 |J|)              (in the plane |J_12 - J_21|/|J|),   Frobenius norms,

says how far S is from optimal. It tells more than the cost does: n drawn pairs (x, S x) cost at
least their best assignment, but little more, since moving as far sideways costs a second order.

Of u, v ~ N(0, I), E(u'Jv - v'Ju)^2 = |J - J'|^2 and E|Jv|^2 = |J|^2: so much of it in dimensions
where J itself is too large.

The cost E|x - S x|^2 is at least Gelbrich's bound sum (sqrt(l + sigma_T^2) - sqrt(l + sigma^2))^2
over the eigenvalues l of the covariance, with equality for Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, WithCovariance, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.transport import matching

BASIS = 8  # dimensions in which J is computed whole
PROBES = 4  # pairs of directions u, v in higher ones
ROWS = 1 << 15  # that a denoiser is asked for at once


class Field(NamedTuple):
    """What the flow is of: D, and (x, sigma, v) -> (dD/dx) v, both like x [B,*D]."""

    denoise: Denoiser
    derivative: Callable[[Tensor, float, Tensor], Tensor]


def field(denoise: Denoiser) -> Field:
    """A denoiser and its derivative: in closed form where it knows its covariance, Cov/sigma^2,
    else of a network by autograd, twice backwards."""
    if isinstance(denoise, WithCovariance):
        knows = denoise

        def closed(x: Tensor, sigma: float, v: Tensor) -> Tensor:
            return knows.covariance_product(x, sigma, v) / sigma**2

        return Field(denoise, closed)

    def by_autograd(x: Tensor, sigma: float, v: Tensor) -> Tensor:
        return forward_derivative(denoise, x, sigma, v)

    return Field(denoise, by_autograd)


def forward_derivative(denoise: Denoiser, x: Tensor, sigma: float, v: Tensor) -> Tensor:
    """(dD/dx) v for rows x [B,*D]: the derivative in w of (dD/dx)' w, times v. Raises UsageError
    where a denoiser has no graph."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # the other kernels of attention have no second derivative
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        point = x.detach().requires_grad_()
        denoised = denoise(point, sigma)
        if not denoised.requires_grad:
            raise UsageError("this denoiser has no derivative: write model=exact, or a network")
        w = torch.zeros_like(denoised, requires_grad=True)
        (pulled,) = torch.autograd.grad(denoised, point, w, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, w, v.to(pulled))
    return pushed.detach()


class Map(NamedTuple):
    """The flow of n points: where it ends [n,*D], and its Jacobian times k directions [n,k,*D]."""

    end: Tensor
    pushed: Tensor


@torch.no_grad()
def flow(found: Field, x: Tensor, v: Tensor, first: float, last: float, steps: int) -> Map:
    """The flow of x [n,*D] from the level `first` to `last`, and J v of v [n,k,*D], by the
    classical Runge-Kutta rule in ln sigma. k may be 0."""
    h = math.log(last / first) / steps
    for i in range(steps):
        low = first * (last / first) ** (i / steps)
        middle = first * (last / first) ** ((i + 0.5) / steps)
        high = first * (last / first) ** ((i + 1) / steps)
        slopes = []
        for share, level in ((0.0, low), (0.5, middle), (0.5, middle), (1.0, high)):
            at_x, at_v = x, v
            if slopes:
                at_x = x + share * h * slopes[-1][0]
                at_v = v + share * h * slopes[-1][1]
            slopes.append(slope(found, at_x, at_v, level))
        first_slope, second, third, fourth = slopes
        x = x + h / 6 * (first_slope[0] + 2 * second[0] + 2 * third[0] + fourth[0])
        v = v + h / 6 * (first_slope[1] + 2 * second[1] + 2 * third[1] + fourth[1])
    return Map(x, v)


def slope(found: Field, x: Tensor, v: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """x - D, and v - (dD/dx) v for each of v [n,k,*D]."""
    k = v.shape[1]
    moved = x - found.denoise(x, sigma)
    if not k:
        return moved, v
    every_x = x.repeat_interleave(k, 0)
    pushed = found.derivative(every_x, sigma, v.flatten(0, 1))
    return moved, v - pushed.view_as(v)


class Asymmetry(NamedTuple):
    """How far the flow's Jacobian is from symmetric.

    total: sqrt(E|J - J'|^2 / (2 E|J|^2)) over the points; error: its standard error.
    each: a(x) of each point [n]; None in more than BASIS dimensions.
    """

    total: float
    error: float
    each: Tensor | None

    @property
    def at_a_point(self) -> tuple[float, float] | None:
        """The mean of a(x), which no few points with a large J decide, and its standard error."""
        if self.each is None:
            return None
        return float(self.each.mean()), float(self.each.std()) / math.sqrt(len(self.each))


def directions(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """The directions of n points: the basis where it is small [n,d,*D], else 2 PROBES random ones,
    u and v in turn."""
    d = math.prod(shape)
    if d <= BASIS:
        return torch.eye(d, dtype=torch.float64).view(d, *shape).expand(n, d, *shape)
    g = generator(seed, *b"directions")
    return torch.randn(n, 2 * PROBES, *shape, generator=g, dtype=torch.float64)


def asymmetry(v: Tensor, pushed: Tensor) -> Asymmetry:
    """Of J v [n,k,*D], for the `directions` v. Raises UsageError on one dimension, where every
    Jacobian is symmetric, and on fewer than two points."""
    v = v.flatten(2)
    pushed = pushed.flatten(2)
    n, _, d = v.shape
    if d < 2 or n < 2:
        raise UsageError(f"{n} points in {d} dimensions: an asymmetry takes 2 or more of each")
    if d <= BASIS:
        jacobian = pushed.mT
        above = (jacobian - jacobian.mT).square().sum((1, 2)) / 2
        below = jacobian.square().sum((1, 2))
        each = (above / below.clamp(min=torch.finfo(below.dtype).tiny)).sqrt()
    else:
        first, second = v[:, 0::2], v[:, 1::2]
        crossed = (first * pushed[:, 1::2]).sum(2) - (second * pushed[:, 0::2]).sum(2)
        above = crossed.square().mean(1) / 2
        below = pushed.square().sum(2).mean(1)
        each = None
    total = float((above.mean() / below.mean()).sqrt())
    # of a ratio of means, to first order
    parts = (above - total**2 * below) / below.mean()
    error = float(parts.std()) / math.sqrt(n) / (2 * total) if total else 0.0
    return Asymmetry(total, error, each)


class Assignment(NamedTuple):
    """The squared distances of n drawn pairs (x, S x), and of the best assignment of the same
    points, means over a pair; one of each a set [r]."""

    cost: Tensor
    best: Tensor

    @property
    def excess(self) -> Tensor:
        """cost/best - 1, 0 or more [r]."""
        return self.cost / self.best - 1


def assignment(starts: Tensor, ends: Tensor) -> Assignment:
    """Of pairs [r,n,*D], each of the r sets on its own."""
    costs = []
    bests = []
    for x, y in zip(starts.flatten(2).numpy(), ends.flatten(2).numpy(), strict=True):
        squares, rows, columns = matching(x, y)
        costs.append(float(squares.diagonal().mean()))
        bests.append(float(squares[rows, columns].mean()))
    return Assignment(
        torch.tensor(costs, dtype=torch.float64), torch.tensor(bests, dtype=torch.float64)
    )


def bound(variance: Tensor, first: float, last: float) -> float:
    """Gelbrich's: the least cost of a law whose covariance has the eigenvalues `variance` [d], from
    the level `first` to `last`; that of a Gaussian."""
    high = (variance + first**2).sqrt()
    low = (variance + last**2).sqrt()
    return float((high - low).square().sum())


class Transported(NamedTuple):
    """What a measurement of the flow found; starts and ends are of all sets, [r n,*D].

    jacobians: those at the points that were asked for [m,d,d]; None for none.
    integration: the root mean square of what half the steps change in an end, in data units.
    """

    starts: Tensor
    ends: Tensor
    skew: Asymmetry | None
    pairs: Assignment
    jacobians: Tensor | None
    integration: float

    @property
    def cost(self) -> tuple[float, float]:
        """The mean of |x - S x|^2 over all pairs, and its standard error."""
        squares = (self.starts - self.ends).flatten(1).square().sum(1)
        return float(squares.mean()), float(squares.std()) / math.sqrt(len(squares))


def measure(
    denoise: Denoiser,
    law: Data,
    first: float,
    last: float,
    steps: int = 200,
    pairs: int = 800,
    repeats: int = 5,
    points: int = 200,
    at: Tensor | None = None,
    seed: int = 0,
) -> Transported:
    """The flow of `denoise` from the level `first` to `last`, of `repeats` sets of `pairs` draws of
    the law with that noise; its Jacobian at the first `points` of them, and at the points `at`
    [m,*D]. Raises UsageError on numbers that make no flow."""
    if not 0 < last < first < math.inf:
        raise UsageError(f"from sigma = {first:g} to {last:g}: write 0 < lowest < sigma_T")
    g = generator(seed, *b"transport")
    x0 = law.sample(pairs * repeats, g).double()
    x = x0 + first * torch.randn(x0.shape, generator=g, dtype=torch.float64)
    found = field(denoise)
    shape = tuple(x0.shape[1:])
    ends = in_parts(found, x, no_directions(x), first, last, steps).end
    coarse = in_parts(found, x, no_directions(x), first, last, max(1, steps // 2)).end
    skew = None
    if math.prod(shape) > 1:
        v = directions(points, shape, seed)
        skew = asymmetry(v, in_parts(found, x[:points], v, first, last, steps).pushed)
    jacobians = None
    if at is not None:
        basis = directions(len(at), shape, seed)
        jacobians = in_parts(found, at, basis, first, last, steps).pushed.flatten(2).mT
    return Transported(
        starts=x,
        ends=ends,
        skew=skew,
        pairs=assignment(
            x.view(repeats, pairs, *shape),
            ends.view(repeats, pairs, *shape),
        ),
        jacobians=jacobians,
        integration=float((ends - coarse).flatten(1).square().sum(1).mean().sqrt()),
    )


def no_directions(x: Tensor) -> Tensor:
    return x[:, None][:, :0]


def in_parts(found: Field, x: Tensor, v: Tensor, first: float, last: float, steps: int) -> Map:
    """`flow`, a part of the points at a time."""
    size = max(1, ROWS // max(1, v.shape[1]))
    parts = [
        flow(found, some, those, first, last, steps)
        for some, those in zip(x.split(size), v.split(size), strict=True)
    ]
    return Map(torch.cat([part.end for part in parts]), torch.cat([part.pushed for part in parts]))
