"""Draw samples: initial noise, the one sampling loop, batches.

    x_K = start(noise, sigma_K),     x_{k-1} = step(x_k),     noise of sample i = Philox(key = (seed, i)) alone

so a sample does not depend on n, on the batch size or on the device that draws it.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler
from diffgeo.denoiser import Counted
from diffgeo.errors import DiffgeoError
from diffgeo.noise import Streams
from diffgeo.sampler import steps


class Drawn(NamedTuple):
    samples: Tensor         # [N,*D] float64
    nfe: int                # network evaluations a sample


def keys(seed: int, n: int, first: int = 0, device="cpu") -> Tensor:
    """The noise keys of samples first .. first+n-1 of a run: the run's seed in the high word, the sample's index in the low."""
    return (int(seed) << 32) + torch.arange(first, first + n, device=device)


@torch.no_grad()
def draw(sampler: Sampler, denoise: Denoiser, sigmas: Tensor, shape: tuple[int, ...], n: int, seed: int = 0,
         initial: Tensor | None = None, batch: int = 50_000, device="cpu") -> Drawn:
    """n samples [n,*shape] by `sampler` over the decreasing levels `sigmas` [K+1].

    initial: unit normal noise [n,*shape] to start from; otherwise each sample's own first draw.
    Raises DiffgeoError when a sample is not finite.
    """
    parts, counted = [], Counted(denoise)
    for first in range(0, n, batch):
        noise = Streams(keys(seed, min(batch, n - first), first, device), shape)
        unit = noise()                                                  # always drawn, so that later draws keep their numbers
        if initial is not None:
            unit = initial[first:first + batch].to(device, torch.float64)
        x = sampler.start(unit, float(sigmas[0]))
        counted.nfe = 0
        for step in steps(sampler, counted, x, sigmas, noise):
            x = step.x
        parts.append(x)
    samples = torch.cat(parts)
    bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if bad:
        raise DiffgeoError(f"{bad} of {n} samples are not finite: the denoiser or the sampler diverged; try more steps or another sampler")
    return Drawn(samples, counted.nfe)
