"""What a line of `diffgeo data ...` asks for: a set of images, where it lies, its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.config.nearest import advice
from diffgeo.config.words import TRUTH, WORD, Reader, options, whole
from diffgeo.data.prepared import data_root
from diffgeo.data.sets import SOURCES, source
from diffgeo.errors import UsageError


def side(text: str) -> int:
    """A number of pixels. Raises ValueError on none."""
    count = whole(text)
    if count < 1:
        raise ValueError(text)
    return count


def crop(text: str) -> int | str:
    """A number of pixels, or the name of a published crop."""
    return int(text) if text.isdigit() else text


def background(text: str) -> str | list[int]:
    """A name, or bytes as [255,128,0]."""
    text = unquoted(text)
    if not text.startswith("["):
        return text
    return [int(byte) for byte in text.strip("[]").split(",")]


def unquoted(text: str) -> str:
    return text.strip("'\"")


READERS = {
    "root": Reader(unquoted, "a path"),
    "path": Reader(unquoted, "a path"),
    "file": Reader(unquoted, "a path"),
    "labels": Reader(unquoted, "a path"),
    "column": Reader(unquoted, "the name of a column"),
    "label": Reader(unquoted, "the name of a column"),
    "size": Reader(side, "a whole number of pixels from 1, such as 64"),
    "crop": Reader(crop, WORD.what),
    "background": Reader(background, "white, black, drop, or bytes as [255,128,0]"),
    "download": TRUTH,
}


def given(command: str, line: Sequence[str], takes: Sequence[str]) -> dict:
    """`data.size=64 ...` as {"size": 64, ...}."""
    return options(command, line, {key: READERS[key] for key in takes}, prefix="data.")


def root_of(command: str, line: Sequence[str]) -> Path:
    """The root that a line without a name gives."""
    return data_root(given(command, line, ("root",)).get("root"))


def named(command: str, line: Sequence[str], takes: Sequence[str]):
    """The source that `NAME data.key=value ...` names, the root, and the other options. Raises
    UsageError on a name that there is not."""
    name = line[0].removeprefix("data=") if line else ""
    if name.startswith("data."):
        name = ""  # an option where the set is to be named
    if name not in SOURCES:
        if not name:
            raise UsageError(f"which set? write one of {', '.join(SOURCES)}")
        raise UsageError(f"there is no set {name}{advice(name, SOURCES, '`diffgeo data list`')}")
    found = given(command, line[1:], takes)
    root = data_root(found.pop("root", None))
    download = found.pop("download", True)
    return source(name, **found), root, download


def shown(name: str, entry: Mapping) -> str:
    """One array of a manifest on a line: dtype, shape and the beginning of its digest."""
    shape = "x".join(map(str, entry["shape"]))
    return f"  {name:<13} {entry['dtype']} {shape}  sha256 {entry['sha256'][:16]}..."


def size_of(count: int) -> str:
    """Bytes as a person reads them."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
