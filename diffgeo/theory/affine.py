"""The law of a run on a Gaussian without Monte Carlo, read from the sampler's own steps.

Where D^ is affine in x (any linear rule on a Gaussian prior) and a step adds and scales, one step
is

    z' = M z + b + W w,      z = (x, then x and D of every remembered step), w ~ N(0, I),

and so is the start. M, b and W are what the step itself makes of basis rows: one batch holds the
row 0, a row for each entry of z and a row for each entry of every draw. Then

    mean' = M mean + b,      Cov' = M Cov M' + W W'

is exact, whatever the method, its memory and its operator: there is no second copy of a scheme.
Two more rows, far away on both sides, must come out as M, b and W say: a step that is not affine is
refused.
For d in the hundreds. theory.tableau is this for methods that look at no measurement, in any d.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Past, Sampler
from diffgeo.errors import UsageError

f64 = torch.float64
AFFINE = 1e-9  # how far a last row may be off, of its largest term
FAR = 1000.0  # of the last two rows: where the sign of a residual has changed
MOST = 1 << 24  # numbers in the batch of basis rows: 128 MiB


class Moments(NamedTuple):
    """A Gaussian law: mean [n], covariance [n,n]."""

    mean: Tensor
    covariance: Tensor


class Map(NamedTuple):
    """z' = M z + b + W w: M [n',n], b [n'], W [n',w]."""

    matrix: Tensor
    shift: Tensor
    noise: Tensor

    def __call__(self, law: Moments) -> Moments:
        """The law of z'."""
        mean = self.matrix @ law.mean + self.shift
        carried = self.matrix @ law.covariance @ self.matrix.mT
        return Moments(mean, carried + self.noise @ self.noise.mT)


class Draws:
    """The noise of a batch of basis rows: the draw number i is a unit vector in the rows of its
    entries, something of no basis in the last two rows, and 0 in all others."""

    def __init__(self, before: int, count: int, size: int, shape: tuple[int, ...]):
        self.before = before  # rows ahead of those of the first draw
        self.count = count  # draws that have rows
        self.size = size
        self.shape = shape
        self.drawn = 0
        self.last: list[Tensor] = []  # what the last two rows were given, [2,size]

    @property
    def rows(self) -> int:
        return self.before + self.count * self.size + 2

    def __call__(self) -> Tensor:
        draw = torch.zeros(self.rows, self.size, dtype=f64)
        first = self.before + self.drawn * self.size
        if self.drawn < self.count:
            draw[first : first + self.size] = torch.eye(self.size, dtype=f64)
        draw[-2:] = ordinary(self.size, self.drawn)
        self.last.append(draw[-2:].clone())
        self.drawn += 1
        return draw.view(self.rows, *self.shape)


def ordinary(size: int, number: int) -> Tensor:
    """A vector of no basis, another one for each number, and its opposite, [2,size]."""
    one = FAR * torch.sin(1.0 + 1.7 * number + torch.arange(size, dtype=f64) ** 1.3)
    return torch.stack([one, -one])


def probe(
    sampler: Sampler,
    denoise: Denoiser,
    shape: tuple[int, ...],
    sigma: float,
    sigma_next: float,
    past: Sequence[float] = (),
    draws: int = 1,
) -> Map:
    """The step from sigma to sigma_next, of a method that remembers steps from the levels `past`,
    the oldest first.

    draws: how many it is thought to take; a step that takes others is probed again.
    Raises UsageError on a step that is not affine, and on one too large to probe.
    """
    size = prod(shape)
    parts = 1 + 2 * len(past)  # of z
    noise = Draws(1 + parts * size, draws, size, shape)
    if noise.rows * parts * size > MOST:
        raise UsageError(
            f"a law in {size} dimensions is too large to be propagated exactly: write one of a few "
            "hundred, or sample it by `diffgeo restore`"
        )
    rows = torch.zeros(noise.rows, parts * size, dtype=f64)
    rows[1 : 1 + parts * size] = torch.eye(parts * size, dtype=f64)
    rows[-2:] = ordinary(parts * size, -1)
    states = [part.reshape(-1, *shape) for part in rows.split(size, 1)]
    history = [Past(s, states[1 + 2 * i], states[2 + 2 * i]) for i, s in enumerate(past)]
    step = sampler.step(denoise, states[0].clone(), sigma, sigma_next, history, noise)
    if noise.drawn != draws:
        return probe(sampler, denoise, shape, sigma, sigma_next, past, noise.drawn)
    left = states[0] if step.corrected is None else step.corrected
    remembered = [*states[1:], left, step.denoised]
    kept = remembered[max(0, len(remembered) - 2 * sampler.memory) :] if sampler.memory else []
    ends = torch.cat([end.flatten(1).to(f64) for end in (step.x, *kept)], 1)
    return read(sampler, ends, rows[-2:], noise)


def read(sampler: Sampler, ends: Tensor, last: Tensor, noise: Draws) -> Map:
    """The map that took the basis rows to `ends`. Raises UsageError where the rows `last` [2,n] do
    not agree with it."""
    check_rows(sampler, len(ends), noise.rows)
    shift = ends[0]
    linear = ends[1:-2] - shift
    states = noise.before - 1
    found = Map(linear[:states].mT, shift, linear[states:].mT)
    expected = last @ found.matrix.mT + shift
    size = last.abs() @ found.matrix.abs().mT + shift.abs()
    if noise.last:
        drawn = torch.cat(noise.last, 1)
        expected = expected + drawn @ found.noise.mT
        size = size + drawn.abs() @ found.noise.abs().mT
    wrong = float((ends[-2:] - expected).abs().max())
    if not wrong <= AFFINE * float(size.max()):
        raise UsageError(
            f"a step of {type(sampler).__name__} is not affine in its state and its noise, so its "
            "law has no closed form: write another algorithm or sampler, or `diffgeo restore`"
        )
    return found


def check_rows(sampler: Sampler, found: int, given: int) -> None:
    """Raise UsageError unless every row was moved by itself."""
    if found != given:
        raise UsageError(
            f"{type(sampler).__name__} moves several states a sample, so its law has no closed "
            "form: write another algorithm, or `diffgeo restore`"
        )


def started(sampler: Sampler, shape: tuple[int, ...], sigma: float) -> Moments:
    """The law of the state at the first level. Raises UsageError where a sample is several
    states."""
    size = prod(shape)
    unit = torch.cat([torch.zeros(1, size, dtype=f64), torch.eye(size, dtype=f64)])
    begun = sampler.start(unit.view(-1, *shape), sigma).flatten(1)
    check_rows(sampler, len(begun), len(unit))
    spread = begun[1:] - begun[0]
    return Moments(begun[0], spread.mT @ spread)


def law(
    sampler: Sampler,
    denoise: Denoiser,
    sigmas: Tensor,
    shape: tuple[int, ...],
    start: Moments | None = None,
) -> Moments:
    """The law of the samples of a run down `sigmas`: mean [d], covariance [d,d].

    sampler: as the rows are told it, on one measurement that all share. denoise: D^.
    start: the law of the state at the first level; None: the sampler's own.
    Raises UsageError on a method whose steps are not affine, or chosen by the state.
    """
    if sampler.adaptive:
        raise UsageError(
            f"{type(sampler).__name__} chooses its steps by the state, so its law has no closed "
            "form: write a sampler of fixed steps"
        )
    sampler = sampler.on(sigmas)
    levels = sigmas.tolist()
    state = started(sampler, shape, levels[0]) if start is None else start
    draws = 1
    for k, (sigma, sigma_next) in enumerate(pairwise(levels)):
        past = levels[max(0, k - sampler.memory) : k]
        step = probe(sampler, denoise, shape, sigma, sigma_next, past, draws)
        draws = step.noise.shape[1] // prod(shape)
        state = step(state)
    size = prod(shape)
    return Moments(state.mean[:size], state.covariance[:size, :size])
