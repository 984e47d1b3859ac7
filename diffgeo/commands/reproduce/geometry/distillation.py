"""The table of `diffgeo reproduce geometry/distillation`: every method at 1, 2, 4 and 8
evaluations, what is published beside what is measured, mean and spread over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

KEYS = {
    "distance": "off the support",
    "coupled": "rms to the teacher",
    "w2": "W2",
    "w2_counts": "W2 of its counts",
    "chi2": "chi2",
}
PUBLISHED = ("distance", "w2")  # what the sketch has


def beside(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """A row a method and number of evaluations; distillation.csv holds mean and sd of each."""
    found = [every[name].metrics() for name in cells]
    published = every[cells[0]].published
    names = dict.fromkeys(key.split("/")[1] for key in found[0] if key.startswith("students/"))
    rows = []
    lines = []
    for name in sorted(names, key=order):
        row = [name.replace("@", ", NFE ")]
        for key in KEYS:
            values = [metrics[f"students/{name}/{key}"] for metrics in found]
            if key in PUBLISHED:
                theirs = published.get(f"students/{name}/{key}")
                row.append("-" if theirs is None else f"{theirs:.3f}")
            row.append(told(values))
            lines.append([name, key, *numbers(values), len(values)])
        rows.append(row)
    header = ["method"]
    for key, text in KEYS.items():
        header += [f"{text}, spec", "measured"] if key in PUBLISHED else [text]
    table = csv_text(["method", "quantity", "mean", "sd", "seeds"], lines)
    write_text(out / "distillation.csv", table)
    note = f"measured: mean +- standard deviation over {len(cells)} seeds\n"
    return markdown(header, rows) + "\n" + note


ORDER = ("teacher", "Euler", "jump", "KD", "DFNO", "reflow", "PD", "CD", "CT", "truth")


def order(name: str) -> tuple[int, int]:
    method, _, nfe = name.partition("@")
    return ORDER.index(method), int(nfe or 0)


def numbers(values: Sequence[float | None]) -> list[str]:
    there = [value for value in values if value is not None]
    if not there:
        return ["", ""]
    sd = repr(float(np.std(there, ddof=1))) if len(there) > 1 else ""
    return [repr(float(np.mean(there))), sd]


def told(values: Sequence[float | None]) -> str:
    mean, sd = numbers(values)
    if not mean:
        return "-"
    if not sd:
        return f"{float(mean):.3f}"
    spread = float(sd) if float(sd) >= 5e-5 else 0
    return f"{float(mean):.3f} +- {spread:.2g}"
