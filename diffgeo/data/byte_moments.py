"""Mean and variance of a set of images, exactly.

Sums of a few hundred bytes and of their squares are integers below 2^24, which float32 adds without
rounding; the sums of the blocks are added in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = 256  # 256 * 255^2 < 2^24: so many squares of bytes are added exactly in float32
# bytes that become floats at once: larger blocks leave the cache, and cost three times as much
CACHED = 1 << 18


def moments(images: Tensor, flip: bool) -> tuple[Tensor, float]:
    """Mean [C,H,W] and mean variance of a pixel, in bytes, of uint8 images [N,C,H,W]; flip: of them
    and their mirror images."""
    stored = images.permute(0, 2, 3, 1)  # in the order of the bytes
    total = torch.zeros(stored[0].numel(), dtype=torch.float64)
    square = 0.0
    rows = max(1, min(EXACT, CACHED // len(total)))
    room = torch.empty(rows, len(total))
    for block in stored.split(rows):
        values = room[: len(block)].copy_(block.flatten(1))
        total += values.sum(0)
        square += float(values.square_().sum(0).double().sum())
    mean = (total / len(images)).view(stored.shape[1:]).permute(2, 0, 1)
    if flip:
        mean = (mean + mean.flip(-1)) / 2
    return mean, max(0.0, square / images.numel() - float(mean.square().mean()))
