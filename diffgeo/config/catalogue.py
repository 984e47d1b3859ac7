"""The commands that there are: read from the folder that holds them, without importing one.

A command is a module of diffgeo/commands, in a folder of its first word where it has two, whose
docstring begins

    \"\"\"`diffgeo theory orders [NAME ...]`: what it is for

It exports `main`. With a config of its own, conf/theory/orders.yaml, it runs under Hydra and is
called as main(config, job); without one it is called as main(words).

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from diffgeo.config.plugins import conf_dir

ROOT = Path(__file__).resolve().parent.parent / "commands"
BARE = re.compile(r"\w+")  # a word that sets nothing and is no flag
FIRST_LINE = re.compile(r'r?"""`diffgeo (?P<usage>[^`]*)`:? *(?P<about>.*)')


class Command(NamedTuple):
    name: str  # as it is typed: one word, or two
    about: str  # one line
    source: Path

    @property
    def path(self) -> str:
        """Its place below commands/ and conf/."""
        return self.name.replace(" ", "/")

    @property
    def configured(self) -> bool:
        """Whether it runs under Hydra."""
        return (conf_dir() / f"{self.path}.yaml").is_file()

    @property
    def alone(self) -> bool:
        """Whether it refuses the options and groups of others, which it would not look at."""
        return "line import check_own" in self.source.read_text(encoding="utf-8")

    @property
    def help(self) -> str:
        """What `--help` says: the docstring, read from the source, since python -OO drops it."""
        import ast

        return ast.get_docstring(ast.parse(self.source.read_text(encoding="utf-8"))) or self.about

    def module(self) -> ModuleType:
        return importlib.import_module(f"diffgeo.commands.{self.name.replace(' ', '.')}")


@cache
def commands() -> dict[str, Command]:
    """Every command by its name, those of one word first."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        with path.open(encoding="utf-8") as file:
            first = FIRST_LINE.match(file.readline())
        if first:
            words = path.relative_to(ROOT).with_suffix("").parts
            name = " ".join(word for word in words if word != "__init__")
            found.append(Command(name, first["about"].rstrip('".'), path))
    found.sort(key=lambda command: (" " in command.name, command.name))
    return {command.name: command for command in found}


def families() -> set[str]:
    """The first words of commands of two. One may be a command by itself: `diffgeo trajectory`."""
    return {name.split()[0] for name in commands() if " " in name}


def split(words: list[str]) -> tuple[str, list[str]]:
    """The command, of one word or of two, and the rest of the line."""
    first, *rest = words
    if first not in families() or not rest:
        return first, rest
    if first in commands() and not BARE.fullmatch(rest[0]):
        return first, rest
    return f"{first} {rest[0]}", rest[1:]
