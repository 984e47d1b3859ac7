"""What is to be restored: the truths that `image=` names, numbered, and their measurements.

image=draw images=20   truths 0 .. 19 drawn from the law; truth i depends on (seed, i) alone
image=3            image 3 of a set of images, of the split that the law is not made of; of any
image=0:20         other law its draw 3. 0:20 are the twenty from 0 on
image=FILE         one picture, or a .npy of one point [*D] or of several [n,*D]
y=FILE|[...]       the measurement itself, [*M] or [n,*M]; there is no truth then

y_i = A(x_i) + sigma_n n_i,    n_i of the seed and of i alone
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.measurement import Operator
from diffgeo.config.kinds import shown
from diffgeo.config.measured import table
from diffgeo.core import Data, ImageSet, generator
from diffgeo.data.pictures import SUFFIXES, decode
from diffgeo.data.prepared import SPLITS
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Imagewise
from diffgeo.store.arrays import read_array

INDEX = re.compile(r"(\d+)(?::(\d+))?")


@dataclass(frozen=True)
class Asked:
    """Images by number.

    images: the numbers to restore. count: how many there are, from 0 on; None: no end.
    truth: of a number, [*D] float64; None where only measurements are known.
    measured: the measurement of a number, [*M] float64.
    drawn: whether the truths are draws of the law, as calibration asks.
    """

    images: range
    count: int | None
    truth: Callable[[int], Tensor] | None
    measured: Callable[[int], Tensor]
    drawn: bool


def asked(cfg, data: Data, operator: Operator, sigma_n: float) -> Asked:
    """What image=, n=, split= and y= say. Raises UsageError."""
    if cfg.y is not None:
        return of_measurements(cfg.y, operator)
    truth, images, count, drawn = truths(cfg, data)

    def measured(number: int) -> Tensor:
        own = operator.of_image(number) if isinstance(operator, Imagewise) else operator
        clean = own(truth(number)[None])[0].double()
        noise = torch.randn(
            operator.measured, generator=generator(cfg.seed, *b"noise", number), dtype=torch.float64
        )
        return clean + sigma_n * noise

    return Asked(images, count, truth, measured, drawn)


def truths(cfg, data: Data) -> tuple[Callable[[int], Tensor], range, int | None, bool]:
    """The truth of a number, the numbers asked for, how many there are, and whether they are draws
    of the law."""
    word = shown(cfg.image)
    index = INDEX.fullmatch(word)
    if cfg.split is not None and not (index and isinstance(data, ImageSet)):
        raise UsageError(
            f"split={shown(cfg.split)} says where an index counts in a set of images, and there is "
            "none: write split=null, or image=0:20"
        )
    if word == "draw":
        return drawn(data, cfg.seed), range(cfg.images), None, True
    if index and isinstance(data, ImageSet):
        held = split_of(data, cfg.split)
        images = numbered(word, index, len(held), f"data={held.name}, split={held.split}")
        return of_set(held), images, len(held), False
    if index:
        return drawn(data, cfg.seed), numbered(word, index, None, ""), None, True
    points = of_file(word, data)
    return points.__getitem__, range(len(points)), len(points), False


def drawn(data: Data, seed: int) -> Callable[[int], Tensor]:
    """Truth i of the law."""

    def truth(number: int) -> Tensor:
        return data.sample(1, generator(seed, *b"truth", number))[0].double().cpu()

    return truth


def of_set(data: ImageSet) -> Callable[[int], Tensor]:
    """Image i of a set."""

    def truth(number: int) -> Tensor:
        pixels = data.rows(torch.tensor([number]))
        return data.dequantize(pixels)[0].double().cpu()

    return truth


def split_of(data: ImageSet, split: str | None) -> ImageSet:
    """The set that an index counts in: null, the split that the law is not made of, where there is
    one."""
    if split not in (None, *SPLITS):
        raise UsageError(f"split={split}: write train, test, or null")
    if split == data.split:
        return data
    other = data.other()
    if other is not None and split in (None, other.split):
        return other
    if split is None:
        return data
    raise UsageError(f"split={split}: data={data.name} has no such split here; write split=null")


def numbered(word: str, index: re.Match, count: int | None, where: str) -> range:
    """The numbers that `3` or `0:20` name. Raises UsageError."""
    first = int(index[1])
    stop = first + 1 if index[2] is None else int(index[2])
    if stop <= first:
        raise UsageError(f"image={word} is empty: write FIRST:STOP, as 0:20, the first below STOP")
    if count is not None and stop > count:
        raise UsageError(
            f"image={word}: {where} has the images 0 to {count - 1}: write one of them"
        )
    return range(first, stop)


def of_file(word: str, data: Data) -> Tensor:
    """The points of a file, float64 [n,*D]. Raises UsageError, DiffgeoError."""
    path = Path(word)
    picture = path.suffix.lower() in SUFFIXES
    if not picture and path.suffix.lower() not in (".npy", ".npz", ".csv"):
        raise UsageError(
            f"image={word}: write an index (3), a range (0:20), draw, a picture (.png, .jpg) or a "
            ".npy file"
        )
    if not path.is_file():
        raise UsageError(f"image={word}: there is no such file")
    if picture:
        return of_picture(path, data)
    return several(torch.from_numpy(read_array(path, "image")), data.shape, f"image={word}", data)


def of_picture(path: Path, data: Data) -> Tensor:
    """One picture, [1,C,H,W]."""
    if not isinstance(data, ImageSet):
        raise UsageError(f"image={path} is a picture, and data= has none: write a .npy file")
    channels, height, width = data.shape
    pixels = torch.from_numpy(np.array(decode(path, channels)))
    if tuple(pixels.shape[:2]) != (height, width):
        raise UsageError(
            f"image={path} has {pixels.shape[0]} x {pixels.shape[1]} pixels, and data= {height} x "
            f"{width}: crop or resize the picture"
        )
    planes = pixels[None, None] if channels == 1 else pixels.permute(2, 0, 1)[None]
    return data.dequantize(planes).double()


def several(points: Tensor, shape: tuple[int, ...], what: str, data: Data | None = None) -> Tensor:
    """One array [*S] as [1,*S], several [n,*S] as they are. Raises UsageError on any other shape,
    on numbers that are not finite, and on pixels out of the range of the law's."""
    if tuple(points.shape) == tuple(shape):
        points = points[None]
    if tuple(points.shape[1:]) != tuple(shape) or not len(points):
        raise UsageError(
            f"{what} has shape {list(points.shape)}: write {list(shape)}, or [n, "
            f"{', '.join(map(str, shape))}]"
        )
    if not bool(points.isfinite().all()):
        raise UsageError(f"{what} holds numbers that are not finite")
    if isinstance(data, ImageSet):
        low, high = float(points.min()), float(points.max())
        slack = 0.01 * (data.high - data.low)
        if low < data.low - slack or high > data.high + slack:
            raise UsageError(
                f"{what} has values from {low:.4g} to {high:.4g}, and data= from {data.low:g} to "
                f"{data.high:g}: rescale it"
            )
    return points.double()


def of_measurements(value, operator: Operator) -> Asked:
    """What y= gives."""
    y = several(table(value), operator.measured, f"y={shown(value)}")
    return Asked(range(len(y)), len(y), None, y.__getitem__, False)
