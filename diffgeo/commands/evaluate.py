"""`diffgeo evaluate`: the metrics of any cloud (samples=FILE data=LAW), of any images
(samples=FOLDER of .png or .jpg files, or FILE), or of a run (run=FOLDER) with its denoiser's
errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from diffgeo.core import Run
from diffgeo.data.pixels import read_images
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.report.finish import measure
from diffgeo.run import Experiment, assemble, begin, fitted, load_array, weigh


def main(cfg) -> None:
    evaluate(cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task)


def evaluate(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Measure a cloud or a run's samples; the numbers and pictures go to `folder`."""
    if (cfg.samples is None) == (cfg.run is None):
        raise UsageError("write either samples=FILE.npy data=LAW, or run=FOLDER")
    experiment = assemble(cfg)
    option, path = ("samples", cfg.samples) if cfg.run is None else ("run", cfg.run)
    samples = load_samples(path, option, experiment)
    if cfg.run is not None:
        weigh(experiment.model, Path(cfg.run))
        experiment = fitted(experiment)
    experiment.metrics.prepare(experiment.data, len(samples))
    if cfg.run is None:
        for name, metric in getattr(experiment.metrics, "metrics", {}).items():
            if getattr(metric, "needs_run", False):
                raise UsageError(
                    f"samples={cfg.samples}: {name} takes a run apart, its sampler and its "
                    "denoiser; write run=FOLDER"
                )
    if not begin(folder, cfg, overrides):
        run = Run(samples, cfg.seed)
        if cfg.run is not None:
            numbers = range(cfg.first, cfg.first + len(samples))
            run = Run(
                samples, cfg.seed, numbers, experiment.simulation, not trainable(experiment.model)
            )
        measure(cfg, "evaluate", experiment, folder, run, n=len(samples))


def load_samples(path: str, option: str, experiment: Experiment) -> torch.Tensor:
    """Points on the device, or images as uint8 [n,C,H,W], memory-mapped where a .npy file holds
    them. Raises UsageError."""
    data = experiment.data
    if not hasattr(data, "quantize"):
        return load_array(path, option, data.shape).to(experiment.device)
    try:
        return data.restore(read_images(path, option))
    except UsageError as error:
        raise UsageError(
            str(error) if str(error).startswith(option) else f"{option}={path}: {error}"
        ) from error
