"""The array in a .npy file, looked at where it lies: data=npy data.file=FILE.npy.

    float32 or float64 [N,d]     N points, the law `Mapped`
    uint8 [N,H,W], [N,H,W,3]     N images, the law `Images` of the source `Npy`; their labels from a
                                 .npy file of their own

The file is memory-mapped. Whatever is computed of it (moments, draws, exact denoiser, distances)
reads it in blocks, which the system keeps in memory while there is room: it may be larger than
that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic import points as exact
from diffgeo.data import pixels, prepared
from diffgeo.data.points import Cloud
from diffgeo.data.prepared import Split
from diffgeo.data.sources import Opened
from diffgeo.errors import UsageError
from diffgeo.store import npy
from diffgeo.store.caches import at_home
from diffgeo.store.digest import verified

BLOCK = 1 << 14  # points read at once


def opened(file: str | None, option: str, what: str) -> np.ndarray:
    """The array of a .npy file as a memory-map whose pages are private to us; nothing is unpickled.
    Raises UsageError, naming the option."""
    if file is None:
        raise UsageError(f"data=npy: write {option}=FILE.npy, {what}")
    path = at_home(file, option)
    if path.suffix != ".npy":
        raise UsageError(f"{option}={file} is no .npy file; data=cloud reads .csv and .npz tables")
    return pixels.read_bytes(verified(path), option, dtype="")


class Mapped(Cloud):
    """The empirical law of the points [N,d] in a .npy file, which is not read into memory.

    limit: the first so many points.

    Up to 16 coordinates it is computed as `Cloud` computes it, in float64; beyond, in the dtype of
    the file. float32 keeps |error| of a denoised point below 1e-3 sigma. Raises UsageError on
    points that are not finite, on other dtypes, and on an array that is no table.
    """

    def __init__(self, file: str | None = None, limit: int | None = None):
        array = opened(file, "data.file", "a table [N,d] of float32 or float64, or uint8 images")
        if npy.is_of_pictures(at_home(file or "", "data.file")):
            raise UsageError(
                f"data.file={file} holds images, uint8 {list(array.shape)}: write data=npy_images"
            )
        if array.ndim != 2 or not array.size or array.dtype not in (np.float32, np.float64):
            raise UsageError(
                f"data.file={file} holds {array.dtype} {list(array.shape)}: data=npy is of points, "
                "float32 or float64 [N,d], or of images, uint8 [N,H,W] or [N,H,W,3]; data=cloud "
                "reads other tables of numbers"
            )
        if limit is not None and limit < 1:
            raise UsageError(f"data.limit={limit}: write a whole number from 1, or null")
        self.file = file
        self.points = torch.from_numpy(np.require(array, requirements=["W"])[:limit])
        self.shape = (self.points.shape[1],)
        self.dim = 0
        self.mean, self.std = self._moments()
        self._prepared = {}

    def _moments(self) -> tuple[Tensor, float]:
        """Mean [d] and root mean variance of a coordinate, in two passes. Raises UsageError on
        numbers that are not finite."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for number, part in enumerate(self.points.split(BLOCK)):
            wrong = (~part.isfinite()).any(1).nonzero()[:, 0]
            if len(wrong):
                first = number * BLOCK + int(wrong[0])
                raise UsageError(
                    f"data.file={self.file}: point {first} (from 0) is not finite: write finite "
                    "numbers"
                )
            total += part.sum(0, dtype=torch.float64)
        mean = total / len(self.points)
        square = sum(float((part - mean).square().sum()) for part in self.points.split(BLOCK))
        return mean, (square / self.points.numel()) ** 0.5

    def project(self, x: Tensor) -> Tensor:
        nearest = torch.zeros_like(x)
        least = torch.full_like(x[:, 0], torch.inf)
        for part in self.points.split(BLOCK):
            points = part.to(x)
            found = points[exact.nearest(x, points)]
            distance = (x - found).square().sum(1)
            closer = distance < least
            nearest = torch.where(closer[:, None], found, nearest)
            least = torch.minimum(distance, least)
        return nearest

    def prepared(self, device: torch.device) -> exact.Streamed | exact.Dense:
        """The posterior mean: on a CPU out of the file, on a GPU of the points that are held
        there."""
        if device.type != "cpu":
            return super().prepared(device)
        if device not in self._prepared:
            self._prepared[device] = exact.cloud(self.points, mapped=True)
        return self._prepared[device]


@dataclass(frozen=True)
class Npy:
    """The images of a .npy file, uint8 [n,H,W] or [n,H,W,3].

    labels: a .npy file of their classes, whole numbers [n] from 0.
    """

    file: str | None = None
    labels: str | None = None
    name: str = "npy_images"
    licence: str = "yours"
    about: str = "data.file=FILE.npy: images"

    def open(self, root: Path, download: bool = True) -> Opened:
        what = "uint8 images [n,H,W] or [n,H,W,3]"
        images = opened(self.file, "data.file", what)
        colours = images.shape[3] if images.ndim == 4 else 1
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or colours not in (1, 3):
            raise UsageError(
                f"data.file={self.file} holds {images.dtype} {list(images.shape)}; write {what}, "
                "or data=npy for points"
            )
        if not images.size:
            raise UsageError(f"data.file={self.file} holds no image")
        labels = self.classes(len(images))
        path = at_home(self.file or "", "data.file").resolve()
        manifest = {
            "name": self.name,
            "source": str(path),
            "licence": self.licence,
            "classes": prepared.classes_of([] if labels is None else [labels]),
            "arrays": {},
        }
        return Opened(None, manifest, {"train": Split(images, labels)}.get, path)

    def classes(self, count: int) -> np.ndarray | None:
        """The labels of so many images. Raises UsageError where they are none."""
        if self.labels is None:
            return None
        found = opened(self.labels, "data.labels", "whole numbers")
        if found.shape != (count,) or found.dtype.kind not in "iu" or found.min() < 0:
            raise UsageError(
                f"data.labels={self.labels} holds {found.dtype} {list(found.shape)} for {count} "
                "images; they must be as many whole numbers from 0"
            )
        return np.array(found)
