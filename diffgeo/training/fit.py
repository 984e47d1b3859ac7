"""A training as a run has it: with a log, a progress bar, looks at it on its way, and checkpoints
from which a killed one goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from diffgeo.errors import DiffgeoError
from diffgeo.machine import progress, signals
from diffgeo.machine.speed import Clock, Meter, flops, peak
from diffgeo.store import checkpoint
from diffgeo.store.checkpoint import has_state, load_state, save_state
from diffgeo.store.logger import Logger
from diffgeo.training.loop import Training
from diffgeo.training.stop import Stop


def taken_up(training: Training, folder: Path) -> Clock:
    """Take a training up from the last checkpoint in `folder`, if there is one; its clock."""
    if not has_state(folder / "checkpoint"):
        return Clock()
    state, step, seconds = load_state(folder / "checkpoint", training.device, training.data.key)
    training.restore(state, step)
    return Clock(seconds["training_cpu_s"], seconds["training_wall_s"])


def metered(training: Training) -> Meter:
    """A meter of images, or of points, whose arithmetic is not worth counting."""
    shape = training.data.shape
    world = training.world
    batch = training.trainer.batch
    if len(shape) < 3:
        return Meter(batch, training.step, "points")
    image = torch.zeros(1, *shape, device=training.device)
    noise = torch.zeros(1, device=training.device)
    forward_and_backward = 3.0 * flops(training.model.net, image, noise)
    most = world.size * peak(training.device, training.precision)
    return Meter(batch, training.step, "images", forward_and_backward, most)


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

    Raises DiffgeoError on a NaN, leaving the last good checkpoint; `signals.Stopped`, with a
    checkpoint of the step that was reached, when a signal asks for it.
    """
    trainer = training.trainer
    world = training.world
    stop = Stop(world)
    began = training.step
    saved = began
    before = began - began % trainer.log_every  # the last report
    reported: float | None = None
    bar = progress.bar(trainer.steps, "train", "step", began, shown=world.first)

    def stepped() -> bool:
        bar.update(1)
        return stop()

    with signals.deferred(), bar:
        for reached in training.run(stepped):
            rates = meter.report(reached.step)
            bar.tell(loss=f"{reached.loss:.4g}", **shown(rates))
            logger.log(reached.step, {"loss": reached.loss, "lr": reached.lr})
            logger.speed(reached.step, rates)
            look(training, before)
            end = reached.step == trainer.steps
            now = time.monotonic()
            # the first holds what is done once
            interval = 0.0 if reported is None else now - reported
            reported = now
            late = deadline < math.inf and not end and world.agree(now + interval > deadline)
            due = reached.step - saved >= trainer.checkpoint_every
            if end or late or due:
                save(training, folder, clock)
                logger.checkpoint(reached.step, folder / "checkpoint")
                saved = reached.step
            if late:
                return False
            before = reached.step
            meter.resume()
        if stop.number:
            if training.step > saved:
                save(training, folder, clock)
                logger.checkpoint(training.step, folder / "checkpoint")
            world.barrier()  # a launcher ends all processes when one of them leaves
            raise signals.Stopped(stop.number, f"at step {training.step} of {trainer.steps}")
    return True


def shown(rates: dict[str, float]) -> dict[str, str]:
    """Rates as they are told beside the steps: of images, and the share of the device's peak."""
    told = {}
    if "images_per_s" in rates:
        told["images/s"] = f"{rates['images_per_s']:.4g}"
    if "share_of_peak" in rates:
        told["peak"] = f"{rates['share_of_peak']:.0%}"
    return told


def save(training: Training, folder: Path, clock: Clock) -> None:
    """Write a checkpoint of the step that was just made. Every process calls it, rank 0 writes.
    Raises DiffgeoError on a NaN."""
    training.world.sum_(training.total)
    if not training.world.first:
        training.total.zero_()
        return
    if not checkpoint.is_finite(training.state()):
        raise DiffgeoError(
            f"the weights became NaN by step {training.step}: lower trainer.lr, or set "
            "trainer.clip=1"
        )
    law = training.data.key
    weights = training.weights()
    save_state(
        folder / "checkpoint", training.state(), training.step, weights, *clock.read(), law=law
    )
