"""A schedule from a level of one's own down: where a late start begins.

With K steps the levels are laid by the schedule's own rule between sigma' and its lowest one, in
its own time, as Raya & Ambrogioni (2023) lay theirs: seq = linspace(0, T', K). A schedule with
trained levels begins at the one nearest to sigma'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Schedule
from diffgeo.errors import UsageError


@runtime_checkable
class Lowered(Protocol):
    """A schedule that can begin at another level than its highest."""

    def below(self, sigma: float) -> Schedule: ...


@runtime_checkable
class Starting(Protocol):
    """A choice of timesteps that begins at a level of its own, not at the highest trained one."""

    def below(self, sigma: float) -> Callable: ...


@dataclass(frozen=True)
class First:
    """The first T variances of `betas`: the same trained levels, up to one of them."""

    betas: Callable[[], Tensor]
    T: int

    def __call__(self) -> Tensor:
        return self.betas()[: self.T]


def below(schedule: Schedule, sigmas: Tensor, sigma: float) -> Schedule:
    """`schedule`, whose grid is `sigmas` [K+1], from the level sigma down; itself where that is its
    first level. Raises UsageError where sigma is above it, or not above the lowest one, or where
    the levels are a list."""
    first = float(sigmas[0])
    last = float(sigmas[sigmas > 0][-1])
    if sigma == first:
        return schedule
    if sigma > first:
        raise UsageError(
            f"at={sigma:g} is above the first level of the grid, {first:g}: write at={first:g} or "
            "less, or a schedule that begins higher"
        )
    if sigma <= last:
        raise UsageError(
            f"at={sigma:g} is not above the last positive level of the grid, {last:g}: write more"
        )
    if not isinstance(schedule, Lowered):
        raise UsageError(
            f"at={sigma:g}: {type(schedule).__name__} lists its levels, and has none to lay from "
            "there; write a list that begins there, or another sampler.schedule="
        )
    return schedule.below(sigma)


def grid_below(schedule: Schedule, steps: int, sigma: float) -> Tensor:
    """The levels of so many steps of `schedule`, from sigma down where it begins higher, [K+1]."""
    sigmas = schedule.grid(steps)
    if float(sigmas[0]) <= sigma:
        return sigmas
    return below(schedule, sigmas, sigma).grid(steps)
