"""What a training and a run folder are in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from diffgeo.core import Data, Denoiser
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError
from diffgeo.simulation import Simulation


@dataclass(frozen=True, repr=False)
class Result:
    """A model beside its law, and how it is sampled: what `train` and `load` return.

    data: the law.
    model: E[x0 | x], a network or a closed form; x [B,*D], sigma [] or [B] -> [B,*D].
    simulation: how the model's samples are drawn: `simulation.draw(1000)`, `.trajectory(8)`.
    losses: of the training, (step, mean loss since the last record); () where there was none.
    metrics: of a run folder, the numbers of its metrics.json; {} before anything was measured.
    samples: of a run folder, its samples [n,*D]; None where there are none yet.
    first: the number of the first of them in the simulation.
    folder: the run folder; None for a training in memory.
    """

    data: Data
    model: Denoiser
    simulation: Simulation
    losses: tuple[tuple[int, float], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    samples: Tensor | None = None
    first: int = 0
    folder: Path | None = None

    @property
    def network(self) -> Network:
        """The model as an `nn.Module`. Raises DiffgeoError where it is a closed form."""
        if not isinstance(self.model, Network):
            raise DiffgeoError(f"the model is a {type(self.model).__name__}, and has no weights")
        return self.model

    def __repr__(self) -> str:
        told = [f"data={self.data.key}", f"model={type(self.model).__name__}"]
        if self.losses:
            step, loss = self.losses[-1]
            told.append(f"loss {loss:.4g} at step {step}")
        if self.samples is not None:
            told.append(f"samples {tuple(self.samples.shape)}")
        if self.metrics:
            told.append(f"{len(self.metrics)} metrics")
        if self.folder is not None:
            told.append(f"folder={str(self.folder)!r}")
        return f"Result({', '.join(told)})"
