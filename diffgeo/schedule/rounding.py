"""What is done with a level that a network was not trained at.

up        the trained level above: t with sigma(t-1) <= sigma < sigma(t) (Permenter and Yuan)
nearest   the nearer one in log sigma
none      itself
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffgeo.errors import UsageError

# a time this near to a whole one is a trained level's, off by rounding errors, float32's too
TIE = 2e-5


def _up(t: Tensor) -> Tensor:
    """The time of the next trained level above."""
    return torch.floor(t + TIE) + 1


def _as_it_is(t: Tensor) -> Tensor:
    return t


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "up": _up,
    "nearest": torch.round,
    "none": _as_it_is,
}


def check_rounding(rounding: str) -> None:
    if rounding not in ROUNDINGS:
        raise UsageError(f"rounding={rounding}: write one of {', '.join(ROUNDINGS)}")
