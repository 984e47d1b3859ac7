"""How a device draws samples: in what precision, how many at once. It changes no sample but in its
rounding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from diffgeo.machine import precision
from diffgeo.simulation.simulation import Simulation


@dataclass(frozen=True)
class Sampling:
    """What the drawing of samples asks of the hardware.

    precision: of a network: float32, tf32 or bf16.
    batch: samples at once.
    device: where they are drawn.
    recurring: batches have one shape throughout, so that cuDNN may time its algorithms.
    """

    precision: str
    batch: int
    device: torch.device
    recurring: bool = True

    @contextlib.contextmanager
    def running(self, simulation: Simulation) -> Iterator[Simulation]:
        """The simulation as it is drawn from, in the precision asked for."""
        with precision.running(self.precision, self.recurring):
            if self.precision == "bf16":
                cast = precision.Cast(simulation.denoise, self.device, self.precision)
                simulation = replace(simulation, denoise=cast)
            yield simulation
