"""A run on its grid, and its exact counterpart.

A run has a start, steps down the positive levels S = s_0 > ... > s_L = e, and an ending: the step
from e to 0, or none. Each has an exact counterpart:

    a start     y ~ p_S: where the flow takes m + (H^2 + std^2)^(1/2) z from H = 1000 std, where
                p_H is that Gaussian to a millionth;
    steps       the exact process between the same levels: the flow, by RK4 on a fine geometric
                grid. Where step k of the sampler adds noise of deviation a, it is the flow to
                (s_k+1^2 - a^2)^(1/2), then a w_k with the step's own draws: exact in law at every
                level for the exact denoiser, whatever a <= s_k+1;
    an ending   the flow from e to 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Noise
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow

FAR = 1e3  # deviations of the law: the level where it is taken for a Gaussian
DEPTH = 1e-3  # the flow to 0 ends at this fraction of the last positive level, with a jump of D
COARSE = 0.25  # a step of log sigma of the flows outside the run's levels


def flowed(denoise: Denoiser, x: Tensor, first: float, last: float, step: float) -> Tensor:
    """Where the flow takes x from the level `first` to `last` > 0, in steps of log sigma of at most
    `step`."""
    count = math.ceil(math.log(first / last) / step - 1e-9)
    return flow(denoise, x, first, last, count)


class Ran(NamedTuple):
    """A run of the sampler on its grid."""

    end: Tensor  # [n,*D]
    draws: list[int]  # how often each step drew noise


@dataclass(frozen=True)
class Process:
    """A simulation on its grid, and its exact counterpart.

    simulation: of the run, on the grid that is looked at.
    exact_run: whether the simulation's denoiser is the law's own.
    fine: RK4 steps of a flow from the first to the last positive level.
    """

    simulation: Simulation
    exact_run: bool
    fine: int

    @cached_property
    def levels(self) -> list[float]:
        """The positive levels, decreasing."""
        return self.simulation.positive.tolist()

    @property
    def highest(self) -> float:
        return self.levels[0]

    @property
    def lowest(self) -> float:
        return self.levels[-1]

    @property
    def step(self) -> float:
        """The step of log sigma of a fine flow."""
        return max(math.log(self.highest / self.lowest), 1e-9) / self.fine

    def noisy(self, draws: Sequence[int]) -> bool:
        """Whether a step between positive levels drew noise."""
        return any(draws[: len(self.levels) - 1])

    def own(self, denoise: Denoiser, numbers: range, x: Tensor | None = None) -> Ran:
        """The run of the simulation with another denoiser, from x in the place of its own start."""
        simulation = replace(self.simulation, denoise=denoise)
        start = simulation.start(numbers)
        if x is not None:
            start = start._replace(x=x)
        end = start.x
        drawn = [start.noise.drawn]
        for step in simulation.steps(start):
            end = step.x
            drawn.append(start.noise.drawn)
        draws = [after - before for before, after in pairwise(drawn)]
        return Ran(simulation.loop.kept(end), draws)

    def true_start(self, denoise: Denoiser, z: Tensor, data: Data) -> Tensor:
        """A draw of p_S for each z [n,*D]."""
        far = max(self.highest, FAR * float(data.std))
        mean = data.mean.to(z).reshape(data.shape)
        x = mean + math.hypot(far, data.std) * z
        return flowed(denoise, x, far, self.highest, COARSE)

    def added(self, sigma: float, sigma_next: float, draws: int) -> float:
        """The noise that the exact process adds in a step: the sampler's, and no more than
        ancestral sampling does."""
        if not draws:
            return 0.0
        ancestral = sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
        return min(self.simulation.method.added_noise(sigma, sigma_next), ancestral)

    def exact(self, denoise: Denoiser, x: Tensor, noise: Noise, draws: Sequence[int]) -> Tensor:
        """The end of the exact process at the last positive level; it uses up the draws of every
        step."""
        if not self.noisy(draws):
            return flowed(denoise, x, self.highest, self.lowest, self.step)
        for (sigma, sigma_next), count in zip(pairwise(self.levels), draws, strict=False):
            added = self.added(sigma, sigma_next, count)
            below = math.sqrt((sigma_next - added) * (sigma_next + added))
            x = flowed(denoise, x, sigma, below, self.step)
            drawn = [noise() for _ in range(count)]
            if added:
                x = torch.add(x, sum(drawn), alpha=added / math.sqrt(count))
        return x

    def ending(self, denoise: Denoiser, x: Tensor, noise: Noise) -> Tensor:
        """The sampler's step from the last positive level to 0, if its grid has one."""
        simulation = self.simulation
        if simulation.sigmas[-1] > 0:
            return x
        shown = simulation.loop.around(denoise, simulation.highest)
        return simulation.method.step(shown, x, self.lowest, 0.0, [], noise).x

    def to_zero(self, denoise: Denoiser, x: Tensor) -> Tensor:
        """The exact ending: the flow from the last positive level to 0."""
        bottom = DEPTH * self.lowest
        return denoise(flowed(denoise, x, self.lowest, bottom, COARSE), bottom)
