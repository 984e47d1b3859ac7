"""`diffgeo sample`: draw samples from a run (run=FOLDER) or from an exact denoiser (model=exact); writes samples.npy and its metrics."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from diffgeo.commands.report import report
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.files import read_array
from diffgeo.run import assemble, begin, weigh


def main(cfg) -> None:
    sample(cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task)


def sample(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Draw cfg.n samples into `folder` and measure them."""
    initial = None
    experiment = assemble(cfg)
    if cfg.noise is not None:
        initial = load_array(cfg.noise, "noise", experiment.data.shape)
        cfg.n = len(initial)
    if trainable(experiment.model):
        if cfg.run is None:
            raise UsageError("a network needs its weights: write run=FOLDER of a trained run, or model=exact for the law's own denoiser")
        weigh(experiment, Path(cfg.run))
    if not begin(folder, cfg, overrides):
        report(cfg, "sample", experiment, folder, initial=initial)


def load_array(path: str, option: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Points [n,*shape] from a .npy, .npz or .csv file or a folder with samples.npy, float64. Raises UsageError."""
    file = Path(path) / "samples.npy" if Path(path).is_dir() else Path(path)
    array = torch.from_numpy(read_array(file, option))
    if tuple(array.shape[1:]) != tuple(shape) or not len(array):
        raise UsageError(f"{option}={file} has shape {tuple(array.shape)}, but data= has points of shape {tuple(shape)}: "
                         f"write an array of shape (n, {', '.join(map(str, shape))}) or another data=")
    if not torch.isfinite(array).all():
        raise UsageError(f"{option}={file} holds {int((~torch.isfinite(array)).sum())} values that are not finite")
    return array
