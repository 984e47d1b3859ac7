"""Theorem 3.5 of Lu, Wang and Bal: how the score blows up as t -> 0, measured on any law.

In their process x_t = e^(-t/2) x0 + (1 - e^-t)^(1/2) z, with s2 = 1 - e^-t and f = E[x0 | x_t],

    score    S = (e^(-t/2) f - x_t)/s2          drift    b = x_t/2 + S, of the reverse process
    epsilon  = -s2^(1/2) S                      f        itself

At one x off the support S(x, t) = (y_x - x)/t (1 + o(1)), y_x the nearest point: the rate is 1/s2,
of epsilon s2^(-1/2), and f -> y_x stays bounded. The theorem is about a fixed x (its Remark 3.6).
Where a network is trained and asked, at samples of p_t, x is itself only s2^(1/2) off, and

    s2 E|S|^2 = d - E tr(dD/dx)  ->  the mean codimension c of the law         (heat equation)

so that the rate there is s2^(-1/2), and epsilon stays bounded. Where c = 0 there are two cases: a
density on all of R^d has a bounded score in both clouds, the control; one that ends at an edge has
a layer of width s2^(1/2), in which S is of size s2^(-1/2): E|S|^2 ~ s2^(-1/2), a rate of s2^(-1/4),
which few samples make; the median does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import Denoiser, Manifold, generator
from diffgeo.errors import UsageError

QUANTITIES = ("score", "drift", "epsilon", "f")
CLOUDS = ("fixed x", "samples of p_t")
TOLD = 1e-2  # of a codimension: what is less, at the lowest time, is none
ROUNDING = 1e-9  # deviations of the law: a distance to the support that is none
AWAY = 0.3  # deviations of the law: the noise that takes the fixed points off the support


class Rate(NamedTuple):
    """A power of s2 = 1 - e^-t."""

    slope: float
    error: float | None  # its standard error; None of two times


class Rates(NamedTuple):
    """Those of the norms of one quantity in one cloud."""

    rms: Rate
    median: Rate | None  # None: the median is a rounding
    sup: Rate


@dataclass(frozen=True)
class Norms:
    """Norms of the four quantities of one denoiser in one cloud, by time [L] increasing."""

    cloud: str
    t: Tensor
    rms: dict[str, Tensor] = field(default_factory=dict)  # (mean |.|^2)^(1/2), [L]
    median: dict[str, Tensor] = field(default_factory=dict)  # of |.|, [L]
    sup: dict[str, Tensor] = field(default_factory=dict)  # max |.|, [L]

    def rates(self, below: float) -> dict[str, Rates]:
        """The rates of each quantity, fitted up to the time `below`."""
        used = self.t <= below
        s2 = -torch.expm1(-self.t[used])
        found = {}
        for name in QUANTITIES:
            rms = fitted(s2, self.rms[name][used])
            median = fitted(s2, self.median[name][used]) if self.resolved(name) else None
            found[name] = Rates(rms, median, fitted(s2, self.sup[name][used]))
        return found

    def resolved(self, name: str) -> bool:
        """Whether the median is more than what float64 loses in (f - x)/s2 at the lowest time:
        inside a square the score is 0 but for that."""
        s2 = -float(torch.expm1(-self.t[0]))
        lost = 2.0**-52 * float(self.rms["f"][0]) / (s2**0.5 if name == "epsilon" else s2)
        return float(self.median[name][0]) > 100 * lost or name == "f"


class Expected(NamedTuple):
    """What is proved of a law: the rate of the score in each cloud, and what it follows from."""

    fixed: float
    sampled: float
    off: float  # mean distance of the fixed points to the support
    codimension: float


def times(lowest: float, highest: float, count: int, below: float) -> Tensor:
    """So many times, equally spaced in log t, [L] increasing. Raises UsageError where they are no
    range, or leave fewer than three to fit."""
    if not 0 < lowest < highest:
        raise UsageError(f"t=[{lowest:g}, {highest:g}]: write two times, 0 < t_min < t_max")
    t = torch.logspace(*np.log10([lowest, highest]), count, dtype=torch.float64)
    if int((t <= below).sum()) < 3:
        raise UsageError(
            f"fit_below={below:g} leaves fewer than three of {count} times from {lowest:g} to "
            f"{highest:g}: write a larger fit_below, a lower t, or more levels"
        )
    return t


def fitted(s2: Tensor, norm: Tensor) -> Rate:
    """The least-squares slope of log norm against log s2, [L] each, and its standard error."""
    x = s2.log() - s2.log().mean()
    y = norm.log() - norm.log().mean()
    square = float((x * x).sum())
    slope = float((x * y).sum()) / square
    left = len(x) - 2
    rest = float((y - slope * x).square().sum())
    return Rate(slope, (rest / left / square) ** 0.5 if left > 0 else None)


def fixed_points(data: Manifold, n: int, seed: int) -> Tensor:
    """n points x0 + AWAY std z, [n,*D]: almost surely off a support that is not everything."""
    g = generator(seed, *b"fixed")
    clean = data.sample(n, g).double()
    noise = torch.randn(clean.shape, generator=g, dtype=torch.float64)
    return clean + AWAY * (data.std or 1.0) * noise


def distances(data: Manifold, x: Tensor) -> Tensor:
    """To the support, [n]; 0 where it is a rounding."""
    off = data.distance(x).double()
    return off.where(off > ROUNDING * (data.std or 1.0), 0)


def quantities(denoise: Denoiser, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
    """|S|, |b|, |epsilon| and |f| at x_t [n,*D] and one time, [n] each."""
    scale = torch.exp(-t / 2)
    s2 = -torch.expm1(-t)
    f = denoise(x_t / scale, float(torch.expm1(t).sqrt())).double()
    score = (scale * f - x_t) / s2
    vectors = {"score": score, "drift": x_t / 2 + score, "epsilon": s2.sqrt() * score, "f": f}
    norms = {}
    for name, vector in vectors.items():
        norms[name] = torch.linalg.vector_norm(vector.flatten(1), dim=1)
    return norms


@torch.no_grad()
def measure(denoise: Denoiser, data: Manifold, t: Tensor, n: int, seed: int) -> list[Norms]:
    """The norms at n fixed points and at n samples of p_t, the same x0 and z at every time."""
    fixed = fixed_points(data, n, seed)
    clean, noise = drawn(data, n, seed)
    found = []
    for cloud in CLOUDS:
        rms: dict[str, list[Tensor]] = {name: [] for name in QUANTITIES}
        median: dict[str, list[Tensor]] = {name: [] for name in QUANTITIES}
        sup: dict[str, list[Tensor]] = {name: [] for name in QUANTITIES}
        for time in t:
            x = fixed if cloud == CLOUDS[0] else noised(clean, noise, time)
            for name, norm in quantities(denoise, x, time).items():
                rms[name].append(norm.square().mean().sqrt())
                median[name].append(norm.median())
                sup[name].append(norm.max())
        found.append(Norms(cloud, t, *(together(norms) for norms in (rms, median, sup))))
    return found


def together(norms: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack(rows) for name, rows in norms.items()}


def drawn(data: Manifold, n: int, seed: int) -> tuple[Tensor, Tensor]:
    g = generator(seed, *b"singularity")
    clean = data.sample(n, g).double()
    return clean, torch.randn(clean.shape, generator=g, dtype=torch.float64)


def noised(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t."""
    return torch.exp(-t / 2) * clean + (-torch.expm1(-t)).sqrt() * noise


@torch.no_grad()
def expected(denoise: Denoiser, data: Manifold, t: Tensor, n: int, seed: int) -> Expected:
    """What the theorem says of a law. denoise: its exact denoiser.

    Whether it has a density where the fixed points lie is told by their distance to the support;
    the codimension by the trace of the Jacobian at the lowest time, d - E tr(dD/dx), where the
    denoiser has one, else by the law's `dim`.
    """
    off = distances(data, fixed_points(data, n, seed))
    lowest = t[0]
    d = data.mean.numel()
    codimension = float(d - data.dim)
    if isinstance(denoise, Density):
        x = noised(*drawn(data, n, seed), lowest) * torch.exp(lowest / 2)
        codimension = d - float(denoise.trace(x, float(torch.expm1(lowest).sqrt())).mean())
    outside = bool((off > 0).any())
    sampled = 0.0
    if codimension > TOLD:
        sampled = -0.5
    elif outside:
        sampled = -0.25
    return Expected(-1.0 if outside else 0.0, sampled, float(off.mean()), codimension)


def expected_of(name: str, score: float) -> float:
    """The rate of a quantity from that of the score: epsilon is s2^(1/2) of it, f bounded."""
    shift = {"score": 0.0, "drift": 0.0, "epsilon": 0.5}
    return score + shift[name] if name in shift else 0.0


@torch.no_grad()
def limit(denoise: Denoiser, data: Manifold, t: Tensor, n: int, seed: int) -> Tensor:
    """s2 |S(x, t)|/|x - y_x| at the lowest time for each fixed point off the support, [m]: 1 in the
    limit."""
    x = fixed_points(data, n, seed)
    off = distances(data, x)
    s2 = -torch.expm1(-t[0])
    size = s2 * quantities(denoise, x, t[0])["score"]
    return (size / off)[off > 0]
