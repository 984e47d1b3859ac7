"""How straight a trajectory is, in the chart in which it is looked at.

A trajectory is the states x_0 .. x_K of a sampling run; how straight it is depends on the chart x_t
= scale(sigma) x in which it is looked at, so the chart's name travels with it and stands in the
name of every number. The deviation of a state from the chord is (Chen et al. 2023, section 3)

    d(x) = |(x_K - x) - <x_K - x, u> u|,      u = (x_K - x_0)/|x_K - x_0|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.core import Schedule, Trajectory, expand
from diffgeo.errors import UsageError


def to_chart(trajectory: Trajectory, schedule: Schedule) -> Trajectory:
    """The same run in the chart x_t = scale(sigma) x of `schedule`. The denoised estimates are
    data, the same in every chart."""
    if trajectory.chart != "ve":
        raise UsageError(
            f'the trajectory is in the chart {trajectory.chart!r} already; change charts from "ve"'
        )
    scale = schedule.scale(trajectory.sigma).to(trajectory.x)
    x = expand(scale, trajectory.x) * trajectory.x
    return trajectory._replace(x=x, chart=type(schedule).__name__.lower())


def chord(trajectory: Trajectory) -> tuple[Tensor, Tensor]:
    """Each state's distance to the line through the first and the last one, [K+1,N], and the length
    of that chord, [N]."""
    x = trajectory.x.flatten(2)
    along = x[-1] - x[0]
    length = torch.linalg.vector_norm(along, dim=-1)
    u = along / length[:, None]
    back = x[-1] - x
    across = back - (back * u).sum(-1, keepdim=True) * u
    return torch.linalg.vector_norm(across, dim=-1), length


def straightness(trajectory: Trajectory) -> dict[str, float]:
    """max over levels of the mean deviation, the mean chord, and their ratio, under names that hold
    the chart."""
    deviation, length = chord(trajectory)
    worst = deviation.mean(1).max().item()
    mean = length.mean().item()
    name = f"trajectory/{trajectory.chart}"
    return {f"{name}/deviation": worst, f"{name}/chord": mean, f"{name}/curvature": worst / mean}
