"""What an algorithm of restoration is made of.

    a rule     how D = E[x0 | x] becomes D^, which knows of y: a Denoiser wrapper under any sampler
    a step     how x goes from sigma to sigma' where the step itself looks at y: a Sampler

An algorithm has one of the two or both; without a step of its own it takes `sampler=`. Both are
told a `Measurement` whose rows are those of the batch, so sample i has its own y_i.
"""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Data, Denoiser, Sampler


@runtime_checkable
class Rule(Protocol):
    """How a denoiser learns of a measurement."""

    # D -> D^; only the exact rule looks at the law. Raises UsageError on an operator or a noise
    # level that the rule cannot take
    def around(
        self, denoise: Denoiser, measurement: Measurement, data: Data | None
    ) -> Denoiser: ...


@runtime_checkable
class Guide(Protocol):
    """A step that looks at a measurement."""

    # the sampler of rows with this measurement. Raises UsageError as a rule does
    def told(self, measurement: Measurement) -> Sampler: ...


@dataclass(frozen=True)
class Algorithm:
    """A restoration algorithm.

    rule: of the denoised estimate; None: D itself.
    step: None: that of `sampler=`.
    """

    rule: Rule | None = None
    step: Guide | None = None
