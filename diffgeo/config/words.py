"""The line of a command that has no Hydra config: key=value words, each with its own reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from diffgeo.config import shapes
from diffgeo.config.mistakes import check_characters
from diffgeo.config.nearest import did_you_mean, nearest
from diffgeo.errors import UsageError


class Reader(NamedTuple):
    """How the value of an option is read, and what it has to be, in words."""

    read: Callable[[str], object]  # raises ValueError or KeyError on what it cannot read
    what: str


HIGHEST = 2**31 - 1
MOST_STEPS = 10**6


def whole(text: str) -> int:
    """A whole number from 0 to HIGHEST, in digits. Raises ValueError on others."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > HIGHEST:
        raise ValueError(text)
    return int(text)


def counts(text: str) -> list[int]:
    """Whole numbers from 1 to MOST_STEPS, with commas between, increasing. Raises ValueError on
    others."""
    values = sorted({whole(word) for word in text.split(",")})
    if values[0] < 1 or values[-1] > MOST_STEPS:
        raise ValueError(text)
    return values


WORD = Reader(str, "a word")
PATH = Reader(Path, "a path")
WHOLE = Reader(whole, f"a whole number from 0 to {HIGHEST}")
COUNTS = Reader(counts, f"a whole number, or several with commas between, from 1 to {MOST_STEPS}")
TRUTH = Reader({"true": True, "false": False}.__getitem__, "true or false")


def options(
    command: str, arguments: Sequence[str], known: Mapping[str, Reader], prefix: str = ""
) -> dict:
    """The key=value words of a line, by key. `prefix` may stand before a key, and stands before it
    in messages. Raises UsageError on an unknown key or a value that does not read."""
    found = {}
    for number, argument in enumerate(arguments):
        check_characters(argument)
        shapes.check_spaces(argument, arguments[number + 1 :])
        word, equals, value = argument.partition("=")
        key = word.removeprefix(prefix)
        if key not in known or not equals:
            near = nearest(key, known)
            takes = ", ".join(f"{prefix}{name}=..." for name in known)
            told = did_you_mean(f"{prefix}{name}=" for name in near) if near else f"write {takes}"
            raise UsageError(f"{command} has no option {word}{':' if near else ';'} {told}")
        if not value:
            raise UsageError(f"{word}= is empty: write a value, or leave it out")
        try:
            found[key] = known[key].read(value)
        except UsageError:
            raise
        except (ValueError, KeyError) as error:
            raise UsageError(f"{argument}: write {known[key].what}") from error
    return found
