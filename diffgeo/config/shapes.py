"""What a line looks like that is not quite OPTION=VALUE, and what to write instead.

    data = curve    data= curve    data =curve          data=curve
    data:curve      data/curve     data curve           data=curve
    curve           Curve          cruve                data=curve
    seed=0, 1, 2    levels=[1, 2]                       seed=0,1,2    levels=[1,2]
    --data curve    --data=curve   -data=curve          data=curve
    runs/cem                                            run=runs/cem, where that is a run folder

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from diffgeo.config.nearest import did_you_mean, nearest
from diffgeo.errors import UsageError

NAME = re.compile(r"[A-Za-z_][\w.]*(?:[/@][\w.]+)*", re.ASCII)
CLOSED_BY = {"[": "]", "(": ")", "{": "}"}


def check(
    words: Sequence[str], names: Collection[str], choices: Mapping[str, Collection[str]]
) -> None:
    """Raise UsageError at the first word that sets nothing, or is parted by spaces.

    names: the options that there are, of those without a dot. choices: of every group.
    """
    for number, word in enumerate(words):
        after = list(words[number + 1 :])
        check_spaces(word, after)
        check_commas(word)
        if "=" in word or not word or word.startswith("~"):
            continue
        raise UsageError(f"'{word}' sets nothing: {instead(word, after, names, choices)}")


def check_spaces(word: str, after: Sequence[str]) -> None:
    """Raise UsageError where a word and those after it are one, written with spaces."""
    key, equals, value = word.partition("=")
    if key != key.strip() and NAME.fullmatch(key.strip()):  # "data = curve", quoted as one
        raise UsageError(f"{word}: write {key.strip()}={value.strip()}, without spaces")
    if not NAME.fullmatch(key) or not after:
        return
    first = after[0]
    parts: list[str] = []
    if not equals and first.startswith("="):  # data = curve, data =curve
        parts = [word, *after[: 2 if first == "=" else 1]]
    elif equals and not value and "=" not in first:  # data= curve
        parts = [word, first]
    elif equals and goes_on(value) and "=" not in first:  # seed=0, 1, 2
        count = 0
        while count < len(after) and "=" not in after[count]:
            count += 1
            if not goes_on("".join([value, *after[:count]])):
                break
        parts = [word, *after[:count]]
    if parts:
        raise UsageError(f"{' '.join(parts)}: write {''.join(parts)}, without spaces")


def check_commas(word: str) -> None:
    """Raise UsageError where commas stand between options: data=curve,model=cem."""
    parts = word.split(",")
    if len(parts) > 1 and all(re.fullmatch(rf"{NAME.pattern}=[\w.]+", part) for part in parts):
        raise UsageError(f"{word}: write {' '.join(parts)}, with spaces between")


def goes_on(value: str) -> bool:
    """Whether a value is not at its end: a comma there, or a bracket that is open."""
    opened = any(value.count(left) > value.count(right) for left, right in CLOSED_BY.items())
    return opened or value.endswith(",")


def instead(
    word: str,
    after: Sequence[str],
    names: Collection[str],
    choices: Mapping[str, Collection[str]],
) -> str:
    """What to write instead of a word without an equals sign."""
    if "run" in names and (Path(word) / "config.yaml").is_file():
        return f"write run={word}"
    key, colon, value = word.partition(":")
    if colon and value and NAME.fullmatch(key):
        return f"write {key}={value}"
    group, _, choice = word.rpartition("/")
    if choice in choices.get(group, ()):
        return f"write {group}={choice}"
    if word in names and after and "=" not in after[0]:
        return f"write {word}={after[0]}"
    if word in names:
        return f"write {word}={'CHOICE' if word in choices else 'VALUE'} (`diffgeo help {word}`)"
    slots = [slot for slot in own_slots() if slot in choices]
    meant = [f"{slot}={word}" for slot in slots if word in choices[slot]]
    if not meant:
        for slot in slots:
            meant += [f"{slot}={near}" for near in nearest(word, choices[slot], 1)]
        meant += [f"{near}=" for near in nearest(word, names, 1)]
    if meant:
        return did_you_mean(meant[:3])
    return "write OPTION=VALUE, or a flag with --"


def own_slots() -> list[str]:
    """The groups that are the first names of slots: sampler, not laws."""
    from diffgeo.config.help import keys  # in an error alone: it reads all of conf/

    return [slot for slot, group in keys.slots().items() if slot == group]


def of_flag(flag: str, value: str | None, flags: Collection[str]) -> str:
    """What to write instead of a flag that there is not, and the value that is typed with it, or
    after it."""
    near = nearest(flag.lstrip("-"), [known.lstrip("-") for known in flags if len(known) > 3])
    if near and value is None:
        return did_you_mean(f"--{known}" for known in near)
    name = flag.lstrip("-")
    if not NAME.fullmatch(name):
        return f"write {', '.join(flags)}"
    return f"an option has no dashes, write {name}={value or 'VALUE'}"
