"""`diffgeo evaluate`: measure a cloud (samples=FILE data=LAW) or a run (run=FOLDER)

    diffgeo evaluate samples=cloud.npy data=curve               points
    diffgeo evaluate samples=FOLDER data=cifar10 metrics=fid    the FID of a folder of images
    diffgeo evaluate run=FOLDER metrics=budget                  where a run's error comes from

samples= is points, or images: a folder of .png or .jpg files, or one file of them. Of a run its
denoiser is measured too.
"""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import ListConfig

from diffgeo.config.build import Experiment, assemble, fitted, load_array
from diffgeo.core import ImageSet, Pictures, Run
from diffgeo.data.images import Images
from diffgeo.data.pictures import WHITE, Background, background_of, has_alpha, said_of
from diffgeo.data.pixels import is_of_pictures, read_bytes, read_images
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.metrics.features import OfFeatures
from diffgeo.metrics.suite import by_name
from diffgeo.report.finish import measure, ready
from diffgeo.run import Job, RunFolder, weigh
from diffgeo.store.digest import verified


def main(cfg, job: Job) -> None:
    """Measure a cloud or a run's samples."""
    if (cfg.samples is None) == (cfg.run is None):
        raise UsageError("write either samples=FILE.npy data=LAW, or run=FOLDER")
    experiment = assemble(cfg)
    if cfg.run is None:
        check_cloud(experiment, cfg.samples)
        pictures = isinstance(experiment.data, Pictures) and is_of_pictures(Path(cfg.samples))
        if cfg.background is not None and not pictures:
            raise UsageError(
                f"background={cfg.background} lies behind transparent pixels, and samples= is no "
                "folder of pictures: leave it out"
            )
        background = behind(cfg.background, experiment)
        samples = load_samples(cfg.samples, "samples", experiment, background)
        alpha = said_of(background) if pictures and has_alpha(Path(cfg.samples)) else None
        run = Run(samples, cfg.seed, alpha=alpha)
    else:
        samples = load_samples(cfg.run, "run", experiment)
        weigh(experiment.model, Path(cfg.run))
        experiment = fitted(experiment)
        run = Run(
            samples,
            cfg.seed,
            numbers=range(cfg.first, cfg.first + len(samples)),
            simulation=experiment.simulation,
            exact=is_own(experiment.model, experiment.data),
        )
    ready(experiment, len(samples))
    folder = RunFolder.of("evaluate", cfg, job)
    if not folder.begin():
        measure(experiment, folder, run, n=len(samples))


def check_cloud(experiment: Experiment, path: str) -> None:
    """Raise UsageError where a metric takes a run apart, and there is only a cloud."""
    for name, metric in by_name(experiment.metrics).items():
        if metric.needs_run:
            raise UsageError(
                f"samples={path}: {name} takes a run apart, its sampler and its denoiser; write "
                "run=FOLDER"
            )


def behind(background: object, experiment: Experiment) -> Background:
    """What lies behind transparent pixels of pictures: as `background=` says, else what a published
    protocol does where the features are Inception's, else what the law's own pictures have. Raises
    UsageError."""
    if isinstance(background, ListConfig):
        background = list(background)
    if background is not None:
        return background_of(background, "background")
    for metric in by_name(experiment.metrics).values():
        if isinstance(metric, OfFeatures) and metric.features == "inception":
            return None
    data = experiment.data
    told = data.manifest.get("background", "white") if isinstance(data, Images) else "white"
    return background_of(told, "data.background")


def load_samples(
    path: str, option: str, experiment: Experiment, background: Background = WHITE
) -> torch.Tensor:
    """Points on the device, or images as uint8 [n,C,H,W], memory-mapped where a .npy file holds
    them. Raises UsageError."""
    data = experiment.data
    if isinstance(data, Pictures) and not isinstance(data, ImageSet):
        return of_no_set(path, option, data, background)
    if not isinstance(data, ImageSet):
        return load_array(path, option, data.shape).to(experiment.device)
    try:
        return data.restore(read_images(path, option, data.shape[0], background))
    except UsageError as error:
        if str(error).startswith(option):
            raise
        raise UsageError(f"{option}={path}: {error}") from error


def of_no_set(path: str, option: str, data: Pictures, background: Background) -> torch.Tensor:
    """Decoded pictures, uint8 [n,C,H,W], or the latents that a run kept in their place. Raises
    UsageError."""
    if is_of_pictures(Path(path)):
        return data.restore(read_images(path, option, data.picture[0], background))
    file = Path(path) / "samples.npy" if Path(path).is_dir() else Path(path)
    return data.restore(read_bytes(verified(file), option, dtype=""))
