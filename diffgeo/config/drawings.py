"""`figures.format= figures.dpi= figures.style= figures.animation=`: how figures are written
(`store.drawing`), as it is typed.

    of_config(config)    of a command under Hydra, whose config has the node `drawing`
    draws                around the main of a plain command that draws: takes the words off its line
    repeated(line)       the words of a line, for the table that ends a sweep

Imports neither Hydra nor torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from diffgeo.config.words import WHOLE, WORD, options
from diffgeo.errors import UsageError
from diffgeo.store.drawing import OPTIONS, Drawing, check_film, drawn_as

PREFIX = "figures."
READERS = {"format": WORD, "dpi": WHOLE, "style": WORD, "animation": WORD}


def of_config(config) -> Drawing:
    """What a config says. Raises UsageError on an option or a value that there is not."""
    node = config.get("drawing")
    if node is None:
        return Drawing()
    if not isinstance(node, Mapping):
        raise UsageError(f"drawing={node}: write its options, as figures.format=svg")
    for key, value in node.items():
        check_name(str(key))
        wanted = (int, type(None)) if key == "dpi" else (str,)
        if not isinstance(value, wanted) or isinstance(value, bool):
            what = "a whole number of dots an inch" if key == "dpi" else "a word"
            raise UsageError(f"figures.{key}={value}: write {what}")
    drawing = Drawing(**node)
    check_film(drawing.animation)
    return drawing


def check_name(name: str) -> None:
    """Raise UsageError on an option of drawings that there is not."""
    if name not in OPTIONS:
        takes = ", ".join(f"{PREFIX}{option}=" for option in OPTIONS)
        raise UsageError(f"there is no option {PREFIX}{name}; write {takes}")


def as_node(key: str) -> str:
    """figures.format as the config calls it, drawing.format; any other key as it is. Raises
    UsageError on a name that there is not."""
    if not key.startswith(PREFIX):
        return key
    name = key.removeprefix(PREFIX)
    check_name(name)
    return f"drawing.{name}"


def draws(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    """The main of a plain command, which then takes figures.format= and the others too."""

    @functools.wraps(main)
    def drawn(words: list[str]) -> None:
        own = [word for word in words if word.startswith(PREFIX)]
        rest = [word for word in words if not word.startswith(PREFIX)]
        drawing = Drawing(**options("a figure", own, READERS, PREFIX))
        with drawn_as(drawing):
            main(rest)

    return drawn


def repeated(line: Sequence[str]) -> list[str]:
    """The words figures.format=svg, ... of a line whose values are swept over by no job."""
    found = []
    for word in line:
        key, _, value = word.partition("=")
        if key.startswith("drawing.") and not set(value) & set(",("):
            found.append(PREFIX + word.removeprefix("drawing."))
    return found
