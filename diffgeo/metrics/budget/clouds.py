"""The six clouds of an error budget: a run and its exact counterpart, with each cause of error
switched on alone.

With D* the exact denoiser and D the run's, and the exact process of `process`, six clouds are made
from the same draws z, w_1, w_2, ... of noise, those of the run:

    truth  y ~ p_S, exact process of D*, flow to 0        law p_0
    fine   the same to e, then the run's ending with D*   truncation      = fine - truth
    start  the run's start S z, then as fine              initialization  = start - fine
    grid   y, the run's sampler on its grid with D*       discretization  = grid - fine
    net    y, exact process of D, ending with D           score           = net - fine
    run    the run: its start, its sampler, its grid, D   total           = run - truth
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Known
from diffgeo.metrics.budget.process import Process

CAUSES = ("truncation", "initialization", "discretization", "score")
ROWS = (*CAUSES, "interaction", "total")


class Clouds(NamedTuple):
    """[n,*D] each; row i of all of them comes from the same draws."""

    truth: Tensor
    fine: Tensor
    start: Tensor
    grid: Tensor
    net: Tensor
    run: Tensor


def differences(quantities: Iterable[Tensor]) -> list[Tensor]:
    """The ROWS of a budget of a quantity that each of the six clouds has, in the order of
    `Clouds`."""
    truth, fine, start, grid, net, run = quantities
    causes = [fine - truth, start - fine, grid - fine, net - fine]
    total = run - truth
    interaction = total - sum(causes)
    return [*causes, interaction, total]


class Kept:
    """What does not depend on the grid of a run, made once for all its grids."""

    def __init__(self) -> None:
        self.made: dict[Hashable, Tensor] = {}

    def get(self, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


class Ends(NamedTuple):
    """Where an exact process ends."""

    lowest: Tensor  # at the last positive level
    ended: Tensor  # after the run's own ending


@torch.no_grad()
def clouds(process: Process, data: Known, numbers: range, kept: Kept) -> tuple[Clouds, bool]:
    """The six clouds of the samples of these numbers, and whether the sampler draws noise."""
    simulation = process.simulation
    law = data.denoiser()
    model = law if process.exact_run else simulation.denoise
    exact = simulation.condition.around(law, numbers, simulation.device)
    learned = simulation.condition.around(model, numbers, simulation.device)
    levels = (process.highest, process.lowest)

    start = simulation.start(numbers)
    true_start = kept.get(
        ("true start", numbers, process.highest),
        lambda: process.true_start(exact, start.unit, data),
    )
    grid = process.own(law, numbers, true_start)
    noisy = process.noisy(grid.draws)  # then the exact process depends on the grid, by its noise

    def exactly(name: str, denoise: Denoiser, x: Tensor) -> Ends:
        """The exact process from x, with the draws of the run."""
        noise = simulation.start(numbers).noise
        if noisy:
            lowest = process.exact(denoise, x, noise, grid.draws)
        else:
            lowest = kept.get(
                (name, numbers, levels), lambda: process.exact(denoise, x, noise, grid.draws)
            )
        return Ends(lowest, process.ending(denoise, lowest, noise))

    fine = exactly("fine", exact, true_start)
    if noisy:
        truth = process.to_zero(exact, fine.lowest)
    else:
        truth = kept.get(("truth", numbers, levels), lambda: process.to_zero(exact, fine.lowest))
    net = fine if process.exact_run else exactly("net", learned, true_start)
    made = Clouds(
        truth=truth,
        fine=fine.ended,
        start=exactly("start", exact, start.x).ended,
        grid=grid.end,
        net=net.ended,
        run=process.own(model, numbers).end,
    )
    return made, any(grid.draws)
