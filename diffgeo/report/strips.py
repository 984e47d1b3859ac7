"""Strips: estimates of x0 along a run's own way, of one run and of the runs of a sweep.

    figures/strip.png   of a run: a row, columns D(x_t) from noise to data, last the sample
    strip.npy           what it shows: bytes [k+1,C,H,W] of the first sample, or points of the plane
                        [k+1,n,2];    strip.json   the levels, and the law's own points
    strip.png           of a sweep whose jobs have it: a row a job

The same with the name strip_aim: what each step aims at instead of what the denoiser says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from diffgeo.core import Pictures
from diffgeo.errors import DiffgeoError
from diffgeo.geometry.strip import strip
from diffgeo.plot import strip as picture
from diffgeo.plot.canvas import plane
from diffgeo.report.comparison import Row
from diffgeo.report.figures import View
from diffgeo.report.gallery import told_apart
from diffgeo.store.digest import verified
from diffgeo.store.drawing import file_of, remove_figures
from diffgeo.store.files import read_json, write_json
from diffgeo.store.npy import write_array

TITLES = {
    "strip": "the denoised estimate on the way to the sample",
    "strip_aim": r"what each step aims at, $x - \sigma \bar\epsilon$, on the way to the sample",
}
POINTS = 300  # of a run in the plane
TRUTH = 1000  # of the law


def shows(view: View) -> bool:
    """Where it is asked for by name, and there are pictures or points with a way."""
    named = view.experiment.figures is not True
    return named and view.run.simulation is not None and (view.planar or view.pictures)


@torch.no_grad()
def draw(path: Path, view: View) -> None:
    """The strip of a run, called as `path` is: the picture, and what it shows for a sweep."""
    name = path.stem
    data = view.experiment.data
    count = 1 if isinstance(data, Pictures) else POINTS
    paths = view.run.simulation.trajectory(view.run.numbers[:count])
    found = strip(paths, aimed=name == "strip_aim")
    truth = None
    if isinstance(data, Pictures):
        columns = data.quantize(found.columns[:, 0]).cpu().numpy()
    else:
        flat = plane(data)
        truth = spread(flat(flat.truth[:TRUTH]), data.shape)
        columns = np.stack([spread(flat(column), data.shape) for column in found.columns])
    levels = found.levels.tolist()
    write_array(view.folder / f"{name}.npy", columns)
    points = None if truth is None else truth.tolist()
    write_json(view.folder / f"{name}.json", {"levels": levels, "truth": points})
    picture.strip(path, [picture.Row("", levels, columns, truth)], TITLES[name])


def spread(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Points [n,2] of a plane; those of a line one above the other, between -1 and 1 of their
    scale, so that they are seen apart."""
    if shape[0] > 1:
        return points
    size = float(np.abs(points[:, 0]).max())
    return np.stack([points[:, 0], size * np.linspace(-0.5, 0.5, len(points))], 1)


def of_sweep(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """The strips of the runs below a folder as one sheet each; their paths. Sheets of before are
    removed."""
    made = []
    for name, title in TITLES.items():
        remove_figures(folder, name)
        path = file_of(folder / name)
        own = [
            row for row in rows if not row.status and (folder / row.name / f"{name}.npy").exists()
        ]
        if len(own) < 2:
            continue
        names, common = told_apart(own)
        shown = [
            read(folder / row.name, name, label) for row, label in zip(own, names, strict=True)
        ]
        if len({(row.columns.shape[1:], row.truth is None) for row in shown}) > 1:
            continue  # pictures of other sizes: they are no rows of one sheet
        picture.strip(path, shown, f"{title}{common}")
        made.append(path)
    return made


def read(folder: Path, name: str, label: str) -> picture.Row:
    """The row of a run. Raises DiffgeoError where its files are not what it wrote."""
    try:
        columns = np.load(verified(folder / f"{name}.npy"), allow_pickle=False)
        told = read_json(verified(folder / f"{name}.json"))
        truth = None if told["truth"] is None else np.array(told["truth"], dtype=float)
        levels = [float(level) for level in told["levels"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DiffgeoError(f"cannot read {folder}/{name}.npy: {error}") from error
    if len(columns) != len(levels) + 1:
        raise DiffgeoError(f"{folder}/{name}.npy does not go with {name}.json")
    return picture.Row(label, levels, columns, truth)
