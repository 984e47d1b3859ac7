"""The figures and texts of `diffgeo reproduce lee/...`: each takes (folder, cells by name) and may
return text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.commands.compare import markdown
from diffgeo.commands.theory.convergence import WARNING
from diffgeo.store.files import read_json


def records(folder: Path) -> list:
    """The experiments that `theory convergence` wrote into a folder, from its table and metrics."""
    from diffgeo.theory.convergence import Experiment, Series

    metrics = read_json(folder / "metrics.json")
    found = {}
    with (folder / "table.csv").open() as file:
        for row in csv.DictReader(file):
            kept = found.setdefault(row["experiment"], {"rows": {}, **row})
            kept["rows"].setdefault(
                (row["quantity"], row["label"], float(row["noise"])), []
            ).append((float(row["x"]), float(row["value"])))
    out = []
    for name, kept in found.items():
        series = tuple(
            Series(
                key,
                label,
                tuple(v for _, v in points),
                metrics.get(f"{name}/{key}_expected"),
                metrics.get(f"{name}/{key}_slope"),
                noise=noise,
            )
            for (key, label, noise), points in kept["rows"].items()
        )
        x = tuple(x for x, _ in next(iter(kept["rows"].values())))
        out.append(
            Experiment(
                name,
                kept["title"],
                kept["variable"],
                x,
                series,
                exponential=kept["exponential"] == "True",
            )
        )
    return out


def beside(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """One line a published number, beside what is measured and their ratio; a panel an experiment
    in convergence.png."""
    from diffgeo.plot.convergence import panels

    rows = []
    drawn = []
    for name in cells:
        cell = every[name]
        metrics = cell.metrics()
        drawn += records(cell.folder)
        for key, published in cell.published.items():
            measured = metrics.get(key)
            rows.append(
                [
                    key,
                    f"{published:g}",
                    "-" if measured is None else f"{measured:.4g}",
                    "" if not measured else f"{measured / published:.3f}",
                ]
            )
    panels(out / "convergence.png", drawn)
    return f"{markdown(['quantity', 'specification', 'measured', 'ratio'], rows)}\n{WARNING}\n"
