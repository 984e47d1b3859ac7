"""`diffgeo sample`: draw samples from a run (run=FOLDER), a pretrained model or an exact denoiser
(model=exact); writes samples.npy and its metrics. A killed run of images goes on from the shards
that it has written; under torchrun the processes share the samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from diffgeo.core import Data, Denoiser
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.machine import distributed
from diffgeo.machine.distributed import ALONE, World
from diffgeo.report.finish import planned, report
from diffgeo.run import assemble, begin, device_of, make, pretrained, weigh


def main(cfg) -> None:
    hydra = HydraConfig.get()
    multirun = hydra.mode == RunMode.MULTIRUN
    with distributed.joined(device_of(cfg), multirun) as world:
        sample(
            cfg,
            world.folder(Path(hydra.runtime.output_dir)),
            hydra.overrides.task,
            shared if multirun else loaded,
            world,
        )


def sample(
    cfg,
    folder: Path,
    overrides: Sequence[str] = (),
    model: Callable[..., tuple[Data, Denoiser]] | None = None,
    world: World = ALONE,
) -> None:
    """Draw cfg.n samples into `folder` and measure them; `model` makes the law and its model, as
    `loaded` does."""
    experiment = assemble(cfg, model or loaded)
    plan = planned(cfg, experiment)
    experiment.metrics.prepare(experiment.data, cfg.n)
    if not world.once(lambda: begin(folder, cfg, overrides)):
        report(cfg, "sample", experiment, folder, plan, world=world)


def loaded(cfg, device: torch.device) -> tuple[Data, Denoiser]:
    """The law, and its model with the weights of cfg.run."""
    data, model = make(cfg, device)
    if trainable(model):
        if cfg.run is None and pretrained(model):
            return data, model.eval()
        if cfg.run is None:
            raise UsageError(
                "a network needs its weights: write run=FOLDER of a trained run, or model=exact "
                "for the law's own denoiser"
            )
        weigh(model, Path(cfg.run))
    return data, model


_last: dict[str, tuple[Data, Denoiser, float]] = {}  # one entry


def shared(cfg, device: torch.device) -> tuple[Data, Denoiser]:
    """`loaded`, or the last job's when this one asks for the same: a sweep over samplers loads its
    model once."""
    groups = OmegaConf.masked_copy(cfg, ["data", "model", "net", "sigma_data", "seed"])
    asked = f"{OmegaConf.to_yaml(groups)} {Path(cfg.run or '').resolve()} {device}"
    if asked not in _last:
        data, model = loaded(cfg, device)
        _last.clear()
        _last[asked] = data, model, cfg.sigma_data
    data, model, cfg.sigma_data = _last[asked]
    return data, model
