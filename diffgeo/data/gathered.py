"""Sets that are gathered from pictures of any size, wherever these lie (a folder, archives, a
table): of each a centred square, then size x size, prepared once.

Such a set is prepared under a name that is made from the content of its files and from its options,
so that one which has changed is prepared again.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from diffgeo.data import pictures
from diffgeo.data.inside import Picture
from diffgeo.data.prepared import Blocks
from diffgeo.data.sources import Prepared
from diffgeo.errors import UsageError
from diffgeo.store.caches import at_home

Part = TypeVar("Part")

TEST = {"test"}
VALIDATION = {"val", "valid", "validation", "dev"}


def hashed(text: str, digits: int) -> str:
    """The first hexadecimal digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def check_side(option: str, side: object) -> None:
    """Raise UsageError unless `side` is a number of pixels."""
    if type(side) is not int or not 1 <= side < 1 << 16:
        raise UsageError(f"data.{option}={side}: write a whole number of pixels from 1, such as 64")


def split_of(name: str) -> str:
    """The split that a name tells of, by one of its words: imagenet-val-000.tar is validation."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & TEST:
        return "test"
    return "validation" if words & VALIDATION else "train"


def two_splits(parts: Mapping[str, Part]) -> dict[str, Part]:
    """train, and test: what is called validation stands for it where there is no test."""
    chosen = {"train": parts.get("train"), "test": parts.get("test", parts.get("validation"))}
    return {split: part for split, part in chosen.items() if part is not None}


@dataclass(frozen=True)
class Gathered(Prepared):
    """A set of pictures, cut to squares of one size.

    path: what holds them.
    size: side to resize to. crop: side of the square that is cut out; None: the largest.
    background: what lies behind transparent pixels: white, black, [r,g,b], or drop (see
        `pictures`).
    """

    path: str | None = None
    size: int | None = None
    crop: int | None = None
    background: str | Sequence[int] = "white"

    holds = "a folder of images"  # what data.path= has to be

    def __post_init__(self):
        if self.size is not None:
            check_side("size", self.size)
        if self.crop is not None:
            check_side("crop", self.crop)
        pictures.background_of(self.background, "data.background")

    @property
    @abstractmethod
    def content(self) -> str:
        """A digest of the files that the set is made of. Raises UsageError where there are none."""

    @property
    @abstractmethod
    def found(self) -> Mapping[str, Sequence[Picture]]:
        """The pictures of each split that has any, `train` among them. Raises UsageError."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, np.ndarray]:
        """Their labels, int64 [n], of each split that has some. Raises UsageError."""

    @property
    @abstractmethod
    def class_count(self) -> int:
        """How many classes there are; 0 where there are no labels."""

    @property
    def behind(self) -> pictures.Background:
        """What lies behind transparent pixels."""
        return pictures.background_of(self.background, "data.background")

    @cached_property
    def top(self) -> Path:
        """The folder that holds all."""
        if self.path is None:
            raise UsageError(
                f"data={self.name}: write data.path=FOLDER, {self.holds}, and data.size=SIDE"
            )
        try:
            return at_home(self.path, "data.path").resolve()
        except (OSError, RuntimeError) as error:  # a link to itself
            raise UsageError(
                f"data.path={self.path} cannot be followed: write {self.holds}"
            ) from error

    def options(self) -> list[object]:
        """What the pictures depend on beside the content of the files."""
        return [self.size, self.crop, self.behind]

    def folder(self, root: Path) -> Path:
        return root / f"{self.name}_{hashed(repr([self.content, *self.options()]), 12)}"

    def facts(self) -> dict:
        own = {
            "path": self.path,
            "size": self.size,
            "crop": self.crop,
            "background": self.background,
            "classes": self.class_count,
        }
        return super().facts() | own

    def arrays(self, root: Path, download: bool) -> dict[str, Blocks]:
        found = self.found
        kinds = {
            split: [pictures.facts(picture, self.behind) for picture in some]
            for split, some in found.items()
        }
        channels = max(kind.channels for some in kinds.values() for kind in some)
        side = self.side(kinds)
        arrays = {}
        for split, some in found.items():
            boxes = [pictures.square(*kind[:2], self.crop) for kind in kinds[split]]
            what = f"{self.name} {split}"
            shape = (len(some), side, side) if channels == 1 else (len(some), side, side, 3)
            images = pictures.decoded(some, channels, boxes, side, what, self.behind)
            arrays[f"{split}_images"] = Blocks(shape, images)
        for split, labels in self.numbers.items():
            arrays[f"{split}_labels"] = Blocks((len(labels),), [labels], "int64")
        return arrays

    def side(self, kinds: Mapping[str, Sequence[pictures.Facts]]) -> int:
        """The side that the images get. Raises UsageError where none is given and they have none in
        common, and where they are too small for the crop."""
        sizes = {kind[:2] for some in kinds.values() for kind in some}
        side = self.size or self.crop
        if side is None and len(sizes) == 1:
            height, width = next(iter(sizes))
            side = height if height == width else None
        if side is None:
            raise UsageError(
                f"data.path={self.path} holds images of several sizes, or none square: write "
                "data.size=64, or another side"
            )
        if self.crop is not None:
            self.check_crop(kinds, self.crop)
        return side

    def check_crop(self, kinds: Mapping[str, Sequence[pictures.Facts]], crop: int) -> None:
        """Raise UsageError where a picture is smaller than what is cut out of it."""
        all_kinds = [kind for some in kinds.values() for kind in some]
        all_found = [picture for some in self.found.values() for picture in some]
        smallest = min(range(len(all_kinds)), key=lambda i: min(all_kinds[i][:2]))
        height, width = all_kinds[smallest][:2]
        if crop > min(height, width):
            raise UsageError(
                f"data.crop={crop} is larger than {all_found[smallest]}, {height} x {width}: write "
                f"data.crop={min(height, width)} or less, or null for the largest square of each"
            )
