"""Image files to bytes: reading folders and arrays, cropping, resizing, gathering rows.

Every resize is bilinear with antialiasing (the filter widens with the reduction), as Pillow's and
torchvision's default is: of a whole array by torch, of an image file by Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from diffgeo.errors import DiffgeoError, UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# Pillow's modes of one channel; anything else is read as RGB
GREY = ("1", "L", "I", "F", "I;16", "LA")
BLOCK = 256  # images decoded at once


def listing(folder: Path) -> list[Path]:
    """The image files in and below a folder, in the order of their names; hidden files are none."""
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )


def facts(path: Path) -> tuple[int, int, int]:
    """(height, width, channels) of an image file, from its header. Raises DiffgeoError when it
    cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width, 1 if image.mode in GREY else 3
    except OSError as error:
        raise DiffgeoError(
            f"{path} cannot be read as an image: {str(error).splitlines()[0]}"
        ) from error


def decode(
    path: Path, channels: int, box: tuple[int, int, int, int] | None = None, size: int | None = None
) -> np.ndarray:
    """One image as uint8 [H,W], or [H,W,3]: crop to `box` (left, top, right, bottom), then resize
    to size x size. Raises DiffgeoError."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers: save it with 8 or 16 bits")
            if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would saturate
                wide = np.asarray(image).clip(0, 65535).astype(np.uint32)
                image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if box:
                image = image.crop(box)
            if size and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image)
    # Pillow raises each of them on a damaged file
    except (OSError, ValueError, SyntaxError) as error:
        raise DiffgeoError(
            f"{path} cannot be read as an image: {str(error).splitlines()[0]}"
        ) from error


def square(height: int, width: int, side: int | None = None) -> tuple[int, int, int, int]:
    """The box of the centred square of `side` pixels, of the largest one if None."""
    side = side or min(height, width)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


def decoded(
    paths: Sequence[Path],
    channels: int,
    boxes: Sequence | None = None,
    size: int | None = None,
    what: str = "",
) -> Iterator[np.ndarray]:
    """Blocks of images [<=256,H,W(,3)] in order, decoded on every core, with a progress bar on a
    terminal."""
    from tqdm import tqdm

    def one(i: int) -> np.ndarray:
        return decode(paths[i], channels, boxes[i] if boxes else None, size)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(paths), desc=what, unit="image", disable=None) as bar,
    ):
        for first in range(0, len(paths), BLOCK):
            block = list(pool.map(one, range(first, min(first + BLOCK, len(paths)))))
            bar.update(len(block))
            yield np.stack(block)


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


def read_images(path: str | os.PathLike, option: str) -> np.ndarray:
    """uint8 [n,H,W] or [n,H,W,3] from a folder of image files, a folder with samples.npy, a .npy
    (memory-mapped) or a .npz file (its array `images`, `samples` or `arr_0`, or its only one).
    Raises UsageError, naming `option`, on anything else."""
    path = Path(path)
    if path.is_dir() and (path / "samples.npy").is_file():
        path = path / "samples.npy"
    if path.is_dir():
        return read_folder(path, option)
    array = read_bytes(path, option)
    colours = array.shape[3] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or colours not in (1, 3) or not len(array):
        raise UsageError(
            f"{option}={path} has shape {list(array.shape)}; images are [n,H,W], or [n,H,W,3] in "
            "colour"
        )
    return array[..., 0] if array.ndim == 4 and colours == 1 else array


def read_folder(path: Path, option: str) -> np.ndarray:
    """uint8 [n,H,W], or [n,H,W,3] where any is in colour, from a folder of image files of one size.
    Raises UsageError."""
    files = listing(path)
    if not files:
        raise UsageError(
            f"{option}={path} holds no images: write a folder of {', '.join(SUFFIXES[:3])} "
            "files, or one with samples.npy"
        )
    kinds = [facts(file) for file in files]
    height, width, _ = kinds[0]
    for file, kind in zip(files, kinds, strict=True):
        if kind[:2] != (height, width):
            raise UsageError(
                f"{option}={path}: {file.name} is {kind[0]} x {kind[1]}, {files[0].name} is "
                f"{height} x {width}; the images must be of one size"
            )
    channels = max(kind[2] for kind in kinds)
    colours = () if channels == 1 else (3,)
    images = np.empty((len(files), height, width, *colours), np.uint8)
    done = 0
    for block in decoded(files, channels, what=path.name):
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
