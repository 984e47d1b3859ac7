"""Looks at a training on its way: samples of the averaged weights, drawn and measured, that leave
the training as it was to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffgeo import plot
from diffgeo.core import Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import memory, precision
from diffgeo.report.finish import Sampling
from diffgeo.run import Experiment, fitted
from diffgeo.simulation import ranges
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
        seed: int,
        plan: Sampling,
    ) -> None:
        """Where a preview is due since the step `before`, draw and measure the average of now; rank
        0 alone does. A sampler that diverges on it, or a lack of memory, is told, and training goes
        on."""
        if not training.world.first or not self.due(training.step, before):
            return
        try:
            with memory.advised(
                f"write batch={max(1, plan.batch // 2)}, the samples drawn at once, or a smaller "
                "preview.metrics"
            ):
                self.look(training, experiment, folder, logger, seed, plan)
        except DiffgeoError as error:
            print(f"no preview at step {training.step}: {error}")

    def look(
        self,
        training: Training,
        experiment: Experiment,
        folder: Path,
        logger: Logger,
        seed: int,
        plan: Sampling,
    ) -> None:
        data = experiment.data
        step = training.step
        pieces = ranges(range(max(self.n, self.metrics)), plan.batch)
        with training.averaged() as model, plan.running(model) as shown:
            simulation = replace(fitted(experiment).simulation, denoise=shown)
            drawn = simulation.parts(pieces)
            # of images, bytes
            samples = torch.cat([data.restore(data.store(part.samples)) for part in drawn])
        path = folder / "figures" / f"preview_{step:07d}.png"
        plot.grid(path, samples[: self.n]) if samples.ndim == 4 else plot.samples(
            path, samples[: self.n], data
        )
        if self.metrics:
            with precision.running("float32"):
                values = experiment.metrics(Run(samples[: self.metrics], seed), data)
            logger.log(step, {f"preview/{key}": value for key, value in values.items()})
        logger.figure(path.stem, path)  # last: Weights & Biases takes no more values for this step
