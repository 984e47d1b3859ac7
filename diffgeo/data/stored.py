"""What the prepared layout stores: images uint8 [n,H,W] or [n,H,W,3], and a label an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from diffgeo.data.pixels import layout
from diffgeo.errors import UsageError


def read_stored(array: np.ndarray, shape: tuple[int, ...], name: str) -> Tensor:
    """Stored images of the shape (C, H, W), those of the set `name`, as uint8 [n,C,H,W]. Raises
    UsageError on images of another size, or grey for colour."""
    array = np.asarray(array)
    channels, height, width = shape
    if array.dtype != np.uint8:
        raise UsageError(
            f"images are arrays of uint8, not of {array.dtype}: write bytes 0..255, "
            f"[n,{height},{width}" + (",3]" if channels == 3 else "]")
        )
    pixels = layout(array)
    if pixels is None or tuple(pixels.shape[1:]) != shape or not len(pixels):
        found = str(list(array.shape)) if pixels is None else images_of(pixels.shape[1:])
        raise UsageError(
            f"the array holds {found}, {name} has {images_of(shape)}: write another data=, or "
            "images of that kind"
        )
    return pixels


def check_labels(labels: Tensor, count: int, classes: int, name: str) -> None:
    """Raise UsageError unless these are the labels of the `count` images of the set `name`."""
    if classes < 1:
        raise UsageError(
            f"{name} has labels and classes={classes}: give the number of classes, or no labels"
        )
    if labels.shape != (count,) or int(labels.min()) < 0 or int(labels.max()) >= classes:
        span = f" in {int(labels.min())}..{int(labels.max())}" if len(labels) else ""
        raise UsageError(
            f"the labels of {name} must be {count} numbers in 0..{classes - 1}, one an image, not "
            f"{len(labels)}{span}"
        )


def images_of(shape: Sequence[int]) -> str:
    """A shape (C, H, W) in words."""
    channels, height, width = shape
    kind = {1: "grey", 3: "colour"}[channels]
    return f"{kind} images of {height} x {width}"
