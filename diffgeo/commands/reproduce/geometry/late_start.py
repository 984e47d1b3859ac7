"""The figures and texts of `diffgeo reproduce geometry/late_start`: each takes (folder, cells by
name) and may return text for the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.commands.reproduce.geometry.series import lines_of
from diffgeo.config.line import conf_dir
from diffgeo.plot.geometry import starts
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


def sweep(out: Path, every: Mapping, cell: str, key: str, name: str) -> str:
    """NAME.png: one number against the level of the start, for every start. The text: its least
    value, and where."""
    lines = {}
    for init, line in lines_of(every[cell].folder / "start.csv", "init", "at", key).items():
        lines[f"{PLAIN}, from the top" if init == PLAIN else init] = line
    path = out / f"{name}.png"
    starts.quality(path, {key: lines}, r"level of the start $\sigma'$", log_x=True)
    told = []
    for label, line in lines.items():
        worth, at = min(zip(line.y, line.x, strict=True))
        told.append(f"{label} {worth:.4g} at {at:.4g}")
    return f"{cell} (figure {name}), least {key}: {'; '.join(told)}\n"
