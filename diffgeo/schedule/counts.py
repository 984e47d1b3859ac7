"""Whether a grid has the steps that were asked for, and if not, why."""

from __future__ import annotations

from torch import Tensor

from diffgeo.core import Schedule
from diffgeo.schedule.discrete import Discrete
from diffgeo.schedule.stages import Stages


def other_count(schedule: Schedule, sigmas: Tensor, steps: int | None) -> str:
    """What to say of the grid `sigmas` [K+1] that `schedule` made for `steps`; "" where it has as
    many, or their number was left to the schedule."""
    done = len(sigmas) - 1
    if steps is None or done == steps:
        return ""
    why = ""
    if isinstance(schedule, Discrete):
        why = (
            ": of its levels several fall on one trained level, and a step of no length is left out"
        )
    elif isinstance(schedule, Stages):
        why = (
            f": {len(schedule.ends)} stages of equally many equal steps, and the halvings of the "
            "last one"
        )
    return f"sampler.steps={steps}: {done} steps are done{why}"
