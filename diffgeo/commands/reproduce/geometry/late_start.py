"""The figures and texts of `diffgeo reproduce geometry/late_start`: each takes (folder, cells by
name) and may return text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.config.line import conf_dir
from diffgeo.plot.geometry import starts
from diffgeo.store.digest import verified
from diffgeo.tables import markdown

SAMPLERS = ("DDPM", "DDIM", "PNDM")
PLAIN = "plain"


def published(out: Path, every: Mapping) -> str:
    """The whole published table, of which most models are not at hand."""
    path = conf_dir() / "published" / "late_start.yaml"
    rows = []
    for data, steps, *pairs in OmegaConf.to_container(OmegaConf.load(path))["rows"]:
        cells = [f"{before:g} -> {after:g}" for before, after in pairs]
        rows.append([data, str(steps), *cells])
    header = ["data", "steps", *(f"{name}, plain -> late" for name in SAMPLERS)]
    return "Published FIDs (not measured here)\n\n" + markdown(header, rows)


def lines_of(folder: Path, key: str) -> dict[str, starts.Line]:
    """A number of start.csv against the level of the start, a line a start."""
    found: dict[str, list[tuple[float, float]]] = {}
    with verified(folder / "start.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["init"], []).append((float(row["at"]), float(row[key])))
    lines = {}
    for init, pairs in found.items():
        at, worth = zip(*sorted(pairs), strict=True)
        name = f"{PLAIN}, from the top" if init == PLAIN else init
        lines[name] = starts.Line(at, worth)
    return lines


def sweep(out: Path, every: Mapping, cell: str, key: str, name: str) -> str:
    """NAME.png: one number against the level of the start, for every start. The text: its least
    value, and where."""
    lines = lines_of(every[cell].folder, key)
    path = out / f"{name}.png"
    starts.quality(path, {key: lines}, r"level of the start $\sigma'$", log_x=True)
    told = []
    for label, line in lines.items():
        worth, at = min(zip(line.y, line.x, strict=True))
        told.append(f"{label} {worth:.4g} at {at:.4g}")
    return f"{cell} ({name}.png), least {key}: {'; '.join(told)}\n"
