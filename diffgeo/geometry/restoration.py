"""What a measurement moves: the denoising path, the sampling path, or both.

At the state x of a level let D be the prior's estimate, D^ the one that the algorithm goes by, and
x' its next state. The same step with the same noise, told that the measurement is worth nothing
(sigma_n = 1e8), goes to x'_0. Then

    |D^ - D|                            is what the data moves the denoising path by,
    |x' - x'_0|/sqrt(1 + sigma'^2)      the sampling path, in the chart vp.

A prox at D (DiffPIR) moves D^, and x' through it alone; a step that draws the state to the noised
data (DPS-y_t) leaves D^ = D and moves x' itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Data, Noise, generator
from diffgeo.errors import UsageError
from diffgeo.geometry.paths import chord, length
from diffgeo.inverse.condition import Measured
from diffgeo.inverse.posterior import Prior
from diffgeo.simulation import Simulation

WORTHLESS = 1e8  # the noise of a measurement that says nothing
# whose steps do not look at sigma_n, so that they cannot be told so
BLIND = ("dps", "dps_published", "mcg", "projection", "repaint", "ddnm")


@dataclass(frozen=True)
class Moves:
    """n paths of an algorithm down the levels sigma [K+1], first to last.

    states [K+1,n,*D] and estimates [K,n,*D]: the sampling and the denoising path.
    of_estimate, of_state: what the data moved them by, [K,n]; the states in the chart vp.
    nfe: evaluations a path, the prior's own estimates not among them.
    """

    sigma: Tensor
    states: Tensor
    estimates: Tensor
    of_estimate: Tensor
    of_state: Tensor
    nfe: float

    def bend(self, path: Tensor) -> tuple[float, float]:
        """The largest mean distance of a path from its chord, and the mean chord."""
        off, whole = chord(path)
        return float(off.mean(1).max()), float(whole.mean())


class Remembered:
    """A `Noise` that keeps what it hands out, to hand it out again."""

    def __init__(self, noise: Noise):
        self.noise = noise
        self.kept: list[Tensor] = []

    def __call__(self) -> Tensor:
        self.kept.append(self.noise())
        return self.kept[-1]

    def again(self) -> Callable[[], Tensor]:
        """The same draws from the first on; others where more are asked for."""
        rest = list(self.kept)

        def draw() -> Tensor:
            return rest.pop(0) if rest else self.noise()

        return draw


@torch.no_grad()
def moves(simulation: Simulation, numbers: range) -> Moves:
    """The paths of these samples, and what the measurement moves at every level. Raises UsageError
    where the simulation is told no measurement, or its method remembers earlier steps."""
    told = simulation.condition
    if not isinstance(told, Measured):
        raise UsageError("there is no measurement here: write algorithms= and operator=")
    method = told.steered(simulation.method, numbers, simulation.device)
    if method.memory or method.adaptive or method.on(simulation.sigmas) is not method:
        raise UsageError(
            "a step is taken twice here, which needs one-step methods: write sampler=ddim or ddpm, "
            "and algorithms without particles or moments"
        )
    deaf = replace(told, measurement=replace(told.measurement, sigma_n=WORTHLESS))
    silent = replace(simulation, condition=deaf)

    start = simulation.start(numbers)
    beside = silent.start(numbers)
    prior = silent.shown(silent.denoise, numbers)
    x = start.x
    states = [x]
    estimates = []
    of_estimate = []
    of_state = []
    for sigma, below in pairwise(simulation.sigmas.tolist()):
        noise = Remembered(start.noise)
        step = start.method.step(start.denoise, x, sigma, below, [], noise)
        other = beside.method.step(beside.denoise, x, sigma, below, [], noise.again())
        estimates.append(step.denoised)
        of_estimate.append(length(step.denoised - prior(x, sigma)))
        of_state.append(length(step.x - other.x) / math.hypot(1, below))
        x = step.x
        states.append(x)
    states[-1] = simulation.kept(states[-1])
    return Moves(
        simulation.sigmas,
        torch.stack(states),
        torch.stack(estimates),
        torch.stack(of_estimate),
        torch.stack(of_state),
        start.counted.rows / len(numbers),
    )


def posterior_draws(
    data: Data, told: Measurement, n: int, seed: int
) -> tuple[Tensor, Tensor] | None:
    """Two sets of n draws of the exact posterior given the first of the measurements, float64; None
    where the law knows none."""
    if not isinstance(data, Prior):
        return None
    law = data.given(told.operator, told.y[0], told.sigma_n)
    one = law.sample(n, generator(seed, *b"posterior")).double()
    return one, law.sample(n, generator(seed, *b"again")).double()
