"""Whether samples follow the scheduler_config.json of a diffusers folder: what it asks of the
sampler and of the loop is done, or the command is refused with the options that do it."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.sampler import DDPM
from diffgeo.schedule.scheduler_config import ESTIMATE, SchedulerConfig
from diffgeo.schedule.scheduler_grid import GRID
from diffgeo.simulation import Loop


def check_stepping(model: Denoiser, sampler: Sampler, sigmas: Tensor, loop: Loop) -> None:
    """Raise UsageError where `model` is of a folder whose scheduler asks for other steps than
    `sampler` takes down the levels `sigmas` [K+1] inside `loop`."""
    if not isinstance(model, Network) or not model.pretrained:
        return
    from diffgeo.pretrained.folder import FolderNetwork  # only where there is one

    if not isinstance(model, FolderNetwork) or model.scheduler is None:
        return
    asked = model.scheduler
    if asked.threshold is not None:
        raise UsageError(
            f"{asked.source} says {asked.quoted(*ESTIMATE)}, and loop.threshold knows no largest "
            f"value: write model.scheduler=levels loop.threshold={asked.threshold:g} to do without"
        )
    keys: list[str] = []
    options: list[str] = []
    if asked.says_any(*GRID) and not same_grid(asked, sigmas):
        keys.append(asked.quoted(*GRID))
        options.append(
            f"sampler.schedule=diffusers sampler.schedule.folder={json.dumps(model.folder)}"
        )
    if asked.clip is not None and asked.clip != loop.clip:
        keys.append(asked.quoted(*ESTIMATE))
        options.append(f"loop.clip={asked.clip:g}")
    if isinstance(sampler, DDPM) and asked.variance not in (None, sampler.variance):
        keys.append(asked.quoted("variance_type"))
        options.append(f"sampler.variance={asked.variance}")
    if keys:
        raise UsageError(
            f"{asked.source} says {' '.join(keys)}, and the command does otherwise: write "
            f"{' '.join(options)}, or model.scheduler=levels to step freely"
        )


def same_grid(asked: SchedulerConfig, sigmas: Tensor) -> bool:
    """Whether `sigmas` are the levels that the folder's own scheduler lays for as many steps, or
    for one more, whose last is of no length, from t = 0 to t = 0."""
    if asked.grid is None:
        return False
    done = len(sigmas) - 1
    for steps in (done, done + 1):
        try:
            theirs = asked.grid.grid(steps)
        except UsageError:  # it has no such number of steps
            continue
        if len(theirs) == len(sigmas) and bool(torch.isclose(theirs, sigmas, rtol=1e-9).all()):
            return True
    return False
