"""The one place where a cloud becomes numbers on the host."""

from __future__ import annotations

import torch
from torch import Tensor


def points(samples: Tensor) -> Tensor:
    """Samples [N,*D] of any dtype and device as float64 on the CPU, detached, data shape kept."""
    return samples.detach().to("cpu", torch.float64)
