"""Arrays of bytes: reading folders of pictures and arrays of them, resizing, gathering rows.

Every resize is bilinear with antialiasing (the filter widens with the reduction), as Pillow's and
torchvision's default is: of a whole array by torch, of an image file by Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from diffgeo.data.pictures import SUFFIXES, WHITE, Background, decoded, facts, listing
from diffgeo.errors import UsageError
from diffgeo.store.digest import verified


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 [N,C,H,W] -> uint8 [N,C,size,size], one block of images at a time."""
    if images.shape[2] == images.shape[3] == size:
        return images
    out = torch.empty(len(images), images.shape[1], size, size, dtype=torch.uint8)
    resize = partial(interpolate, size=(size, size), mode="bilinear", antialias=True)
    for part, into in zip(images.split(1024), out.split(1024), strict=True):
        into.copy_(resize(part.contiguous()))
    return out


def layout(array: np.ndarray) -> Tensor | None:
    """uint8 [n,H,W] or [n,H,W,C] as a view [n,C,H,W]; None when it is neither."""
    array = np.require(array, requirements=["C", "W"])  # a copy only of what torch cannot look at
    if array.ndim == 3:
        return torch.from_numpy(array)[:, None]
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return torch.from_numpy(array).permute(0, 3, 1, 2)
    return None


def gather(images: Tensor, rows: Tensor) -> Tensor:
    """images[rows], contiguous; whole rows are copied in the order in which they lie in memory,
    colours last on disk."""
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images.index_select(0, rows).contiguous()
    found = images.permute(0, 2, 3, 1).index_select(0, rows)
    # half of torch's time
    return torch.from_numpy(found.numpy().transpose(0, 3, 1, 2).copy())


class Rows(Dataset):
    """Batches of bytes by row number, for workers: a memory-map is opened in each by its path, so
    that no pixels are sent to them."""

    def __init__(self, images: Tensor, file: Path | None):
        self.images: Tensor | None = images
        self.file = file

    def __getstate__(self):
        return {"images": self.images if self.file is None else None, "file": self.file}

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        if self.images is None:
            assert self.file is not None
            self.images = layout(np.load(self.file, mmap_mode="c", allow_pickle=False))
            assert self.images is not None
        return gather(self.images, torch.from_numpy(rows))


def read_images(
    path: str | os.PathLike,
    option: str,
    channels: int | None = None,
    background: Background = WHITE,
) -> np.ndarray:
    """uint8 [n,H,W] or [n,H,W,3] from a folder of image files, a folder with samples.npy, a .npy
    (memory-mapped) or a .npz file (its array `images`, `samples` or `arr_0`, or its only one).

    channels: what the images shall have, 1 or 3. Three equal channels are one where one is wanted,
        and a grey file is read in colour where colour is; None: as they are.
    background: what lies behind the transparent pixels of files, see `pictures`.
    Raises UsageError, naming `option`, on anything else.
    """
    path = Path(path)
    if is_of_pictures(path):
        return read_folder(path, option, channels, background)
    if path.is_dir():
        path = path / "samples.npy"
    array = read_bytes(verified(path), option)
    colours = array.shape[3] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or colours not in (1, 3) or not len(array):
        raise UsageError(
            f"{option}={path} has shape {list(array.shape)}; images are [n,H,W], or [n,H,W,3] in "
            "colour"
        )
    one = colours == 3 and channels == 1 and has_equal_channels(array)
    return array[..., 0] if array.ndim == 4 and (colours == 1 or one) else array


def is_of_pictures(path: Path) -> bool:
    """Whether `read_images` reads image files there: in a folder without samples.npy."""
    return path.is_dir() and not (path / "samples.npy").is_file()


def has_equal_channels(array: np.ndarray) -> bool:
    """Whether the last axis of [n,H,W,3] holds the same byte three times, everywhere."""
    for first in range(0, len(array), 1024):
        block = array[first : first + 1024]
        if not (block == block[..., :1]).all():
            return False
    return True


def read_folder(
    path: Path, option: str, channels: int | None = None, background: Background = WHITE
) -> np.ndarray:
    """uint8 [n,H,W], or [n,H,W,3], from a folder of image files of one size; without `channels` in
    colour where any is. Raises UsageError."""
    files = listing(path)
    if not files:
        raise UsageError(
            f"{option}={path} holds no images: write a folder of {', '.join(SUFFIXES[:3])} "
            "files, or one with samples.npy"
        )
    kinds = [facts(file, background) for file in files]
    height, width = kinds[0][:2]
    for file, kind in zip(files, kinds, strict=True):
        if kind[:2] != (height, width):
            raise UsageError(
                f"{option}={path}: {file.name} is {kind.height} x {kind.width}, {files[0].name} is "
                f"{height} x {width}; the images must be of one size"
            )
    channels = channels or max(kind.channels for kind in kinds)
    colours = () if channels == 1 else (3,)
    images = np.empty((len(files), height, width, *colours), np.uint8)
    done = 0
    for block in decoded(files, channels, what=path.name, background=background):
        images[done : done + len(block)] = block
        done += len(block)
    return images


def read_bytes(
    path: Path,
    option: str,
    names: Sequence[str] = ("images", "samples", "arr_0"),
    dtype: str = "uint8",
) -> np.ndarray:
    """The array of a .npy file, or the first of `names` in a .npz file; nothing is unpickled.
    Raises UsageError."""
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"{option}={path} is neither a folder nor a .npy or .npz file")
    if not path.is_file():
        raise UsageError(f"{option}={path}: there is no such file")
    try:
        if path.suffix == ".npy":
            held = np.load(path, mmap_mode="c", allow_pickle=False)
        else:
            held = read_archive(path, option, names)
    except UsageError:
        raise
    except Exception as error:  # numpy raises half a dozen kinds on a damaged file
        reason = str(error).splitlines()[0]
        if "pickle" in str(error) or "Python objects" in str(error):
            reason = "it holds Python objects"
        raise UsageError(f"{option}={path} cannot be read as an array: {reason}") from error
    if dtype and str(held.dtype) != dtype:
        raise UsageError(f"{option}={path} holds {held.dtype}; images are uint8, bytes 0..255")
    return held


def read_archive(path: Path, option: str, names: Sequence[str]) -> np.ndarray:
    """The first of `names` in a .npz file, or its only array. Raises UsageError, and what numpy
    raises."""
    with np.load(path, allow_pickle=False) as archive:
        for name in names:
            if name in archive:
                return archive[name]
        if len(archive.files) != 1:
            raise UsageError(
                f"{option}={path} holds {', '.join(archive.files)}; name the array {names[0]}"
            )
        return archive[archive.files[0]]
