"""Numbers of samples, in pieces that are drawn at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST = 50_000  # samples at once
NUMBERS = 2**19  # of all samples that are drawn at once, together


def fitting(shape: Sequence[int]) -> int:
    """How many samples to draw at once where nothing is said: as many as 2^19 numbers hold, at most
    50 000."""
    return max(1, min(MOST, NUMBERS // math.prod(shape)))


def ranges(numbers: range, batch: int) -> list[range]:
    """Consecutive numbers in pieces of at most `batch`."""
    return [numbers[i : i + batch] for i in range(0, len(numbers), batch)]
