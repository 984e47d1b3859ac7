"""Hydra's own flags on a line: which there are, and which words of a line they take.

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from diffgeo.config import shapes
from diffgeo.config.strangers import check_directory
from diffgeo.errors import UsageError

# Hydra's flags that stand alone, and those whose value is the next word
ALONE = (
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--resolve",
    "--run",
    "-r",
    "--multirun",
    "-m",
    "--shell-completion",
    "-sc",
)
DIRECTORIES = ("--config-dir", "-cd", "--config-path", "-cp")
VALUED = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--package",
    "-p",
    "--config-name",
    "-cn",
    *DIRECTORIES,
)


def multirun(line: list[str]) -> bool:
    return "-m" in line or "--multirun" in line


def parted(line: list[str]) -> tuple[list[str], list[str]]:
    """The flags of a line with their values, and its other words. Raises UsageError on a flag that
    is none of Hydra's, written in full (one of them unpickles a file), and on a config directory
    that asks for more than a config may."""
    flags = []
    others = []
    words = iter(line)
    for word in words:
        if not word.startswith("-"):
            others.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in (*ALONE, *VALUED):
            after = next(words, "")
            typed = value if equals else after if re.fullmatch(r"[^-=][^=]*", after) else None
            known = [known for known in (*ALONE, *VALUED) if len(known) > 3]
            told = shapes.of_flag(flag, typed, known)
            raise UsageError(f"there is no flag {flag}: {told}")
        flags.append(word)
        if flag in VALUED and not equals:
            value = next(words, "all" if flag in ("--info", "-i") else "")
            flags.append(value)
        if flag in DIRECTORIES:
            check_directory(Path(value))
    return flags, others
