"""`diffgeo evaluate`: the metrics of any cloud (samples=FILE data=LAW), or of a run (run=FOLDER) with its denoiser's errors."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from diffgeo.checkpoint import load_weights
from diffgeo.commands.report import measure
from diffgeo.commands.sample import load_array
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.run import assemble, save_config


def main(cfg) -> None:
    evaluate(cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task)


def evaluate(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Measure a cloud or a run's samples; the numbers and pictures go to `folder`."""
    if (cfg.samples is None) == (cfg.run is None):
        raise UsageError("write either samples=FILE.npy data=LAW, or run=FOLDER")
    experiment = assemble(cfg)
    option, path = ("samples", cfg.samples) if cfg.run is None else ("run", cfg.run)
    if cfg.run is not None and isinstance(experiment.model, Network):
        load_weights(Path(cfg.run) / "checkpoint" / "model.safetensors", experiment.model)
    samples = load_array(path, option, experiment.data.shape)
    save_config(folder, cfg, overrides)
    measure(cfg, experiment, folder, samples.to(experiment.device), experiment.model if cfg.run is not None else None, n=len(samples))
