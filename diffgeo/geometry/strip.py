"""What a sampler believes on its way: a few estimates of x0 along a run, and its sample.

    believed   D(x_k; sigma_k)               the denoised estimate at each level
    aimed at   x_k - sigma_k e_k,            e_k = (x_k - x_(k+1))/(sigma_k - sigma_(k+1)),

the second where the step taken would end if it went on to sigma = 0: e_k is the slope that the step
used, so for DDIM both are the same, and for a multistep method (gradient estimation's e_k averages
slopes) they are not. It is read from the states, for any sampler; a step that draws noise aims at
what its noise says too. Columns of the picture in Permenter and Yuan (2024).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Trajectory, expand

MOST = 8  # estimates in a strip


class Strip(NamedTuple):
    """Estimates [k,N,*D] at `levels` [k], and last the samples: [k+1,N,*D] in all."""

    columns: Tensor
    levels: Tensor


def aims(paths: Trajectory) -> Tensor:
    """x_k - sigma_k e_k of every step, [K,N,*D]: the line of the step, at sigma = 0."""
    high = expand(paths.sigma[:-1], paths.x[1:])
    low = expand(paths.sigma[1:], paths.x[1:])
    return (high * paths.x[1:] - low * paths.x[:-1]) / (high - low)


def strip(paths: Trajectory, aimed: bool = False, most: int = MOST) -> Strip:
    """At most `most` of the estimates, the first and the last among them, and the samples.

    aimed: what each step aims at, instead of what the denoiser says.
    """
    every = aims(paths) if aimed else paths.denoised
    steps = len(every)
    kept = torch.linspace(0, steps - 1, min(most, steps), dtype=torch.float64).round().long()
    columns = torch.cat([every[kept.to(every.device)], paths.x[-1:].to(every)])
    return Strip(columns, paths.sigma[kept.to(paths.sigma.device)])
