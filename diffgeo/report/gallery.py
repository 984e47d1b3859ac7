"""The restorations below a folder side by side: for every measurement that several runs share, a
sheet with a row an image and a column a run, what was measured and the exact posterior before them.

    beside.npy   [images,3,*D] of such a run: A^+ y, the exact posterior's mean and one of its
                 draws; nan where there is none
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.errors import DiffgeoError
from diffgeo.plot import restoration as plot
from diffgeo.plot.restoration import Cell
from diffgeo.report.comparison import Row
from diffgeo.run import read_config
from diffgeo.store.digest import of_path, verified
from diffgeo.store.drawing import file_of, remove_figures

SHOWN = 6  # images of a sheet
NEEDED = ("restored.npy", "beside.npy", "measurement.npy", "images.csv")


def galleries(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Draw a sheet for each measurement that two or more runs restored, restored-0.png on; their
    paths. Sheets of before are removed."""
    remove_figures(folder, "restored-*")
    shared: dict[str, list[Row]] = {}
    for row in rows:
        place = folder / row.name
        if not row.status and all((place / name).is_file() for name in NEEDED):
            shared.setdefault(of_path(place / "measurement.npy"), []).append(row)
    several = [own for own in shared.values() if len(own) > 1]
    drawn = []
    for number, own in enumerate(several):
        path = file_of(folder / f"restored-{number}")
        gallery(path, folder, own)
        drawn.append(path)
    return drawn


def gallery(path: Path, folder: Path, rows: Sequence[Row]) -> None:
    """One sheet. Raises DiffgeoError on a file that is not what its run wrote."""
    first = folder / rows[0].name
    data = read_config(first).data
    low = float(data.get("low", -1.0))
    high = float(data.get("high", 1.0))
    beside = array(first / "beside.npy")
    told = lines_of(first / "images.csv")
    truth = array(first / "truth.npy") if (first / "truth.npy").is_file() else None
    draws = [array(folder / row.name / "restored.npy") for row in rows]
    captions = [lines_of(folder / row.name / "images.csv") for row in rows]
    names, common = told_apart(rows)
    heads = (["truth"] if truth is not None else []) + ["measured", "mean", "a draw"]
    groups = [("", len(heads) - 2), ("exact posterior", 2), ("a draw of each algorithm", len(rows))]
    sheet = []
    for place in range(min(SHOWN, len(beside))):
        cells: list[Cell | None] = []
        if truth is not None:
            cells.append(Cell(as_bytes(truth[place], low, high)))
        cells.append(there(beside[place, 0], low, high, ()))
        exact = told[place]
        cells.append(there(beside[place, 1], low, high, caption(exact, "exact/psnr_of_mean")))
        both = caption(exact, "exact/psnr", "exact/misfit")
        cells.append(there(beside[place, 2], low, high, both))
        for own, about in zip(draws, captions, strict=True):
            both = caption(about[place], "restore/psnr", "restore/misfit")
            cells.append(there(own[place, 0], low, high, both))
        sheet.append(cells)
    title = f"{len(rows)} runs of the same measurements{common}"
    numbers = [line["image"] for line in told[:SHOWN]]
    plot.images(path, sheet, [*heads, *names], numbers, title, groups)


def told_apart(rows: Sequence[Row]) -> tuple[list[str], str]:
    """A name of each run, of the settings in which these runs differ; and in words the settings
    that they share."""
    keys = list(rows[0].settings)
    different = [key for key in keys if len({row.settings[key] for row in rows}) > 1]
    names = []
    for row in rows:
        words = [row.settings[key] for key in different]
        names.append(" ".join(words) or row.name)
    same = [f"{key}={rows[0].settings[key]}" for key in keys if key not in different]
    return names, f": {', '.join(same)}" if same else ""


def array(path: Path) -> Tensor:
    """Numbers of a run, float64 [images,...]. Raises DiffgeoError."""
    try:
        found = np.load(verified(path), mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(np.array(found[:SHOWN], dtype=np.float64))
    except (OSError, ValueError) as error:
        raise DiffgeoError(f"cannot read {path}: {error}") from error


def lines_of(path: Path) -> list[dict[str, str]]:
    """The rows of images.csv. Raises DiffgeoError where it is not what its run wrote."""
    text = verified(path).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def as_bytes(x: Tensor, low: float, high: float) -> Tensor:
    """An image [C,H,W] as bytes."""
    return ((x - low) * (255 / (high - low)) + 0.5).clamp(0, 255).to(torch.uint8)


def there(x: Tensor, low: float, high: float, captions: tuple[str, ...]) -> Cell | None:
    """A cell of an image; None where there is none."""
    if not bool(x.isfinite().all()):
        return None
    return Cell(as_bytes(x, low, high), captions)


def caption(line: Mapping[str, str], *keys: str) -> tuple[str, ...]:
    """The numbers below an image."""
    found = []
    for key in keys:
        value = line.get(key, "")
        if value and key.endswith("misfit"):
            found.append(f"misfit {float(value):.3g}")
        elif value:
            found.append(f"{float(value):.1f} dB")
    return tuple(found)
