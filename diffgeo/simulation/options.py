"""What can be done around any sampler, whatever its steps are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from diffgeo.core import Denoiser, Schedule, expand
from diffgeo.denoiser import AnalyticFirst, Clipped, Thresholded
from diffgeo.errors import UsageError
from diffgeo.schedule.discrete import Discrete
from diffgeo.schedule.rounding import check_rounding
from diffgeo.schedule.trained import OnTrainedLevels


def positive(value: float | None, most: float = math.inf) -> bool:
    """Whether an option is left out, or a number above 0 and at most `most`."""
    return value is None or (isinstance(value, int | float) and 0 < value <= most)


@dataclass(frozen=True)
class Loop:
    """What can be done around any sampler.

    afs: take the law for N(0, afs^2 I) at the first level, which saves one evaluation; None:
        evaluate there.
    lower_order_final: a multistep method ends with lower orders, 1 in its last step.
    threshold: quantile of dynamic thresholding for data in [-1, 1]; None: none.
    clip: clip the denoised estimate to [-clip, clip]; None: do not.
    ball: project the samples, not the estimates, on the ball of this radius about 0, on which
        theory supposes the data; None: do not.
    rounding: ask a discrete-time network at its own levels only: `up`, `nearest`, or `none` (kept
        inside their range); None: as it is.
    trained: the schedule that such a network was trained on.
    Raises UsageError on values outside their range.
    """

    afs: float | None = None
    lower_order_final: bool = False
    threshold: float | None = None
    clip: float | None = None
    ball: float | None = None
    rounding: str | None = None
    trained: Schedule | None = None

    def __post_init__(self):
        if self.rounding is not None:
            check_rounding(self.rounding)
        if self.rounding is not None and not isinstance(self.trained, Discrete):
            raise UsageError(
                f"loop.rounding={self.rounding}: the network was trained on a continuous schedule; "
                "write loop.rounding=null, or a discrete schedule= such as ddpm"
            )
        for name, value in (("afs", self.afs), ("clip", self.clip), ("ball", self.ball)):
            if not positive(value):
                raise UsageError(f"loop.{name}={value}: write null, or a number above 0")
        if self.afs == math.inf:
            raise UsageError("loop.afs=inf: write a deviation of the law, a finite number")
        if not positive(self.threshold, most=1):
            raise UsageError(
                f"loop.threshold={self.threshold}: write null, or a number above 0 and at most 1"
            )

    def around(self, denoise: Denoiser, first: float) -> Denoiser:
        """`denoise` as this loop shows it to a sampler that starts at the level `first`."""
        if self.rounding is not None and isinstance(self.trained, Discrete):
            denoise = OnTrainedLevels(denoise, self.trained, self.rounding)
        if self.clip is not None:
            denoise = Clipped(denoise, self.clip)
        if self.threshold is not None:
            denoise = Thresholded(denoise, self.threshold)
        if self.afs is not None:
            denoise = AnalyticFirst(denoise, first, self.afs)
        return denoise

    def kept(self, x: Tensor) -> Tensor:
        """The samples [B,*D] of a run's last state: x min(1, ball/|x|)."""
        if self.ball is None:
            return x
        norm = x.flatten(1).norm(dim=1)
        return x * expand((self.ball / norm).clamp(max=1), x)
