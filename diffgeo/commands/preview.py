"""Looks at a training on its way: samples of the averaged weights, drawn and measured, that leave the training as it was to the bit."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffgeo import plot
from diffgeo.core import Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.logger import Logger
from diffgeo.run import Experiment, fitted
from diffgeo.sample import draw
from diffgeo.train import Training


@dataclass(frozen=True)
class Preview:
    """Every so many steps (0: never) figures/preview_STEP.png of the run's first n samples, and the metrics of a cloud of `metrics` samples
    (0: none), logged as preview/KEY. Steps are taken as they are reported, every trainer.log_every. Raises UsageError."""

    every: int = 0
    n: int = 64
    metrics: int = 0

    def __post_init__(self):
        if min(self.every, self.metrics) < 0 or self.n < 1:
            raise UsageError(f"preview.every={self.every} preview.n={self.n} preview.metrics={self.metrics}: write 0 or more, n 1 or more")

    def due(self, step: int, before: int) -> bool:
        """Whether a multiple of `every` lies in (before, step]."""
        return self.every > 0 and step // self.every > before // self.every

    def __call__(self, training: Training, before: int, experiment: Experiment, folder: Path, logger: Logger, seed: int,
                 batch: int | None = None) -> None:
        """Where a preview is due since the step `before`, draw and measure the average of now; rank 0 alone does. A sampler that diverges
        on it is told, and training goes on."""
        data, step = experiment.data, training.step
        if not training.world.first or not self.due(step, before):
            return
        with training.averaged() as model:
            try:
                now = fitted(experiment, seed)
                drawn = draw(now.sampler, model, now.sigmas, data.shape, max(self.n, self.metrics), seed, batch=batch, device=now.device,
                             loop=now.loop).samples
            except DiffgeoError as error:
                print(f"no preview at step {step}: {error}")
                return
        samples = data.restore(data.store(drawn))
        path = folder / "figures" / f"preview_{step:07d}.png"
        plot.grid(path, samples[:self.n]) if samples.ndim == 4 else plot.samples(path, samples[:self.n], data)
        if self.metrics:
            run = Run(samples[:self.metrics], seed)
            logger.log(step, {f"preview/{key}": value for key, value in experiment.metrics(run, data).items()})
        logger.figure(path.stem, path)                              # last: Weights & Biases takes no more values for this step
