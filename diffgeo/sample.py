"""Draw samples: initial noise, the one sampling loop, batches.

    x_K = start(noise, sigma_K),     x_{k-1} = step(x_k),     noise of sample i = Philox(key = (seed, i)) alone

so a sample does not depend on n, on the batch size or on the device that draws it, but for the rounding of a network's float32 products,
whose order of summation may change with the batch. `parts` hands samples out batch by batch, `draw` holds them all.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler, Schedule, expand
from diffgeo.denoiser import AnalyticFirst, Clipped, Counted, Guided, Labelled, Thresholded
from diffgeo.discrete import OnTrainedLevels, check_rounding
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.noise import Streams
from diffgeo.sampler import steps


class Drawn(NamedTuple):
    samples: Tensor         # [N,*D] float64
    nfe: float              # network evaluations a sample; their mean where a sampler chooses steps for each sample
    noise: Tensor | None    # the unit noise [N,*D] that everything came from; None when the sampler drew more


@dataclass(frozen=True)
class Loop:
    """What can be done around any sampler.

    afs: take the law for N(0, afs^2 I) at the first level, which saves one evaluation; None: evaluate there.
    lower_order_final: a multistep method ends with lower orders, 1 in its last step.
    threshold: quantile of dynamic thresholding for data in [-1, 1]; None: none.
    clip: clip the denoised estimate to [-clip, clip]; None: do not.
    ball: project the samples, not the estimates, on the ball of this radius about 0, on which theory supposes the data; None: do not.
    rounding: ask a discrete-time network at its own levels only: `up`, `nearest`, or `none` (kept inside their range); None: as it is.
    trained: the schedule that such a network was trained on.
    Raises UsageError on values outside their range.
    """

    afs: float | None = None
    lower_order_final: bool = False
    threshold: float | None = None
    clip: float | None = None
    ball: float | None = None
    rounding: str | None = None
    trained: Schedule | None = None

    def __post_init__(self):
        if self.rounding is not None:
            check_rounding(self.rounding)
        if self.rounding is not None and not hasattr(self.trained, "levels"):
            raise UsageError(f"loop.rounding={self.rounding}: the network was trained on a continuous schedule; write loop.rounding=null, "
                             "or a discrete schedule= such as ddpm")
        for name, most in (("afs", math.inf), ("threshold", 1), ("clip", math.inf), ("ball", math.inf)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value <= most):
                raise UsageError(f"loop.{name}={value}: write null, or a number above 0" + (" and at most 1" if most == 1 else ""))

    def around(self, denoise: Denoiser, first: float) -> Denoiser:
        """`denoise` as this loop shows it to a sampler that starts at the level `first`."""
        if self.rounding is not None:
            denoise = OnTrainedLevels(denoise, self.trained, self.rounding)
        if self.clip is not None:
            denoise = Clipped(denoise, self.clip)
        if self.threshold is not None:
            denoise = Thresholded(denoise, self.threshold)
        return denoise if self.afs is None else AnalyticFirst(denoise, first, self.afs)

    def kept(self, x: Tensor) -> Tensor:
        """The samples [B,*D] of a run's last state: x min(1, ball/|x|)."""
        return x if self.ball is None else x * expand((self.ball / x.flatten(1).norm(dim=1)).clamp(max=1), x)


def keys(seed: int, n: int, first: int = 0, device="cpu") -> Tensor:
    """The noise keys of samples first .. first+n-1 of a run: the run's seed in the high word, the sample's index in the low."""
    return (int(seed) << 32) + torch.arange(first, first + n, device=device)


@dataclass(frozen=True)
class Condition:
    """Which class a sample has, and how strongly the model is told.

    label: None, no class; a number 0..classes-1; or `all`, by which sample i has class i mod classes. guidance: the scale of
    classifier-free guidance (Ho and Salimans 2022), D(null) + guidance (D(label) - D(null)); 1: D(label). Raises UsageError on what the
    model cannot be told.
    """

    label: int | str | None = None
    guidance: float = 1.0
    classes: int = 0

    def __post_init__(self):
        if self.label is None and self.guidance != 1:
            raise UsageError(f"guidance={self.guidance:g} leads towards a class: write label=0, another class, or label=all")
        if self.label is not None and not self.classes:
            raise UsageError(f"label={self.label}: this model knows no classes; write label=null, or train one with net.classes=K")
        if self.label not in (None, "all") and not (type(self.label) is int and 0 <= self.label < self.classes):
            raise UsageError(f"label={self.label}: write null, all, or a class from 0 to {self.classes - 1}")

    def labels(self, numbers: range, device="cpu") -> Tensor | None:
        """The classes of the samples of these numbers, int64 [n]; None for no class."""
        if self.label is None:
            return None
        i = torch.arange(numbers.start, numbers.stop, device=device)
        return i % self.classes if self.label == "all" else torch.full_like(i, self.label)

    def around(self, denoise: Denoiser, numbers: range, device="cpu") -> Denoiser:
        """`denoise` told the classes of these samples."""
        if self.label is None:
            return denoise
        return Labelled(Guided(denoise, float(self.guidance)), self.labels(numbers, device))


def fitting(shape: tuple[int, ...]) -> int:
    """How many samples to draw at once where nothing is said: as many as 2^19 numbers hold, at most 50 000."""
    return max(1, min(50_000, 2**19 // math.prod(shape)))


def ranges(numbers: range, batch: int) -> list[range]:
    """Consecutive numbers in pieces of at most `batch`."""
    return [numbers[i:i + batch] for i in range(0, len(numbers), batch)]


@torch.no_grad()
def parts(sampler: Sampler, denoise: Denoiser, sigmas: Tensor, shape: tuple[int, ...], pieces: Iterable[range], seed: int = 0,
          initial: Tensor | None = None, device="cpu", loop: Loop = Loop(), first: int = 0,
          condition: Condition = Condition()) -> Iterator[Drawn]:
    """The samples of each range of numbers in turn, by `sampler` over the decreasing levels `sigmas` [K+1], in the run `seed`.

    initial: unit normal noise [n,*shape] to start from, that of sample `first` in front; otherwise each sample's own first draw.
    Raises DiffgeoError when a sample is not finite.
    """
    level = float(sigmas[0])
    for numbers in pieces:
        n, counted = len(numbers), Counted(denoise)
        shown = loop.around(condition.around(counted, numbers, device), level)
        noise = Streams(keys(seed, n, numbers.start, device), shape)
        unit = noise()                                                  # always drawn, so that later draws keep their numbers
        if initial is not None:
            unit = initial[numbers.start - first:numbers.stop - first].to(device, torch.float64)
        x = sampler.start(unit, level)
        for step in steps(sampler, shown, x, sigmas, noise, lower_order_final=loop.lower_order_final):
            x = step.x
        x = loop.kept(x)
        if bad := int((~torch.isfinite(x)).flatten(1).any(1).sum()):
            raise DiffgeoError(f"{bad} of {n} samples are not finite: the denoiser or the sampler diverged; "
                               "try more steps or another sampler")
        yield Drawn(x, counted.rows / n, unit if noise.drawn == 1 else None)


def draw(sampler: Sampler, denoise: Denoiser, sigmas: Tensor, shape: tuple[int, ...], n: int, seed: int = 0,
         initial: Tensor | None = None, batch: int | None = None, device="cpu", loop: Loop = Loop(), first: int = 0,
         condition: Condition = Condition()) -> Drawn:
    """n samples [n,*shape], numbers first .. first+n-1 of the run `seed`, all in memory; `batch` at once (None: `fitting`). See `parts`."""
    pieces = ranges(range(first, first + n), batch or fitting(shape))
    drawn = list(parts(sampler, denoise, sigmas, shape, pieces, seed, initial, device, loop, first, condition))
    return Drawn(torch.cat([part.samples for part in drawn]), sum(part.nfe * len(part.samples) for part in drawn) / n,
                 None if any(part.noise is None for part in drawn) else torch.cat([part.noise for part in drawn]))
