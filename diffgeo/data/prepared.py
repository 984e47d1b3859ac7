"""Image sets on disk, prepared once: arrays that are memory-mapped, and a manifest that says what
they must be.

    ROOT/<name>/{train,test}_images.npy     uint8 [n,H,W] or [n,H,W,C]
    ROOT/<name>/{train,test}_labels.npy     integers [n], where the set has classes
    ROOT/<name>/{train,test}_exact.npy      bool [n], where some images are stand-ins
    ROOT/<name>/manifest.json               name, source, licence, classes, and of every array:
                                            shape, dtype, sha256 of its elements

The manifest is written last: a folder without one is unfinished. A reader compares shape and dtype
always, and the hash where the file was not hashed before in its present state (`state`), which a
small file in $DIFFGEO_CACHE remembers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.store.caches import at_home, cache_folder, user_caches
from diffgeo.store.files import read_json, write_json
from diffgeo.store.npy import rows

SPLITS = ("train", "test")
PARTS = ("images", "labels", "exact")
BLOCK = 1 << 24  # bytes hashed or copied at once
# larger arrays are hashed by `data check` alone: a second of CPU is half a gigabyte
EAGER = 1 << 29


class Split(NamedTuple):
    """One split as arrays: images uint8 [n,H,W(,C)], labels [n] or None, exact bool [n] or None."""

    images: np.ndarray
    labels: np.ndarray | None = None
    exact: np.ndarray | None = None


class Blocks(NamedTuple):
    """An array that is made block after block along its first axis."""

    shape: tuple[int, ...]
    blocks: Iterable[np.ndarray]
    dtype: str = "uint8"


def data_root(root: str | os.PathLike | None = None) -> Path:
    """`root`, else $DIFFGEO_DATA, else ${XDG_CACHE_HOME:-~/.cache}/diffgeo/data. Raises UsageError
    where what was named is a file."""
    option = "data.root" if root else "DIFFGEO_DATA"
    named = root or os.environ.get("DIFFGEO_DATA")
    if not named:
        return user_caches() / "diffgeo" / "data"
    chosen = at_home(named, option)
    if chosen.exists() and not chosen.is_dir():
        raise UsageError(f"{option}={named} is a file: write the folder of the prepared sets")
    return chosen


def digest(array: np.ndarray) -> str:
    """sha256 of the elements in C order, in blocks: a memory-map is not loaded."""
    content = hashlib.sha256()
    rows = max(1, BLOCK // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        content.update(np.ascontiguousarray(array[first : first + rows]).data)
    return content.hexdigest()


def entry(array: np.ndarray, sha256: str | None = None) -> dict:
    """What a manifest says of an array."""
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": sha256 or digest(array),
    }


def manifest_of(folder: Path) -> dict | None:
    """The manifest of a prepared folder; None where there is none. Raises DiffgeoError when it
    cannot be read."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not is_manifest(manifest):
        raise DiffgeoError(
            f"{path} is not a manifest of images: remove it, and prepare the set again"
        )
    return manifest


def is_manifest(found: object) -> bool:
    """Whether what a JSON file holds says what a manifest must say."""
    if not isinstance(found, dict):
        return False
    arrays = found.get("arrays")
    if not isinstance(arrays, dict) or "train_images" not in arrays:
        return False
    for told in arrays.values():
        if not isinstance(told, dict) or not {"shape", "dtype", "sha256"} <= set(told):
            return False
    return type(found.get("name")) is str and type(found.get("classes")) is int


def classes_of(labels: Iterable[np.ndarray]) -> int:
    """How many classes the labels of all splits are of: one more than the largest; 0 of none."""
    return max((int(some.max()) + 1 for some in labels), default=0)


def write(folder: Path, arrays: Mapping[str, Blocks], **facts) -> dict:
    """Write a set into `folder`, its arrays, the training images last, then its manifest with
    `facts`; returns the manifest. When it fails, nothing is there that was not there before."""
    paths = {name: folder / f"{name}.npy" for name in arrays}
    new = [path for path in paths.values() if not path.exists()]
    entries = {}
    try:
        for name in sorted(arrays, key=lambda name: name == "train_images"):
            entries[name] = write_array(paths[name], arrays[name])
        manifest = {**facts, "arrays": entries}
        write_json(folder / "manifest.json", manifest)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    return manifest


def write_array(path: Path, array: Blocks) -> dict:
    """Write an array as it is made; returns what the manifest says of it."""
    shape, blocks, dtype = array
    content = hashlib.sha256()
    done = 0
    with rows(path, shape, dtype) as append:
        for block in blocks:
            content.update(append(block).data)
            done += len(block)
        if done != shape[0]:
            raise DiffgeoError(
                f"{path}: {done} of {shape[0]} entries could be made; is the source complete?"
            )
    return {"shape": list(shape), "dtype": dtype, "sha256": content.hexdigest()}


def unpacked(folder: Path) -> bool:
    """Whether the arrays of a set lie in `folder`, with a manifest or without: `write` makes the
    training images last."""
    return (folder / "train_images.npy").is_file()


def seal(folder: Path, **facts) -> dict:
    """The manifest of arrays that somebody unpacked into `folder`; written where the folder can
    be."""
    arrays = {}
    for split in SPLITS:
        for part in PARTS:
            path = folder / f"{split}_{part}.npy"
            if path.is_file():
                arrays[path.stem] = opened(path)
    for split in SPLITS:
        check_lengths(folder, split, *(arrays.get(f"{split}_{part}") for part in PARTS))
    entries = {name: entry(array) for name, array in arrays.items()}
    manifest = {**facts, "arrays": entries}
    with contextlib.suppress(DiffgeoError):  # a folder that is not ours to write
        write_json(folder / "manifest.json", manifest)
    remember({folder / f"{name}.npy": told["sha256"] for name, told in entries.items()})
    return manifest


def again(folder: Path, manifest: dict) -> str:
    """The command that prepares a set anew."""
    command = f"diffgeo data prepare {manifest['name']} data.root={folder.parent}"
    for option in ("path", "size", "crop", "background", "column", "label"):
        value = manifest.get(option)
        if isinstance(value, list):
            command += f" 'data.{option}={value}'"
        elif value is not None:
            command += f" data.{option}={value}"
    return command


def opened(path: Path, manifest: dict | None = None) -> np.ndarray:
    """A .npy file as a memory-map whose pages are private to us. Raises DiffgeoError on a missing,
    short or foreign file."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        command = f" with `{again(path.parent, manifest)}`" if manifest else ""
        raise DiffgeoError(f"{path} is missing: prepare the set again{command}") from None
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        if "mmap length" in str(error):
            reason = "it is shorter than its header says"
        raise DiffgeoError(
            f"{path} cannot be read: {reason}; remove it and prepare the set again"
        ) from error


def check_lengths(folder: Path, split: str, images, labels, exact) -> None:
    """Raise DiffgeoError unless the arrays of a split are images, and labels and flags of the same
    number."""
    if images is not None and (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or not images.size
        or (images.ndim == 4 and images.shape[3] not in (1, 3))
    ):
        raise DiffgeoError(
            f"{folder / split}_images.npy holds {images.dtype} {list(images.shape)}; images are "
            "uint8 [n,H,W] or [n,H,W,3]"
        )
    for part, array in (("labels", labels), ("exact", exact)):
        if array is not None and (images is None or array.shape != (len(images),)):
            raise DiffgeoError(
                f"{folder / split}_{part}.npy holds {list(array.shape)} entries for "
                f"{0 if images is None else len(images)} images; they must be as many"
            )


def read(folder: Path, manifest: dict, split: str) -> Split | None:
    """One split, memory-mapped and held against the manifest; None where the set has no such split.
    Raises DiffgeoError."""

    def part(name: str) -> np.ndarray | None:
        held = f"{split}_{name}" in manifest["arrays"]
        return verified(folder, manifest, f"{split}_{name}") if held else None

    images = part("images")
    if images is None:
        return None
    found = Split(images, part("labels"), part("exact"))
    check_lengths(folder, split, *found)
    return found


def verified(folder: Path, manifest: dict, name: str, always: bool = False) -> np.ndarray:
    """One array, compared with its manifest: shape and dtype, and the hash where that is cheap, or
    not known, or `always`."""
    path = folder / f"{name}.npy"
    wanted = manifest["arrays"][name]
    array = opened(path, manifest)
    if list(array.shape) != wanted["shape"] or str(array.dtype) != wanted["dtype"]:
        raise DiffgeoError(
            f"{path} holds {array.dtype} {list(array.shape)}, its manifest says {wanted['dtype']} "
            f"{wanted['shape']}: prepare the set again, or remove manifest.json if you changed the "
            "file"
        )
    if always or (array.nbytes <= EAGER and known(path) != wanted["sha256"]):
        found = digest(array)
        if found != wanted["sha256"]:
            raise DiffgeoError(
                f"{path} is corrupt: its sha256 is {found[:12]}..., its manifest says "
                f"{wanted['sha256'][:12]}...; prepare the set again, or remove manifest.json if "
                "you changed the file"
            )
        remember({path: found})
    return array


def check(folder: Path, manifest: dict) -> Iterator[tuple[str, dict]]:
    """Hash every array of the set and yield (name, entry) for each that is right. Raises
    DiffgeoError at the first that is not."""
    for name, wanted in manifest["arrays"].items():
        verified(folder, manifest, name, always=True)
        yield name, wanted
    for split in SPLITS:
        read(folder, manifest, split)


def state(path: Path) -> list[int]:
    """What tells whether a file has changed: its size, time of writing, number on the disk, and
    time of any change, which nobody can set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def _hashes() -> dict:
    try:
        held = json.loads((cache_folder() / "hashes.json").read_text(encoding="utf-8"))
        return held if isinstance(held, dict) else {}
    except (OSError, ValueError):
        return {}


def known(path: Path, now: object = None) -> str | None:
    """The sha256 of a file that was hashed before and has not changed since; None otherwise. now:
    its state, where `state` is not what tells."""
    held = _hashes().get(str(path.resolve()))
    if isinstance(held, dict) and held.get("state") == (now or state(path)):
        return held["sha256"]
    return None


def remember(found: Mapping[Path, str], states: Mapping[Path, str] | None = None) -> None:
    """Note hashes of files in their present state, or in `states`; a cache that cannot be written
    is no cache."""
    held = {path: value for path, value in _hashes().items() if os.path.exists(path)}
    for path, sha256 in found.items():
        now = states[path] if states else state(path)
        held[str(path.resolve())] = {"state": now, "sha256": sha256}
    with contextlib.suppress(DiffgeoError):
        write_json(cache_folder() / "hashes.json", held)
