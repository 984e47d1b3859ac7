"""The text of `diffgeo reproduce inverse/published`: what makes rows of one published table
unequal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.config.line import conf_dir
from diffgeo.tables import markdown

HEADER = ("method", "evaluations", "noise added for .05", "operator", "its number means")


def conventions(out: Path, every: Mapping) -> str:
    """The conventions of each method, in the units of data in [-1, 1]."""
    path = conf_dir() / "published" / "restoration.yaml"
    rows = []
    for row in OmegaConf.load(path).conventions:
        rows.append([str(cell) for cell in row])
    return "What makes the rows unequal\n\n" + markdown(HEADER, rows)
