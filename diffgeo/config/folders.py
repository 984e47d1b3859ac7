"""The folders that Hydra makes before a command runs: a command that is refused leaves none.

Hydra makes hydra.run.dir, or hydra.sweep.dir with its multirun.yaml, with all their parents, and
only then asks the command. What was not there before, and holds nothing afterwards, is removed.

This module imports no torch.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_made: list[Path] = []  # by Hydra, the outermost first


class Noted(Callback):
    """Named in conf/base.yaml. Hydra tells it the folder that it is about to make."""

    def on_run_start(self, config: DictConfig, **others) -> None:
        note(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **others) -> None:
        note(Path(config.hydra.sweep.dir))


def note(folder: Path) -> None:
    """Note a folder, and those that it lies in, which are not there yet."""
    whole = folder.absolute()
    for path in reversed([whole, *whole.parents]):
        if not path.exists():
            _made.append(path)


def forget() -> None:
    """Forget what was noted: another command begins."""
    _made.clear()


def remove_empty() -> None:
    """Remove what was noted and holds nothing: of a sweep, nothing but Hydra's multirun.yaml."""
    for folder in reversed(_made):
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
                (folder / "multirun.yaml").unlink()
        drop(folder)


def drop(folder: Path) -> None:
    """Remove a folder that is empty; any other stays."""
    with contextlib.suppress(OSError):
        folder.rmdir()
