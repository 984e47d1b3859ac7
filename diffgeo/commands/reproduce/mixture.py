"""The tables of `diffgeo reproduce lee/mixture...`: each takes (folder, cells by name) and returns
text for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.commands.reproduce.engine import shown
from diffgeo.tables import markdown


def beside(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """Every published number of the cells beside its own, as a table for the report."""
    rows = []
    for name in cells:
        cell = every[name]
        metrics = cell.metrics()
        for key, value in cell.published.items():
            rows.append([key, f"{value:.4g}", shown(metrics, key)])
    header = ["quantity", "published", "measured +- standard error"]
    return markdown(header, rows)
