"""From a formula to a denoiser: checks, float64, one sigma a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Sigma, column
from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Exact:
    """The `core.Denoiser` of a posterior mean.

    `mean(x [B,d], sigma [B]) -> [B,d]` is evaluated in float64; the answer has the dtype and device
    of x. Raises UsageError where x does not have the law's width or some sigma is not positive
    (sigma = 0 is only ever the target of a step).
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(
                f"this law lives in {list(self.shape)}; x must be [B, "
                f"{', '.join(map(str, self.shape))}], not {list(x.shape)}"
            )
        wide = x.to(torch.float64)
        levels = column(sigma, wide)
        if not bool((levels > 0).all()):
            raise UsageError(
                "sigma must be positive; sigma = 0 is only a target of a step: write a level above "
                "0"
            )
        return self.mean(wide, levels).to(x.dtype) if len(x) else x.clone()
