"""The error of a sampler alone: how far its samples are from where the exact probability flow of the same denoiser takes the same noise.

    flow/rms^2 = mean_i |x_i - X_i|^2,      X_i = the flow from x_i's own start, by DPM-Solver++(3M) on a fine geometric grid

between the same first and last levels, a jump to 0 included when the grid has one. It says nothing of the denoiser: a wrong network has a
flow too. That flow is of the denoiser itself, without the options of the sampling loop (clip, threshold, afs, rounding): what they change
counts as the sampler's error. Samplers that draw noise of their own follow no flow and have no such number.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.points import points
from diffgeo.sampler import DPMpp3M, steps


@torch.no_grad()
def flow(denoise: Denoiser, x: Tensor, first: float, last: float, count: int) -> Tensor:
    """Where the flow takes x [n,*D] from the level `first` to the positive level `last`, in `count` steps; x itself when they are one."""
    if first == last:
        return x
    grid = torch.logspace(0, 1, count + 1, base=last / first, dtype=torch.float64) * first
    for step in steps(DPMpp3M(), denoise, x, grid, None):
        x = step.x
    return x


@dataclass
class Held:
    """Ends of one denoiser's flow, kept for the jobs of a sweep: (first, last, count) -> (start, end). The next denoiser displaces them."""

    denoise: Denoiser | None = None
    ends: dict[tuple[float, float, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def end(self, denoise: Denoiser, x: Tensor, *levels) -> Tensor:
        """flow(denoise, x, *levels), computed once."""
        if denoise is not self.denoise:
            self.denoise, self.ends = denoise, {}
        start, end = self.ends.get(levels, (None, None))
        if start is None or not torch.equal(start, x):
            end = flow(denoise, x, *levels)
            self.ends[levels] = x, end
        return end


_held = Held()


@dataclass(frozen=True)
class FlowError:
    """`flow/rms` in data units over the first n samples, for deterministic samplers, against `steps` steps of the third-order teacher."""

    n: int = 500
    steps: int = 300

    def __post_init__(self):
        if self.n < 1 or self.steps < 10:
            raise UsageError(f"metrics.flow.n={self.n} steps={self.steps}: give n >= 1 and steps >= 10")

    def end(self, run: Run) -> Tensor:
        """X [n,*D]."""
        first, last = float(run.sigmas[0]), float(run.sigmas[run.sigmas > 0][-1])
        x = run.sampler.start(run.noise[:self.n], first)
        end = _held.end(run.denoise, x, first, last, self.steps)
        return run.denoise(end, last) if run.sigmas[-1] == 0 else end

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.denoise is None or run.noise is None:
            return {}
        with torch.no_grad():
            error = points(run.samples[:self.n]) - points(self.end(run))
        return {"flow/rms": float(error.flatten(1).square().sum(1).mean().sqrt())}
