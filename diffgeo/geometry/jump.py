"""ODE-Jump: the denoised estimate put out as the sample, at any step of any sampler (Chen et al.
2023, section 4).

    sampling path     x_0 .. x_K            at the levels sigma_0 > .. > sigma_K
    denoising path    r_k = D(x_k; sigma_k)

Euler's rule moves x_k a little towards r_k; the jump goes there at once. It is a sampling method
with as many evaluations as the path up to x_k took, and one for r_k. That one is no more than the
path itself makes to go on, so a run of K steps offers all its K jumps for nothing; only the last
state, on a grid that ends above 0, has no r of its own yet.

    distance     |r_k - x_K| / |x_K|, beside the state's own |x_k - x_K| / |x_K|
    quality      of the cloud {r_k}, against a fresh run that takes as many evaluations on its own
                 grid
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma
from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.simulation import Simulation
from diffgeo.simulation.simulation import at_zero


class Noted:
    """A denoiser that remembers its answers, and how many evaluations had been made by then: what a
    step says it denoised is one of them, and so tells when it was known."""

    def __init__(self, denoise: Denoiser, counted: Counted):
        self.denoise = denoise
        self.counted = counted
        self.answers: list[tuple[Tensor, int]] = []

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        answer = self.denoise(x, sigma, **cond)
        self.answers.append((answer, self.counted.rows))
        return answer

    def rows_at(self, denoised: Tensor) -> int:
        """The rows that had been evaluated when `denoised` was known; all so far, where a step made
        it of several answers. What came before is forgotten."""
        rows = self.counted.rows
        for answer, then in self.answers:
            if answer is denoised:
                rows = then
                break
        self.answers = []
        return rows


@dataclass(frozen=True)
class Jumps:
    """The jumps of a run, at L levels: all K of its grid, and the last one where that is not 0.

    sigma: [L]. denoised: r, [L,n,*D]. states: x at these levels, [L,n,*D]. end: the run's samples,
    [n,*D]. evaluations: of each jump, a sample. whole: of the run to its end.
    """

    sigma: Tensor
    denoised: Tensor
    states: Tensor
    end: Tensor
    evaluations: list[float]
    whole: float

    def remaining(self) -> Tensor:
        """|r - x_K|/|x_K| of each level and sample, [L,n]."""
        return relative(self.denoised, self.end)

    def remaining_of_states(self) -> Tensor:
        """|x - x_K|/|x_K|, [L,n]."""
        return relative(self.states, self.end)


def relative(x: Tensor, end: Tensor) -> Tensor:
    """|x - end|/|end| of clouds x [L,n,*D] and their end [n,*D], float64 [L,n]."""
    end = end.flatten(1)
    away = torch.linalg.vector_norm(x.flatten(2) - end, dim=-1)
    return away / torch.linalg.vector_norm(end, dim=-1)


def check(simulation: Simulation) -> None:
    """Raise UsageError where the sampler has no steps in common to its samples."""
    if simulation.sampler.adaptive:
        raise UsageError(
            f"{type(simulation.sampler).__name__} is an adaptive sampler: each sample has steps of "
            "its own between the levels, and a jump is made at a level; write sampler=euler or "
            "sampler=heun"
        )


@torch.no_grad()
def jumps(simulation: Simulation, numbers: range) -> Jumps:
    """Run the samples of these numbers and keep every level: (2L + 1) n numbers a coordinate are
    held at once. Raises UsageError on an adaptive sampler."""
    check(simulation)
    start = simulation.start(numbers)
    noted = Noted(start.denoise, start.counted)
    start = start._replace(denoise=noted)
    states = [start.x.to(torch.float64)]
    denoised = []
    evaluations = []
    for step in simulation.steps(start):
        denoised.append(step.denoised)
        evaluations.append(noted.rows_at(step.denoised) / len(numbers))
        states.append(step.x)
    whole = start.counted.rows / len(numbers)
    end = simulation.kept(states.pop())
    last = float(simulation.sigmas[-1])
    if last > 0:  # where the grid ends there is a state, and nobody has asked for its estimate
        denoised.append(noted(end, last))
        evaluations.append(start.counted.rows / len(numbers))
        states.append(end)
    outputs = [simulation.loop.kept(estimate.to(torch.float64)) for estimate in denoised]
    return Jumps(
        simulation.sigmas[: len(outputs)],
        torch.stack(outputs),
        torch.stack(states),
        end,
        evaluations,
        whole,
    )


@torch.no_grad()
def evaluations(simulation: Simulation) -> float:
    """What a sample of a simulation takes, counted on a law that is the point 0. Raises UsageError
    on an adaptive sampler, whose number depends on the law."""
    check(simulation)
    counting = replace(
        simulation,
        denoise=at_zero,
        shape=(1,),
        noise=None,
        first=0,
        device="cpu",
        initial=None,
    )
    start = counting.start(range(1))
    for _ in counting.steps(start):
        pass
    return float(start.counted.rows)


def shorter(
    simulation: Simulation, grid: Callable[[int], Tensor], most: float
) -> list[tuple[float, Simulation]]:
    """(evaluations, simulation) of the same method on grid(1), grid(2), .., as far as these take at
    most `most` evaluations a sample; a number of steps that `grid` has no levels for is left
    out."""
    found = []
    for steps in range(1, int(most) + 3):  # a step takes an evaluation; the first may be free
        try:
            sigmas = grid(steps)
        except UsageError:  # a list of levels has its own numbers of steps
            continue
        other = replace(simulation, sigmas=sigmas)
        taken = evaluations(other)
        if taken > most:
            break
        found.append((taken, other))
    return found
