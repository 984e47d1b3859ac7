"""Draw samples: initial noise, the one sampling loop, batches.

    x_K = start(noise, sigma_K),     x_{k-1} = step(x_k),     noise of sample i = Philox(key = (seed, i)) alone

so a sample does not depend on n, on the batch size or on the device that draws it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler, Schedule
from diffgeo.denoiser import AnalyticFirst, Clipped, Counted, Thresholded
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
    rounding: ask a discrete-time network at its own levels only: `up`, `nearest`, or `none` (kept inside their range); None: as it is.
    trained: the schedule that such a network was trained on.
    Raises UsageError on values outside their range.
    """

    afs: float | None = None
    lower_order_final: bool = False
    threshold: float | None = None
    clip: float | None = None
    rounding: str | None = None
    trained: Schedule | None = None

    def __post_init__(self):
        if self.rounding is not None:
            check_rounding(self.rounding)
        if self.rounding is not None and not hasattr(self.trained, "levels"):
            raise UsageError(f"loop.rounding={self.rounding}: the network was trained on a continuous schedule; write loop.rounding=null, "
                             "or a discrete schedule= such as ddpm")
        for name, most in (("afs", math.inf), ("threshold", 1), ("clip", math.inf)):
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


def keys(seed: int, n: int, first: int = 0, device="cpu") -> Tensor:
    """The noise keys of samples first .. first+n-1 of a run: the run's seed in the high word, the sample's index in the low."""
    return (int(seed) << 32) + torch.arange(first, first + n, device=device)


@torch.no_grad()
def draw(sampler: Sampler, denoise: Denoiser, sigmas: Tensor, shape: tuple[int, ...], n: int, seed: int = 0,
         initial: Tensor | None = None, batch: int = 50_000, device="cpu", loop: Loop = Loop(), first: int = 0) -> Drawn:
    """n samples [n,*shape] by `sampler` over the decreasing levels `sigmas` [K+1]: numbers first .. first+n-1 of the run `seed`.

    initial: unit normal noise [n,*shape] to start from; otherwise each sample's own first draw.
    Raises DiffgeoError when a sample is not finite.
    """
    parts, units, counted, level = [], [], Counted(denoise), float(sigmas[0])
    shown = loop.around(counted, level)
    for done in range(0, n, batch):
        noise = Streams(keys(seed, min(batch, n - done), first + done, device), shape)
        unit = noise()                                                  # always drawn, so that later draws keep their numbers
        if initial is not None:
            unit = initial[done:done + batch].to(device, torch.float64)
        x = sampler.start(unit, level)
        for step in steps(sampler, shown, x, sigmas, noise, lower_order_final=loop.lower_order_final):
            x = step.x
        parts.append(x)
        units += [unit] if noise.drawn == 1 else []
    samples = torch.cat(parts)
    bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if bad:
        raise DiffgeoError(f"{bad} of {n} samples are not finite: the denoiser or the sampler diverged; try more steps or another sampler")
    return Drawn(samples, counted.rows / n, torch.cat(units) if units else None)
