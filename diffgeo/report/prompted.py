"""The pictures of a sweep over samplers side by side: a row a prompt, a column a run.

prompts-0.png   of the runs below a folder that were told the same prompts, the first of them
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.errors import DiffgeoError
from diffgeo.plot import prompted as plot
from diffgeo.report.comparison import Row
from diffgeo.report.gallery import told_apart
from diffgeo.store.digest import of_path, verified
from diffgeo.store.drawing import file_of, remove_figures

PROMPTS = "prompts.txt"
SHOWN = 6  # prompts of a sheet


def sheets(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Draw a sheet for each list of prompts that two or more runs have pictures of; their paths.
    Sheets of before are removed."""
    remove_figures(folder, "prompts-*")
    shared: dict[tuple, list[tuple[Row, Tensor]]] = {}
    for row in rows:
        place = folder / row.name
        if row.status or not (place / PROMPTS).is_file():
            continue
        pictures = pictures_of(place / "samples.npy")
        if pictures is not None:
            key = of_path(place / PROMPTS), tuple(pictures.shape)
            shared.setdefault(key, []).append((row, pictures))
    drawn = []
    for own in shared.values():
        if len(own) > 1:
            path = file_of(folder / f"prompts-{len(drawn)}")
            sheet(path, folder, own)
            drawn.append(path)
    return drawn


def sheet(path: Path, folder: Path, own: Sequence[tuple[Row, Tensor]]) -> None:
    """One sheet of runs that were told the same prompts."""
    names, common = told_apart([row for row, _ in own])
    texts = (folder / own[0][0].name / PROMPTS).read_text(encoding="utf-8").split("\n")
    together = torch.stack([pictures for _, pictures in own], 1)  # [prompts,runs,3,H,W]
    title = f"{len(own)} runs of the same prompts{common}"
    plot.side_by_side(path, list(together), texts[: len(together)], names, title)


def pictures_of(path: Path) -> Tensor | None:
    """The first pictures of a run, uint8 [n,3,H,W]; None where it stored latents. Raises
    DiffgeoError."""
    try:
        found = np.load(verified(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DiffgeoError(f"cannot read {path}: {error}") from error
    if found.dtype != np.uint8 or found.ndim != 4:
        return None
    return torch.from_numpy(np.array(found[:SHOWN])).permute(0, 3, 1, 2)
