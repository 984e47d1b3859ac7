"""`diffgeo train`: train a network on a law, then sample it, measure it and draw it.

A run can be killed at any moment. Started again (resume=FOLDER, or the same sweep line) it goes on
from its last checkpoint and, on a CPU, ends in the same bytes (`precision` says what a GPU
promises); a finished one says so. max_seconds=S stops the training with a checkpoint, or the run
before it samples. Under torchrun the batch is shared by the processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from diffgeo.config import kinds
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import distributed, memory
from diffgeo.machine.distributed import ALONE, World
from diffgeo.machine.speed import Clock, Meter, flops, peak
from diffgeo.report.finish import planned, report
from diffgeo.run import Experiment, assemble, begin, build, device_of, pretrained, weigh
from diffgeo.store import checkpoint
from diffgeo.store.checkpoint import has_state, load_state, save_state
from diffgeo.store.logger import Group, Logger
from diffgeo.training import Progress, Trainer, Training
from diffgeo.training.loop import check
from diffgeo.training.weighting import check_positive


def main(cfg) -> None:
    hydra = HydraConfig.get()
    passing = ("resume=", "max_seconds=")  # about this process, not about the run
    with distributed.joined(device_of(cfg), hydra.mode == RunMode.MULTIRUN) as world:
        folder = world.folder(Path(hydra.runtime.output_dir))
        train(cfg, folder, [o for o in hydra.overrides.task if not o.startswith(passing)], world)


def train(cfg, folder: Path, overrides: Sequence[str] = (), world: World = ALONE) -> None:
    """Train as `cfg` says in `folder`, or go on there, and report."""
    started = time.monotonic()
    experiment = assemble(cfg)
    trainer = build(cfg.trainer)
    preview = build(cfg.preview)
    limit = kinds.plain("max_seconds", cfg.max_seconds, float | None)
    deadline = math.inf if limit is None else started + limit
    if not trainable(experiment.model) or pretrained(experiment.model):
        model = "a pretrained model" if trainable(experiment.model) else "model=exact"
        raise UsageError(
            f"{model} has nothing to train: write `diffgeo sample` with the same model= and data=, "
            "or choose model=cem, "
            "epsilon, ..."
        )
    check(trainer, experiment.model, experiment.data, world)
    plan = planned(cfg, experiment)
    sigma = experiment.schedule.draw(1 << 16, torch.Generator().manual_seed(0))
    check_positive(experiment.weighting, sigma, experiment.schedule.t(sigma))
    experiment.metrics.prepare(experiment.data, cfg.n)
    if world.once(lambda: begin(folder, cfg, overrides)):
        return
    training, clock = start(experiment, trainer, folder, cfg.seed, world)
    logger = Group()
    if world.first:
        logger = build(cfg.logger)(
            folder=folder, config=OmegaConf.to_container(cfg, resolve=True), step=training.step
        )
    meter = metered(training)
    look = partial(
        preview, experiment=experiment, folder=folder, logger=logger, seed=cfg.seed, plan=plan
    )
    passes = min(2 * trainer.accumulate, trainer.batch)
    with memory.advised(
        f"`diffgeo train resume={folder} trainer.accumulate={passes}` goes on with the same batch "
        "in about half the "
        f"memory; or begin a new run with trainer.batch={max(1, trainer.batch // 2)}"
    ):
        done = fit(training, clock, folder, logger, meter, look, deadline)
    if not done or (limit is not None and world.agree(time.monotonic() > deadline)):
        print(
            f"stopped at step {training.step} of {trainer.steps} by max_seconds={limit:g}; go on "
            f"with: diffgeo train resume={folder}"
        )
        return
    cpu, wall = clock.read()
    world.barrier()  # the last checkpoint is there
    weigh(experiment.model, folder)
    rates = {f"training_{name}": value for name, value in meter.total().items()}
    report(
        cfg,
        "train",
        experiment,
        folder,
        plan,
        logger,
        world=world,
        training_cpu_s=cpu,
        training_wall_s=wall,
        training_steps=trainer.steps,
        processes=world.size,
        **rates,
    )


def start(
    experiment: Experiment, trainer: Trainer, folder: Path, seed: int, world: World = ALONE
) -> tuple[Training, Clock]:
    """The training at its last checkpoint, or at step 0 when the folder holds none."""
    training = Training(
        trainer,
        experiment.model,
        experiment.data,
        experiment.schedule,
        experiment.weighting,
        seed,
        world,
    )
    if not has_state(folder / "checkpoint"):
        return training, Clock()
    state, step, seconds = load_state(folder / "checkpoint", experiment.device)
    training.restore(state, step)
    return training, Clock(seconds["training_cpu_s"], seconds["training_wall_s"])


def metered(training: Training) -> Meter:
    """A meter of images, or of points, whose arithmetic is not worth counting."""
    shape = training.data.shape
    world = training.world
    batch = training.trainer.batch
    if len(shape) < 3:
        return Meter(batch, training.step, "points")
    cost = 3.0 * flops(
        training.model.net, *(torch.zeros(1, *rest, device=training.device) for rest in (shape, ()))
    )
    return Meter(
        batch, training.step, "images", cost, world.size * peak(training.device, training.precision)
    )


def fit(
    training: Training,
    clock: Clock,
    folder: Path,
    logger: Logger,
    meter: Meter,
    look: Callable[[Training, int], None],
    deadline: float = math.inf,
) -> bool:
    """Train with a log, a progress bar, previews and checkpoints; whether the end was reached
    before `deadline` (of time.monotonic).

    Raises DiffgeoError on a NaN, leaving the last good checkpoint.
    """
    from tqdm import tqdm

    trainer = training.trainer
    world = training.world
    began = training.step
    saved = began
    before = began
    reported = time.monotonic()
    with tqdm(
        total=trainer.steps,
        initial=began,
        desc="train",
        unit="step",
        mininterval=0.5,
        disable=None if world.first else True,
    ) as bar:
        for progress in training.run():
            rates = meter.report(progress.step)
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4g}", **shown(rates), refresh=False)
            logger.log(progress.step, {"loss": progress.loss, "lr": progress.lr})
            logger.speed(progress.step, rates)
            look(training, before)
            end = progress.step == trainer.steps
            now = time.monotonic()
            # the first holds what is done once
            interval = now - reported if before > began else 0.0
            reported = now
            late = deadline < math.inf and not end and world.agree(now + interval > deadline)
            if end or late or progress.step - saved >= trainer.checkpoint_every:
                if world.first:
                    save(training, progress, folder, clock)
                saved = progress.step
            if late:
                return False
            before = progress.step
            meter.resume()
    return True


def shown(rates: dict[str, float]) -> dict[str, str]:
    """Rates as the progress bar shows them."""
    names = {name: name.replace("_per_s", "/s") for name in rates if name.endswith("_per_s")}
    share = {"peak": f"{rates['share_of_peak']:.0%}"} if "share_of_peak" in rates else {}
    return {short: f"{rates[name]:.4g}" for name, short in names.items()} | share


def save(training: Training, progress: Progress, folder: Path, clock: Clock) -> None:
    if not (checkpoint.is_finite(training.state()) and math.isfinite(progress.loss)):
        raise DiffgeoError(
            f"the weights became NaN by step {progress.step}: lower trainer.lr, or set "
            "trainer.clip=1"
        )
    save_state(
        folder / "checkpoint", training.state(), progress.step, training.weights(), *clock.read()
    )
