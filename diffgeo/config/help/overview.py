"""What `diffgeo` alone prints, and `diffgeo theory`: the commands, by the docstrings of their
modules.

This module imports neither Hydra nor torch, nor yaml.
"""

from __future__ import annotations

import textwrap

from diffgeo.config.catalogue import commands

WIDE = 100  # columns
INDENT = "  "


def usage() -> str:
    """What `diffgeo` alone prints."""
    lines = ["usage: diffgeo COMMAND [GROUP=CHOICE] [OPTION=VALUE] ...", ""]
    known = commands()
    for first in sorted({name.split()[0] for name in known}):
        inner = [name.split()[1] for name in known if name.startswith(f"{first} ")]
        about = known[first].about if first in known else ""
        if inner:
            about += f"{'; also ' if about else ''}{', '.join(inner)}"
        lines += row(f"{INDENT}{first:<12}", about)
    return "\n".join(
        [
            *lines,
            "",
            "diffgeo train model=cem data=curve    the main job",
            "diffgeo COMMAND -m OPTION=A,B,C       a sweep, with one table at its end",
            "diffgeo COMMAND --help                what it does, three examples, its groups",
            "diffgeo help WHAT                     a command, a group, GROUP=CHOICE, an option",
        ]
    )


def family(first: str) -> str:
    """The commands whose first word this is, with what each is for."""
    lines = []
    for name, command in commands().items():
        if name.split()[0] == first:
            lines += row(f"{INDENT}{name:<28}", command.about)
    lines += ["", f"diffgeo {first} COMMAND --help    what one of them does, with examples"]
    return "\n".join(lines)


def row(head: str, text: str) -> list[str]:
    """A text behind a head, wrapped under itself."""
    wrapped = textwrap.wrap(text, WIDE - len(head), break_on_hyphens=False) or [""]
    lines = [f"{head}{wrapped[0]}".rstrip()]
    lines += [f"{'':{len(head)}}{line}" for line in wrapped[1:]]
    return lines
