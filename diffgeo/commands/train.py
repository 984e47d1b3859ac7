"""`diffgeo train`: train a network on a law, then sample it, measure it and draw it.

A run can be killed at any moment. Started again (resume=FOLDER, or the same sweep line) it goes on from its last checkpoint and ends in
the same bytes; a finished one says so.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from diffgeo import checkpoint
from diffgeo.checkpoint import has_state, load_state, save_state
from diffgeo.commands.report import report
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.logger import Logger
from diffgeo.run import Experiment, assemble, begin, build, weigh
from diffgeo.train import Clock, Progress, Trainer, Training
from diffgeo.weighting import check_positive


def main(cfg) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    train(cfg, folder, [o for o in HydraConfig.get().overrides.task if not o.startswith("resume=")])


def train(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Train as `cfg` says in `folder`, or go on there, and report."""
    experiment, trainer = assemble(cfg), build(cfg.trainer)
    if not trainable(experiment.model):
        raise UsageError("model=exact has nothing to train: write `diffgeo sample model=exact data=...`, or choose model=cem, epsilon, ...")
    sigma = experiment.schedule.draw(1 << 16, torch.Generator().manual_seed(0))
    check_positive(experiment.weighting, sigma, experiment.schedule.t(sigma))
    if begin(folder, cfg, overrides):
        return
    training, clock = start(experiment, trainer, folder, cfg.seed)
    logger = build(cfg.logger)(folder=folder, config=OmegaConf.to_container(cfg, resolve=True), step=training.step)
    fit(training, clock, folder, logger)
    cpu, wall = clock.read()
    weigh(experiment.model, folder)
    report(cfg, "train", experiment, folder, logger, training_cpu_s=cpu, training_wall_s=wall, training_steps=trainer.steps)


def start(experiment: Experiment, trainer: Trainer, folder: Path, seed: int) -> tuple[Training, Clock]:
    """The training at its last checkpoint, or at step 0 when the folder holds none."""
    training = Training(trainer, experiment.model, experiment.data, experiment.schedule, experiment.weighting, seed)
    if not has_state(folder / "checkpoint"):
        return training, Clock()
    state, step, seconds = load_state(folder / "checkpoint", experiment.device)
    training.restore(state, step)
    return training, Clock(seconds["training_cpu_s"], seconds["training_wall_s"])


def fit(training: Training, clock: Clock, folder: Path, logger: Logger) -> None:
    """Train with a log, a progress bar and checkpoints. Raises DiffgeoError on a NaN, leaving the last good checkpoint."""
    from tqdm import tqdm

    trainer, saved = training.trainer, training.step
    with tqdm(total=trainer.steps, initial=saved, desc="train", unit="step", mininterval=0.5, disable=None) as bar:
        for progress in training.run():
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4g}", refresh=False)
            logger.log(progress.step, {"loss": progress.loss, "lr": progress.lr})
            if progress.step - saved >= trainer.checkpoint_every or progress.step == trainer.steps:
                save(training, progress, folder, clock)
                saved = progress.step


def save(training: Training, progress: Progress, folder: Path, clock: Clock) -> None:
    if not (checkpoint.is_finite(training.state()) and math.isfinite(progress.loss)):
        raise DiffgeoError(f"the weights became NaN by step {progress.step}: lower trainer.lr, or set trainer.clip=1")
    save_state(folder / "checkpoint", training.state(), progress.step, training.weights(), *clock.read())
