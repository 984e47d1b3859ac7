"""A folder of tar shards in WebDataset's layout: data=webdataset data.path=FOLDER.

    shard-000000.tar:   000000.png  000000.cls  000001.png  000001.cls ...

Files of one name up to its first dot are one sample: a picture (.png, .jpg, ..., or .npy of bytes
[H,W] or [H,W,3]), and in .cls its class, a whole number. Other files (.json, .txt) are passed over.
The shards in the folders train and test are the splits, or those whose names have the words test
and val in them.

Shards are data of somebody's: they are read where they lie and nothing is unpacked to the disk. A
shard with links, devices, names that lead out of a folder, or members beyond its end is refused as
a whole, and so is a compressed one, whose size nobody knows beforehand.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffgeo.data import origin, prepared
from diffgeo.data.gathered import Gathered, split_of, two_splits
from diffgeo.data.inside import Inside
from diffgeo.data.pictures import SUFFIXES
from diffgeo.errors import DiffgeoError, UsageError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
PICTURES = (*SUFFIXES, ".npy")
LARGEST = 1 << 28  # bytes of a picture
MOST = 1_000_000  # members of a shard
DIGITS = 6  # of a class, at most


class Member(NamedTuple):
    """A file in a shard: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int

    @property
    def sample(self) -> str:
        """What its name is up to the first dot of its last part."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]

    @property
    def ending(self) -> str:
        """The rest of it."""
        return self.name.removeprefix(self.sample).lower()


def read(shard: Path, member: Member) -> bytes:
    """The bytes of a member."""
    with shard.open("rb") as stream:
        stream.seek(member.offset)
        return stream.read(member.size)


def members(shard: Path) -> Iterator[Member]:
    """The files in a shard, in its order. Raises DiffgeoError on what no shard has."""
    total = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            for number, entry in enumerate(archive):
                if number >= MOST:
                    raise ValueError(f"it has more than {MOST} members")
                check(entry, total)
                if entry.isreg():
                    yield Member(entry.name, entry.offset_data, entry.size)
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DiffgeoError(f"{shard} is no shard of pictures: {reason}") from error


def check(entry: tarfile.TarInfo, total: int) -> None:
    """Raise ValueError on a member that a shard of `total` bytes has no use for."""
    shown = repr(entry.name if len(entry.name) <= 80 else entry.name[:77] + "...")
    if not entry.name.isprintable() or entry.name.startswith("/"):
        raise ValueError(f"{shown} is no plain name")
    if ".." in entry.name.split("/"):
        raise ValueError(f"{shown} leads out of its folder")
    if entry.isdir():
        return
    if not entry.isreg() or entry.issparse():
        raise ValueError(f"{shown} is a link, a device or a file with holes; write plain files")
    if entry.size < 0 or entry.offset_data + entry.size > total:
        raise ValueError(f"{shown} ends beyond the end of the file")


class Sample(NamedTuple):
    """A picture of a shard, and its class, if it has one."""

    picture: Inside
    label: int | None


def samples(shard: Path) -> list[Sample]:
    """The samples of a shard, in its order. Raises DiffgeoError."""
    pictures: dict[str, Member] = {}
    classes: dict[str, int] = {}
    for member in members(shard):
        if member.ending.endswith(PICTURES):
            if member.sample in pictures:
                raise DiffgeoError(
                    f"{shard} has two pictures of the sample {member.sample}, {member.name} the "
                    "second: write one each"
                )
            if member.size > LARGEST:
                raise DiffgeoError(
                    f"{shard}: {member.name} has {member.size} bytes, more than {LARGEST}"
                )
            pictures[member.sample] = member
        elif member.ending == ".cls":
            classes[member.sample] = class_of(shard, member)
    found = []
    for name, member in pictures.items():
        picture = Inside(shard, member.name, partial(read, shard, member))
        found.append(Sample(picture, classes.get(name)))
    return found


def class_of(shard: Path, member: Member) -> int:
    """The number in a .cls file. Raises DiffgeoError."""
    text = read(shard, member).strip() if member.size <= DIGITS + 2 else b""
    if not text.isdigit() or len(text) > DIGITS:
        raise DiffgeoError(
            f"{shard}: {member.name} holds no class, a whole number of at most {DIGITS} digits"
        )
    return int(text)


@dataclass(frozen=True)
class Shards(Gathered):
    """The pictures of all shards in and below a folder, in the order of the shards' names."""

    name: str = "webdataset"
    licence: str = "yours"
    about: str = "data.path=FOLDER of .tar shards, data.size=SIDE"
    source: str = "tar shards of the user"
    holds = "a folder of .tar shards"

    @cached_property
    def shards(self) -> list[Path]:
        """The files, sorted by name. Raises UsageError where there are none."""
        files = [path for path in sorted(self.top.rglob("*")) if path.is_file()]
        for path in files:
            if path.name.lower().endswith(COMPRESSED):
                raise UsageError(f"data.path={self.path}: {path.name} is compressed: write .tar")
        found = [path for path in files if path.suffix.lower() == ".tar"]
        if not found:
            raise UsageError(
                f"data.path={self.path} holds no .tar shards: write a folder of them, or data="
                "folder for one of pictures"
            )
        return found

    @property
    def content(self) -> str:
        return origin.digest(self.top, self.shards)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """The samples of each split that has any."""
        parts: dict[str, list[Sample]] = {}
        for shard in self.shards:
            split = split_of(str(shard.relative_to(self.top)))
            parts.setdefault(split, []).extend(samples(shard))
        found = {split: some for split, some in two_splits(parts).items() if some}
        if "train" not in found:
            raise UsageError(
                f"data.path={self.path}: no shard holds pictures to train on (.png, .jpg, .npy, "
                "...); shards named test or val are the test split"
            )
        return found

    @property
    def found(self) -> dict[str, list[Inside]]:
        return {split: [one.picture for one in some] for split, some in self.samples.items()}

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        labels = {}
        for split, some in self.samples.items():
            lacking = [one.picture for one in some if one.label is None]
            if len(lacking) == len(some):
                continue
            if lacking:
                raise UsageError(
                    f"{lacking[0]} has no .cls, as others of data.path={self.path} have: write one "
                    "for each, or for none"
                )
            labels[split] = np.asarray([one.label for one in some], np.int64)
        return labels

    @property
    def class_count(self) -> int:
        return prepared.classes_of(self.numbers.values())
