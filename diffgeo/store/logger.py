"""Where scalars, figures and samples go. The JSON-lines file in the run folder is always written
and is the source of every table and test; Weights & Biases or TensorBoard (`boards`) come on top.

`Group` passes each call to several loggers. What was measured with a clock is kept apart, because
the log of the rest is reproducible to the byte.
"""

from __future__ import annotations

import importlib.util
import json
import netrc
import os
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

from diffgeo.errors import UsageError
from diffgeo.machine.libraries import needed
from diffgeo.store.boards import TENSORBOARD, TensorBoard, Wandb
from diffgeo.store.drawing import PIXELS
from diffgeo.store.files import append_text, write_text


class Logger(Protocol):
    """What a training tells of itself on its way, and a run at its end."""

    def log(self, step: int, scalars: dict[str, float]) -> None: ...
    def speed(self, step: int, rates: dict[str, float]) -> None: ...
    def figure(self, name: str, path: Path) -> None: ...
    def checkpoint(self, step: int, folder: Path) -> None: ...  # `folder`: checkpoint/ was written
    def finish(self, summary: dict[str, float], samples) -> None: ...


class Jsonl:
    """`metrics.jsonl`: one object a line, {"step": ..., ...}; rates in `speed.jsonl`. A resumed run
    first drops the lines of metrics.jsonl beyond its checkpoint, and says where some before it are
    lost."""

    def __init__(self, folder: Path, step: int = 0, every: int = 1):
        """every: steps between two lines; the run is taken up at `step`."""
        self.every = every
        self.path = Path(folder) / "metrics.jsonl"
        self.rates = Path(folder) / "speed.jsonl"
        kept = self.up_to(step) if step else []
        write_text(self.path, "".join(line + "\n" for line in kept))

    def up_to(self, step: int) -> list[str]:
        """The lines of metrics.jsonl up to this step."""
        kept = []
        last = 0
        text = ""
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                logged = int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):  # a killed run may leave half a line
                break
            if logged <= step:
                kept.append(line)
                last = logged
        if last < step - step % self.every:
            print(
                f"diffgeo: {self.path} is damaged: what was logged from step {last} to {step} is "
                "lost; the training is not",
                file=sys.stderr,
            )
        return kept

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self.append(self.path, step, scalars)

    def speed(self, step: int, rates: dict[str, float]) -> None:
        self.append(self.rates, step, rates)

    @staticmethod
    def append(path: Path, step: int, values: dict[str, float]) -> None:
        append_text(path, json.dumps({"step": step, **values}) + "\n")

    def figure(self, name: str, path: Path) -> None: ...

    def checkpoint(self, step: int, folder: Path) -> None: ...

    def finish(self, summary: dict[str, float], samples) -> None: ...


class Group:
    """Several loggers as one."""

    def __init__(self, *loggers: Logger):
        self.loggers = loggers

    def log(self, step: int, scalars: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log(step, scalars)

    def speed(self, step: int, rates: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.speed(step, rates)

    def figure(self, name: str, path: Path) -> None:
        if path.suffix in PIXELS:  # what W&B and TensorBoard show; others stay in the folder
            for logger in self.loggers:
                logger.figure(name, path)

    def checkpoint(self, step: int, folder: Path) -> None:
        for logger in self.loggers:
            logger.checkpoint(step, folder)

    def finish(self, summary: dict[str, float], samples) -> None:
        for logger in self.loggers:
            logger.finish(summary, samples)


def has_key() -> bool:
    """Whether a Weights & Biases key is configured, without importing wandb (.8 CPU s)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return bool(netrc.netrc().authenticators("api.wandb.ai"))
    except (OSError, netrc.NetrcParseError):
        return False


def steps_between(config: dict) -> int:
    """The steps between two lines of the log."""
    return config.get("trainer", {}).get("log_every", 1)


def mode_of(mode: str | None) -> str:
    """The mode of Weights & Biases: `mode`, or WANDB_MODE, or whether there is a key. Raises
    UsageError."""
    option = "logger.mode" if mode else "WANDB_MODE"
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode not in ("online", "offline", "disabled"):
        raise UsageError(f"{option}={mode} is unknown: write online, offline or disabled")
    if mode == "online" and not has_key():
        raise UsageError(
            f"{option}=online needs a key: run `wandb login` or set WANDB_API_KEY, or write "
            "logger.mode=offline"
        )
    return mode


def uses_wandb() -> bool:
    """Whether logger=auto adds Weights & Biases: a key is configured, and it is here, which is said
    where it is not."""
    if not has_key():
        return False
    here = importlib.util.find_spec("wandb") is not None
    if not here:
        print(
            "diffgeo: a key of Weights & Biases is configured, but wandb is not installed: the log "
            "is metrics.jsonl alone",
            file=sys.stderr,
        )
    return here


def check(make: partial) -> None:
    """Raise UsageError, before a run begins, where the builder `make` would."""
    if make.func is wandb or (make.func is auto and has_key()):
        mode_of(make.keywords.get("mode"))
    if make.func is wandb:
        needed("wandb", "logger=wandb", "wandb")
    if make.func is tensorboard:
        needed("tensorboard", "logger=tensorboard", TENSORBOARD)


# Builders: what `logger=` names. A run gives them its folder, its config and the step that it is
# taken up at; in a sweep what the line leaves open of `name` and `group` (`commands/train.py`).


def jsonl(folder: Path, config: dict, step: int = 0) -> Logger:
    """The JSON-lines file alone."""
    return Jsonl(folder, step, steps_between(config))


def wandb(
    folder: Path,
    config: dict,
    step: int = 0,
    mode: str | None = None,
    project: str = "diffgeo",
    name: str | None = None,
    entity: str | None = None,
    group: str | None = None,
    artifacts: bool = False,
) -> Logger:
    """JSON lines and Weights & Biases; mode online, offline or disabled, by default online with a
    key and offline without."""
    chosen = mode_of(mode)
    lines = jsonl(folder, config, step)
    return Group(lines, Wandb(folder, config, chosen, project, name, entity, group, artifacts))


def tensorboard(folder: Path, config: dict, step: int = 0) -> Logger:
    """JSON lines and TensorBoard, in folder/tensorboard."""
    return Group(jsonl(folder, config, step), TensorBoard(folder, config, step))


def auto(
    folder: Path,
    config: dict,
    step: int = 0,
    mode: str | None = None,
    project: str = "diffgeo",
    name: str | None = None,
    entity: str | None = None,
    group: str | None = None,
    artifacts: bool = False,
) -> Logger:
    """Weights & Biases when a key is configured, the JSON-lines file always."""
    if not uses_wandb():
        return jsonl(folder, config, step)
    return wandb(folder, config, step, mode, project, name, entity, group, artifacts)
