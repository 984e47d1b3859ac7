"""The figures and texts of `diffgeo reproduce lee/...`: each takes (folder, cells by name) and may
return text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.store.digest import verified
from diffgeo.store.files import read_json
from diffgeo.tables import markdown
from diffgeo.theory.convergence import WARNING, Experiment, Series
from diffgeo.theory.predictor_corrector import PREDICTORS


def records(folder: Path) -> list[Experiment]:
    """The experiments that `theory convergence` wrote into a folder, from its table and metrics."""
    metrics = read_json(folder / "metrics.json")
    about: dict[str, dict[str, str]] = {}  # of an experiment: one of its rows
    points: dict[tuple, list[tuple[float, float]]] = {}  # (x, value) of a series
    with verified(folder / "table.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["experiment"]
            about.setdefault(name, row)
            series = name, row["quantity"], row["label"], float(row["noise"])
            points.setdefault(series, []).append((float(row["x"]), float(row["value"])))
    found = []
    for name, row in about.items():
        own = {series: curve for series, curve in points.items() if series[0] == name}
        series = []
        for (_, key, label, noise), curve in own.items():
            values = tuple(value for _, value in curve)
            expected = metrics.get(f"{name}/{key}_expected")
            slope = metrics.get(f"{name}/{key}_slope")
            series.append(Series(key, label, values, expected, slope, noise=noise))
        x = tuple(x for x, _ in next(iter(own.values())))
        exponential = row["exponential"] == "True"
        found.append(
            Experiment(
                name, row["title"], row["variable"], x, tuple(series), exponential=exponential
            )
        )
    return found


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
    panels(out / "convergence.png", [experiment.panel() for experiment in drawn])
    return f"{markdown(['quantity', 'specification', 'measured', 'ratio'], rows)}\n{WARNING}\n"


BUDGETS = ("P1000", "P2000", "C2000", "PC1000")


def correctors(
    out: Path, every: Mapping, cells: Sequence[str], fid: Mapping[str, Sequence[float | None]]
) -> str:
    """The published FIDs of predictors and correctors, and the W2 of the cells, each with the order
    of P2000 and PC1000; a panel each in correctors.png."""
    from diffgeo.plot.predictor_corrector import Panel, panels

    published = {name: dict(zip(BUDGETS, row, strict=True)) for name, row in fid.items()}
    asked = [Panel("published, CIFAR-10", "FID", published)]
    for name in cells:
        metrics = every[name].metrics()
        rows = {}
        for predictor in PREDICTORS:
            rows[predictor] = {budget: metrics[f"w2/{predictor}/{budget}"] for budget in BUDGETS}
        asked.append(Panel(name, "$W_2$ to the law", rows))
    panels(out / "correctors.png", asked)
    lines = []
    for panel in asked:
        for name, row in panel.rows.items():
            words = ["-" if row[budget] is None else f"{row[budget]:.4g}" for budget in BUDGETS]
            lines.append([panel.title, name, *words, better(row)])
    return markdown(["", "predictor", *BUDGETS, "better"], lines) + "\n"


def better(row: Mapping[str, float | None]) -> str:
    """Which of P2000 and PC1000 is lower, of equal cost."""
    ratio = row["PC1000"] / row["P2000"]
    return f"PC, {1 / ratio:.2f} x" if ratio < 1 else f"P, {ratio:.2f} x"
