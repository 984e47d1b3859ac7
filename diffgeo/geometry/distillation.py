"""Distillation as geometry: the point that each method wants its student to name, and where it
lies (Chen et al. 2023, section 5 and Figure 7).

A teacher is a denoiser with a deterministic sampler on levels s_0 = T > .. > s_K = 0: from a state
x at level s it goes along its sampling path x = x_s, x_s', .., x_0, and names D(x_s), D(x_s'), ..,
x_0 on its way, the denoising path. With q = s''/s a student is shown x at s and wants

    KD       x_T -> x_0                                            (Luhman and Luhman 2021)
    DFNO     x_T -> every x_s                                      (Zheng et al. 2022)
    PD       x_s -> (x'' - q x)/(1 - q), from which one Euler step lands at x'', where two of the
             teacher's do                                          (Salimans and Ho 2022)
    CD       f(x_s) = f(x'), x' one step of the teacher on         (Song et al. 2023)
    CT       f(x_s) = f(x0 + s' eps) for x_s = x0 + s eps          (the same)
    reflow   (1-t) x_0 + t x_T/T -> the velocity x_T/T - x_0       (Liu et al. 2022)

What is proved of them, and tested: PD's point is the mean of D along the path between s and s''
with the weight u^-2 du, since d(x/u)/du = -D/u^2: it lies in the convex hull of a piece of the
denoising path. CD's f on an exact flow is x_0 on the whole path. The mean of CT's lower point given
x_s is Euler's step of the exact denoiser; its spread is (1 - s'/s) sqrt(tr Cov[x0 | x_s]).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, expand, generator
from diffgeo.errors import UsageError
from diffgeo.sampler import steps
from diffgeo.simulation import Simulation

FINEST = 8  # the steps of the finest student; the teacher's own are a multiple of twice as many
TOUCHES = 1e-9  # of a chord: what lies so near to a path lies on it


class Path(NamedTuple):
    """The teacher's way from some states: x [M+1,N,d], from the state shown to x_0, and denoised
    [M,N,d]; points are flat here."""

    x: Tensor
    denoised: Tensor

    @property
    def end(self) -> Tensor:
        return self.x[-1]

    @property
    def chord(self) -> Tensor:
        """|x_0 - x|, [N]."""
        return torch.linalg.vector_norm(self.x[-1] - self.x[0], dim=-1)


class Target(NamedTuple):
    """The points [N,d] that one method wants named at one level, and the teacher's paths from the
    states at which it wants them."""

    method: str
    level: float  # of the states that the student is shown
    answer: Tensor
    path: Path


def check(simulation: Simulation) -> None:
    """Raise UsageError where a simulation is no teacher: its samples must be functions of where
    they start, on levels that the students can share."""
    count = len(simulation.sigmas) - 1
    if simulation.sampler.adaptive:
        raise UsageError(
            "an adaptive sampler has no levels that a student could share: write sampler=heun or "
            "sampler=euler"
        )
    if simulation.sampler.memory:
        raise UsageError(
            "a multistep sampler has no step from one state alone, which PD and CD ask for: write "
            "sampler=heun, sampler=euler or sampler=dpm_solver_2"
        )
    if not simulation.deterministic:
        raise UsageError(
            "a stochastic sampler has no one end for each start that a student could learn: write "
            "sampler=heun or sampler=euler"
        )
    if float(simulation.sigmas[-1]) != 0:
        raise UsageError(
            f"the teacher's levels end at {float(simulation.sigmas[-1]):g}: write "
            "sampler.schedule.to_zero=true, so that its paths end in samples"
        )
    if count % (2 * FINEST):
        raise UsageError(
            f"sampler.steps={count}: the teacher needs a multiple of {2 * FINEST} steps, of which "
            f"students with {FINEST}, 4, 2 and 1 take every so many; write {2 * FINEST} or "
            f"{4 * FINEST}"
        )


def nested(count: int, steps_: int) -> list[int]:
    """Which of the teacher's levels 0 .. count a student of so many steps goes down."""
    return list(range(0, count + 1, count // steps_))


@torch.no_grad()
def walked(
    simulation: Simulation, x: Tensor, first: int, last: int | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """The teacher's states from x [N,*D] at its level number `first` to number `last` (None: the
    end), and its denoised estimates at all but the last."""
    denoise = simulation.shown(simulation.denoise, range(len(x)))
    stop = len(simulation.sigmas) if last is None else last + 1
    states = [x.to(torch.float64)]
    denoised = []
    for step in steps(simulation.sampler, denoise, x, simulation.sigmas[first:stop], no_noise):
        states.append(step.x)
        denoised.append(step.denoised)
    return states, denoised


def no_noise() -> Tensor:
    raise UsageError("the teacher's sampler draws noise: write sampler=heun or sampler=euler")


def path(simulation: Simulation, x: Tensor, first: int) -> Path:
    """The teacher's way from x [N,*D] at its level number `first` to the end."""
    states, denoised = walked(simulation, x, first)
    return Path(torch.stack(states).flatten(2), torch.stack(denoised).flatten(2))


# The targets


def secant(x: Tensor, below: Tensor, q: Tensor | float) -> Tensor:
    """PD's target (x'' - q x)/(1 - q), [B,*D]: the D whose one Euler step D + q (x - D) is x''.

    x at s, below = x'' at s'' = q s; q a number, or [B].
    """
    share = expand(q, x)
    return (below - share * x) / (1 - share)


def straight(start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Reflow's state (1-t) x_0 + t z and its target, the velocity z - x_0 [B,*D]; start = z =
    x_T/T, end = x_0, t [B] in 0..1."""
    share = expand(t, start)
    return torch.lerp(end, start, share), start - end


def of_paths(name: str, way: Path, levels: Tensor) -> Iterator[Target]:
    """The targets of an offline method, which shows its student x_T alone."""
    top = float(levels[0])
    if name == "DFNO":
        for level, point in zip(levels[1:].tolist(), way.x[1:], strict=True):
            yield Target(name, level, point, way)
        return
    answer = way.end
    if name == "reflow":  # the end that the velocity points at, from the middle of the segment
        z = way.x[0] / top
        t = torch.full((len(z),), 0.5, dtype=z.dtype)
        state, velocity = straight(z, way.end, t)
        answer = state - 0.5 * velocity
    yield Target(name, top, answer, way)


def of_pairs(simulation: Simulation, clean: Tensor, noise: Tensor, first: int) -> list[Target]:
    """The targets of the methods that show their student x0 + s eps at the teacher's level number
    `first`, clean and noise [N,*D].

    CD and CT stand there twice: for a student that is still the teacher's own D, which most begin
    as, and for the one that has learnt all, whose f is the end of the teacher's path.
    """
    sigmas = simulation.sigmas
    level = float(sigmas[first])
    below = float(sigmas[first + 1])
    stride = (len(sigmas) - 1) // FINEST
    way = path(simulation, clean + level * noise, first)
    q = float(sigmas[first + stride]) / level
    shared = path(simulation, clean + below * noise, first + 1)  # of the same noise
    return [
        Target("PD", level, secant(way.x[0], way.x[stride], q), way),
        Target("CD, begun", level, way.denoised[1], way),
        Target("CD, solved", level, way.end, way),
        Target("CT, begun", level, shared.denoised[0], way),
        Target("CT, solved", level, shared.end, way),
    ]


def targets(simulation: Simulation, data: Data, numbers: range) -> Iterator[Target]:
    """Every method's targets: on the teacher's paths of the samples of these numbers, and on as
    many pairs of a draw of `data` and noise at each level of the finest student."""
    sigmas = simulation.sigmas
    way = path(simulation, simulation.start(numbers).x, 0)
    for name in ("KD", "DFNO", "reflow"):
        yield from of_paths(name, way, sigmas)
    g = generator(simulation.seed, *b"targets")
    for first in nested(len(sigmas) - 1, FINEST)[:-1]:
        clean = data.sample(len(numbers), g).double()
        noise = torch.randn(clean.shape, generator=g, dtype=torch.float64)
        yield from of_pairs(simulation, clean, noise, first)


# Where they lie


class Place(NamedTuple):
    """Where the targets of one method at one level lie, each [N], in data units."""

    method: str
    level: float
    off_chord: Tensor  # from the line through both ends of the path
    off_sampling: Tensor  # from the sampling path
    off_denoising: Tensor  # from the denoising path
    off_secant: Tensor  # from the nearest line through the state shown and a later one
    off_end: Tensor  # from x_0
    chord: Tensor  # its length


def to_line(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distance of p to the line through a and b, each [N,d] -> [N]; to a itself where they are
    equal."""
    along = b - a
    square = along.square().sum(-1, keepdim=True)
    share = ((p - a) * along).sum(-1, keepdim=True) / square.where(square > 0, 1)
    return torch.linalg.vector_norm(p - a - share * along, dim=-1)


def to_piece(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The same to the piece of the line between a and b."""
    along = b - a
    square = along.square().sum(-1, keepdim=True)
    share = ((p - a) * along).sum(-1, keepdim=True) / square.where(square > 0, 1)
    return torch.linalg.vector_norm(p - a - share.clamp(0, 1) * along, dim=-1)


def to_pieces(p: Tensor, vertices: Tensor) -> Tensor:
    """Distance of p [N,d] to the path of straight pieces through vertices [M,N,d], [N]."""
    nearest = torch.linalg.vector_norm(p - vertices[0], dim=-1)
    for a, b in pairwise(vertices):
        nearest = torch.minimum(nearest, to_piece(p, a, b))
    return nearest


def placed(target: Target) -> Place:
    """Where one method's targets lie."""
    way = target.path
    secants = [to_line(target.answer, way.x[0], later) for later in way.x[1:]]
    return Place(
        target.method,
        target.level,
        to_line(target.answer, way.x[0], way.end),
        to_pieces(target.answer, way.x),
        to_pieces(target.answer, way.denoised),
        torch.stack(secants).amin(0),
        torch.linalg.vector_norm(target.answer - way.end, dim=-1),
        way.chord,
    )


def lies_on(places: list[Place]) -> str:
    """The first of these that all targets of a method lie on: the path's end, the sampling path,
    the denoising path, the chord, a secant of the sampling path; else none."""
    worst = {
        "its end": [place.off_end / place.chord for place in places],
        "sampling path": [place.off_sampling / place.chord for place in places],
        "denoising path": [place.off_denoising / place.chord for place in places],
        "chord": [place.off_chord / place.chord for place in places],
        "a secant": [place.off_secant / place.chord for place in places],
    }
    for name, distances in worst.items():
        if max(float(distance.max()) for distance in distances) < TOUCHES:
            return name
    return "none"
