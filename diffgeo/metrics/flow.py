"""The error of a sampler alone: how far its samples are from where the exact probability flow of the same denoiser takes the same noise.

    flow/rms^2 = mean_i |x_i - X_i|^2,      X_i = the flow from x_i's own start, by DPM-Solver++(3M) on a fine geometric grid

between the same first and last levels, a jump to 0 included when the grid has one. It says nothing of the denoiser: a wrong network has a
flow too. Samplers that draw noise of their own follow no flow and have no such number.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.points import points
from diffgeo.sampler import DPMpp3M, steps


@torch.no_grad()
def flow(denoise: Denoiser, x: Tensor, first: float, last: float, count: int) -> Tensor:
    """Where the flow takes x [n,*D] from the level `first` to the positive level `last`, in `count` steps."""
    grid = torch.logspace(0, 1, count + 1, base=last / first, dtype=torch.float64) * first
    for step in steps(DPMpp3M(), denoise, x, grid, None):
        x = step.x
    return x


class Held(NamedTuple):
    """An end of the flow, kept for the jobs of a sweep."""

    denoise: Denoiser
    start: Tensor
    end: Tensor


_held: dict[tuple[float, float, int], Held] = {}


@dataclass(frozen=True)
class FlowError:
    """`flow/rms` in data units over the first n samples, for deterministic samplers, against `steps` steps of the third-order teacher."""

    n: int = 500
    steps: int = 300

    def __post_init__(self):
        if self.n < 1 or self.steps < 10:
            raise UsageError(f"metrics.flow.n={self.n} steps={self.steps}: give n >= 1 and steps >= 10")

    def end(self, run: Run) -> Tensor:
        """X [n,*D], kept for the next run with the same denoiser, noise and ends."""
        first, last = float(run.sigmas[0]), float(run.sigmas[run.sigmas > 0][-1])
        x = run.sampler.start(run.noise[:self.n], first)
        held = _held.get((first, last, self.steps))
        if held is None or held.denoise is not run.denoise or not torch.equal(held.start, x):
            held = _held[first, last, self.steps] = Held(run.denoise, x, flow(run.denoise, x, first, last, self.steps))
        while len(_held) > 8:
            _held.pop(next(iter(_held)))
        return run.denoise(held.end, last) if run.sigmas[-1] == 0 else held.end

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.denoise is None or run.noise is None:
            return {}
        with torch.no_grad():
            error = points(run.samples[:self.n]) - points(self.end(run))
        return {"flow/rms": float(error.flatten(1).square().sum(1).mean().sqrt())}
