"""Looks at a training on its way: samples of the averaged weights, drawn and measured, that leave
the training as it was to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from diffgeo import plot
from diffgeo.config.build import Experiment, fitted
from diffgeo.core import ImageSet, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import memory, precision
from diffgeo.plot.page import titled
from diffgeo.simulation import ranges
from diffgeo.store.drawing import file_of
from diffgeo.store.logger import Logger
from diffgeo.training import Training


@dataclass(frozen=True)
class Preview:
    """Every so many steps (0: never) figures/preview_STEP.png of n samples, and the metrics of a
    cloud of `metrics` samples (0: none), logged as preview/KEY: samples 0, 1, ... of the run as
    they would be if it ended now, classes, guidance and precision included. Steps are taken as they
    are reported, every trainer.log_every. Raises UsageError."""

    every: int = 0
    n: int = 64
    metrics: int = 0

    def __post_init__(self):
        if min(self.every, self.metrics) < 0 or self.n < 1:
            raise UsageError(
                f"preview.every={self.every} preview.n={self.n} preview.metrics={self.metrics}: "
                "write 0 or more, n 1 or more"
            )

    def due(self, step: int, before: int) -> bool:
        """Whether a multiple of `every` lies in (before, step]."""
        return self.every > 0 and step // self.every > before // self.every

    def __call__(
        self,
        training: Training,
        before: int,
        experiment: Experiment,
        folder: Path,
        logger: Logger,
    ) -> None:
        """Where a preview is due since the step `before`, draw and measure the average of now; rank
        0 alone does. A sampler that diverges on it, or a lack of memory, is told, and training goes
        on."""
        if not training.world.first or not self.due(training.step, before):
            return
        half = max(1, experiment.sampling.batch // 2)
        advice = f"write batch={half}, the samples drawn at once, or a smaller preview.metrics"
        try:
            with memory.advised(advice):
                self.look(training, experiment, folder, logger)
        except DiffgeoError as error:
            print(f"no preview at step {training.step}: {error}")

    def look(
        self, training: Training, experiment: Experiment, folder: Path, logger: Logger
    ) -> None:
        data = experiment.data
        step = training.step
        samples = self.samples(training, experiment)
        path = file_of(folder / "figures" / f"preview_{step:07d}")
        with titled(f"step {step} of the training"):
            if isinstance(data, ImageSet):
                plot.grid(path, samples[: self.n])
            else:
                plot.samples(path, samples[: self.n], data)
        if self.metrics:
            with precision.running("float32"):
                run = Run(samples[: self.metrics], experiment.simulation.seed)
                values = experiment.metrics(run, data)
            logger.log(step, {f"preview/{key}": value for key, value in values.items()})
        logger.figure(path.stem, path)  # last: Weights & Biases takes no more values for this step

    def samples(self, training: Training, experiment: Experiment) -> torch.Tensor:
        """The first samples of the run by the averaged weights of now, as the law stores them."""
        data = experiment.data
        sampling = experiment.sampling
        numbers = range(max(self.n, self.metrics))
        with training.averaged():
            simulation = fitted(experiment).simulation
            with sampling.running(simulation) as shown:
                parts = shown.parts(ranges(numbers, sampling.batch))
                stored = [data.restore(data.store(part.samples)) for part in parts]
        return torch.cat(stored)
