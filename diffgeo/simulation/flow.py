"""The exact flow of a denoiser, by a method of high order on a fine geometric grid: what samplers
are measured against."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler, Step
from diffgeo.sampler import RK4, steps


def end(run: Iterable[Step], x: Tensor) -> Tensor:
    """The last state of a run that sets out from x; x itself of a run without steps."""
    for step in run:
        x = step.x
    return x


def silence() -> Tensor:
    """The noise of a run that must not draw any."""
    raise AssertionError("a method that follows the flow drew noise")


@torch.no_grad()
def flow(
    denoise: Denoiser, x: Tensor, first: float, last: float, count: int, method: Sampler = RK4()
) -> Tensor:
    """Where the flow takes x [n,*D] from the level `first` to the positive level `last`, in `count`
    geometric steps of `method`; x itself when the levels are one, or there are no steps."""
    if first == last or not count:
        return x
    ratios = torch.logspace(0, 1, count + 1, base=last / first, dtype=torch.float64)
    return end(steps(method, denoise, x, ratios * first, silence), x)
