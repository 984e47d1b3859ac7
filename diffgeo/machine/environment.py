"""What the environment says about this process: torchrun's variables, the number of threads.

    WORLD_SIZE  RANK  LOCAL_RANK           how many processes there are, and which this one is
    MASTER_ADDR  MASTER_PORT               where they meet

Half of them is a launcher that went wrong, and every process of it would train the whole network in
the same folder, or wait for others that never come. This module imports nothing heavy: `check` is
run before every command.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from diffgeo.errors import UsageError

# of a process; more is a slip of the finger, and ends in libgomp's own words
MOST_THREADS = max(1024, os.cpu_count() or 1)


class Place(NamedTuple):
    """Which process this is: of all, of how many, and on its own machine."""

    rank: int = 0
    size: int = 1
    local: int = 0


def place() -> Place:
    """This process's place, from torchrun's variables; that of a single process without them.
    Raises UsageError where they are no numbers, out of range, or not all there."""
    size = whole("WORLD_SIZE", 1, 2**20)
    rank = whole("RANK", 0, 2**20)
    local = whole("LOCAL_RANK", 0, 2**20)
    if size is None and rank is None:
        return Place()
    if size is None:
        raise mistake("RANK", "stands without WORLD_SIZE")
    if rank is None:
        if size == 1:
            return Place()
        raise mistake("WORLD_SIZE", "stands without RANK")
    if rank >= size:
        raise mistake("RANK", f"is not below WORLD_SIZE={size}")
    if size > 1:
        whole("MASTER_PORT", 1, 65535)
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise mistake("WORLD_SIZE", f"stands without {name}")
    return Place(rank, size, local or 0)


def whole(name: str, least: int, most: int) -> int | None:
    """A variable's whole number; None where it is not set. Raises UsageError."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not (digits(text) and least <= int(text) <= most):
        raise mistake(name, f"is not a whole number from {least} to {most}")
    return int(text)


def digits(text: str) -> bool:
    """Whether a text is a whole number that is not absurd: int() refuses thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) < 20


def mistake(name: str, what: str) -> UsageError:
    return UsageError(
        f"{name}={os.environ[name]} in the environment {what}: unset {name}, or start all "
        "processes with torchrun, which sets RANK, WORLD_SIZE, LOCAL_RANK and MASTER_PORT"
    )


def threads() -> int | None:
    """OMP_NUM_THREADS, or the first of its several; None where it is not set or is no number, which
    libgomp says itself. Raises UsageError on more than a machine has."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not digits(text) or int(text) == 0:
        return None
    if int(text) > MOST_THREADS:
        raise UsageError(
            f"OMP_NUM_THREADS={text} in the environment: write a whole number from 1 to "
            f"{MOST_THREADS}, or unset it"
        )
    return int(text)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check() -> None:
    """Raise UsageError where a command cannot run as the environment has it."""
    place()
    threads()
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError(
            "the working directory is gone (somebody removed it): cd into a folder that is there"
        ) from None
