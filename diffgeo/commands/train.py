"""`diffgeo train`: train a network on a law, then sample it, measure it and draw it

    diffgeo train model=cem data=curve                  a network that predicts clean points
    diffgeo train -m model=cem,epsilon seed=0,1,2       a sweep; ends in one table and one picture
    diffgeo train resume=FOLDER                         goes on with a run that was stopped

A run can be killed at any moment. Started again (resume=FOLDER, or the same sweep line) it goes on
from its last checkpoint and, on a CPU, ends in the same bytes (`machine.precision` says what a GPU
promises); a finished one says so. SIGTERM, SIGUSR1 and Ctrl-C stop the training with a checkpoint
after the step that it is in; so does max_seconds=S at a report, or the run before it samples. Under
torchrun the batch is shared by the processes.
"""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig

from diffgeo.config import kinds
from diffgeo.config.build import Experiment, assemble, build, device_of, pretrained
from diffgeo.config.limits import part
from diffgeo.config.swept import named
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.machine import distributed, memory
from diffgeo.machine.distributed import World
from diffgeo.report.figures import chosen
from diffgeo.report.finish import ready, report
from diffgeo.report.preview import Preview
from diffgeo.run import Job, RunFolder, weigh
from diffgeo.store.logger import Group
from diffgeo.store.logger import check as check_logger
from diffgeo.training import Trainer, Training, least
from diffgeo.training.fit import fit, metered, taken_up
from diffgeo.training.loop import check
from diffgeo.training.weighting import check_positive

TRAINED = 16  # bytes of a weight in training: itself, its gradient and two moments, float32
# options about this process, not about the run
PASSING = ("resume=", "max_seconds=")


def main(cfg, job: Job) -> None:
    """Train as `cfg` says, or go on, and report."""
    kept = tuple(o for o in job.overrides if not o.startswith(PASSING))
    with distributed.joined(device_of(cfg.device), job.sweep) as world:
        train(cfg, replace(job, path=world.folder(job.path), overrides=kept), world)


def train(cfg, job: Job, world: World) -> None:
    started = time.monotonic()
    experiment = assemble(cfg)
    trainer: Trainer = build(part(cfg, "trainer"))
    preview: Preview = build(part(cfg, "preview"))
    logger_in = build(labelled(part(cfg, "logger"), job))
    limit = kinds.plain("max_seconds", cfg.max_seconds, float | None)
    if limit is not None and limit < 0:
        raise UsageError(f"max_seconds={limit:g}: write 0 or more, or null for no limit")
    deadline = math.inf if limit is None else started + limit
    check_logger(logger_in)
    check_trainable(experiment, trainer, world)
    ready(experiment, cfg.n)
    folder = RunFolder.of("train", cfg, job)
    if world.once(folder.begin):
        return
    training = Training(
        trainer,
        experiment.model,
        experiment.data,
        experiment.schedule,
        experiment.weighting,
        experiment.simulation.seed,
        world,
    )
    clock = taken_up(training, folder.path)
    logger = Group()
    if world.first:
        logger = logger_in(folder=folder.path, config=folder.config, step=training.step)
    meter = metered(training)
    look = partial(preview, experiment=experiment, folder=folder.path, logger=logger)
    passes = min(2 * trainer.accumulate, trainer.batch)
    with memory.advised(
        f"`diffgeo train resume={folder.path} trainer.accumulate={passes}` goes on with the same "
        "batch in about half the memory; or begin a new run with "
        f"trainer.batch={max(1, trainer.batch // 2)}"
    ):
        done = fit(training, clock, folder.path, logger, meter, look, deadline)
    if not done or (limit is not None and world.agree(time.monotonic() > deadline)):
        print(
            f"stopped at step {training.step} of {trainer.steps} by max_seconds={limit:g}; go on "
            f"with: diffgeo train resume={folder.path}"
        )
        return
    cpu, wall = clock.read()
    world.barrier()  # the last checkpoint is there
    weigh(experiment.model, folder.path)
    if world.first and "loss" in chosen(experiment.figures):
        least.record(training, folder.path)
    rates = {f"training_{name}": value for name, value in meter.total().items()}
    report(
        experiment,
        folder,
        logger,
        world,
        training_cpu_s=cpu,
        training_wall_s=wall,
        training_steps=trainer.steps,
        processes=world.size,
        **rates,
    )


def labelled(node: DictConfig, job: Job) -> DictConfig:
    """The config of a logger; in a sweep with what it leaves open of the run's name and group: what
    the job sets, and the sweep's folder. The run folder's own config keeps what was typed."""
    said = {"name": named(job.overrides, job.swept), "group": job.path.parent.name}
    told = deepcopy(node)
    for key, value in said.items():
        if job.sweep and value and key in told and told[key] is None:
            told[key] = value
    return told


def check_trainable(experiment: Experiment, trainer: Trainer, world: World) -> None:
    """Raise UsageError where there is nothing to train, or where trainer, network, law, schedule
    and weighting do not fit each other."""
    model = experiment.model
    if not trainable(model) or pretrained(model):
        named = "a pretrained model" if trainable(model) else "a denoiser in closed form"
        raise UsageError(
            f"{named} has nothing to train: write `diffgeo sample` with the same model= and data=, "
            "or choose model=cem, epsilon, ..."
        )
    check(trainer, model, experiment.data, world)
    count = sum(weight.numel() for weight in model.parameters())
    memory.check_fits(
        f"to train {count} weights",
        TRAINED * count,
        "write a smaller net.width, net.channels, net.depth or net.blocks",
    )
    sigma = experiment.schedule.draw(1 << 16, torch.Generator().manual_seed(0))
    check_positive(experiment.weighting, sigma, experiment.schedule.t(sigma))
