"""How everything here is measured: CPU seconds, variants interleaved, medians.

Wall times mean nothing on a shared machine, and CPU times drift with the neighbours too; so a claim
is a ratio of two variants that took turns, A B A B ..., and each figure is the median of its
rounds.
"""

from __future__ import annotations

import importlib
import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar


class Row(NamedTuple):
    """One claim. Rates (steps/s) are better high, seconds better low; `ratio` is ours/reference and
    is compared with `bar` that way."""

    what: str
    unit: str
    ours: float
    reference: float  # nan: the bar is on our own figure, or the peer is not installed
    bar: float = math.nan  # nan: for information
    peer: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    @property
    def figure(self) -> float:
        """What the bar is set on: the ratio where there is a reference, else our own figure."""
        return self.ours if self.peer == "" else self.ratio

    @property
    def verdict(self) -> str:
        if self.peer and math.isnan(self.reference):
            return "not installed"
        if math.isnan(self.bar):
            return ""
        met = self.figure >= self.bar if self.rate else self.figure <= self.bar
        return "met" if met else "NOT MET"

    @property
    def rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        reference = self.peer
        if self.peer and not math.isnan(self.reference):
            reference = f"{self.reference:.4g} {self.peer}"
        ratio = "" if math.isnan(self.ratio) else f"{self.ratio:.2f}"
        bar = ""
        if not math.isnan(self.bar):
            bar = f"{'>=' if self.rate else '<='} {self.bar:g}"
        return self.what, self.unit, f"{self.ours:.4g}", reference, ratio, bar, self.verdict


def cpu(action: Callable[[], object], repeat: int = 1) -> float:
    """CPU seconds of one call, of `repeat` in a row."""
    start = time.process_time()
    for _ in range(repeat):
        action()
    return (time.process_time() - start) / repeat


Name = TypeVar("Name", bound=Hashable)


def interleaved(
    variants: Mapping[Name, Callable[[], object]], rounds: int = 7, repeat: int = 1
) -> dict[Name, float]:
    """Median CPU seconds of each variant, after one call of each to warm up; they take turns."""
    for action in variants.values():
        action()
    times: dict[Name, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, action in variants.items():
            times[name].append(cpu(action, repeat))
    return {name: statistics.median(t) for name, t in times.items()}


def peer(name: str):
    """An optional package, or None where it is not installed (or does not import)."""
    try:
        return importlib.import_module(name)
    except Exception:  # a half-installed peer fails in its own ways
        return None


def table(rows: list[Row]) -> str:
    header = ("what", "unit", "ours", "reference", "ratio", "bar", "")
    lines: list[tuple[str, ...]] = [header, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)
