"""Where scalars, figures and samples go. The JSON-lines file in the run folder is always written
and is the source of every table and test; Weights & Biases comes on top.

A logger has: log(step, scalars), speed(step, rates), figure(name, path), finish(summary, samples).
`Group` passes each call to several. What was measured with a clock is kept apart, because the log
of the rest is reproducible to the byte.
"""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.libraries import needed
from diffgeo.store.caches import need_home
from diffgeo.store.drawing import PIXELS
from diffgeo.store.files import append_text, write_text


class Logger(Protocol):
    def log(self, step: int, scalars: dict[str, float]) -> None: ...
    def speed(self, step: int, rates: dict[str, float]) -> None: ...
    def figure(self, name: str, path: Path) -> None: ...
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

    def finish(self, summary: dict[str, float], samples) -> None: ...


class Wandb:
    """A Weights & Biases run: config, scalars, figures, and a table of the first 1 000 samples.

    mode: online, offline or disabled.
    """

    def __init__(
        self,
        folder: Path,
        config: dict,
        mode: str,
        project: str,
        name: str | None,
        entity: str | None,
    ):
        os.environ.setdefault("WANDB_SILENT", "true")
        # seconds; a busy machine starts its service slowly
        os.environ.setdefault("WANDB__SERVICE_WAIT", "300")
        need_home()
        wandb = needed("wandb", "logger=wandb", "wandb")
        self.wandb = wandb
        # the same for a folder taken up again, so that its run goes on
        identity = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
        try:
            self.run = wandb.init(
                project=project,
                entity=entity,
                name=name or Path(folder).name,
                config=config,
                dir=str(folder),
                mode=mode,
                id=identity,
                resume="allow",
            )
        except Exception as error:
            raise DiffgeoError(
                f"Weights & Biases did not start ({error}); write logger.mode=offline, or "
                "logger=jsonl"
            ) from error

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self.run.log(scalars, step=step)

    def speed(self, step: int, rates: dict[str, float]) -> None:
        self.run.log({f"speed/{name}": value for name, value in rates.items()}, step=step)

    def figure(self, name: str, path: Path) -> None:
        self.run.log({f"figures/{name}": self.wandb.Image(str(path))})

    def finish(self, summary: dict[str, float], samples) -> None:
        self.run.summary.update(summary)
        if samples.ndim == 2 and samples.shape[1] <= 16:
            columns = [f"x{i + 1}" for i in range(samples.shape[1])]
            table = self.wandb.Table(columns=columns, data=samples[:1000].tolist())
            self.run.log({"samples": table})
        self.run.finish()


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


def check(make: partial) -> None:
    """Raise UsageError, before a run begins, where the builder `make` would."""
    if make.func is wandb or (make.func is auto and has_key()):
        mode_of(make.keywords.get("mode"))


# Builders: what `logger=` names.


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
) -> Logger:
    """JSON lines and Weights & Biases; mode online, offline or disabled, by default online with a
    key and offline without."""
    chosen = mode_of(mode)
    lines = jsonl(folder, config, step)
    return Group(lines, Wandb(folder, config, chosen, project, name, entity))


def auto(folder: Path, config: dict, step: int = 0, **options) -> Logger:
    """Weights & Biases when a key is configured, the JSON-lines file always."""
    return wandb(folder, config, step, **options) if has_key() else jsonl(folder, config, step)
