"""A choice of the line that is made by what a file holds.

    data=npy data.file=F     data=npy_images data.file=F     where F holds images, by its header

so that images bring their network, trainer, levels and metrics along, as every set of images does.
This module imports neither Hydra nor torch, and numpy only where there is such a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

POINTS = "data=npy"
IMAGES = "data=npy_images"


def chosen(words: Sequence[str], file: str | None) -> list[str]:
    """The words of a line, in which data=npy of a `file` of images is data=npy_images."""
    if POINTS not in words or file is None:
        return list(words)
    from diffgeo.store.npy import is_of_pictures

    if not is_of_pictures(Path(file).expanduser()):
        return list(words)
    return [IMAGES if word == POINTS else word for word in words]
