"""The figure of `diffgeo reproduce geometry/interpolation`, from the files of `diffgeo trajectory
interpolate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffgeo.commands.reproduce.geometry.series import lines_of
from diffgeo.plot.geometry import starts
from diffgeo.tables import markdown


def quality(out: Path, every: Mapping, cells: Mapping[str, str]) -> str:
    """quality.png: what the samples of each way are worth against lambda, a panel a cell and its
    metric. The text: the same at the ends and half way."""
    panels = {}
    table = []
    for name, key in cells.items():
        ways = lines_of(every[name].folder / "interpolation.csv", "kind", "lambda", key)
        panels[f"{key}, {name}"] = ways
        for kind, line in ways.items():
            by_place = dict(zip(line.x, line.y, strict=True))
            row = [f"{by_place[at]:.4g}" if at in by_place else "-" for at in (0, 0.25, 0.5, 1)]
            table.append([name, key, kind, *row])
    starts.quality(out / "quality.png", panels, r"$\lambda$")
    return markdown(["cell", "metric", "way", "lambda 0", ".25", ".5", "1"], table)
