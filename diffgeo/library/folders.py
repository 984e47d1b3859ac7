"""Run folders, as the command line leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from diffgeo.config import plugins
from diffgeo.config.recipe import installed
from diffgeo.core import Data
from diffgeo.errors import UsageError
from diffgeo.library.result import Result
from diffgeo.library.surroundings import undisturbed
from diffgeo.store.digest import verified
from diffgeo.store.files import read_json


def admit(*packages: str) -> tuple[str, ...]:
    """Let the packages of others join, as `plugins=[...]` does on the command line: their classes
    and configs are then choices of `law`, `train`, `simulate`, `load` and `choices`.

    packages: as Python imports them, or folders of the working directory; beside those that were
        admitted before, and the installed ones that declare themselves plugins.

    Returns the names of all that are admitted now. Raises UsageError where one is no plugin, or has
    a name that is taken.
    """
    before = [plugin.name for plugin in plugins.admitted() if not plugin.installed]
    found = plugins.admit(sorted({*before, *packages}))
    return tuple(plugin.name for plugin in found)


def load(folder: str | Path) -> Result:
    """A run folder: its law, its model with the trained weights, its simulation, its numbers.

    folder: of `diffgeo train`, `sample` or `evaluate`, finished or on its way.

    `simulation.draw(n)` draws the run's own samples 0 .. n-1. Nothing in the folder is run: a
    config may build diffgeo's own classes, and those of packages that were admitted (`admit`).
    Raises UsageError where it is no run folder, DiffgeoError where a file of it is damaged.

        >>> run = diffgeo.load("outputs/train/2024-05-01_12-00-00.000000")
        >>> run.metrics["transport/w2"], run.simulation.draw(100).samples.shape
    """
    from diffgeo.run import load as experiment_of  # it imports Hydra

    path = Path(folder)
    if not (path / "config.yaml").is_file():
        raise UsageError(
            f"{path} is not a run folder (no config.yaml in it): give the folder that "
            "`diffgeo train` printed"
        )
    installed()
    with undisturbed():
        experiment = experiment_of(path)
    metrics = path / "metrics.json"
    return Result(
        experiment.data,
        experiment.model,
        experiment.simulation,
        losses_of(path / "metrics.jsonl"),
        read_json(verified(metrics)) if metrics.exists() else {},
        samples_of(path / "samples.npy", experiment.data),
        experiment.numbers.start,
        path,
    )


def samples_of(file: Path, data: Data) -> Tensor | None:
    """The samples of a folder, images memory-mapped; None where there are none yet."""
    if not file.exists():
        return None
    return data.restore(np.load(verified(file), mmap_mode="c", allow_pickle=False))


def losses_of(file: Path) -> tuple[tuple[int, float], ...]:
    """(step, loss) of every record of a training's log."""
    if not file.exists():
        return ()
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return tuple((record["step"], record["loss"]) for record in records if "loss" in record)
