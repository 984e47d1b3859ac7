"""`diffgeo <command> [overrides]`: one primary Hydra config a command, and everything of Hydra's own line: -m, --cfg job, --help,
--info, shell completion.

This module imports neither Hydra nor torch until a command runs. What it adds to a line before Hydra reads it:
    sampler.schedule=vp      ->  schedule@sampler.schedule=vp     (the second slot of the group `schedule`)
    resume=R                 ->  the folder R as the run's own folder, and R's recorded overrides
    sample run=R ...         ->  R's recorded overrides, then the line's
    -m                       ->  a sweep folder named after the line, so that the same line finds its jobs again
"""
from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from diffgeo.errors import DiffgeoError, UsageError

COMMANDS = {
    "train": "train a network on a law, then sample it, measure it and draw it",
    "sample": "draw samples from a run (run=FOLDER) or from an exact denoiser (model=exact)",
    "evaluate": "measure a cloud (samples=FILE data=LAW) or a run (run=FOLDER)",
    "reproduce": "a published table or figure beside what is measured here: reproduce NAME, reproduce list",
    "compare": "one table of the runs below a folder: compare FOLDER",
}
PLAIN = ("reproduce", "compare")        # commands with arguments of their own instead of a Hydra config
HELP_FLAGS = ("-h", "--help", "help")


def usage() -> str:
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: diffgeo <command> [group=choice] [key=value] ...", "", *lines, "",
                      "diffgeo train model=cem data=curve        the main job",
                      "diffgeo <command> --help                  its groups and options",
                      "diffgeo <command> -m key=a,b,c            a sweep, with one table at its end"])


def conf_dir() -> Path:
    """The config folder: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def recorded(folder: str, line: list[str], option: str) -> list[str]:
    """The overrides that made the run `folder`, without those that the line sets again and those of its own bookkeeping."""
    import yaml

    path = Path(folder) / "overrides.yaml"
    if not (Path(folder) / "config.yaml").is_file() or not path.is_file():
        raise UsageError(f"{option}={folder} is not a run folder (no config.yaml in it): write the folder that `diffgeo train` printed")
    try:
        overrides = [str(o) for o in yaml.safe_load(path.read_text()) or []]
    except (yaml.YAMLError, OSError) as error:
        raise DiffgeoError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    again = {key_of(o) for o in line if "=" in o}
    groups = {k for k in again if "." not in k}

    def kept(key: str) -> bool:
        return key not in again | {"resume", "run"} and key.split(".")[0] not in groups and not key.startswith("hydra.")

    return [o for o in overrides if kept(key_of(o))]


def value_of(key: str, line: list[str]) -> str | None:
    found = [o.partition("=")[2] for o in line if key_of(o) == key]
    return found[-1] if found else None


def prepare(command: str, line: list[str], config: Path) -> list[str]:
    """The line as Hydra shall read it."""
    choices = {p.stem for p in (config / "schedule").glob("*.yaml")}
    out = []
    for override in line:
        key, equals, value = override.partition("=")
        if key == "sampler.schedule" and equals:
            unknown = [v for v in value.split(",") if v not in choices]
            if unknown:
                raise UsageError(f"sampler.schedule={value}: there is no schedule {unknown[0]}; write one of {', '.join(sorted(choices))}")
            override = f"schedule@sampler.schedule={value}"
        out.append(override)
    if command == "train" and (folder := value_of("resume", out)):
        folder = folder.strip("'\"")
        out = recorded(folder, out, "resume") + out + [f"hydra.run.dir={quoted(folder)}"]
    if command in ("sample", "evaluate") and (folder := value_of("run", out)):
        out = recorded(folder.strip("'\""), out, "run") + out
    if "-m" in out or "--multirun" in out:
        digest = hashlib.sha256("\0".join(sorted(o for o in out if o not in ("-m", "--multirun"))).encode()).hexdigest()[:10]
        if value_of("hydra.sweep.dir", out) is None:
            out.append(f"hydra.sweep.dir=outputs/sweeps/{command}-{digest}")
    return out


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def hydra_command(command: str, line: list[str]) -> None:
    """Run one command under Hydra; a sweep goes on past a job that fails, ends in its table, and then fails with the first error."""
    line = prepare(command, line, conf_dir())
    sys.argv = [f"diffgeo {command}", *line]
    import hydra

    here, failures = os.getpid(), []
    sweep = value_of("hydra.sweep.dir", line) if "-m" in line or "--multirun" in line else None

    def task(cfg):
        try:
            importlib.import_module(f"diffgeo.commands.{command}").main(cfg)
        except Exception as error:
            if os.getpid() != here:                 # a launcher's worker: the launcher carries the error home
                raise
            failures.append(error)                  # Hydra would print a line of its own
            if sweep:
                print(f"diffgeo: {message(error)[0]}", file=sys.stderr)

    hydra.main(config_path=str(conf_dir()), config_name=command, version_base="1.3")(task)()
    if sweep and any(Path(sweep.strip("'\"")).rglob("metrics.json")):
        importlib.import_module("diffgeo.commands.compare").main([sweep.strip("'\"")])
    if failures:
        raise failures[0]


def complete(flags: list[str]) -> None:
    """Shell completion, `diffgeo -sc install=bash|fish`. Hydra's takes the command for an override: it is dropped before Hydra answers."""
    words = os.environ.get("COMP_LINE", "diffgeo ").split(" ")
    command = words[1] if len(words) > 1 else ""
    if flags[0].startswith("query=") and (len(words) <= 2 or command in PLAIN):
        print(" ".join(name for name in COMMANDS if len(words) <= 2 and name.startswith(command)))
        return
    os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    sys.argv = ["diffgeo", "-sc", *flags]
    import hydra

    hydra.main(config_path=str(conf_dir()), config_name=command if command in COMMANDS else "train", version_base="1.3")(lambda cfg: None)()


def message(error: BaseException) -> tuple[str, int]:
    """One line and an exit status for any failure."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DiffgeoError):
        return text, error.status
    if found := re.search(r"Could not find '(?:.*/)?(\w+)/(\S+)' Available options in '\S+': (.*?) Config search path", text):
        group, choice, options = found.groups()
        return f"there is no {group}={choice}; write {group}= one of {', '.join(options.split())}", 2
    if found := re.search(r"Could not override '(\S+)'", text):
        return f"there is no option {found[1]}; `diffgeo <command> --cfg job` with the same groups lists them", 2
    if type(error).__module__.startswith(("hydra.", "omegaconf.")):
        return text.split(" See https://")[0], 2
    if isinstance(error, OSError):
        return f"{error.strerror or text}" + (f": {error.filename}" if error.filename else ""), 1
    if isinstance(error, MemoryError) or "out of memory" in text:
        return "out of memory: lower n, trainer.batch or the network's width", 1
    return f"{type(error).__name__}: {text}", 1


def guarded(action: Callable[[], None]) -> int:
    """Run; turn every failure into one line on stderr, unless the user asked for the traceback (HYDRA_FULL_ERROR=1)."""
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"            # so that Hydra raises instead of printing and exiting by itself
    try:
        action()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:                         # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("diffgeo: interrupted; train resume=FOLDER goes on from the last checkpoint", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if wanted == "1":
            raise
        text, status = message(error)
        print(f"diffgeo: {text}", file=sys.stderr)
        return status
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")         # spinning barriers cost 30-77x on a shared machine
    command, line = (sys.argv[1] if len(sys.argv) > 1 else "help"), sys.argv[2:]
    if command in HELP_FLAGS:
        sys.exit(guarded(lambda: print(usage())))
    if command in ("-sc", "--shell-completion"):
        sys.exit(guarded(lambda: complete(line)))
    if command not in COMMANDS:
        print(f"diffgeo: there is no command '{command}'; write one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    if command in PLAIN:
        sys.exit(guarded(lambda: importlib.import_module(f"diffgeo.commands.{command}").main(line)))
    sys.exit(guarded(lambda: hydra_command(command, line)))
