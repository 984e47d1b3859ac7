"""What a computation costs, before much of it is done: by counting, not by a clock, so that what is
decided by it does not depend on the machine or on who else uses it.

    effort = numbers that torch returns + multiplications of matrix products / 16

A number takes about 2.5 ns of one CPU core, over all exact denoisers of the package within a factor
of two where they are slow enough to matter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS = ("mm", "bmm", "matmul", "__matmul__", "addmm", "addmm_", "baddbmm", "baddbmm_")
PER_NUMBER = 16  # multiplications of a product in the time of one number


class Counting(TorchFunctionMode):
    """Counts what is asked of torch inside."""

    def __init__(self):
        super().__init__()
        self.effort = 0.0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        several = made if isinstance(made, tuple) else (made,)
        numbers = sum(one.numel() for one in several if isinstance(one, Tensor))
        self.effort += numbers
        if func.__name__ in PRODUCTS:
            *_, first, _ = (operand for operand in args if isinstance(operand, Tensor))
            self.effort += numbers * first.shape[-1] / PER_NUMBER
        return made


@torch.no_grad()
def effort(action: Callable[[], object]) -> float:
    """The effort of calling `action`."""
    with Counting() as counting:
        action()
    return counting.effort
