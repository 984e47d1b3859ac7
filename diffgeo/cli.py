"""`diffgeo <command> [overrides]`: one primary Hydra config a command, and everything of Hydra's
own line: -m, --cfg job, --help, --info, shell completion. What is changed on a line before Hydra
reads it is in `config/line.py`.

This module imports neither Hydra nor torch until a command runs. Every failure ends as one line on
stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from diffgeo.config.line import conf_dir, multirun, prepare, value_of
from diffgeo.errors import DiffgeoError

COMMANDS = {
    "train": "train a network on a law, then sample it, measure it and draw it",
    "sample": "draw samples from a run (run=FOLDER) or from an exact denoiser (model=exact)",
    "evaluate": "measure a cloud (samples=FILE data=LAW) or a run (run=FOLDER)",
    "reproduce": "a published table or figure beside what is measured here: reproduce NAME, reproduce list",
    "compare": "one table and one picture of the runs below a folder, ranked: compare FOLDER",
    "data list": "the sets of images, and what is prepared of them: data list [data.root=ROOT]",
    "data prepare": "download or find a set of images, once: data prepare mnist data.root=ROOT",
    "data check": "a prepared set against the hashes of its manifest: data check cifar10 data.root=ROOT",
    "theory admissibility": "how good a projection a denoiser is along trajectories, and what that certifies",
    "theory certify": "the certificate of a schedule: sampler.schedule=ddim sampler.steps=10 eta=.05",
    "theory gits": "a schedule fitted to a law or a run by dynamic programming over a teacher trajectory",
    "theory gaussian": "the four errors of sampling a Gaussian in closed form, any spectrum, scheme and grid",
    "theory convergence": "the rates of convergence theory, stated and measured: theory convergence list",
    "theory orders": "the table of samplers: declared and measured orders, evaluations a step",
    "theory winners": "which sampler on which schedule is best at 5, 8, 10, 20 evaluations, on five laws",
    "theory gamma": "the best gamma of gradient estimation against steps and curvature",
    "theory mixture": "mixtures learnt by descent on the DDPM objective and by EM: theory mixture pair",
}
# commands with arguments of their own instead of a Hydra config
PLAIN = (
    "reproduce",
    "compare",
    "data list",
    "data prepare",
    "data check",
    "theory orders",
    "theory winners",
    "theory gamma",
    "theory mixture",
    "theory convergence",
)
FAMILIES = {name.split()[0] for name in COMMANDS if " " in name}  # first words of commands of two
HELP_FLAGS = ("-h", "--help", "help")
GO_ON = {
    "train": "; `train resume=FOLDER` goes on from the last checkpoint",  # after Ctrl-C
    "sample": "; the same line with hydra.run.dir=FOLDER goes on from the images that are drawn",
}


def split(words: list[str]) -> tuple[str, list[str]]:
    """The command, of one word or of two, and the rest of the line."""
    count = 2 if words[0] in FAMILIES else 1
    return " ".join(words[:count]), words[count:]


def usage() -> str:
    lines = [f"  {name:<20} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: diffgeo <command> [group=choice] [key=value] ...",
            "",
            *lines,
            "",
            "diffgeo train model=cem data=curve        the main job",
            "diffgeo <command> --help                  its groups and options",
            "diffgeo <command> -m key=a,b,c            a sweep, with one table at its end",
        ]
    )


def module(command: str):
    """The module of a command; of two words the first is a folder, here and of its config."""
    return importlib.import_module(f"diffgeo.commands.{command.replace(' ', '.')}")


@contextlib.contextmanager
def composed_once() -> Iterator[None]:
    """Hydra composes every job of a sweep twice, .2 CPU s each, to check it and to run it: here the
    second time takes the first."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    held = {}
    compose = ConfigLoaderImpl.load_sweep_config

    def load_sweep_config(self, master_config, sweep_overrides):
        job = tuple(sweep_overrides)
        if job not in held:
            held[job] = compose(self, master_config, sweep_overrides)
            return held[job]
        return held.pop(job)

    ConfigLoaderImpl.load_sweep_config = load_sweep_config
    try:
        yield
    finally:
        ConfigLoaderImpl.load_sweep_config = compose


def hydra_command(command: str, line: list[str]) -> None:
    """Run one command under Hydra; a sweep goes on past a job that fails, ends in its table, and
    then fails with the first error."""
    line = prepare(command, line)
    sys.argv = [f"diffgeo {command}", *line]
    import hydra

    here = os.getpid()
    failures = []
    sweep = value_of("hydra.sweep.dir", line) if multirun(line) else None

    def task(cfg):
        try:
            module(command).main(cfg)
        except Exception as error:
            if os.getpid() != here:  # a launcher's worker: the launcher carries the error home
                raise
            failures.append(error)  # Hydra would print a line of its own
            if sweep:
                print(f"diffgeo: {message(error)[0]}", file=sys.stderr)

    try:
        with composed_once():
            hydra.main(
                config_path=str(conf_dir()),
                config_name=command.replace(" ", "/"),
                version_base="1.3",
            )(task)()
    except Exception as error:  # of a launcher's worker
        failures.append(error)
    if sweep and any(Path(sweep).rglob("metrics.json")):
        module("compare").main([sweep])
    if failures:
        raise failures[0]


def complete(flags: list[str]) -> None:
    """Shell completion, `diffgeo -sc install=bash|fish`. Hydra's takes the command for an override:
    it is dropped before Hydra answers."""
    typed = os.environ.get("COMP_LINE", "diffgeo ").split(" ")[1:]
    command, rest = split(typed)
    if flags[0].startswith("query=") and (not rest or command in PLAIN):
        print(
            " ".join(
                dict.fromkeys(
                    name.split()[len(typed) - 1]
                    for name in COMMANDS
                    if not rest and name.startswith(command)
                )
            )
        )
        return
    os.environ["COMP_LINE"] = " ".join(["diffgeo", *rest])
    sys.argv = ["diffgeo", "-sc", *flags]
    import hydra

    name = command.replace(" ", "/") if command in COMMANDS else "train"
    hydra.main(config_path=str(conf_dir()), config_name=name, version_base="1.3")(
        lambda cfg: None
    )()


def message(error: BaseException) -> tuple[str, int]:
    """One line and an exit status for any failure."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DiffgeoError):
        return text, error.status
    if found := re.search(
        r"Could not find '\S+/(\S+)' Available options in '(\S+)': (.*?) Config search path", text
    ):
        choice, group, options = found.groups()
        if group == "hydra/launcher":
            return (
                f"there is no hydra/launcher={choice} here; write one of "
                f"{', '.join(options.split())} "
                "(joblib and submitit_* come with pip install 'diffgeo[sweep]')"
            ), 2
        return (
            f"there is no {group}={choice}; write {group}= one of {', '.join(options.split())}",
            2,
        )
    if found := re.search(r"Could not override '(\S+)'", text):
        return (
            f"there is no option {found[1]}; `diffgeo <command> --cfg job` with the same groups "
            "lists them",
            2,
        )
    if type(error).__module__.startswith(("hydra.", "omegaconf.")):
        return text.split(" See https://")[0], 2
    if isinstance(error, OSError):
        return f"{error.strerror or text}" + (f": {error.filename}" if error.filename else ""), 1
    if isinstance(error, MemoryError) or "out of memory" in text:
        return "out of memory: lower n, trainer.batch or the network's width", 1
    return f"{type(error).__name__}: {text}", 1


def speaks(error: BaseException) -> bool:
    """Whether this process tells an error: under torchrun the one that failed first
    (`distributed.joined` says so), or, of mistakes that every process finds before they join, rank
    0."""
    return getattr(error, "first", os.environ.get("RANK", "0") == "0")


def guarded(action: Callable[[], None], command: str = "") -> int:
    """Run; turn every failure into one line on stderr, unless the user asked for the traceback
    (HYDRA_FULL_ERROR=1)."""
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    # so that Hydra raises instead of printing and exiting by itself
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        action()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        if speaks(stop):
            print("diffgeo: interrupted" + GO_ON.get(command, ""), file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if wanted == "1":
            raise
        text, status = message(error)
        if speaks(error):
            print(f"diffgeo: {text}", file=sys.stderr)
        return status
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted


def main() -> None:
    # spinning barriers cost 30-77x on a shared machine; never to spin
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # costs 3x on two threads of a small U-Net: spin for microseconds
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    command, line = split(sys.argv[1:] or ["help"])
    if command.split()[-1] in HELP_FLAGS or command in FAMILIES:
        sys.exit(guarded(lambda: print(usage())))
    if command in ("-sc", "--shell-completion"):
        sys.exit(guarded(lambda: complete(line)))
    if command not in COMMANDS:
        print(
            f"diffgeo: there is no command '{command}'; write one of {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    if command in PLAIN:
        sys.exit(guarded(lambda: module(command).main(line)))
    sys.exit(guarded(lambda: hydra_command(command, line), command))
