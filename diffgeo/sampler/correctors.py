"""Langevin dynamics at a frozen level: what a corrector does to the states there.

    Langevin      x <- x + h s + sqrt(2h) w,     s = (D - x)/sigma^2 the score,   h = delta sigma^2
    Underdamped   dx = v dt,   dv = (s - gamma v) dt + sqrt(2 gamma) dW
                  s frozen over a sub-step, all else exact

Langevin dynamics of x_t = scale x is that of x with another unit of time: a step h of x_t is a step
h/scale^2 of x, a score of x_t with slopes up to L a score of x with slopes up to L scale^2. So a
corrector counts in one variance u, sigma^2 or in a chart 1/scale^2: steps in u, slopes in 1/u.

A corrector's own error is set by its step, not by the grid. On a Gaussian of variance lambda +
sigma^2 Langevin's law has the variance

    (lambda + sigma^2)/(1 - r/2),      r = delta sigma^2/(lambda + sigma^2),

which no finer grid improves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffgeo.core import Chart, Denoiser, Noise
from diffgeo.errors import UsageError
from diffgeo.sampler.charts import levels_of


class Corrector(Protocol):
    # x [B,*D] at sigma -> [B,*D] at sigma
    def __call__(self, denoise: Denoiser, x: Tensor, sigma: float, noise: Noise) -> Tensor: ...


@dataclass(frozen=True)
class Uncorrected:
    """No corrector."""

    def __call__(self, denoise, x, sigma, noise):
        return x


def unit(chart: Chart | None, sigma: float) -> float:
    """The variance in which a corrector counts at the level sigma: sigma^2, or that of x where x_t
    = scale x has variance 1."""
    if chart is None:
        return sigma**2
    return levels_of(chart)(sigma).scale ** -2


@dataclass(frozen=True)
class Langevin:
    """Overdamped (unadjusted) Langevin: `steps` times

        x <- x + h s + sqrt(2h) w,      s = (D - x)/sigma^2,      h = delta u.

    One evaluation each.

    delta: the step in units of u = sigma^2; stable below 2. The rule of Song et al. 2021 with
        signal-to-noise ratio r, which takes eps = 2 (r |w|/|s|)^2 with both norms averaged over the
        batch, is delta = 2 r^2 where sigma |s| = |w|, as it is on average over the law when the
        dimension is high; his r = .16 is delta = .051. The rule itself would tie the samples of a
        batch together.
    chart: count in x_t = scale x instead, u = 1/scale^2: x_t <- x_t + delta s_t + sqrt(2 delta) w,
        stable below 2/L.
    Raises UsageError unless delta > 0, without a chart delta < 2, and steps >= 1.
    """

    delta: float = 0.2
    steps: int = 1
    chart: Chart | None = None

    def __post_init__(self):
        if self.chart is None and not 0 < self.delta < 2:
            raise UsageError(
                f"corrector.delta={self.delta}: write 0 < delta < 2, the step in units of sigma^2"
            )
        if not 0 < self.delta < math.inf:
            raise UsageError(f"corrector.delta={self.delta}: write a positive step, below 2/L")
        if self.steps < 1:
            raise UsageError(f"corrector.steps={self.steps}: write 1 or more")

    def __call__(self, denoise, x, sigma, noise):
        h = self.delta * unit(self.chart, sigma)
        for _ in range(self.steps):
            x = torch.lerp(x, denoise(x, sigma), h / sigma**2)
            x = torch.add(x, noise(), alpha=math.sqrt(2 * h))
        return x


def tanh_deficit(y: float) -> float:
    """y - tanh y without cancellation, from Lambert's continued fraction tanh y = y/(1 + q), q =
    y^2/(3 + y^2/(5 + ...))."""
    q = 0.0
    for odd in range(41 + 4 * int(y), 1, -2):
        q = y * y / (odd + q)
    return y * q / (1 + q)


class ExactStep(NamedTuple):
    """The exact step of x, v under a frozen score s (w1, w2 standard normal):

    x' = x + b v + c s + l w1 + m w2        v' = a v + b s + n w1
    """

    a: float
    b: float
    c: float
    l: float
    m: float
    n: float


@lru_cache(maxsize=1024)
def underdamped(gamma: float, h: float) -> ExactStep:
    """The exact step of a time h with friction gamma.

        a = e^-u,     b = (1-a)/gamma,     c = (h-b)/gamma,     u = gamma h

    The covariance of the noise (Cheng et al. 2018, unit mass and temperature),

        Var v = 1-a^2,     Cov = (1-a)^2/gamma,     Var x = (2u - 4(1-a) + 1-a^2)/gamma^2,

    falls like h, h^2, h^3; l, m, n are its factor, without cancellation: with t = tanh(u/2) =
    (1-a)/(1+a),

        l = (1-a) sqrt(t)/gamma,     m^2 = (2u - 4t)/gamma^2,     n^2 = 1-a^2.
    """
    u = gamma * h
    t = math.tanh(u / 2)
    deficit = tanh_deficit(u / 2)
    lost = -math.expm1(-u)  # 1 - a
    c = 2 * (deficit + u / 2 * t) / (1 + t)
    return ExactStep(
        a=math.exp(-u),
        b=lost / gamma,
        c=c / gamma**2,
        l=lost * math.sqrt(t) / gamma,
        m=2 * math.sqrt(deficit) / gamma,
        n=math.sqrt(-math.expm1(-2 * u)),
    )


@dataclass(frozen=True)
class Underdamped:
    """Underdamped Langevin from v ~ N(0, I), exact but for the frozen score (Cheng et al. 2018; the
    corrector of DPUM, Chen et al. 2023).

    time: total time in units of 1/sqrt(L), in `steps` equal sub-steps, one evaluation each.
    smoothness: L in units of 1/u = 1/sigma^2; friction gamma = 2 sqrt(L). The score's slope is at
        most 1/sigma^2 wherever the law is log-concave.
    chart: count in x_t = scale x instead, u = 1/scale^2: L is a bound on the slope of the score of
        x_t, and one serves all levels.
    Raises UsageError unless all three are positive.
    """

    time: float = 1.0
    steps: int = 1
    smoothness: float = 1.0
    chart: Chart | None = None

    def __post_init__(self):
        if not (self.time > 0 and self.steps >= 1 and self.smoothness > 0):
            raise UsageError(
                f"corrector.time={self.time}, steps={self.steps}, smoothness={self.smoothness}: "
                "write positive numbers"
            )
        if self.time > 1e5 * self.steps or self.smoothness > 1e5:
            raise UsageError(
                f"corrector.time={self.time}, smoothness={self.smoothness}: "
                "write time/steps and smoothness up to 1e5"
            )

    def __call__(self, denoise, x, sigma, noise):
        root = math.sqrt(self.smoothness / unit(self.chart, sigma))  # sqrt(L)
        a, b, c, l, m, n = underdamped(2 * root, self.time / (self.steps * root))
        v = noise()
        for _ in range(self.steps):
            pull = x - denoise(x, sigma)  # -sigma^2 s
            w1 = noise()
            w2 = noise()
            x = torch.add(x, v, alpha=b)
            x = torch.add(x, pull, alpha=-c / sigma**2)
            x = torch.add(x, w1, alpha=l)
            x = torch.add(x, w2, alpha=m)
            v = torch.add(a * v, pull, alpha=-b / sigma**2)
            v = torch.add(v, w1, alpha=n)
        return x
