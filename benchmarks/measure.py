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
from collections.abc import Callable
from typing import NamedTuple


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
        return (
            "met"
            if (self.figure >= self.bar if self.unit.endswith("/s") else self.figure <= self.bar)
            else "NOT MET"
        )


def cpu(action: Callable[[], object], repeat: int = 1) -> float:
    """CPU seconds of one call, of `repeat` in a row."""
    start = time.process_time()
    for _ in range(repeat):
        action()
    return (time.process_time() - start) / repeat


def interleaved(
    variants: dict[str, Callable[[], object]], rounds: int = 7, repeat: int = 1
) -> dict[str, float]:
    """Median CPU seconds of each variant, after one call of each to warm up; they take turns."""
    for action in variants.values():
        action()
    times = {name: [] for name in variants}
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
    cells = [("what", "unit", "ours", "reference", "ratio", "bar", "")]
    for r in rows:
        reference = (
            ""
            if not r.peer
            else r.peer
            if math.isnan(r.reference)
            else f"{r.reference:.4g} {r.peer}"
        )
        ratio = "" if math.isnan(r.ratio) else f"{r.ratio:.2f}"
        sign = ">=" if r.unit.endswith("/s") else "<="
        cells.append(
            (
                r.what,
                r.unit,
                f"{r.ours:.4g}",
                reference,
                ratio,
                "" if math.isnan(r.bar) else f"{sign} {r.bar:g}",
                r.verdict,
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )
