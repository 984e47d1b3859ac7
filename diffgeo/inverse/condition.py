"""The measurement as a `core.Condition`: sample i is told its own y_i."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Condition, Data, Denoiser, Sampler
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.simulation.condition import ClassLabel


@dataclass(frozen=True, eq=False)
class Measured:
    """What a sample knows of its image.

    measurement: of all images, y [images,*M].
    algorithm: what is made of it.
    data: the law, which algorithm=exact asks; None where nobody knows it.
    draws: samples of each image: sample i is draw i % draws of image i // draws.
    first: the number of the image whose measurement is y[0].
    inner: what the samples are told beside it, such as a class.
    """

    measurement: Measurement
    algorithm: Algorithm
    data: Data | None = None
    draws: int = 1
    first: int = 0
    inner: Condition = ClassLabel()

    def of(self, numbers: range, device: torch.device | str = "cpu") -> Measurement:
        """The measurement with one y a sample of these numbers."""
        image = torch.arange(numbers.start, numbers.stop) // self.draws - self.first
        found = self.measurement.of(image)
        return Measurement(found.operator, found.y.to(device), found.sigma_n)

    def around(
        self, denoise: Denoiser, numbers: range, device: torch.device | str = "cpu"
    ) -> Denoiser:
        """D^ of these samples."""
        told = self.inner.around(denoise, numbers, device)
        rule = self.algorithm.rule
        return told if rule is None else rule.around(told, self.of(numbers, device), self.data)

    def steered(
        self, method: Sampler, numbers: range, device: torch.device | str = "cpu"
    ) -> Sampler:
        """The algorithm's own step, told the measurement of these samples; else `method`."""
        step = self.algorithm.step
        return method if step is None else step.told(self.of(numbers, device))

    def told(self, numbers: range) -> dict[str, Tensor]:
        """What the inner condition leaves beside the samples."""
        return self.inner.told(numbers)
