"""Noise levels that are listed: by hand, or one list for each number of steps as `diffgeo theory
gits` plans them.

The chart is that of sigma itself (t = sigma, scale = 1); training draws uniformly among the
positive levels there are.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.path import VarianceExploding

MOST = 1_000_000  # levels of a list
MOST_BYTES = 100_000_000  # of a file of them


def checked(sigmas: Sequence[float] | Sequence[str], source: str) -> tuple[float, ...]:
    """`sigmas` as floats, if they are two or more finite levels that decrease, of which only the
    last may be 0. Raises UsageError that names the first one which is wrong."""
    # a string and a mapping are iterated too: "810" would be the levels 8, 1, 0
    if isinstance(sigmas, str) or not isinstance(sigmas, Sequence):
        raise UsageError(f"{source} is not one list of numbers: write [80, 10, 1, 0]")
    if any(isinstance(sigma, bool) for sigma in sigmas):
        raise UsageError(f"{source} holds true or false: write numbers, [80, 10, 1, 0]")
    if not 2 <= len(sigmas) <= MOST:
        raise UsageError(
            f"{source} has {len(sigmas)} levels: write two or more that decrease, at most {MOST}"
        )
    try:
        levels = tuple(float(sigma) for sigma in sigmas)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{source} is not one list of numbers: write [80, 10, 1, 0]") from None
    write = "write finite levels that decrease, of which only the last may be 0"
    for i, level in enumerate(levels):
        if not (math.isfinite(level) and level >= 0):
            raise UsageError(f"{source}, level {i}, is {level}: {write}")
    for i, (level, following) in enumerate(pairwise(levels)):
        if not level > following:
            raise UsageError(f"{source}, levels {i} and {i + 1}, are {level}, {following}: {write}")
    return levels


def existing(file: str, option: str) -> Path:
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"{option}={file}: there is no such file; write the path of one")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{option}={file}: more than {MOST_BYTES} bytes; write a file of one list")
    return path


def _read_json(path: Path) -> Sequence[float]:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _read_npy(path: Path) -> Sequence[float]:
    import numpy as np

    # mapped, so that a header that claims more than the file holds is found out
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an .npz archive")
    return array.tolist()


def _read_txt(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8-sig").replace(",", " ").split()


READERS: dict[str, Callable[[Path], Sequence[float] | Sequence[str]]] = {
    ".json": _read_json,
    ".npy": _read_npy,
    ".txt": _read_txt,
}


def read_levels(file: str) -> Sequence[float] | Sequence[str]:
    """The list in a .json, .npy or .txt file (numbers apart by spaces, commas or lines). Raises
    UsageError."""
    path = existing(file, "schedule.file")
    if path.suffix not in READERS:
        raise UsageError(f"schedule.file={file}: write a {', '.join(READERS)} file")
    try:
        return READERS[path.suffix](path)
    except (ValueError, OSError, EOFError, RecursionError) as error:  # a damaged file
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"schedule.file={file} cannot be read: {why}; write a file with one list"
        ) from error


Lists = dict[int, tuple[float, ...]]  # number of steps -> its levels


class Listed(VarianceExploding, ABC):
    """A schedule whose grid is looked up."""

    @property
    @abstractmethod
    def lists(self) -> Lists: ...

    @property
    @abstractmethod
    def source(self) -> str:
        """What the lists came from, as a user types it."""

    @cached_property
    def positive(self) -> Tensor:
        """Every positive level of every list, increasing."""
        found: set[float] = set()
        for levels in self.lists.values():
            found.update(levels)
        return torch.tensor(sorted(found - {0.0}), dtype=torch.float64)

    @property
    def t_min(self) -> float:
        return float(self.positive[0])

    @property
    def t_max(self) -> float:
        return float(self.positive[-1])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """A uniform choice among the positive levels [n], float64, on the generator's device."""
        k = torch.randint(len(self.positive), (n,), generator=generator, device=generator.device)
        return self.positive.to(generator.device)[k]

    def grid(self, steps: int | None) -> Tensor:
        """The list for this number of steps [steps+1], float64; for steps=None the only one. Raises
        UsageError when there is none."""
        counts = sorted(self.lists)
        if steps is None and len(counts) == 1:
            steps = counts[0]
        if steps not in self.lists:
            asked = "null" if steps is None else steps
            known = ", ".join(str(count) for count in counts)
            alone = " or steps=null" if len(counts) == 1 else ""
            raise UsageError(
                f"steps={asked}: {self.source} has levels for {known} steps; "
                f"write steps={counts[-1]}{alone}"
            )
        return torch.tensor(self.lists[steps], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Levels(Listed):
    """One explicit list, `sigmas` or the one in `file` (.json, .npy, .txt); the grid is the list,
    whether it ends in 0 or not."""

    sigmas: Sequence[float] | None = None
    file: str | None = None

    def __post_init__(self):
        given: Sequence[float] | Sequence[str]
        if self.sigmas is not None and self.file is None:
            given = self.sigmas
        elif self.sigmas is None and self.file is not None:
            given = read_levels(self.file)
        else:
            raise UsageError(
                "an explicit schedule needs its levels: write either schedule.sigmas=[80,10,1,0] "
                "or schedule.file=FILE"
            )
        # a tuple, so that the schedule can be compared and hashed
        object.__setattr__(self, "sigmas", checked(given, self.source))

    @property
    def source(self) -> str:
        return "schedule.sigmas" if self.file is None else f"schedule.file={self.file}"

    @property
    def lists(self) -> Lists:
        levels = tuple(self.sigmas or ())
        return {len(levels) - 1: levels}


def read_plan(file: str, source: str) -> Lists:
    """The lists of a file that `diffgeo theory gits` made. Raises UsageError."""
    path = existing(file, "schedule.file")
    try:
        planned = json.loads(path.read_text(encoding="utf-8"))["levels"]
        lists = {
            int(steps): checked(sigmas, f"{source}, levels.{steps}")
            for steps, sigmas in planned.items()
        }
    except UsageError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UsageError(
            f"{source} holds no planned levels: write a file that `diffgeo theory gits` made"
        ) from error
    if not lists or any(len(sigmas) != steps + 1 for steps, sigmas in lists.items()):
        raise UsageError(
            f"{source} is damaged: a list has not as many levels as its steps say; "
            "write a fresh one"
        )
    return lists


@dataclass(frozen=True, kw_only=True)
class Planned(Listed):
    """The levels that theory.gits planned for each number of steps, read back from its JSON
    `file`."""

    file: str | None = None

    def __post_init__(self):
        _ = self.lists  # read now: a damaged file is an error before anything is run

    @property
    def source(self) -> str:
        return f"schedule.file={self.file}"

    @cached_property
    def lists(self) -> Lists:
        if self.file is None:
            raise UsageError(
                "planned levels need their file: write schedule.file=FILE.json, as `diffgeo theory "
                "gits` makes it"
            )
        return read_plan(self.file, self.source)
