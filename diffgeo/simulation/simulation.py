"""A simulation: everything about a cloud of samples but its size.

    x_0 = start(noise, sigma_0),     x_(k+1) = step(x_k),     down the levels sigma_0 .. sigma_K,

and all the noise of sample i is that of its own key (seed, i). So sample i is a function of the
simulation and of i. It does not depend on how many others are drawn, on the batch size or on the
device, but for the rounding of a network's float32 products, whose order of summation may change
with the batch. Whatever looks at a run (a picture of its paths, a metric, a theory, an error
budget) asks the same simulation for the same numbers, and sees the run's own samples on their way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Condition, Denoiser, Sampler, Step, Trajectory
from diffgeo.denoiser import Counted, counting
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.sampler import steps
from diffgeo.simulation.batches import fitting, ranges
from diffgeo.simulation.condition import ClassLabel
from diffgeo.simulation.flow import end
from diffgeo.simulation.initial import InChart, Initial
from diffgeo.simulation.noise import Streams, keys
from diffgeo.simulation.options import Loop


class Start(NamedTuple):
    """Where some samples set out from, and what they are given on their way."""

    x: Tensor  # the states at the first level, [n,*D] float64
    unit: Tensor  # the unit normal noise that they were made of, [n,*D]
    noise: Streams  # each sample's further draws
    denoise: Denoiser  # as the sampler is shown it: told the condition, inside the loop's options
    counted: Counted  # the simulation's own denoiser within, counting
    method: Sampler  # as these samples take it


class Drawn(NamedTuple):
    """Samples, and what they took."""

    samples: Tensor  # [n,*D] float64
    nfe: float  # network evaluations a sample; their mean where each sample has its own steps


@dataclass(frozen=True, eq=False)
class Simulation:
    """How samples are drawn.

    sampler: the method.
    denoise: what it asks for E[x0 | x].
    sigmas: the levels [K+1] that it goes down, decreasing; only the last may be 0.
    shape: of one sample, *D.
    seed: of the noise of every sample.
    loop: what is done around the sampler, whatever its steps are.
    condition: what each sample is told.
    noise: unit normal noise [m,*D] that samples first .. first+m-1 are given to start from; None:
        each starts from the first draw of its own.
    first: the number of the sample that noise[0] is for.
    device: where the samples are drawn.
    initial: what is made of the unit noise at the first level; None: what the sampler makes of it.
        `InChart` stands for the start of `sampler` alone: a step that the condition brings, of an
        algorithm of restoration, begins as its paper says.
    in_chart: whether a sample is the state x/sqrt(1 + sigma_K^2) of the variance-preserving chart
        at the last level, which the decoder of latents was trained on; else x. At 0 they agree.
    """

    sampler: Sampler
    denoise: Denoiser
    sigmas: Tensor
    shape: tuple[int, ...]
    seed: int = 0
    loop: Loop = Loop()
    condition: Condition = ClassLabel()
    noise: Tensor | None = None
    first: int = 0
    device: torch.device | str = "cpu"
    initial: Initial | None = None
    in_chart: bool = False

    @cached_property
    def method(self) -> Sampler:
        """The sampler on these levels, which some have to know before their first step."""
        return self.sampler.on(self.sigmas)

    @property
    def highest(self) -> float:
        """The level at which samples start."""
        return float(self.sigmas[0])

    @property
    def positive(self) -> Tensor:
        """The levels at which a denoiser may be asked, [K] or [K+1]."""
        return self.sigmas[self.sigmas > 0]

    @cached_property
    def deterministic(self) -> bool:
        """Whether a sample is a function of its start alone: no step draws noise. Found out by a
        run on a law that is the point 0."""
        noise = Streams(keys(0, range(1)), (1,))
        x = torch.ones(1, 1, dtype=torch.float64)
        for _ in steps(self.method, at_zero, x, self.sigmas, noise):
            if noise.drawn:
                return False
        return True

    def shown(self, denoise: Denoiser, numbers: range) -> Denoiser:
        """`denoise` in the place of this simulation's own, as the sampler is shown it for the
        samples of these numbers."""
        told = self.condition.around(denoise, numbers, self.device)
        return self.loop.around(told, self.highest)

    def given(self, numbers: range) -> Tensor | None:
        """The given noise of these samples. Raises UsageError where it does not reach."""
        if self.noise is None:
            return None
        begin = numbers.start - self.first
        end = numbers.stop - self.first
        if begin < 0 or end > len(self.noise):
            last = self.first + len(self.noise) - 1
            raise UsageError(
                f"samples {numbers.start} to {numbers.stop - 1} were asked for, and noise is given "
                f"for {self.first} to {last}: write a smaller n, or a file of more rows"
            )
        return self.noise[begin:end].to(self.device, torch.float64)

    def start(self, numbers: range) -> Start:
        """The samples of these numbers at the first level."""
        counted = counting(self.denoise)
        noise = Streams(keys(self.seed, numbers, self.device), self.shape)
        own = noise()  # drawn even where noise is given, so that later draws keep their numbers
        given = self.given(numbers)
        unit = own if given is None else given
        method = self.condition.steered(self.method, numbers, self.device)
        begin = method.start if self.initial is None else self.initial
        if isinstance(self.initial, InChart) and method is not self.method:
            begin = method.start
        x = begin(unit, self.highest)
        return Start(x, unit, noise, self.shown(counted, numbers), counted, method)

    def kept(self, x: Tensor) -> Tensor:
        """The samples of the run's last states x [n,*D]."""
        kept = self.loop.kept(x)
        return kept / math.hypot(1, float(self.sigmas[-1])) if self.in_chart else kept

    @torch.no_grad()
    def steps(self, start: Start) -> Iterator[Step]:
        """The run from `start` down the levels. Its end is a sample once it is `kept`."""
        yield from steps(
            start.method,
            start.denoise,
            start.x,
            self.sigmas,
            start.noise,
            lower_order_final=self.loop.lower_order_final,
        )

    def trajectory(self, numbers: range | int) -> Trajectory:
        """The whole way of the samples of these numbers, n for 0 .. n-1; the last states are the
        samples. Chart "ve"."""
        return self.path(self.start(range_of(numbers)))

    def path(self, start: Start) -> Trajectory:
        """The whole way from `start`, every state kept. Chart "ve"."""
        run = list(self.steps(start))
        states = [start.x.to(torch.float64), *(step.x for step in run)]
        states[-1] = self.kept(states[-1])
        denoised = torch.stack([step.denoised for step in run])
        return Trajectory(torch.stack(states), denoised, self.sigmas, start.counted.nfe)

    def parts(
        self, pieces: Iterable[range], after_step: Callable[[float], None] | None = None
    ) -> Iterator[Drawn]:
        """The samples of each range of numbers in turn. Raises DiffgeoError when one is not
        finite.

        after_step: called after every step with its share of the samples: the steps' shares of a
            range add up to its length.
        """
        for numbers in pieces:
            start = self.start(numbers)
            run = self.steps(start)
            if after_step is not None:
                share = len(numbers) / (len(self.sigmas) - 1)
                run = told(run, after_step, share)
            samples = self.kept(end(run, start.x))
            check_finite(samples)
            yield Drawn(samples, start.counted.rows / len(numbers))

    def draw(self, numbers: range | int, batch: int | None = None) -> Drawn:
        """The samples of these numbers, n for 0 .. n-1, all in memory; `batch` at once (None: as
        many as fit). Raises UsageError where there are none, DiffgeoError when one is not
        finite."""
        numbers = range_of(numbers)
        pieces = ranges(numbers, fitting(self.shape) if batch is None else batch)
        with progress.bar(len(numbers), "sample", "sample", leave=False) as bar:
            parts = list(self.parts(pieces, bar.update))
        evaluations = sum(part.nfe * len(part.samples) for part in parts)
        return Drawn(torch.cat([part.samples for part in parts]), evaluations / len(numbers))


def told(run: Iterator[Step], after_step: Callable[[float], None], share: float) -> Iterator[Step]:
    """The steps of a run, each told as it is made."""
    for step in run:
        after_step(share)
        yield step


def range_of(numbers: range | int) -> range:
    """Numbers of samples: n is 0 .. n-1. Raises UsageError where there are none."""
    asked = range(numbers) if isinstance(numbers, int) else numbers
    if not len(asked):
        raise UsageError(f"{numbers!r} names no samples: give how many, 1 or more, or a range")
    return asked


def at_zero(x: Tensor, sigma, **cond) -> Tensor:
    """The denoiser of a law that is the point 0."""
    return torch.zeros_like(x)


def check_finite(samples: Tensor) -> None:
    """Raise DiffgeoError where a sample [n,*D] is not finite."""
    finite = torch.isfinite(samples).flatten(1).all(1)
    bad = int((~finite).sum())
    if bad:
        raise DiffgeoError(
            f"{bad} of {len(samples)} samples are not finite: "
            "the denoiser or the sampler diverged; try more steps or another sampler"
        )
