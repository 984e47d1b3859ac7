"""Samplers that repair a step at the level it has reached: Langevin correctors and Restart.

    PredictorCorrector   steps of any one-step sampler, then, where a stage ends, Langevin dynamics at the frozen level sigma', whose law is
                         p_sigma'; a stage is one step, or a length of time in a chart
      Langevin           x <- x + h s + sqrt(2h) w,     s = (D - x)/sigma'^2 the score,     h = delta sigma'^2
      Underdamped        dx = v dt,  dv = (s - gamma v) dt + sqrt(2 gamma) dW,   s frozen over a sub-step, all else exact
    Restart              after the step across t_min: noise up to t_max, down again by the inner sampler, K times

Langevin dynamics of x_t = scale x is that of x with another unit of time: a step h of x_t is a step
h/scale^2 of x, a score of x_t with slopes up to L a score of x with slopes up to L scale^2. So a
corrector counts in one variance u, sigma'^2 or in a chart 1/scale^2: steps in u, slopes in 1/u.

A corrector's own error is set by its step, not by the grid. On a Gaussian of variance lambda +
sigma'^2 Langevin's law has the variance

    (lambda + sigma'^2)/(1 - r/2),      r = delta sigma'^2/(lambda + sigma'^2),

which no finer grid improves, and Restart keeps the error of its sub-steps. Hence order = 0 in the
number of steps. Refined together with the grid they converge: with delta or the sub-step time/steps
like 1/N in order 1, with substeps like N in the order of the inner sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Noise, Sampler, Schedule
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.deterministic import Euler, Heun
from diffgeo.sampler.stochastic import levels_of
from diffgeo.schedule import OU
from diffgeo.schedule.stages import SLACK


class Corrector(Protocol):
    # x [B,*D] at sigma -> [B,*D] at sigma
    def __call__(self, denoise: Denoiser, x: Tensor, sigma: float, noise: Noise) -> Tensor: ...


@dataclass(frozen=True)
class Uncorrected:
    """No corrector."""

    def __call__(self, denoise, x, sigma, noise):
        return x


def unit(chart: Schedule | None, sigma: float) -> float:
    """The variance in which a corrector counts at the level sigma: sigma^2, or that of x where x_t
    = scale x has variance 1."""
    return sigma**2 if chart is None else levels_of(chart)(sigma).scale ** -2


@dataclass(frozen=True)
class Langevin:
    """Overdamped (unadjusted) Langevin: `steps` times x <- x + h s + sqrt(2h) w, s = (D -
    x)/sigma^2, h = delta u. One evaluation each.

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
    chart: Schedule | None = None

    def __post_init__(self):
        if not 0 < self.delta < (2 if self.chart is None else math.inf):
            raise UsageError(
                f"corrector.delta={self.delta}: write "
                + (
                    "0 < delta < 2, the step in units of sigma^2"
                    if self.chart is None
                    else "a positive step, below 2/L"
                )
            )
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


@lru_cache(maxsize=1024)
def underdamped(gamma: float, h: float) -> tuple[float, float, float, float, float, float]:
    """a, b, c and the factor (l, m, n) of the noise in the exact step of x, v under a frozen score:

        x' = x + b v + c s + l w1 + m w2        v' = a v + b s + n w1           (w1, w2 standard normal)

    a = e^-u, b = (1-a)/gamma, c = (h-b)/gamma, u = gamma h. The covariance of the noise (Cheng et
    al. 2018, unit mass and temperature),

        Var v = 1-a^2,     Cov = (1-a)^2/gamma,     Var x = (2u - 4(1-a) + 1-a^2)/gamma^2,

    falls like h, h^2, h^3; without cancellation, by t = tanh(u/2) = (1-a)/(1+a),   l = (1-a) sqrt(t)/gamma,   m^2 = (2u - 4t)/gamma^2.
    """
    u = gamma * h
    t = math.tanh(u / 2)
    deficit = tanh_deficit(u / 2)
    a = math.exp(-u)
    lost = -math.expm1(-u)
    c = 2 * (deficit + u / 2 * t) / (1 + t)
    return (
        a,
        lost / gamma,
        c / gamma**2,
        lost * math.sqrt(t) / gamma,
        2 * math.sqrt(deficit) / gamma,
        math.sqrt(-math.expm1(-2 * u)),
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
    chart: Schedule | None = None

    def __post_init__(self):
        if not (self.time > 0 and self.steps >= 1 and self.smoothness > 0):
            raise UsageError(
                f"corrector.time={self.time}, steps={self.steps}, smoothness={self.smoothness}: "
                "write positive numbers"
            )
        if self.time > 1e5 * self.steps or self.smoothness > 1e5:
            raise UsageError(
                f"corrector.time={self.time}, smoothness={self.smoothness}: write time/steps and "
                "smoothness up to 1e5"
            )

    def __call__(self, denoise, x, sigma, noise):
        root = math.sqrt(self.smoothness / unit(self.chart, sigma))  # sqrt(L)
        a, b, c, l, m, n = underdamped(2 * root, self.time / (self.steps * root))
        v = noise()
        for _ in range(self.steps):
            # -sigma^2 s
            pull = x - denoise(x, sigma)
            w = noise()
            for weight, part in ((b, v), (-c / sigma**2, pull), (l, w), (m, noise())):
                x = torch.add(x, part, alpha=weight)
            v = torch.add(torch.add(a * v, pull, alpha=-b / sigma**2), w, alpha=n)
        return x


class Corrected(Method):
    """A sampler around a one-step sampler `base`: it starts as that does, and its noise is what its
    step really leaves."""

    order = 0

    def start(self, noise, sigma):
        return self.base.start(noise, sigma)

    def added_noise(self, sigma, sigma_next):
        """On a law that is one point D does not move, and x' is linear in the draws: the root of
        the sum of its squared coefficients."""
        point = lambda x, sigma: torch.zeros_like(x)
        silence = torch.zeros(1, 1, dtype=torch.float64)
        drawn = []
        self.step(point, silence, sigma, sigma_next, [], lambda: drawn.append(0) or silence)
        turn = iter(torch.eye(len(drawn), dtype=torch.float64)[..., None])
        end = self.step(
            point,
            torch.zeros(len(drawn), 1, dtype=torch.float64),
            sigma,
            sigma_next,
            [],
            lambda: next(turn),
        ).x
        return float(end.norm())


def one_step(sampler: Sampler, name: str) -> None:
    if sampler.memory:
        raise UsageError(
            f"sampler.{name}: {type(sampler).__name__} remembers earlier steps, and new noise "
            "would break its memory; "
            "write a one-step sampler, e.g. diffgeo.sampler.Heun"
        )


@dataclass(frozen=True)
class PredictorCorrector(Corrected):
    """Predictor-corrector sampling (Song et al. 2021, Algorithm 1): steps of `predictor`; where a
    stage ends at sigma' > 0, `corrector`.

    stage: the time between corrections, in the time t of `chart`; None: every step is a stage.
        Stages end at the multiples of `stage` (at the first level there or below) and at the
        chart's lowest level t_min.
    Raises UsageError when the predictor is a multistep method, and on a stage that is not positive.
    """

    predictor: Sampler = Euler()
    corrector: Corrector = Langevin()
    stage: float | None = None
    chart: Schedule = OU()

    base = property(lambda self: self.predictor)

    def on(self, sigmas):
        return replace(self, predictor=self.predictor.on(sigmas))

    def __post_init__(self):
        one_step(self.predictor, "predictor")
        if self.stage is not None and not 0 < self.stage < math.inf:
            raise UsageError(
                f"sampler.stage={self.stage}: write null, or a positive time between corrections"
            )

    def ends(self, sigma: float, sigma_next: float) -> bool:
        """Whether a stage ends in the step."""
        if self.stage is None:
            return True
        level = levels_of(self.chart)
        lowest = getattr(self.chart, "t_min", 0.0)
        now = level(sigma).t / self.stage
        then = level(sigma_next).t / self.stage
        return (
            math.ceil(then - SLACK) < math.ceil(now - SLACK)
            or then - lowest / self.stage <= SLACK < now - lowest / self.stage
        )

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        step = self.predictor.step(denoise, x, sigma, sigma_next, history, noise)
        if sigma_next == 0 or not self.ends(sigma, sigma_next):
            return step
        return step._replace(x=self.corrector(denoise, step.x, sigma_next, noise))


@dataclass(frozen=True)
class Restart(Corrected):
    """Restart (Xu et al. 2023, Algorithm 1): the step that reaches a level sigma' <= t_min from
    above is followed, `times` times, by

        x <- x + sqrt(t_max^2 - sigma'^2) w,      then from t_max to sigma' in `substeps` of the inner sampler, rho = 7.

    A flow keeps every error it has made; the new noise forgets it. For restarts in several
    intervals nest one Restart in another.
    Raises UsageError on an empty interval, a multistep inner sampler, and a grid that has no level
    in (0, t_min].
    """

    inner: Sampler = Heun()
    t_min: float = 0.05
    t_max: float = 0.3
    times: int = 1
    substeps: int = 4

    base = property(lambda self: self.inner)

    def on(self, sigmas):
        return replace(self, inner=self.inner.on(sigmas))

    def __post_init__(self):
        one_step(self.inner, "inner")
        if not 0 < self.t_min < self.t_max:
            raise UsageError(
                f"sampler.t_min={self.t_min}, t_max={self.t_max}: write 0 < t_min < t_max, the "
                "levels to restart between"
            )
        if self.times < 1 or self.substeps < 1:
            raise UsageError(
                f"sampler.times={self.times}, substeps={self.substeps}: write 1 or more of each"
            )

    def levels(self, low: float) -> list[float]:
        """t_max .. low, substeps + 1 of them, equally spaced in sigma^(1/7)."""
        high = self.t_max ** (1 / 7)
        end = low ** (1 / 7)
        between = [(high + (end - high) * k / self.substeps) ** 7 for k in range(1, self.substeps)]
        return [self.t_max, *between, low]

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        step = self.inner.step(denoise, x, sigma, sigma_next, history, noise)
        if not sigma > self.t_min >= sigma_next:
            return step
        if sigma_next == 0:
            raise UsageError(
                f"sampler.t_min={self.t_min}: no level of the grid lies between it and 0, the last "
                f"is {sigma:.4g}; "
                "write a larger t_min or more steps"
            )
        x = step.x
        for _ in range(self.times):
            x = torch.add(x, noise(), alpha=math.sqrt(self.t_max**2 - sigma_next**2))
            for high, low in pairwise(self.levels(sigma_next)):
                x = self.inner.step(denoise, x, high, low, history, noise).x
        return step._replace(x=x)
