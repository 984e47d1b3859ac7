"""The charts in which a path is looked at.

A path is the states of a sampling run at the levels sigma_0 > .. > sigma_K. How straight it is
depends on the chart x_t = scale(sigma) x:

    ve     x_t = x                        the coordinates in which the flow is dx/dsigma = eps
    vp     x_t = x/sqrt(1 + sigma^2)      variance-preserving processes
    flow   x_t = x/(1 + sigma)            the straight paths of flow matching

The scales are those of the schedules of the same name, whatever levels these lay. Denoised
estimates are data, the same in every chart: their chart is called `all`.
"""

from __future__ import annotations

from diffgeo.core import Schedule, Trajectory, expand
from diffgeo.errors import UsageError
from diffgeo.schedule import VE, VP, Flow

CHARTS: dict[str, Schedule] = {"ve": VE(), "vp": VP(), "flow": Flow()}
EVERY = "all"  # the chart of what is the same in every chart


def to_chart(trajectory: Trajectory, schedule: Schedule) -> Trajectory:
    """The same run in the chart x_t = scale(sigma) x of `schedule`. Raises UsageError where it is
    not in the chart "ve"."""
    if trajectory.chart != "ve":
        raise UsageError(
            f'the trajectory is in the chart {trajectory.chart!r} already; change charts from "ve"'
        )
    scale = schedule.scale(trajectory.sigma).to(trajectory.x)
    x = expand(scale, trajectory.x) * trajectory.x
    return trajectory._replace(x=x, chart=type(schedule).__name__.lower())
