"""The figures and texts of `diffgeo reproduce geometry/jump`, from the files of `diffgeo trajectory
jump`: each takes (folder, cells by name) and may return text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.commands.reproduce.engine import plain
from diffgeo.plot.geometry import starts
from diffgeo.store.digest import verified
from diffgeo.tables import markdown

NEAR = 1.1  # of the end's own quality: when a jump is as good as the run


def rows_of(folder: Path) -> list[dict[str, str]]:
    """jump.csv, a row a level."""
    with verified(folder / "jump.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows: Sequence[Mapping[str, str]], key: str) -> list[float]:
    """The numbers of a column, from the first level to the last, where there are any."""
    return [float(row[key]) for row in rows if row[key]]


def left(out: Path, every: Mapping, cells: Sequence[str]) -> None:
    """left.png: |r - x_0|/|x_0| against the noise level, dashed the state's own."""
    estimates = {}
    for name in cells:
        rows = rows_of(every[name].folder)
        sigma = column(rows, "sigma")
        estimates[name] = starts.Line(sigma, column(rows, "left"))
    starts.quality(
        out / "left.png",
        {r"left to go, $|r - x_0|\,/\,|x_0|$": estimates},
        r"noise level $\sigma$",
        log_x=True,
    )


def quality(out: Path, every: Mapping, cells: Sequence[str], key: str) -> str:
    """quality_NAME.png: a metric of the jumps and of fresh runs against the evaluations. The text:
    after how many evaluations a jump is within a tenth of what the whole run is worth."""
    panels = {}
    table = []
    for name in cells:
        rows = rows_of(every[name].folder)
        worth = column(rows, f"jump/{key}")
        taken = column(rows, "evaluations")
        fresh = column(rows, f"continued/{key}")
        fresh_taken = column(rows, "evaluations_of_continued")
        panels[f"{key}, {name}"] = {
            "jump": starts.Line(taken, worth),
            "fresh run": starts.Line(fresh_taken, fresh),
        }
        whole = every[name].metrics()[f"run/{key}"]
        near = [count for count, value in zip(taken, worth, strict=True) if value <= NEAR * whole]
        better = [
            count for count, value, other in zip(taken, worth, fresh, strict=False) if value < other
        ]
        table.append(
            [
                name,
                f"{whole:.4g}",
                f"{every[name].metrics()['jump/evaluations_of_run']:g}",
                f"{near[0]:g}" if near else "-",
                f"{better[0]:g}" if better else "-",
            ]
        )
    starts.quality(
        out / f"quality_{plain(cells[0])}.png",
        panels,
        "network evaluations a sample",
        log_x=True,
    )
    header = [f"{key}, jump", "whole run", "evaluations", "jump within 10 % after", "ahead from"]
    return markdown(header, table)
