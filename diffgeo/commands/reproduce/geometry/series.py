"""Curves out of the tables that the commands of `diffgeo trajectory` leave."""

from __future__ import annotations

import csv
from pathlib import Path

from diffgeo.plot.geometry.starts import Line
from diffgeo.store.digest import verified


def lines_of(path: Path, by: str, x: str, y: str) -> dict[str, Line]:
    """Column y of a CSV against column x, in its order, a line for every word of column `by`."""
    found: dict[str, list[tuple[float, float]]] = {}
    with verified(path).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row[by], []).append((float(row[x]), float(row[y])))
    lines = {}
    for name, pairs in found.items():
        places, values = zip(*sorted(pairs), strict=True)
        lines[name] = Line(places, values)
    return lines
