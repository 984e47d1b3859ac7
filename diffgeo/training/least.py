"""The least loss that a law admits: that of its exact denoiser D*, under the training's own levels,
weighting and targets,

    L* = E_{x0, sigma ~ p, eps}  w(sigma) |D*(x0 + sigma eps; sigma) - x0'|^2 / dim,

x0' = x0, or the mean of x0 given x and a group of points, which varies less (`loss.pool`), so that
L* is less too. No network's expected loss is below it; what it is above is the weighted error of
its denoiser, E w |D - D*|^2 / dim. The expectation is a mean over draws, with its standard error.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch

from diffgeo.core import Known, Streamed, expand, generator
from diffgeo.machine.effort import effort
from diffgeo.store.files import read_json, write_json
from diffgeo.training.batches import Batches
from diffgeo.training.loop import Training

FILE = "least_loss.json"
MOST = 1 << 15  # rows
BUDGET = 1 << 30  # of `machine.effort`: about 3 s of a CPU
PROBE = 16  # rows by which the effort of one is measured
FEWEST = 32  # rows; fewer say nothing


class Least(NamedTuple):
    """The least loss, the standard error of its estimate, and of how many rows that is the mean."""

    loss: float
    error: float
    rows: int


def affordable(training: Training) -> int:
    """How many rows are worth their time, a power of 2 or MOST, and a multiple of the groups that
    targets share. 0 where the law has no exact denoiser, or rows of it cost too much."""
    data = training.data
    if not isinstance(data, Known) or (isinstance(data, Streamed) and data.streams):
        return 0
    exact = data.denoiser()
    g = generator(0, *b"effort", device=training.batches.device)
    x0 = data.sample(PROBE, g)
    sigma = training.batches.schedule.draw(PROBE, g)
    x = x0 + expand(sigma, x0) * torch.randn(x0.shape, generator=g, device=g.device, dtype=x0.dtype)
    each = effort(lambda: exact(x, sigma)) / PROBE
    rows = min(MOST, 1 << int(math.log2(BUDGET / each)))
    pool = training.trainer.pool
    rows -= rows % pool
    return rows if rows >= FEWEST and rows > pool else 0


@torch.no_grad()
def least(training: Training, rows: int) -> Least:
    """The least loss of a training, over `rows` rows that it does not see; a multiple of
    trainer.pool, whose rows share their targets."""
    data = training.data
    assert isinstance(data, Known)
    trainer = training.trainer
    own = training.batches
    batches = Batches(
        trainer,
        data,
        own.schedule,
        own.weighting,
        own.parameterization,
        seed=-1 - training.seed,  # no run has a negative one
        told=own.told,
        device=own.device,
        dtype=own.dtype,
    )
    exact = data.denoiser()
    parts = []
    chunk = 0
    left = rows
    while left:
        x0, sigma, eps, label = batches.points(chunk)
        n = min(left, len(x0))
        x0 = x0[:n]
        sigma = sigma[:n]
        x = x0 + expand(sigma, x0) * eps[:n]
        told = {} if label is None else {"label": label[:n]}
        error = (exact(x, sigma, **told) - x0).double().flatten(1)
        parts.append(own.weighting(sigma).double() * error.square().mean(1))
        chunk += 1
        left -= n
    groups = torch.cat(parts).view(-1, trainer.pool).mean(1)  # independent of one another
    return Least(float(groups.mean()), float(groups.std()) / math.sqrt(len(groups)), rows)


def record(training: Training, folder: Path) -> None:
    """Write the least loss to `folder`/least_loss.json, where it is worth its time."""
    if rows := affordable(training):
        write_json(folder / FILE, least(training, rows)._asdict())


def recorded(folder: Path) -> Least | None:
    """The least loss of the training in `folder`; None where none was written."""
    path = folder / FILE
    if not path.exists():
        return None
    found = read_json(path)
    return Least(float(found["loss"]), float(found["error"]), int(found["rows"]))
