"""Moving averages of the weights:  average <- beta average + (1 - beta) weights  after every step.

    Constant   beta = min(decay, (1 + k)/(10 + k)),   k the steps before
    Power      beta = (1 - 1/t)^(gamma + 1),          t = k + 1

Constant has a short memory early on, so that the start is forgotten. With Power the weights of step
s count for s^gamma in the average (Karras et al. 2024): its memory is a fixed share of the
training, whatever its length. gamma follows from that share, the standard deviation of the profile
s^gamma on [0, t] relative to t (their section 3.1):

    std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """The decay of the average, all but constant: 0.999 remembers about the last 1 000 steps."""

    decay: float = 0.999

    def __call__(self, step: int) -> float:
        """beta after the step number `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Power:
    """The power profile whose width is `std` of the training so far.

    Raises UsageError unless 0 < std <= 0.28 (a plain mean is .289).
    """

    std: float = 0.05

    def __post_init__(self):
        if not 0 < self.std <= 0.28:
            raise UsageError(
                f"trainer.ema.std={self.std:g} is out of range: write a share of the training from "
                "0.01 to 0.28, e.g. 0.05"
            )

    @cached_property
    def gamma(self) -> float:
        """The positive root of (gamma + 2)^2 (gamma + 3) std^2 = gamma + 1 (their algorithm 2)."""
        import numpy as np

        inverse = self.std**-2
        return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())

    def __call__(self, step: int) -> float:
        """beta after the step number `step`, counted from 0; 0 after the first."""
        return (step / (step + 1)) ** (self.gamma + 1)
