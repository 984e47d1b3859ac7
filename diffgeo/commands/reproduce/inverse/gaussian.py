"""The tables and figures of `diffgeo reproduce inverse/gaussian` and `inverse/temperature`: each
takes (folder, cells by name) and returns text for the report."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffgeo.plot import restorers as plot
from diffgeo.store.digest import verified
from diffgeo.tables import markdown

OFF = 1e-3  # what a measured number may be off by, or half a unit of the last printed digit


def read(folder: Path, column: str) -> dict[str, dict[int, float]]:
    """A column of a run's table.csv by algorithm, as it is called in the metrics, and by steps."""
    found: dict[str, dict[int, float]] = {}
    with verified(folder / "table.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = " ".join(filter(None, (row["algorithm"], row["options"])))
            label = name if row["sampler"] == "own step" else f"{name} + {row['sampler']}"
            found.setdefault(label, {})[int(row["steps"])] = float(row[column])
    return found


def tolerance(printed: float) -> float:
    """How far from a number of four digits, or of three above 3, a measured one is the same."""
    if printed < 3:
        return OFF
    digits = 2 - math.floor(math.log10(printed))
    return 0.5001 * 10.0 ** -min(digits, 2)


def table(out: Path, every: Mapping, cell: str) -> str:
    """W2 of every algorithm at every number of steps; the published number in brackets where it is
    another; and how many are the same."""
    published = every[cell].published
    measured = read(every[cell].folder, "w2")
    counts = sorted({steps for gaps in measured.values() for steps in gaps})
    rows = []
    same = 0
    compared = 0
    for label, gaps in measured.items():
        row = [label]
        for steps in counts:
            text = f"{gaps[steps]:.4g}"
            printed = published.get(f"w2/{label}@{steps}")
            if printed is not None:
                agrees = abs(gaps[steps] - printed) <= tolerance(printed)
                compared += 1
                same += agrees
                text += "" if agrees else f" ({printed:g})"
            row.append(text)
        rows.append(row)
    header = ["W2 to the posterior, steps", *map(str, counts)]
    return f"{markdown(header, rows)}\n{same} of {compared} published cells are as printed\n"


def curves(out: Path, every: Mapping, cell: str, lines: Sequence[str]) -> str:
    """W2 against steps, gaussian.png."""
    measured = read(every[cell].folder, "w2")
    drawn = {name: tuple(zip(*measured[name].items(), strict=True)) for name in lines}
    plot.gaps(out / "gaussian.png", drawn)
    return ""


def factor(zeta):
    """T = (1 + sqrt(1 - zeta))/2."""
    return (1 + np.sqrt(1 - zeta)) / 2


def temperature(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """Variance over the posterior's by zeta and steps, as a table and as temperature.png."""
    panels = {}
    rows = []
    counts: list[int] = []
    for name in cells:
        by_zeta = {}
        for label, spreads in read(every[name].folder, "spread").items():
            by_zeta[float(label.rpartition("zeta=")[2])] = spreads
        counts = sorted({steps for spreads in by_zeta.values() for steps in spreads})
        for zeta, spreads in by_zeta.items():
            numbers = [f"{spreads[steps]:.4f}" for steps in counts]
            rows.append([name, f"{zeta:g}", *numbers, f"{factor(zeta):.4f}"])
        panels[name] = {
            f"{steps} steps": (list(by_zeta), [spreads[steps] for spreads in by_zeta.values()])
            for steps in counts
        }
    plot.temperatures(out / "temperature.png", panels, factor)
    return markdown(["variance over the posterior's", "zeta", *map(str, counts), "limit"], rows)
