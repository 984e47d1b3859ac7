"""What `diffgeo reproduce geometry/symmetry` adds to its table: each function takes (folder, cells
by name) and returns text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from diffgeo.geometry.symmetry import DYNAMICS, Dynamics
from diffgeo.plot.geometry.symmetry import Panel, bifurcations
from diffgeo.plot.geometry.symmetry import Path as Curve
from diffgeo.store.files import read_json
from diffgeo.tables import markdown

HIGH = 3.0  # over the critical level: where the centre's line ends


def bifurcation(out: Path, every: Mapping, cell: str, name: str) -> str:
    """The bifurcation diagram of a cell, drawn from its branches.csv into `name`.png."""
    folder = every[cell].folder
    record = read_json(folder / "symmetry.json")
    axis = np.array(record["axis"])
    paths = branches(folder / "branches.csv", axis)
    panels = []
    for one in DYNAMICS:
        found = record["dynamics"][one.name]
        centre = None
        critical = None
        if found["centre"] is not None:
            lost = [change["sigma"] for change in found["centre"] if change["lost"]]
            critical = lost[0] if lost else None
            centre = line_of_centre(found, critical)
        nodes = [node["sigma"] for node in found["saddle_nodes"]]
        curves = [in_chart(one, path) for path in paths.get(one.name, [])]
        panels.append(Panel(one.name, curves, centre, critical, nodes))
    bifurcations(out / f"{name}.png", panels)
    return ""


def branches(file: Path, axis: np.ndarray) -> dict[str, list[Curve]]:
    """The branches of each dynamics, along the axis."""
    rows: dict[tuple[str, str], list[list[float]]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for dynamics, branch, *numbers in list(csv.reader(stream))[1:]:
            rows.setdefault((dynamics, branch), []).append([float(value) for value in numbers])
    found: dict[str, list[Curve]] = {}
    for (dynamics, _), numbers in rows.items():
        table = np.array(numbers)
        curve = Curve(table[:, 0], table[:, 2:] @ axis, table[:, 1] > 0)
        found.setdefault(dynamics, []).append(curve)
    return found


def in_chart(dynamics: Dynamics, path: Curve) -> Curve:
    """A branch of x as it is in the chart of its dynamics."""
    scale = dynamics.scale(torch.from_numpy(path.sigma)).numpy()
    return path._replace(r=scale * path.r)


def line_of_centre(found: Mapping, critical: float | None) -> Curve:
    """The centre itself, stable or not by level."""
    high = found["highest"] if critical is None else HIGH * critical
    levels = np.geomspace(found["lowest"], high, 2001)
    stable = np.full(len(levels), bool(found["centre_stable_at_highest"]))
    for change in found["centre"]:
        stable[levels < change["sigma"]] = not change["lost"]
    return Curve(levels, np.zeros(len(levels)), stable)


def saddle_nodes(out: Path, every: Mapping) -> str:
    """Every saddle-node off the centre, as a table for the report."""
    rows = []
    for name, cell in every.items():
        record = read_json(cell.folder / "symmetry.json")
        for one in DYNAMICS:
            for node in record["dynamics"][one.name]["saddle_nodes"]:
                rows.append([name, one.name, f"{node['sigma']:.10g}", str(node["branches"])])
    return markdown(["law", "chart, dynamics", "saddle-node, sigma", "branches"], rows)
