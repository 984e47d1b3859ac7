"""What a prepared set was made from, by content: the files' names and bytes.

So an image that is replaced by one of equal length and time (unzip, rsync -t) makes another set,
and files that are unpacked again, copied or touched do not. The bytes are not read again while the
state of every file (size, times, number on the disk) is one that they were hashed in before, which
`prepared.remember` keeps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diffgeo.data import prepared
from diffgeo.errors import DiffgeoError


def digest(top: Path, files: Sequence[Path]) -> str:
    """sha256 of the names below `top` and of the contents of files. Raises DiffgeoError where one
    cannot be read."""
    try:
        states = [f"{name}{prepared.state(file)}" for name, file in named(top, files)]
        state = hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()
        found = prepared.known(top, state)
        if found is None:
            found = of_contents(top, files)
            prepared.remember({top: found}, {top: state})
        return found
    except OSError as error:
        raise DiffgeoError(
            f"{error.filename or top} cannot be read as an image: {error.strerror}"
        ) from error


def of_contents(top: Path, files: Sequence[Path]) -> str:
    """sha256 of names and contents, every byte read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = list(pool.map(of_file, files))
    total = hashlib.sha256()
    for (name, _), content in zip(named(top, files), contents, strict=True):
        total.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def of_file(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def named(top: Path, files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Files with their names below `top`; of one elsewhere its whole path."""
    front = f"{top}{os.sep}"
    return [(str(file).removeprefix(front), file) for file in files]
