"""What a teacher prepares for its students, and the lessons that are drawn from it.

A lesson is a state, a level, and what is to be said of it (the targets: `geometry.distillation`):

    method   is shown                at level       is to say
    KD       x_T                     T              x_0
    DFNO     x_T                     s, any         x_s
    reflow   (1-t) x_0 + t x_T/T     t              x_T/T - x_0
    PD       x0 + s eps              s              (x'' - q x)/(1 - q)
    CD       x0 + s eps              s              what it says itself of the teacher's x' at s'
    CT       x0 + s eps              s              the same of x0 + s' eps

The first three learn from the teacher's own paths, the others from draws x0 of the law and noise,
the same at every level: as many of them as there are paths. The teacher's work is then nearly the
same for all that have one: a path is K steps, and so is one step from each level. CT has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, expand, generator
from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.geometry.distillation import FINEST, nested, secant, straight, walked
from diffgeo.simulation import Simulation, fitting, ranges

LARGEST = 2**30  # bytes of what the teacher prepares


class Lesson(NamedTuple):
    """Some rows to learn from. below: None where `answer` is what is to be said; else `answer` is a
    state, and what the student says of it at this level is."""

    state: Tensor  # [B,*D]
    level: Tensor  # [B]
    answer: Tensor  # [B,*D]
    below: Tensor | None = None  # [B]


Lessons = Callable[[int, torch.Generator], Lesson]  # so many rows, drawn anew


@torch.no_grad()
def euler(denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One Euler step of each row between its own levels [B]."""
    return torch.lerp(denoise(x, sigma), x, expand(sigma_next / sigma, x))


class School:
    """What a teacher prepares, float32, once and when it is first asked for.

    simulation: the teacher, which `distillation.check` has seen. data: the law that it samples.
    pairs: how many paths of the teacher, and how many draws x0, eps.
    first: the number of the first path's sample: those before it are for the test.
    spent: rows that the teacher was asked for, by what they were for.
    Raises UsageError where it would take too much memory.
    """

    def __init__(self, simulation: Simulation, data: Data, pairs: int, first: int):
        numbers = 2 * len(simulation.sigmas) + FINEST
        size = 4 * pairs * numbers * data.mean.numel()
        if size > LARGEST:
            raise UsageError(
                f"pairs={pairs}: what the teacher prepares takes {size} bytes; write "
                f"pairs={pairs * LARGEST // size} or fewer"
            )
        self.counted = Counted(simulation.denoise)
        self.simulation = replace(simulation, denoise=self.counted, noise=None)
        self.data = data
        self.numbers = range(first, first + pairs)
        self.sigmas = simulation.sigmas
        self.top = float(self.sigmas[0])
        self.spent: dict[str, int] = {}

    @cached_property
    def paths(self) -> Tensor:
        """Its states from x_T to x_0, [K+1,pairs,*D]."""
        before = self.counted.rows
        last = len(self.sigmas) - 1
        parts = []
        for part in ranges(self.numbers, fitting(self.data.shape)):
            parts.append(self.states(self.simulation.start(part).x, 0, last))
        self.spent["paths"] = self.counted.rows - before
        return torch.cat(parts, 1)

    @cached_property
    def drawn(self) -> tuple[Tensor, Tensor]:
        """Draws x0 and eps, [pairs,*D]."""
        g = generator(self.simulation.seed, *b"distillation")
        clean = self.data.sample(len(self.numbers), g).float()
        return clean, torch.randn(clean.shape, generator=g)

    @cached_property
    def next(self) -> Tensor:
        """The state one step after x0 + s eps at each level, [K,pairs,*D]."""
        before = self.counted.rows
        states = torch.stack([self.after(k, k + 1) for k in range(len(self.sigmas) - 1)])
        self.spent["steps"] = self.counted.rows - before
        return states

    @cached_property
    def coarse(self) -> Tensor:
        """The state one step of the finest student after x0 + s eps at each of its levels,
        [FINEST,pairs,*D]."""
        before = self.counted.rows
        levels = nested(len(self.sigmas) - 1, FINEST)
        states = torch.stack([self.after(k, end) for k, end in pairwise(levels)])
        self.spent["coarse"] = self.counted.rows - before
        return states

    def after(self, first: int, last: int) -> Tensor:
        """The teacher's state at level number `last` from x0 + s eps at number `first`."""
        clean, noise = self.drawn
        x = clean.double() + float(self.sigmas[first]) * noise.double()
        parts = x.split(fitting(self.data.shape))
        return torch.cat([self.states(part, first, last)[-1] for part in parts])

    def states(self, x: Tensor, first: int, last: int) -> Tensor:
        return torch.stack(walked(self.simulation, x, first, last)[0]).float()

    def ends(self, n: int, g: torch.Generator) -> Lesson:
        """Of KD."""
        row = self.row(n, g)
        return Lesson(self.paths[0, row], torch.full((n,), self.top), self.paths[-1, row])

    def points(self, n: int, g: torch.Generator) -> Lesson:
        """Of DFNO."""
        row = self.row(n, g)
        k = torch.randint(1, len(self.sigmas), (n,), generator=g)
        return Lesson(self.paths[0, row], self.sigmas[k].float(), self.paths[k, row])

    def segments(self, n: int, g: torch.Generator) -> Lesson:
        """Of reflow."""
        row = self.row(n, g)
        t = torch.rand(n, generator=g)
        state, velocity = straight(self.paths[0, row] / self.top, self.paths[-1, row], t)
        return Lesson(state, t, velocity)

    def consistent(self, n: int, g: torch.Generator) -> Lesson:
        """Of CD."""
        state, level, row, k = self.noised(n, g)
        return Lesson(state, level, self.next[k, row], self.sigmas[k + 1].float())

    def unbiased(self, n: int, g: torch.Generator) -> Lesson:
        """Of CT."""
        state, level, row, k = self.noised(n, g)
        clean, noise = self.drawn
        below = self.sigmas[k + 1].float()
        lower = clean[row] + expand(below, state) * noise[row]
        return Lesson(state, level, lower, below)

    def halved(self, steps: int, teacher: Denoiser | None) -> Lessons:
        """PD's lessons of the student of so many steps. teacher: the student of twice as many;
        None: the teacher itself, for the finest."""
        levels = torch.tensor(nested(len(self.sigmas) - 1, steps))
        sigmas = self.sigmas[levels].float()
        middle = self.sigmas[(levels[1:] + levels[:-1]) // 2].float()

        def lesson(n: int, g: torch.Generator) -> Lesson:
            row = self.row(n, g)
            k = torch.randint(steps, (n,), generator=g)
            clean, noise = self.drawn
            x = clean[row] + expand(sigmas[k], clean) * noise[row]
            if teacher is None:
                below = self.coarse[k, row]
            else:
                half = euler(teacher, x, sigmas[k], middle[k])
                below = euler(teacher, half, middle[k], sigmas[k + 1])
            return Lesson(x, sigmas[k], secant(x, below, sigmas[k + 1] / sigmas[k]))

        return lesson

    def row(self, n: int, g: torch.Generator) -> Tensor:
        return torch.randint(len(self.numbers), (n,), generator=g)

    def noised(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x0 + s eps, s, and the numbers of the draw and of the level, at all levels but 0."""
        row = self.row(n, g)
        k = torch.randint(len(self.sigmas) - 1, (n,), generator=g)
        clean, noise = self.drawn
        level = self.sigmas[k].float()
        return clean[row] + expand(level, clean) * noise[row], level, row, k
