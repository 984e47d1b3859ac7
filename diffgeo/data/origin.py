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
        states = hashlib.sha256()
        for file in files:
            states.update(repr([below(top, file), prepared.state(file)]).encode())
        state = states.hexdigest()
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
    for file, content in zip(files, contents, strict=True):
        total.update(repr([below(top, file), content]).encode())
    return total.hexdigest()


def of_file(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def below(top: Path, file: Path) -> str:
    """The name of a file below `top`, of one elsewhere its whole path."""
    return str(file.relative_to(top)) if file.is_relative_to(top) else str(file)
