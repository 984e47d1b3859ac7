"""Image files, read as a viewer shows them: found, looked at, decoded to bytes.

    orientation   a picture lies as its EXIF says
    alpha         what is transparent is composited on a background, white unless another is asked
                  for; None drops alpha and shows the colours below it, as pytorch-fid and
                  torch-fidelity do
    16 bits       p of 0..65535 becomes p/257 rounded (of colours Pillow keeps the upper 8 bits)
    CMYK          becomes RGB by Pillow's formula; colour profiles are not applied

A picture is grey when its file has one channel or a palette of greys; one of three equal channels
counts as grey where grey images are wanted. Refused are several pictures in one file (animations,
TIFF pages; of a stereo photograph the first counts), floating-point and 32-bit pixels, and more
pixels than `MOST`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from diffgeo.data.inside import Picture
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.store import npy

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# what a file may be, whatever its name: Pillow would hand PostScript to another program
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
# Pillow's modes of one channel; a palette ("P", "PA") is looked at, anything else is read as RGB
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
MOST = 89_478_485  # pixels of a picture: Pillow warns of a decompression bomb above it
BLOCK = 256  # images decoded at once

ORIENTATION = 0x0112  # of EXIF and TIFF
PHOTOMETRIC = 0x0106  # of TIFF: 0, white is zero

Background = tuple[int, int, int] | None  # None: alpha is dropped
WHITE = (255, 255, 255)
BACKGROUNDS: dict[str, Background] = {"white": WHITE, "black": (0, 0, 0), "drop": None}


class Facts(NamedTuple):
    """What the header of a picture says: its size as it is shown, the channels that it is read
    with, and whether it has alpha."""

    height: int
    width: int
    channels: int
    alpha: bool


def background_of(value: object, option: str) -> Background:
    """What `option` says lies behind transparent pixels: white, black, [r,g,b] of bytes, or drop.
    Raises UsageError."""
    if isinstance(value, str) and value in BACKGROUNDS:
        return BACKGROUNDS[value]
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        if all(type(byte) is int and 0 <= byte <= 255 for byte in value):
            red, green, blue = value
            return red, green, blue
    raise UsageError(f"{option}={value}: write {', '.join(BACKGROUNDS)}, or bytes as [255,128,0]")


def said_of(background: Background) -> str:
    """What became of alpha, in words."""
    if background is None:
        return "dropped, as pytorch-fid does"
    names = {colour: name for name, colour in BACKGROUNDS.items()}
    return f"composited on {names.get(background, list(background))}"


def listing(folder: Path) -> list[Path]:
    """The image files in and below a folder, in the order of their names; none where there is no
    such folder. Links are followed, what is hidden is left out. Raises DiffgeoError on a folder
    that cannot be read, and on one that holds itself."""

    def stop(error: OSError) -> None:
        raise DiffgeoError(f"{error.filename or folder} cannot be read: {error.strerror}")

    if not folder.is_dir():
        return []
    found = []  # as strings: there may be hundreds of thousands, and paths compare slowly
    above: dict[str, frozenset] = {}  # folder -> it and the folders that it lies in
    for place, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        status = os.stat(place)
        own = (status.st_dev, status.st_ino)
        outer = above.get(os.path.dirname(place), frozenset())
        if own in outer:
            raise DiffgeoError(f"{place} is a link to a folder that it lies in: remove the link")
        above[place] = outer | {own}
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append(os.path.join(place, name))
    found.sort(key=lambda path: path.split(os.sep))
    return [Path(path) for path in found]


def has_alpha(folder: Path) -> bool:
    """Whether any picture in a folder has alpha."""
    return any(facts(file).alpha for file in listing(folder))


@contextmanager
def opened(path: Picture) -> Iterator[Image.Image]:
    """An image file, its header read. Raises DiffgeoError, naming the file, on what is none, on
    several pictures and too large ones, and where the block finds that it is damaged."""
    from PIL import Image

    quiet()
    try:
        if not path.is_file():
            raise ValueError("it is no file" if path.exists() else "there is no such file")
        # of a path Pillow would map the file into memory, and misread some TIFF files on their side
        with path.open("rb") as stream, image_in(stream, path.name) as image:
            if image.width * image.height > MOST:
                raise ValueError(f"it has more than {MOST} pixels: make it smaller")
            if image.format != "MPO" and has_another(image):
                raise ValueError("it holds several pictures: save each as a file of its own")
            yield image
    except UsageError:
        raise
    except Image.UnidentifiedImageError:
        reason = f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        raise DiffgeoError(f"{path} cannot be read as an image: {reason}") from None
    except Exception as error:  # Pillow raises a dozen kinds on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DiffgeoError(f"{path} cannot be read as an image: {reason}") from error


def image_in(stream: BinaryIO, name: str) -> Image.Image:
    """The picture in the bytes of a file, or of an array of bytes where its name ends in .npy.
    Raises what Pillow raises, ValueError on an array that is no picture."""
    from PIL import Image

    if not name.lower().endswith(".npy"):
        return Image.open(stream, formats=FORMATS)
    array = npy.parsed(stream.read())
    colours = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or colours not in (1, 3):
        raise ValueError(
            f"it holds {array.dtype} {list(array.shape)}: write uint8 [H,W] or [H,W,3]"
        )
    if not array.size:
        raise ValueError("it has no pixels")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


@cache
def quiet() -> None:
    """No more words of Pillow's own: they are of what is refused here, or of what a viewer passes
    over too."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def has_another(image: Image.Image) -> bool:
    """Whether a file holds a second picture."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def facts(path: Picture, background: Background = WHITE) -> Facts:
    """Size, channels and alpha of an image file, from its header. Raises DiffgeoError when it
    cannot be read."""
    with opened(path) as image:
        height, width = image.height, image.width
        # lies on its side; Pillow turns a TIFF by itself
        if image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):
            height, width = width, height
        alpha = image.has_transparency_data
        grey = is_grey(image) and not (alpha and background and len(set(background)) > 1)
        return Facts(height, width, 1 if grey else 3, alpha)


def is_grey(image: Image.Image) -> bool:
    """Whether the file of a picture has one channel, or a palette of greys."""
    if image.mode not in ("P", "PA"):
        return image.mode in GREY
    palette = np.asarray(image.getpalette() or [], np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def decode(
    path: Picture,
    channels: int,
    box: tuple[int, int, int, int] | None = None,
    size: int | None = None,
    background: Background = WHITE,
) -> np.ndarray:
    """One image as uint8 [H,W], or [H,W,3]: crop to `box` (left, top, right, bottom), then resize
    to size x size. Raises DiffgeoError where it cannot be read, UsageError where it is in colour
    and one channel is asked for."""
    from PIL import Image

    with opened(path) as file:
        file.load()
        image = turned(shown(file, background), file.getexif().get(ORIENTATION, 1))
        if channels == 3:
            image = image.convert("RGB")
        elif is_grey(image):
            image = image.convert("L")
        else:
            image = equal_channels(image.convert("RGB"), path)
        if box:
            image = image.crop(box)
        if size and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image)


def shown(image: Image.Image, background: Background) -> Image.Image:
    """A picture of 8 bits without alpha. Raises ValueError on pixels that are no 8 or 16 bits."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return eight_bits(image)
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    if background is None:
        return colours.convert("RGB")
    behind = Image.new("RGBA", colours.size, (*background, 255))
    return Image.alpha_composite(behind, colours).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits as one of 8, p/257 rounded: Pillow's own conversion would saturate.
    Raises ValueError on 32 bits, and on a transparent grey."""
    from PIL import Image

    if "transparency" in image.info:
        raise ValueError("one of its 16-bit greys is transparent: save it with 8 bits")
    tags = image.getexif() if image.format == "TIFF" else {}
    bits = tags.get(0x0102, 16)
    if image.mode == "I" and image.format not in ("PPM", "PNG"):
        raise ValueError("its pixels are signed or of 32 bits: save it with 8 or 16 bits")
    if bits not in (16, (16,)):
        raise ValueError(f"its pixels are of {bits} bits: save it with 8 or 16 bits")
    wide = np.asarray(image).astype(np.uint32)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow passes over
        wide = 65535 - wide
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """A picture as its EXIF orientation says that it lies: 1 as it is, 6 a quarter to the right."""
    from PIL.Image import Transpose

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    method = methods.get(orientation)
    return image if method is None else image.transpose(method)


def equal_channels(image: Image.Image, path: Picture) -> Image.Image:
    """The one channel of an RGB picture whose three are equal. Raises UsageError where they are
    not."""
    red, green, blue = image.split()
    if red.tobytes() != green.tobytes() or red.tobytes() != blue.tobytes():
        raise UsageError(
            f"{path} is in colour, and the images wanted are grey: write a data= in colour, or "
            "save grey images"
        )
    return red


def square(height: int, width: int, side: int | None = None) -> tuple[int, int, int, int]:
    """The box of the centred square of `side` pixels, of the largest one if None."""
    side = side or min(height, width)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


def decoded(
    paths: Sequence[Picture],
    channels: int,
    boxes: Sequence | None = None,
    size: int | None = None,
    what: str = "",
    background: Background = WHITE,
) -> Iterator[np.ndarray]:
    """Blocks of images [<=256,H,W(,3)] in order, decoded on every core, with a progress bar on a
    terminal."""

    def one(i: int) -> np.ndarray:
        return decode(paths[i], channels, boxes[i] if boxes else None, size, background)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress.bar(len(paths), what, "image") as bar,
    ):
        for first in range(0, len(paths), BLOCK):
            block = list(pool.map(one, range(first, min(first + BLOCK, len(paths)))))
            bar.update(len(block))
            yield np.stack(block)
