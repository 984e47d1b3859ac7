"""The error of a sampler alone: how far its samples are from where the exact probability flow of
the same denoiser takes the same noise.

    flow/rms^2 = mean_i |x_i - X_i|^2,

X_i the flow from x_i's own start by DPM-Solver++(3M) on a fine geometric grid, between the same
first and last levels, a jump to 0 included when the grid has one. It says nothing of the denoiser:
a wrong network has a flow too. That flow is of the denoiser told the sample's class, without the
options of the sampling loop (clip, threshold, afs, rounding): what they change counts as the
sampler's error. Samplers that draw noise of their own follow no flow and have no such number, nor
has a cloud that was read from a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points
from diffgeo.sampler import DPMpp3M
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow

TEACHER = DPMpp3M()


@dataclass
class Held:
    """Ends of one denoiser's flow, kept for the jobs of a sweep: (first, last, count) -> (start,
    end). The next denoiser displaces them."""

    denoise: Denoiser | None = None
    ends: dict[tuple[float, float, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def end(self, denoise: Denoiser, x: Tensor, first: float, last: float, count: int) -> Tensor:
        """The flow from x at the level `first` to `last`, in `count` steps, computed once."""
        levels = first, last, count
        if denoise is not self.denoise:
            self.denoise = denoise
            self.ends = {}
        if levels not in self.ends or not torch.equal(self.ends[levels][0], x):
            self.ends[levels] = x, flow(denoise, x, *levels, TEACHER)
        return self.ends[levels][1]


_held = Held()


@dataclass(frozen=True)
class FlowError(Measure):
    """`flow/rms` in data units over the first n samples, for deterministic samplers, against
    `steps` steps of the third-order teacher."""

    n: int = 500
    steps: int = 300

    floors = False  # of a sampler, not of a cloud

    def __post_init__(self):
        if self.n < 1 or self.steps < 10:
            raise UsageError(
                f"metrics.flow.n={self.n} steps={self.steps}: give n >= 1 and steps >= 10"
            )

    def steady(self, key: str, n: int) -> bool:
        return n >= self.n

    def end(self, simulation: Simulation, numbers: range) -> Tensor:
        """X of the samples of these numbers, [n,*D]."""
        first = simulation.highest
        last = float(simulation.positive[-1])
        told = simulation.condition.around(simulation.denoise, numbers, simulation.device)
        end = _held.end(told, simulation.start(numbers).x, first, last, self.steps)
        if simulation.sigmas[-1] == 0:
            return told(end, last)
        return end

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None or run.nfe is None or not run.simulation.deterministic:
            return {}
        with torch.no_grad():
            end = self.end(run.simulation, run.numbers[: self.n])
        error = points(run.samples[: self.n]) - points(end)
        return {"flow/rms": float(error.flatten(1).square().sum(1).mean().sqrt())}
