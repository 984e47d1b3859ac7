"""A folder of pictures as what generated ones are held against.

Photographs have all sizes. Of each the centred square of its shorter side counts, resized to the
side of the generated pictures by Pillow's bilinear filter with antialiasing; a picture of that size
is taken as it is. Transparency is dropped, as the published programs do. One block of pictures is
in memory at a time; the moments are kept in the cache under the bytes of all files.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.data.pictures import SUFFIXES, decoded, facts, listing, square
from diffgeo.data.pixels import is_of_pictures, layout, read_images
from diffgeo.errors import UsageError
from diffgeo.metrics.features import OfFeatures, batches
from diffgeo.metrics.frechet import Moments, Stream
from diffgeo.metrics.nets import Features
from diffgeo.metrics.statistics import keep, read
from diffgeo.store.caches import cache_folder
from diffgeo.store.digest import of_path

OPTION = "metrics.fid.reference"
Sides = Sequence[int]  # (C, H, W) of the generated pictures


def files_of(folder: Path) -> list[Path]:
    """The image files of a folder. Raises UsageError where there are too few for a distance."""
    files = listing(folder)
    if len(files) < OfFeatures.LEAST:
        raise UsageError(
            f"{OPTION}={folder} holds {len(files)} pictures: write a folder of "
            f"{OfFeatures.LEAST} or more {', '.join(SUFFIXES[:3])} files, or a FILE.npz of moments"
        )
    return files


def check_folder(folder: Path) -> None:
    """Raise UsageError or DiffgeoError where a folder holds no reference: its first file is looked
    at, all others when they are needed."""
    if is_of_pictures(folder):
        facts(files_of(folder)[0])
    else:
        read_images(folder, OPTION)


def cut(files: Sequence[Path], sides: Sides) -> Iterator[Tensor]:
    """The pictures of files, block by block, uint8 [b,C,H,W]. Raises UsageError where the generated
    pictures are not square and a file has another size."""
    channels, height, width = sides
    boxes: list[tuple[int, int, int, int] | None] = []
    for file in files:
        found = facts(file)
        if (found.height, found.width) == (height, width):
            boxes.append(None)
            continue
        if height != width:
            raise UsageError(
                f"{file} is {found.height} x {found.width}, and the pictures are {height} x "
                f"{width}: write a folder of pictures of that size, or make square ones"
            )
        boxes.append(square(found.height, found.width))
    size = height if height == width else None
    for block in decoded(files, channels, boxes, size, "reference", background=None):
        pixels = torch.from_numpy(block)
        yield pixels[:, None] if channels == 1 else pixels.permute(0, 3, 1, 2)


def of_folder(net: Features, folder: Path, sides: Sides) -> Moments:
    """The moments of the features of all pictures in a folder (or of the samples.npy in it), as
    generated pictures of `sides` (C, H, W) see them. Raises UsageError."""
    return _of_folder(net, folder, of_path(folder), tuple(sides))


@cache
def _of_folder(net: Features, folder: Path, content: str, sides: Sides) -> Moments:
    name = hashlib.sha256(f"{content}\n{net.key}\n{sides}".encode()).hexdigest()[:32]
    path = cache_folder() / "statistics" / f"{name}.npz"
    with contextlib.suppress(Exception):  # absent or damaged: computed again
        return read(path)
    stream = Stream()
    for block in blocks(folder, sides):
        for part in batches(net, block):
            stream.add(part)
    found = stream.moments()
    keep(path, found)
    return found


def blocks(folder: Path, sides: Sides) -> Iterator[Tensor]:
    """The pictures of a folder, uint8 [b,C,H,W]. Raises UsageError on a samples.npy of another
    size."""
    if is_of_pictures(folder):
        yield from cut(files_of(folder), sides)
        return
    images = layout(read_images(folder, OPTION, sides[0]))
    if images is None or tuple(images.shape[1:]) != tuple(sides):
        raise UsageError(
            f"{OPTION}={folder}: its samples.npy is not of pictures {list(sides)}: write a folder "
            "of image files, or of samples of that size"
        )
    yield from images.split(256)
