"""The six clouds of an error budget: a run and its exact counterpart, with each cause of error
switched on alone.

A run has a start, steps down the positive levels S = s_0 > ... > s_L = e, and an ending: the step
from e to 0, or none. Each has an exact
counterpart: a start y ~ p_S, the exact process between the same levels (below), the flow from e to
0. With D* the exact denoiser and D the run's, six clouds are made from the same draws z, w_1, w_2,
... of noise, those of the run:

    truth  y, exact process of D*, flow to 0              law p_0
    fine   the same to e, then the run's ending with D*   truncation      = fine - truth
    start  the run's start S z, then as fine              initialization  = start - fine
    grid   y, the run's sampler on its grid with D*       discretization  = grid - fine
    net    y, exact process of D, ending with D           score           = net - fine
    run    the run: its start, its sampler, its grid, D   total           = run - truth

The exact process is the flow, by RK4 on a fine geometric grid. Where step k of the sampler adds
noise of deviation a, it is the flow to (s_k+1^2 - a^2)^(1/2), then a w_k with the step's own draws:
exact in law at every level for D*, whatever a <= s_k+1. And y is where the flow takes m + (H^2 +
std^2)^(1/2) z from H = 1000 std, where p_H is that Gaussian to a millionth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Noise
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow

CAUSES = ("truncation", "initialization", "discretization", "score")
ROWS = (*CAUSES, "interaction", "total")
FAR = 1e3  # deviations of the law: the level where it is taken for a Gaussian
DEPTH = 1e-3  # the flow to 0 ends at this fraction of the last positive level, with a jump of D*


class Clouds(NamedTuple):
    """[n,*D] each; row i of all of them comes from the same draws."""

    truth: Tensor
    fine: Tensor
    start: Tensor
    grid: Tensor
    net: Tensor
    run: Tensor

    def between(self, of) -> list:
        """The ROWS of a budget of a quantity `of` a cloud that can be subtracted."""
        truth, fine, *ends = (of(cloud) for cloud in self)
        causes = [fine - truth, *(end - fine for end in ends[:3])]
        return [*causes, ends[3] - truth - sum(causes), ends[3] - truth]


def flowed(denoise: Denoiser, x: Tensor, first: float, last: float, step: float) -> Tensor:
    """Where the flow takes x from the level `first` to `last` > 0, in steps of log sigma of at most
    `step`."""
    return flow(denoise, x, first, last, math.ceil(math.log(first / last) / step - 1e-9))


@dataclass(frozen=True)
class Process:
    """A simulation on its grid, and its exact counterpart.

    exact_run: whether the simulation's denoiser is the law's own.    fine: RK4 steps of a flow from the first to the last positive level.
    """

    simulation: Simulation
    exact_run: bool
    fine: int

    @property
    def positive(self) -> list[float]:
        return self.simulation.positive.tolist()

    @property
    def step(self) -> float:
        return max(math.log(self.positive[0] / self.positive[-1]), 1e-9) / self.fine

    def added(self, sigma: float, sigma_next: float, draws: int) -> float:
        """The noise that the exact process adds in a step: the sampler's, and no more than
        ancestral sampling does."""
        if not draws:
            return 0.0
        ancestral = sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
        return min(self.simulation.method.added_noise(sigma, sigma_next), ancestral)

    def own(
        self, denoise: Denoiser, numbers: range, x: Tensor | None = None
    ) -> tuple[Tensor, list[int]]:
        """The end of the simulation with another denoiser, from x in the place of its own start;
        and how often each step drew noise."""
        simulation = replace(self.simulation, denoise=denoise)
        start = simulation.start(numbers)
        if x is not None:
            start = start._replace(x=x)
        x = start.x
        drawn = [start.noise.drawn]
        for step in simulation.steps(start):
            x = step.x
            drawn.append(start.noise.drawn)
        return simulation.loop.kept(x), [b - a for a, b in pairwise(drawn)]

    def exact(self, denoise: Denoiser, x: Tensor, noise: Noise, draws: Sequence[int]) -> Tensor:
        """The end of the exact process at the last positive level; it uses up the draws of every
        step."""
        levels = self.positive
        if not any(draws[: len(levels) - 1]):
            return flowed(denoise, x, levels[0], levels[-1], self.step)
        for (sigma, sigma_next), count in zip(pairwise(levels), draws, strict=False):
            added = self.added(sigma, sigma_next, count)
            x = flowed(
                denoise, x, sigma, math.sqrt((sigma_next - added) * (sigma_next + added)), self.step
            )
            drawn = [noise() for _ in range(count)]
            x = torch.add(x, sum(drawn), alpha=added / math.sqrt(count)) if added else x
        return x

    def ending(self, denoise: Denoiser, x: Tensor, noise: Noise) -> Tensor:
        """The sampler's step from the last positive level to 0, if its grid has one."""
        simulation = self.simulation
        if simulation.sigmas[-1] > 0:
            return x
        shown = simulation.loop.around(denoise, simulation.highest)
        return simulation.method.step(shown, x, self.positive[-1], 0.0, [], noise).x

    def true_start(self, denoise: Denoiser, z: Tensor, data: Data) -> Tensor:
        """A draw of p_S for each z [n,*D]."""
        first = self.positive[0]
        high = max(first, FAR * float(data.std))
        return flowed(
            denoise,
            data.mean.to(z).reshape(data.shape) + math.hypot(high, data.std) * z,
            high,
            first,
            0.25,
        )

    def to_zero(self, denoise: Denoiser, x: Tensor) -> Tensor:
        last = self.positive[-1]
        return denoise(flowed(denoise, x, last, DEPTH * last, 0.25), DEPTH * last)


@torch.no_grad()
def clouds(process: Process, data: Data, numbers: range, held: dict) -> tuple[Clouds, bool]:
    """The six clouds of the samples of these numbers, and whether the sampler draws noise. held:
    what does not depend on the grid, from one grid to the next."""
    simulation = process.simulation
    first = process.positive[0]
    law = data.denoiser()
    model = law if process.exact_run else simulation.denoise
    exact, learned = (
        simulation.condition.around(denoise, numbers, simulation.device) for denoise in (law, model)
    )
    begun = simulation.start(numbers)
    if (numbers, first) not in held:
        held[numbers, first] = process.true_start(exact, begun.unit, data)
    true = held[numbers, first]
    start = begun.x
    grid, draws = process.own(law, numbers, true)

    def fine(name: str, denoise: Denoiser, x: Tensor) -> tuple[Tensor, Tensor]:
        """At the last positive level, and after the run's ending."""
        name = (name, numbers, first, process.positive[-1])
        noise = simulation.start(numbers).noise
        if any(draws[: len(process.positive) - 1]) or name not in held:
            held[name] = process.exact(denoise, x, noise, draws)
        return held[name], process.ending(denoise, held[name], noise)

    last, end = fine("fine", exact, true)
    truth = (
        "truth",
        *(
            (numbers, first, process.positive[-1])
            if not any(draws)
            else (numbers, tuple(process.positive))
        ),
    )
    if truth not in held:
        held[truth] = process.to_zero(exact, last)
    net = end if process.exact_run else fine("net", learned, true)[1]
    made = Clouds(
        held[truth], end, fine("start", exact, start)[1], grid, net, process.own(model, numbers)[0]
    )
    return made, any(draws)
