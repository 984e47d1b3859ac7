"""`diffgeo evaluate`: measure a cloud (samples=FILE data=LAW) or a run (run=FOLDER)

samples= is points, or images: a folder of .png or .jpg files, or one file of them. Of a run its
denoiser is measured too.
"""

from __future__ import annotations

from pathlib import Path

import torch

from diffgeo.config.build import Experiment, assemble, fitted, load_array
from diffgeo.core import ImageSet, Run
from diffgeo.data.pixels import read_images
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.report.finish import measure, ready
from diffgeo.run import Job, RunFolder, weigh


def main(cfg, job: Job) -> None:
    """Measure a cloud or a run's samples."""
    if (cfg.samples is None) == (cfg.run is None):
        raise UsageError("write either samples=FILE.npy data=LAW, or run=FOLDER")
    experiment = assemble(cfg)
    if cfg.run is None:
        check_cloud(experiment, cfg.samples)
        samples = load_samples(cfg.samples, "samples", experiment)
        run = Run(samples, cfg.seed)
    else:
        samples = load_samples(cfg.run, "run", experiment)
        weigh(experiment.model, Path(cfg.run))
        experiment = fitted(experiment)
        run = Run(
            samples,
            cfg.seed,
            numbers=range(cfg.first, cfg.first + len(samples)),
            simulation=experiment.simulation,
            exact=not trainable(experiment.model),
        )
    ready(experiment, len(samples))
    folder = RunFolder.of("evaluate", cfg, job)
    if not folder.begin():
        measure(experiment, folder, run, n=len(samples))


def check_cloud(experiment: Experiment, path: str) -> None:
    """Raise UsageError where a metric takes a run apart, and there is only a cloud."""
    for name, metric in experiment.metrics.metrics.items():
        if metric.needs_run:
            raise UsageError(
                f"samples={path}: {name} takes a run apart, its sampler and its denoiser; write "
                "run=FOLDER"
            )


def load_samples(path: str, option: str, experiment: Experiment) -> torch.Tensor:
    """Points on the device, or images as uint8 [n,C,H,W], memory-mapped where a .npy file holds
    them. Raises UsageError."""
    data = experiment.data
    if not isinstance(data, ImageSet):
        return load_array(path, option, data.shape).to(experiment.device)
    try:
        return data.restore(read_images(path, option))
    except UsageError as error:
        if str(error).startswith(option):
            raise
        raise UsageError(f"{option}={path}: {error}") from error
