"""What is wrong with a line, in one line that says what to write instead.

    check      before Hydra reads it: a word without a name, an option left empty, a slot set to
               null, flags that exclude each other, a sweep over nothing
    message    afterwards: any error that a command ends in, Hydra's own among them

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from diffgeo.config import plugins
from diffgeo.config.nearest import MOST, advice, did_you_mean, either, nearest
from diffgeo.errors import DiffgeoError, UsageError

NO_CHOICE = re.compile(r"(|null|true|false|[-+.\d].*|[\[{].*)", re.IGNORECASE)
SWEPT = re.compile(r"[^=]+=.*(,|\b(choice|range|interval|glob|shuffle|sort)\()", re.DOTALL)
SHOWS = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--run", "-r")
CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
WITH_VALUE = ("--package", "-p", "--config-name", "-cn", "--config-path", "-cp")
WITH_VALUE += ("--config-dir", "-cd")
SHORT = {"-c": "--cfg", "-i": "--info", "-m": "--multirun"}
# what conf/laws/latents.yaml adds to the options of a command
OF_LATENTS = (
    *("prompts", "negative", "guidance_rescale"),
    *("height", "width", "decode", "decode_batch", "latents"),
)
# where a config that the line does not show may say what is swept over
HIDES_SWEEPS = ("experiment", "hydra")


def check(flags: Sequence[str], words: Sequence[str], groups: dict[str, list[str]]) -> None:
    """Raise UsageError at the first mistake of a line that Hydra would find late, or not name.

    groups: the choices of every group of conf/.
    """
    check_flags(flags)
    for word in words:
        check_word(word, groups)
    if "-m" in flags or "--multirun" in flags:
        check_sweep(flags, words)


def check_flags(flags: Sequence[str]) -> None:
    """Raise UsageError on flags that exclude each other, or on a value that a flag does not
    take."""
    many = [flag for flag in flags if flag in ("-m", "--multirun")]
    shows = [flag for flag in flags if flag.partition("=")[0] in SHOWS]
    if many and shows:
        raise UsageError(
            f"{many[0]} and {shows[0]} exclude each other: leave {many[0]} out to see the config "
            f"of one job, or {shows[0]} to run them all"
        )
    for flag, after in pairwise([*flags, ""]):
        name, equals, value = flag.partition("=")
        takes = CHOICES.get(SHORT.get(name, name))
        given = value if equals else after
        if name in WITH_VALUE and not given:
            raise UsageError(f"{name} stands without a value: write {name} and what it names")
        if takes and given not in takes:
            raise UsageError(f"{name} {given}: write {name} and one of {', '.join(takes)}")


def check_word(word: str, groups: dict[str, list[str]]) -> None:
    """Raise UsageError on an override without a name or a value, or on a slot that is set to what
    cannot be one of its choices."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    check_characters(word)
    if not name:
        raise UsageError(f"'{word}' names no option: write OPTION=VALUE")
    if not equals:
        if key.startswith("~"):
            return
        raise UsageError(f"'{word}' sets nothing: write OPTION=VALUE, or a flag with --")
    if not re.fullmatch(r"[\w./@:-]+", name, re.ASCII):
        raise UsageError(
            f"'{key}' is no name of an option: write letters, digits and dots, then = and the "
            "value, without spaces between"
        )
    if value.startswith("="):
        raise UsageError(f"'{word}' has two =: write {key}={value.lstrip('=')}")
    if not value and not key.startswith("~"):
        raise UsageError(f"{key}= is empty: write {key}=VALUE, or leave it out")
    group = name.partition("@")[0]
    if group in groups and NO_CHOICE.fullmatch(value) and value not in groups[group]:
        raise UsageError(no_choice(key, value, groups[group]))


def check_characters(word: str) -> None:
    """Raise UsageError on control characters: no option, word or path here has any."""
    if re.search(r"[\x00-\x1f\x7f]", word):
        raise UsageError(f"{word!r} holds control characters: write OPTION=VALUE without them")


def no_command(name: str, known: Collection[str]) -> str:
    """What to say where there is no command of this name: which it was meant to be, by all of its
    words or by the last one alone."""
    if name.startswith("-"):
        flags = [f"--{flag}" for flag in nearest(name.lstrip("-"), ("help", "version"))]
        told = did_you_mean(flags) if flags else "a command stands first, `diffgeo help` lists them"
        return f"there is no flag {name}: {told}"
    dotted = re.sub(r"[\s/:-]+", ".", name)
    whole = {other.replace(" ", "."): other for other in known}
    last = {other.split()[-1]: other for other in known}
    near = [whole[other] for other in nearest(dotted, whole)]
    near += [last[other] for other in nearest(dotted, last) if last[other] not in near]
    told = f"there is no command '{name}'"
    if near:
        return f"{told}: {did_you_mean(near[:MOST])}"
    return f"{told}: `diffgeo help` lists them"


def no_choice(group: str, value: str, choices: Sequence[str]) -> str:
    told = f"there is no {group}={value}"
    if not choices:
        return f"{told}; leave {group}= out"
    return told + advice(value, choices, listing(group), f"write {group}= one of")


def listing(group: str) -> str:
    """What lists the choices of a group."""
    return f"`diffgeo help {group}`"


def check_sweep(flags: Sequence[str], words: Sequence[str]) -> None:
    """Raise UsageError where -m has nothing to sweep over."""
    elsewhere = [word for word in words if word.lstrip("+").startswith(HIDES_SWEEPS)]
    directories = [flag for flag in flags if flag.startswith(("--config", "-cd", "-cp"))]
    if elsewhere or directories or any(SWEPT.match(word) for word in words):
        return
    raise UsageError(
        "-m has nothing to sweep over: write several values with commas, as seed=0,1,2, or leave "
        "-m out"
    )


@cache
def groups_of(*folders: Path) -> dict[str, list[str]]:
    """The choices of every group of some config folders, by the group's name."""
    found: dict[str, list[str]] = {"hydra": [], "hydra/launcher": [], "hydra/sweeper": []}
    for conf in folders:
        for path in sorted(conf.rglob("*.yaml")):
            group = path.parent.relative_to(conf).as_posix()
            if group != ".":
                found.setdefault(group, []).append(path.stem)
    return found


def message(error: BaseException, line: Sequence[str] = (), command: str = "") -> tuple[str, int]:
    """One line and an exit status for any failure of the line of a command."""
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
        return no_choice(group, choice, options.split()), 2
    found = re.search(r"Could not override '(\S+)'", text)
    if found and found[1] in OF_LATENTS:
        return of_latents(found[1], line), 2
    if found:
        return no_option(found[1], command, line), 2
    if found := re.match(r"Ambiguous value for argument '(.*?)' 1\.", text):
        key, _, value = found[1].partition("=")
        return (
            f"{found[1]}: several values without -m; write one, -m for a sweep, or "
            f"{key}=[{value}] for a list",
            2,
        )
    if found := re.match(r"Key '(\S+)' is not in struct", text):
        return f"{found[1]} is not set, and this command needs it: leave ~{found[1]} out", 2
    kind = type(error)
    if kind.__name__ == "OverrideParseException":
        return (
            f"{unparsed(error, text)} cannot be read: write OPTION=VALUE, with brackets in pairs, "
            "and quotes inside the shell's around a value with quotes, spaces or brackets "
            "(\"name='a b'\")"
        ), 2
    if kind.__module__.startswith(("hydra.", "omegaconf.")):
        return text.split(" See https://")[0].split(" full_key:")[0], 2
    if isinstance(error, OSError):
        return f"{error.strerror or text}" + (f": {error.filename}" if error.filename else ""), 1
    if lacks_memory(error, text):
        guess = suspect(line)
        advice = f"{guess} may be too large, or " if guess else "lower "
        return f"out of memory{wanted(text)}: {advice}n, trainer.batch or the network's width", 1
    return f"{kind.__name__}: {text}{plugins.blame(error)}", 1


def no_option(key: str, command: str, line: Sequence[str]) -> str:
    """What to say where a line has no option of this name: which of the line's it was meant to be,
    or which choices and commands have one of it."""
    from diffgeo.config.help import keys  # in an error alone: it reads all of conf/

    told = f"there is no option {key}"
    here = keys.keys(command, line) if command else {}
    slot, _, leaf = key.rpartition(".")
    near = nearest(key, here)
    inner = [other for other in here if other.startswith(slot) and other.endswith(f".{leaf}")]
    near += sorted(inner, key=lambda other: other.count("."))  # the outer ones first
    places = [place.of for place in keys.places(key)]
    if places and not (near and "." not in key):
        few = places if len(places) <= MOST else [*places[:2], f"{len(places) - 2} others"]
        return f"{told} here: it is one of {either(few)} (`diffgeo help {key}`)"
    if near:
        return f"{told}: {did_you_mean(list(dict.fromkeys(near))[:MOST])}"
    chosen = keys.chosen(command, line).get(slot) if command else None
    if chosen:
        return f"{told}; `diffgeo help {slot}={chosen.default}` lists those that there are"
    return f"{told}; `diffgeo help {command or 'COMMAND'}` lists those that there are"


def of_latents(option: str, line: Sequence[str]) -> str:
    """What is said where a line has an option of latents and no latents."""
    if {"model=latent", "model=dit"} & set(line):
        return (
            f"{option}= is an option of latents, and data= is another here: leave data= out, or "
            "write diffgeo sample, whose data is the model's"
        )
    return f"{option}= is an option of latent diffusion: write model=latent beside it"


def unparsed(error: BaseException, text: str) -> str:
    """The override that Hydra's parser stopped at: its errors carry it."""
    return repr(str(vars(error).get("override", text)))


def lacks_memory(error: BaseException, text: str) -> bool:
    """Whether an allocation failed; `machine.memory` says the same with torch at hand."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in text for word in words)


def suspect(line: Sequence[str]) -> str | None:
    """The option of a line that holds the largest number of all, if it is a large one."""
    found = []
    for word in line:
        numbers = [int(digits) for digits in re.findall(r"\d{6,18}", word.partition("=")[2])]
        if numbers:
            found.append((max(numbers), word))
    return max(found)[1] if found else None


def wanted(text: str) -> str:
    """How much the allocation asked for, where its error says so."""
    found = re.search(r"allocate (\d+) bytes", text)
    return f" ({int(found[1]) / 1e9:.3g} GB asked for at once)" if found else ""
