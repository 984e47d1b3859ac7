"""Samplers that repair a step at the level it has reached.

    PredictorCorrector   steps of any one-step sampler, then, where a stage ends, Langevin dynamics
                         at the frozen level sigma', whose law is p_sigma' (correctors.py); a stage
                         is one step, or a length of time in a chart
    Restart              after the step across t_min: noise up to t_max, down again by the inner
                         sampler, K times

A corrector's error is set by its own step, and Restart keeps the error of its sub-steps. Hence
order = 0 in the number of steps. Refined together with the grid they converge: with delta or the
sub-step time/steps like 1/N in order 1, with substeps like N in the order of the inner sampler.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diffgeo.core import Chart, Sampler
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.charts import levels_of
from diffgeo.sampler.correctors import Corrector, Langevin
from diffgeo.sampler.deterministic import Euler, Heun
from diffgeo.schedule import OU
from diffgeo.schedule.stages import SLACK


class Corrected(Method):
    """A sampler around a one-step sampler: it starts as that does, and its noise is what its step
    really leaves."""

    order = 0

    @property
    @abstractmethod
    def base(self) -> Sampler:
        """The one-step sampler."""

    def start(self, noise, sigma):
        return self.base.start(noise, sigma)

    def added_noise(self, sigma, sigma_next):
        """On a law that is one point D does not move, and x' is linear in the draws: the root of
        the sum of its squared coefficients."""
        return float(response(self, sigma, sigma_next).norm())


def response(sampler: Sampler, sigma: float, sigma_next: float) -> Tensor:
    """The coefficients [draws,1] of x' in the draws of noise of one step from x = 0, where the law
    is the point 0: what the step makes of unit impulses in the place of noise."""
    point = torch.zeros(1, 1, dtype=torch.float64)
    draws = 0

    def at_the_point(x: Tensor, sigma, **cond) -> Tensor:
        return torch.zeros_like(x)

    def silent() -> Tensor:
        nonlocal draws
        draws += 1
        return point

    sampler.step(at_the_point, point, sigma, sigma_next, [], silent)
    impulses = iter(torch.eye(draws, dtype=torch.float64)[..., None])  # draw k moves row k alone

    def impulse() -> Tensor:
        return next(impulses)

    rows = torch.zeros(draws, 1, dtype=torch.float64)
    return sampler.step(at_the_point, rows, sigma, sigma_next, [], impulse).x


def one_step(sampler: Sampler, name: str) -> None:
    """Raise UsageError on a multistep method, naming the option."""
    if sampler.memory:
        raise UsageError(
            f"sampler.{name}: {type(sampler).__name__} remembers earlier steps, and new noise "
            "would break its memory; write a one-step sampler, e.g. diffgeo.sampler.Heun"
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
    chart: Chart = OU()

    def __post_init__(self):
        one_step(self.predictor, "predictor")
        if self.stage is not None and not 0 < self.stage < math.inf:
            raise UsageError(
                f"sampler.stage={self.stage}: write null, or a positive time between corrections"
            )

    @property
    def base(self) -> Sampler:
        return self.predictor

    def on(self, sigmas):
        return replace(self, predictor=self.predictor.on(sigmas))

    def ends(self, sigma: float, sigma_next: float) -> bool:
        """Whether a stage ends in the step."""
        if self.stage is None:
            return True
        # times in stages, whose multiples are whole numbers
        level = levels_of(self.chart)
        now = level(sigma).t / self.stage
        then = level(sigma_next).t / self.stage
        lowest = self.chart.t_min / self.stage
        past_a_multiple = math.ceil(then - SLACK) < math.ceil(now - SLACK)
        past_the_lowest = then - lowest <= SLACK < now - lowest
        return past_a_multiple or past_the_lowest

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        step = self.predictor.step(denoise, x, sigma, sigma_next, history, noise)
        if sigma_next == 0 or not self.ends(sigma, sigma_next):
            return step
        return step._replace(x=self.corrector(denoise, step.x, sigma_next, noise))


@dataclass(frozen=True)
class Restart(Corrected):
    """Restart (Xu et al. 2023, Algorithm 1): the step that reaches a level sigma' <= t_min from
    above is followed, `times` times, by

        x <- x + sqrt(t_max^2 - sigma'^2) w,

    then from t_max to sigma' in `substeps` of the inner sampler, rho = 7. A flow keeps every error
    it has made; the new noise forgets it. For restarts in several intervals nest one Restart in
    another.

    Raises UsageError on an empty interval, a multistep inner sampler, and a grid that has no level
    in (0, t_min].
    """

    inner: Sampler = Heun()
    t_min: float = 0.05
    t_max: float = 0.3
    times: int = 1
    substeps: int = 4

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

    @property
    def base(self) -> Sampler:
        return self.inner

    def on(self, sigmas):
        return replace(self, inner=self.inner.on(sigmas))

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
                f"is {sigma:.4g}; write a larger t_min or more steps"
            )
        x = step.x
        up = math.sqrt(self.t_max**2 - sigma_next**2)
        for _ in range(self.times):
            x = torch.add(x, noise(), alpha=up)
            for high, low in pairwise(self.levels(sigma_next)):
                x = self.inner.step(denoise, x, high, low, history, noise).x
        return step._replace(x=x)
