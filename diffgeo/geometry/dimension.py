"""The local dimension of a law at a point, as a denoiser sees it at noise s (FLIPD, Kamkari et al.
2024, in the coordinate x = x0 + s eps):

    dim(x; s) = d + d log p_s(x)/d log s = tr dD/dx + |x - D|^2/s^2        (the heat equation).

Near a k-dimensional support, x on it and s below its curvature, p_s ~ s^(k-d) and dim is k: the
trace counts the directions that D lets pass. Off the support |x - D|^2/s^2 is large: ask at clean
points. Averaged over x_s ~ p_s instead it is d for every law (the mean of s^2 lap p_s/p_s is 0):
a check of D and its trace, not a dimension. A finite set has dimension 0 at its points as s -> 0,
and what is above 0 is what neighbours have lent: of the exact denoiser of a data set it measures
memorization.

tr dD/dx is known of exact denoisers. Of a network it is taken by autograd: exactly, a product for
each coordinate, up to FEW of them; else by Hutchinson's estimate, the mean of v.(dD/dx)v over
random signs v, with its spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import Data, Denoiser, Sigma, column, expand, generator
from diffgeo.errors import UsageError
from diffgeo.simulation import fitting, ranges
from diffgeo.simulation.noise import Streams, keys

FEW = 16  # coordinates whose trace is taken exactly by autograd
PROBES = 8  # random signs of Hutchinson's estimate
LEVELS = 10
RANGE = 0.01, 10.0  # of the default levels, over the deviation of a coordinate


class Trace(NamedTuple):
    """tr dD/dx [B], and the standard error of an estimate [B], 0 where it is none."""

    value: Tensor
    error: Tensor


class Dimension(NamedTuple):
    """At L levels and n points: dim = trace + residual, each [L,n], and the standard error of
    Hutchinson's estimate of the trace, 0 where the trace is exact."""

    sigma: Tensor
    trace: Tensor
    residual: Tensor  # |x - D|^2/s^2
    error: Tensor

    @property
    def value(self) -> Tensor:
        return self.trace + self.residual


def trace_of(denoise: Denoiser, x: Tensor, sigma: Sigma, probes: Tensor) -> Trace:
    """tr dD/dx at x [B,*D]; probes: random signs [P,B,*D], looked at where the trace has to be
    estimated."""
    levels = column(sigma, x.to(torch.float64))
    if isinstance(denoise, Density):
        return Trace(denoise.trace(x, levels), torch.zeros_like(levels))
    d = math.prod(x.shape[1:])
    if d <= FEW:
        axes = torch.eye(d, dtype=x.dtype, device=x.device).view(d, 1, *x.shape[1:])
        products = along(denoise, x, levels, axes.expand(d, *x.shape))
        return Trace(products.sum(0), torch.zeros_like(levels))
    products = along(denoise, x, levels, probes)
    error = products.std(0) / math.sqrt(len(probes))
    return Trace(products.mean(0), error)


def along(denoise: Denoiser, x: Tensor, sigma: Tensor, directions: Tensor) -> Tensor:
    """v.(dD/dx)v by autograd for directions v [P,B,*D], float64 [P,B]."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        denoised = denoise(x, sigma)
        products = []
        for v in directions:
            (gradient,) = torch.autograd.grad((denoised * v).sum(), x, retain_graph=True)
            products.append((gradient * v).flatten(1).sum(1).double())
    return torch.stack(products)


def signs(seed: int, numbers: range, shape: tuple[int, ...], probes: int) -> Tensor:
    """Random signs [P,n,*D] that belong to points of these numbers."""
    noise = Streams(keys(seed, numbers), shape)
    noise()  # the first draw is the noise of a noised point
    return torch.stack([noise().sign() for _ in range(probes)])


def default_levels(data: Data) -> list[float]:
    """LEVELS levels, equal steps of log s, about the deviation of a coordinate."""
    if not data.std > 0:
        raise UsageError("this law is one point, of dimension 0: write another data=")
    ends = [math.log(factor * data.std) for factor in RANGE]
    return torch.linspace(*ends, LEVELS, dtype=torch.float64).exp().tolist()


def dimension(
    denoise: Denoiser,
    data: Data,
    n: int,
    levels: Sequence[float] | None = None,
    seed: int = 0,
    noised: bool = False,
    probes: int = PROBES,
    batch: int | None = None,
) -> Dimension:
    """The dimension at n points of `data`, by level. noised: at x0 + s eps instead of x0, where the
    mean is d for every law. Raises UsageError on levels that are not above 0."""
    sigma = torch.tensor(levels or default_levels(data), dtype=torch.float64)
    if not bool((sigma > 0).all()):
        raise UsageError(f"levels={list(levels or [])}: write levels above 0")
    if probes < 2:
        raise UsageError(f"probes={probes}: write 2 or more, whose spread is the error")
    shape = tuple(data.shape)
    points = data.sample(n, generator(seed, *b"dimension")).double()
    found = sigma.new_empty(3, len(sigma), n)
    for part in ranges(range(n), batch or fitting(shape)):
        x0 = points[part.start : part.stop]
        eps = Streams(keys(seed, part), shape)()
        probe = (
            x0.new_zeros(0) if isinstance(denoise, Density) else signs(seed, part, shape, probes)
        )
        for k, level in enumerate(sigma):
            x = x0 + level * eps if noised else x0
            trace = trace_of(denoise, x, level, probe)
            with torch.no_grad():
                apart = (x - denoise(x, level)) / expand(level, x)
            residual = apart.flatten(1).square().sum(1)
            found[:, k, part.start : part.stop] = torch.stack([trace.value, residual, trace.error])
    return Dimension(sigma, *found)
