"""`diffgeo <command> [overrides]`: one primary Hydra config a command, and everything of Hydra's
own line: -m, --cfg job, --info, --hydra-help, shell completion. What is changed on a line before
Hydra reads it is in `config.line`; which commands there are, in `config.catalogue`; what is said of
them, in `config.help.screen`.

This module imports neither Hydra nor torch until a command runs, and little else. Every failure
ends as one line on stderr.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from diffgeo import __version__
from diffgeo.config import plugins
from diffgeo.config.catalogue import Command, commands, families, split
from diffgeo.config.flags import multirun
from diffgeo.config.swept import swept
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import environment, signals, streams, user, utf8

HELP_FLAGS = ("-h", "--help", "help")
VERSION_FLAGS = ("-V", "--version", "version")
COMPLETION = re.compile(r"(install|uninstall|query)=(bash|fish|zsh)")
GOES_ON = "the same line goes on"  # what to do about a sweep or a table that was stopped


def show(words: list[str]) -> None:
    """`diffgeo help WHAT`, which works in an environment in which no other command does."""
    from diffgeo.config.help import overview

    if not words:
        print(overview.usage())
        return
    asked = [word for word in words if word == "plugins"]  # the option itself is asked about
    names, words = plugins.typed([word for word in words if word != "plugins"])
    plugins.admit(names)
    words = [*asked, *words]
    commands()["help"].module().main(words)


def help_of(command: Command) -> None:
    """What `diffgeo COMMAND --help` prints."""
    from diffgeo.config.help import screen

    print(screen.of(command))


def help_of_family(first: str) -> None:
    """What `diffgeo theory` prints: the commands whose first word it is."""
    from diffgeo.config.help import overview

    print(overview.family(first))


def under_hydra(command: Command, task: Callable) -> None:
    """Run `task` on the config of a command, as sys.argv says."""
    import hydra

    from diffgeo.config.plugins import searchpath

    searchpath.join()
    conf = str(plugins.conf_dir())
    start = hydra.main(config_path=conf, config_name=command.path, version_base="1.3")
    start(task)()


def hydra_command(command: Command, line: list[str]) -> None:
    """Run one command under Hydra; a sweep goes on past a job that fails, ends in its table, and
    then fails with the first error."""
    from diffgeo.config import drawings, folders
    from diffgeo.config.line import prepare, value_of
    from diffgeo.config.mistakes import message
    from diffgeo.store import files, lock
    from diffgeo.store.drawing import drawn_as

    environment.check()
    line = prepare(command.name, with_plugins(line))
    admitted = plugins.admitted()
    folders.forget()
    sys.argv = [f"diffgeo {command.name}", *line]
    sweep = value_of("hydra.sweep.dir", line) if multirun(line) else None
    if sweep:
        signals.advise(GOES_ON)
        signals.begin()  # the jobs may be other processes'
        files.sweep(sweep)
    varied = swept(line) if sweep else ()
    process = os.getpid()
    failures: list[Exception] = []
    told: list[Exception] = []  # those of them that have been printed

    def task(config) -> None:
        job = this_job(sweep is not None, varied)
        try:
            run = started(command)
            plugins.readmit(admitted)  # in a launcher's worker, which has a line of its own
            plugins.check_config(config.get("plugins"))
            check_numbers(config)
            with lock.job(), drawn_as(drawings.of_config(config)):
                run(config, job)
        except Exception as error:
            if os.getpid() != process:  # a launcher's worker: the launcher carries the error home
                raise
            signals.check()
            failures.append(error)  # Hydra would print a line of its own
            if sweep:
                print(f"diffgeo: {message(error, line, command.name)[0]}", file=sys.stderr)
                told.append(error)
        finally:
            if sweep:
                folders.drop(job.path)

    try:
        under_hydra(command, task)
    except (FileExistsError, NotADirectoryError) as error:  # of Hydra, which makes the folder
        failures.append(in_the_way(error, line))
    except Exception as error:  # of a launcher's worker
        failures.append(error)
    finally:
        folders.remove_empty()
    if sweep and any(Path(sweep).rglob("metrics.json")):
        commands()["compare"].module().main([sweep, *drawings.repeated(line)])
    if failures:
        raise of_sweep(failures, line) if sweep and told else failures[0]


def with_plugins(line: list[str]) -> list[str]:
    """A line whose plugins are admitted, with one plain list of those that it names."""
    names, rest = plugins.typed(line)
    plugins.admit(names)
    return [*rest, f"plugins=[{','.join(names)}]"] if names else rest


def of_sweep(failures: list[Exception], line: list[str]) -> Exception:
    """What to raise when jobs failed that have said why: no second time what the first one said,
    with its exit status."""
    from diffgeo.config.mistakes import message

    status = message(failures[0], line)[1]
    kind = UsageError if status == UsageError.status else DiffgeoError
    count = len(failures)
    error = kind(f"{count} {'job' if count == 1 else 'jobs'} of the sweep failed, as said above")
    error.__cause__ = failures[0]
    return error


def in_the_way(error: OSError, line: list[str]) -> Exception:
    """What to say where the line names a folder that cannot be one."""
    from diffgeo.config.line import value_of

    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        if folder := value_of(key, line):
            return UsageError(f"{key}={folder}: {error.filename} is a file; write another folder")
    return error


def started(command: Command) -> Callable:
    """What a command runs, its modules imported. From here on garbage is collected: what the
    start-up has made all stays, and is not looked through again and again (`guarded`)."""
    run = command.module().main
    gc.freeze()
    gc.enable()
    signals.begin()
    return run


def check_numbers(config) -> None:
    """Raise UsageError on a number that no command takes."""
    from diffgeo.config import limits  # it imports torch, as the command has by now

    limits.check_numbers(config)


def this_job(sweep: bool, keys: tuple[str, ...] = ()):
    """The `run.Job` that Hydra runs now; `keys` are those that a sweep varies."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from diffgeo.run import Job

    hydra = HydraConfig.get()
    # as they were typed: a resolver in them is not followed
    overrides = OmegaConf.to_container(hydra.overrides.task)
    return Job(Path(hydra.runtime.output_dir), tuple(overrides), sweep, keys)


def plain_command(command: Command, words: list[str]) -> None:
    """Run a command without a config."""
    environment.check()
    names, words = plugins.typed(words)
    plugins.admit(names)
    if command.name == "reproduce":
        signals.advise(GOES_ON)
    from diffgeo.store import lock

    run = started(command)
    with lock.job():
        run(words)


def complete(flags: list[str]) -> None:
    """Shell completion, `diffgeo -sc install=bash|fish`. Hydra's takes the command for an override:
    it is dropped before Hydra answers."""
    if not flags or not COMPLETION.fullmatch(flags[0]):
        raise UsageError("write diffgeo -sc install=SHELL, bash, fish or zsh; or uninstall=SHELL")
    typed = os.environ.get("COMP_LINE", "diffgeo ").split(" ")[1:] or [""]
    begun = next_words(typed)
    family = typed[0] if len(typed) == 2 and typed[0] in commands() else None
    name, rest = (family, typed[1:]) if family else split(typed)
    command = commands().get(name)
    named = not rest or bool(begun) or (command is not None and not command.configured)
    if flags[0].startswith("query=") and named:
        print(" ".join(begun))
        return
    with contextlib.suppress(UsageError):  # plugins= may be half typed
        plugins.admit(plugins.typed(rest)[0])
    os.environ["COMP_LINE"] = " ".join(["diffgeo", *rest])
    sys.argv = ["diffgeo", "-sc", *flags]
    under_hydra(command or commands()["train"], lambda config: None)


def next_words(typed: list[str]) -> list[str]:
    """The words that may stand where the last of `typed` is begun."""
    begun = " ".join(typed)
    found = [name.split()[len(typed) - 1] for name in commands() if name.startswith(begun)]
    return list(dict.fromkeys(found))


def speaks(error: BaseException) -> bool:
    """Whether this process tells an error: under torchrun the one that failed first
    (`distributed.joined` says so), or, of mistakes that every process finds before they join, rank
    0."""
    try:
        here = environment.place()
    except UsageError:  # then this is what there is to tell
        return True
    return getattr(error, "first", here.rank == 0)


def guarded(action: Callable[[], None], command: str = "") -> int:
    """Run; turn every failure of a command into one line on stderr, unless the user asked for the
    traceback (HYDRA_FULL_ERROR=1)."""
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    # so that Hydra raises instead of printing and exiting by itself
    os.environ["HYDRA_FULL_ERROR"] = "1"
    gc.disable()  # a tenth of the start-up; `started` enables it
    try:
        action()
        if reason := streams.lost():
            raise DiffgeoError(f"the work is done, but stdout could not be written: {reason}")
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        from diffgeo.config.mistakes import message

        signals.check()
        if wanted == "1":
            raise
        text, status = message(error, sys.argv[1:], command)
        if speaks(error):
            print(f"diffgeo: {text}", file=sys.stderr)
        return status
    finally:
        gc.unfreeze()
        gc.enable()
        os.environ.pop("HYDRA_FULL_ERROR")
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted


def main() -> None:
    # spinning barriers cost 30-77x on a shared machine; never to spin
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # costs 3x on two threads of a small U-Net: spin for microseconds
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    utf8.ensure()
    user.ensure()
    with streams.whole(), signals.handled():
        try:
            status = answer(sys.argv[1:] or ["help"])
        except KeyboardInterrupt as stop:
            text, status = signals.told(stop)
            if speaks(stop):
                print(f"diffgeo: {text}", file=sys.stderr)
    sys.exit(status)


def answer(words: list[str]) -> int:
    """Do what a line says; its exit status."""
    name, line = split(words)
    if name in VERSION_FLAGS or "--version" in line:
        return guarded(lambda: print(f"diffgeo {__version__}"))
    if name in HELP_FLAGS:  # diffgeo --help train is diffgeo help train
        return guarded(lambda: show(line))
    first, _, second = name.partition(" ")
    alone = not second and first not in commands()
    if first in families() and (alone or second in HELP_FLAGS):
        return guarded(lambda: help_of_family(first))
    if name in ("-sc", "--shell-completion"):
        return guarded(lambda: complete(line))
    command = commands().get(name)
    if command is None:
        return guarded(lambda: refuse(name))
    if {"-h", "--help"} & set(line) or line == ["help"]:
        return guarded(lambda: help_of(command))
    run = hydra_command if command.configured else plain_command
    return guarded(lambda: run(command, line), command.name)


def refuse(name: str) -> None:
    """Raise UsageError: there is no command of this name."""
    from diffgeo.config.mistakes import no_command

    raise UsageError(no_command(name, commands()))
