"""Noise levels that are listed: by hand, or one list for each number of steps as `diffgeo theory
gits` plans them.

The chart is that of sigma itself (t = sigma, scale = 1); training draws uniformly among the
positive levels there are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.path import VarianceExploding


def checked(sigmas: Sequence[float], source: str) -> tuple[float, ...]:
    """`sigmas` as floats, if they are two or more finite levels that decrease, of which only the
    last may be 0. Raises UsageError."""
    try:
        levels = tuple(float(sigma) for sigma in sigmas)
    except (TypeError, ValueError):
        raise UsageError(f"{source} is not one list of numbers: write [80, 10, 1, 0]") from None
    good = (
        len(levels) > 1
        and levels[-1] >= 0
        and math.isfinite(levels[0])
        and all(a > b for a, b in zip(levels, levels[1:], strict=False))
    )
    if not good:
        raise UsageError(
            f"{source} is {list(levels)}: write two or more levels that decrease, of which only "
            "the last may be 0"
        )
    return levels


def existing(file: str, option: str) -> Path:
    if not Path(file).is_file():
        raise UsageError(f"{option}={file}: there is no such file; write the path of one")
    return Path(file)


def read_levels(file: str) -> Sequence[float]:
    """The list in a .json, .npy or .txt file (numbers apart by spaces, commas or lines). Raises
    UsageError."""
    import numpy as np

    readers = {
        ".json": lambda path: json.loads(path.read_text()),
        ".npy": lambda path: np.load(path, allow_pickle=False).tolist(),
        ".txt": lambda path: path.read_text().replace(",", " ").split(),
    }
    path = existing(file, "schedule.file")
    if path.suffix not in readers:
        raise UsageError(f"schedule.file={file}: write a {', '.join(readers)} file")
    try:
        return readers[path.suffix](path)
    except ValueError as error:  # JSON's and numpy's complaints about a damaged file
        raise UsageError(
            f"schedule.file={file} cannot be read: {str(error).splitlines()[0]}; write a file with "
            "one list"
        ) from error


class Listed(VarianceExploding):
    """A schedule whose grid is looked up. A subclass gives `lists` and `source`, what they came
    from."""

    source: str
    lists: dict[int, tuple[float, ...]]  # number of steps -> its levels

    @cached_property
    def positive(self) -> Tensor:
        """Every positive level of every list, increasing."""
        return torch.tensor(
            sorted({sigma for levels in self.lists.values() for sigma in levels} - {0.0}),
            dtype=torch.float64,
        )

    t_min = property(lambda self: float(self.positive[0]))
    t_max = property(lambda self: float(self.positive[-1]))

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
            raise UsageError(
                f"steps={'null' if steps is None else steps}: {self.source} has levels for "
                f"{', '.join(map(str, counts))} "
                f"steps; write steps={counts[-1]}" + " or steps=null" * (len(counts) == 1)
            )
        return torch.tensor(self.lists[steps], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Levels(Listed):
    """One explicit list, `sigmas` or the one in `file` (.json, .npy, .txt); the grid is the list,
    whether it ends in 0 or not."""

    sigmas: Sequence[float] | None = None
    file: str | None = None

    def __post_init__(self):
        if (self.sigmas is None) == (self.file is None):
            raise UsageError(
                "an explicit schedule needs its levels: write either schedule.sigmas=[80,10,1,0] "
                "or schedule.file=FILE"
            )
        sigmas = self.sigmas if self.file is None else read_levels(self.file)
        # a tuple, so that the schedule can be compared and hashed
        object.__setattr__(self, "sigmas", checked(sigmas, self.source))

    source = property(
        lambda self: "schedule.sigmas" if self.file is None else f"schedule.file={self.file}"
    )
    lists = property(lambda self: {len(self.sigmas) - 1: self.sigmas})


@dataclass(frozen=True, kw_only=True)
class Planned(Listed):
    """The levels that theory.gits planned for each number of steps, read back from its JSON `file`."""

    file: str | None = None

    def __post_init__(self):
        if self.file is None:
            raise UsageError(
                "planned levels need their file: write schedule.file=FILE.json, as `diffgeo theory "
                "gits` makes it"
            )
        assert self.lists  # read now: a damaged file is an error before anything is run

    source = property(lambda self: f"schedule.file={self.file}")

    @cached_property
    def lists(self) -> dict[int, tuple[float, ...]]:
        path = existing(self.file, "schedule.file")
        try:
            levels = json.loads(path.read_text())["levels"]
            lists = {
                int(steps): checked(sigmas, f"{self.source}, levels.{steps}")
                for steps, sigmas in levels.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise (
                error
                if isinstance(error, UsageError)
                else UsageError(
                    f"{self.source} holds no planned levels: write a file that `diffgeo theory "
                    "gits` made"
                )
            ) from error
        if not lists or any(len(sigmas) != steps + 1 for steps, sigmas in lists.items()):
            raise UsageError(
                f"{self.source} is damaged: a list has not as many levels as its steps say; write "
                "a fresh one"
            )
        return lists
