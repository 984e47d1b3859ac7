"""The six clouds of an error budget: a run and its exact counterpart, with each cause of error switched on alone.

A run has a start, steps down the positive levels S = s_0 > ... > s_L = e, and an ending: the step from e to 0, or none. Each has an exact
counterpart: a start y ~ p_S, the exact process between the same levels (below), the flow from e to 0. With D* the exact denoiser and D the
run's, six clouds are made from the same draws z, w_1, w_2, ... of noise, those of the run:

    truth  y, exact process of D*, flow to 0              law p_0
    fine   the same to e, then the run's ending with D*   truncation      = fine - truth
    start  the run's start S z, then as fine              initialization  = start - fine
    grid   y, the run's sampler on its grid with D*       discretization  = grid - fine
    net    y, exact process of D, ending with D           score           = net - fine
    run    the run: its start, its sampler, its grid, D   total           = run - truth

The exact process is the flow, by RK4 on a fine geometric grid. Where step k of the sampler adds noise of deviation a, it is the flow to
(s_k+1^2 - a^2)^(1/2), then a w_k with the step's own draws: exact in law at every level for D*, whatever a <= s_k+1. And y is where the
flow takes m + (H^2 + std^2)^(1/2) z from H = 1000 std, where p_H is that Gaussian to a millionth.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Noise, Run
from diffgeo.noise import Streams
from diffgeo.sample import Loop, keys
from diffgeo.sampler import RK4, steps

CAUSES = ("truncation", "initialization", "discretization", "score")
ROWS = (*CAUSES, "interaction", "total")
FAR = 1e3                               # deviations of the law: the level where it is taken for a Gaussian
DEPTH = 1e-3                            # the flow to 0 ends at this fraction of the last positive level, with a jump of D*


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


def flow(denoise: Denoiser, x: Tensor, first: float, last: float, step: float) -> Tensor:
    """Where the flow takes x from the level `first` to `last` > 0, by RK4 in steps of log sigma of at most `step`."""
    count = math.ceil(math.log(first / last) / step - 1e-9)
    grid = torch.logspace(0, 1, count + 1, base=last / first, dtype=torch.float64) * first
    for end in steps(RK4(), denoise, x, grid, None) if count else ():
        x = end.x
    return x


@dataclass(frozen=True)
class Process:
    """A run's sampler on its grid, and its exact counterpart. fine: RK4 steps of a flow from the first to the last positive level."""

    run: Run
    sigmas: Tensor
    fine: int

    @property
    def positive(self) -> list[float]:
        return self.sigmas[self.sigmas > 0].tolist()

    @property
    def step(self) -> float:
        return max(math.log(self.positive[0] / self.positive[-1]), 1e-9) / self.fine

    def added(self, sigma: float, sigma_next: float, draws: int) -> float:
        """The noise that the exact process adds in a step: the sampler's, and no more than ancestral sampling does."""
        told = getattr(self.run.sampler, "added_noise", lambda *levels: math.inf)
        return min(told(sigma, sigma_next), sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)) if draws else 0.0

    def own(self, denoise: Denoiser, x: Tensor, noise: Streams) -> tuple[Tensor, list[int]]:
        """The end of the sampler's run, and how often each step drew noise."""
        loop, drawn = self.run.loop or Loop(), [noise.drawn]
        denoise = loop.around(denoise, float(self.sigmas[0]))
        for end in steps(self.run.sampler, denoise, x, self.sigmas, noise, lower_order_final=loop.lower_order_final):
            x = end.x
            drawn.append(noise.drawn)
        return loop.kept(x), [b - a for a, b in pairwise(drawn)]

    def exact(self, denoise: Denoiser, x: Tensor, noise: Noise, draws: Sequence[int]) -> Tensor:
        """The end of the exact process at the last positive level; it uses up the draws of every step."""
        levels = self.positive
        if not any(draws[:len(levels) - 1]):
            return flow(denoise, x, levels[0], levels[-1], self.step)
        for (sigma, sigma_next), count in zip(pairwise(levels), draws, strict=False):
            added = self.added(sigma, sigma_next, count)
            x = flow(denoise, x, sigma, math.sqrt((sigma_next - added) * (sigma_next + added)), self.step)
            drawn = [noise() for _ in range(count)]
            x = torch.add(x, sum(drawn), alpha=added / math.sqrt(count)) if added else x
        return x

    def ending(self, denoise: Denoiser, x: Tensor, noise: Noise) -> Tensor:
        """The sampler's step from the last positive level to 0, if its grid has one."""
        if self.sigmas[-1] > 0:
            return x
        loop, last = self.run.loop or Loop(), self.positive[-1]
        return self.run.sampler.step(loop.around(denoise, float(self.sigmas[0])), x, last, 0.0, [], noise).x

    def true_start(self, denoise: Denoiser, z: Tensor, data: Data) -> Tensor:
        """A draw of p_S for each z [n,*D]."""
        first = self.positive[0]
        high = max(first, FAR * float(data.std))
        return flow(denoise, data.mean.to(z).reshape(data.shape) + math.hypot(high, data.std) * z, high, first, 0.25)

    def to_zero(self, denoise: Denoiser, x: Tensor) -> Tensor:
        last = self.positive[-1]
        return denoise(flow(denoise, x, last, DEPTH * last, 0.25), DEPTH * last)


@torch.no_grad()
def clouds(process: Process, data: Data, numbers: range, held: dict) -> tuple[Clouds, bool]:
    """The six clouds of the samples of these numbers, and whether the sampler draws noise. held: what does not depend on the grid, from one
    grid to the next."""
    run, device = process.run, process.run.samples.device
    exact, shape, first = data.denoiser(), tuple(data.shape), process.positive[0]
    learned = exact if run.exact else run.denoise

    def streams() -> tuple[Tensor, Streams]:
        noise = Streams(keys(run.seed, len(numbers), numbers.start, device), shape)
        return noise(), noise

    z, noise = streams()
    if (numbers, first) not in held:
        held[numbers, first] = process.true_start(exact, z, data)
    true, start = held[numbers, first], run.sampler.start(z, first)
    grid, draws = process.own(exact, true, noise)

    def fine(name: str, denoise: Denoiser, x: Tensor) -> tuple[Tensor, Tensor]:
        """At the last positive level, and after the run's ending."""
        name, noise = (name, numbers, first, process.positive[-1]), streams()[1]
        if any(draws[:len(process.positive) - 1]) or name not in held:
            held[name] = process.exact(denoise, x, noise, draws)
        return held[name], process.ending(denoise, held[name], noise)

    last, end = fine("fine", exact, true)
    truth = ("truth", *((numbers, first, process.positive[-1]) if not any(draws) else (numbers, tuple(process.positive))))
    if truth not in held:
        held[truth] = process.to_zero(exact, last)
    net = end if run.exact else fine("net", learned, true)[1]
    made = Clouds(held[truth], end, fine("start", exact, start)[1], grid, net, process.own(learned, start, streams()[1])[0])
    return made, any(draws)
