"""`init=` and `at=`: what samples start from, and at which level.

init=null           the sampler's own start; on a discrete schedule that of the variance-preserving
                    chart, N(0, (1 + sigma'^2) I), whatever the sampler
init=prior          N(0, sigma'^2 I)
init=gaussian_at    N(mean, covariance + sigma'^2 I) of the law
init=teleport       the sampler's start at the top of its grid, taken down by the closed flow of
                    N(mean, covariance)
at=sigma'           the first level; null: that of the sampler's grid
"""

from __future__ import annotations

from typing import Any, NamedTuple

from omegaconf import DictConfig
from torch import Tensor

from diffgeo.config.kinds import plain, shown
from diffgeo.core import Data, Sampler, Schedule
from diffgeo.data.reference import gaussian
from diffgeo.errors import UsageError
from diffgeo.schedule.below import below
from diffgeo.simulation.initial import GaussianAt, Initial, Own, Prior, Teleport, of_schedule

KINDS = ("prior", "gaussian_at", "teleport")


class Beginning(NamedTuple):
    """Where samples begin: what they start from (None: the sampler's own start), the schedule from
    there down, and its levels [K+1]."""

    initial: Initial | None
    chart: Schedule
    sigmas: Tensor


def beginning(
    cfg: DictConfig, data: Data, sampler: Sampler, chart: Schedule, sigmas: Tensor
) -> Beginning:
    """The beginning that a config asks for, of a sampler whose schedule `chart` has the grid
    `sigmas`. Raises UsageError on a word or a level that
    there is not, and for a law without a covariance."""
    init = cfg.get("init")
    level = plain("at", cfg.get("at"), float | None)
    if init is None and level is None:
        return Beginning(of_schedule(chart), chart, sigmas)
    top = float(sigmas[0])
    if level is not None and level != top:
        chart, sigmas = lowered(chart, sigmas, level, cfg.sampler.get("steps"))
    return Beginning(initial_of(init, data, sampler, top, chart), chart, sigmas)


def lowered(chart: Schedule, sigmas: Tensor, level: float, steps: Any) -> tuple[Schedule, Tensor]:
    """A schedule whose grid is `sigmas`, and the grid of `steps`, as sampler.steps says, from
    `level` down. Raises UsageError on a level outside the grid, and for a list of levels."""
    if not level > 0:
        raise UsageError(f"at={level:g}: write a level above 0, or null for the grid's first")
    chart = below(chart, sigmas, level)
    return chart, chart.grid(steps)


def initial_of(init: object, data: Data, sampler: Sampler, top: float, chart: Schedule) -> Initial:
    """What `init=` names, for a sampler whose grid on `chart` begins at the level `top`. Raises
    UsageError on another word, and for a law without a covariance."""
    if init is None:
        return of_schedule(chart) or Own(sampler)
    if init == "prior":
        return Prior()
    if init == "gaussian_at":
        return GaussianAt(gaussian(data))
    if init == "teleport":
        return Teleport(gaussian(data), sampler, top, of_schedule(chart))
    raise UsageError(f"init={shown(init)}: write null, or one of {', '.join(KINDS)}")
