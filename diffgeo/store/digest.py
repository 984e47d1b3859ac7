"""Digests: what was written, told from what is read.

    *.safetensors      carry the digest of their tensors and of what is said of them (`checkpoint`)
    provenance.json    "files" holds the digest of every file of numbers in a finished run folder;
                       "inputs" that of what the run was made from, by option

`verified` compares a file with what its run folder says of it. A folder without provenance.json, of
an older diffgeo or not finished, is taken as it is. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from diffgeo.errors import DiffgeoError

PROVENANCE = "provenance.json"
# pictures are made anew from these
NUMBERS = (".npy", ".json", ".jsonl", ".yaml", ".csv", ".safetensors")
# written last; and four times as large as the weights, with a digest of its own inside
NOT_LISTED = (PROVENANCE, "metrics.json", "state.safetensors")
# whose code is not looked at file by file
LIBRARIES = ("diffgeo", "torch", "torchvision", "numpy", "scipy", "diffusers", "transformers")
TICK = 1.0  # seconds within which a file may change without another time of change

_known: dict[tuple, str] = {}  # what a file was when it was read -> its digest


def of_bytes(*parts: bytes | memoryview) -> str:
    """The sha256 of some bytes, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def of_file(path: str | os.PathLike) -> str:
    """The sha256 of a file's bytes, read once a process while it does not change. Raises
    OSError."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if key not in _known:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time() - status.st_mtime < TICK:
                return found
            _known[key] = found
        return _known[key]


def of_path(path: Path) -> str:
    """Of a file; of the samples that a folder holds; of any other folder by the names and the bytes
    of all its files. Raises OSError."""
    if path.is_file():
        return of_file(path)
    if (path / "samples.npy").is_file():
        return of_file(path / "samples.npy")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return of_bytes(*(f"{file.name} {of_file(file)}\n".encode() for file in files))


def of_package(folder: Path) -> str:
    """The sha256 of a package of code: the names and the bytes of its files, but for what Python
    and editors leave there. Raises OSError."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
        if not hidden and path.suffix != ".pyc" and path.is_file():
            lines.append(f"{name} {of_file(path)}\n".encode())
    return of_bytes(*lines)


@cache
def of_code(kind: type) -> str:
    """The sha256 of the code that a class of somebody else's is part of: its whole package, or its
    module where that stands alone, or its own source (in a notebook). "" for a class of ours or of
    a library, whose version is noted elsewhere."""
    top = kind.__module__.partition(".")[0]
    if top in LIBRARIES or top in sys.stdlib_module_names - {"__main__"}:
        return ""
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None or top == "__main__":
        import inspect

        with suppress(OSError, TypeError):
            return of_bytes(inspect.getsource(kind).encode())
        return of_bytes(f"{kind.__module__}.{kind.__qualname__}".encode())
    path = Path(file)
    return of_package(path.parent) if path.name == "__init__.py" else of_file(path)


def of_folder(folder: Path) -> dict[str, str]:
    """The digests of the files of numbers in a run folder, by their names in it."""
    found = {}
    for path in sorted([*folder.iterdir(), *folder.glob("checkpoint/*")]):
        hidden = path.name.startswith(".")
        if path.suffix in NUMBERS and path.name not in NOT_LISTED and not hidden and path.is_file():
            found[path.relative_to(folder).as_posix()] = of_file(path)
    return found


def provenance(folder: Path) -> dict:
    """What a finished run folder says of itself; nothing where it says nothing. Raises
    DiffgeoError."""
    path = folder / PROVENANCE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for part in ("files", "inputs"):
            if not isinstance(found.setdefault(part, {}), dict):
                raise ValueError(f"its {part} have no names")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return {"files": {}, "inputs": {}}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DiffgeoError(
            f"{path} is damaged ({error}): restore it, or delete it to take the files beside it "
            "as they are"
        ) from error


def verified(path: str | os.PathLike) -> Path:
    """A file, whose bytes are those that its run folder was finished with, where it lies in one. A
    file that is not there is the reader's to miss. Raises DiffgeoError."""
    path = Path(path)
    for folder in (path.parent, path.parent.parent):  # checkpoint/ lies inside a run folder
        name = path.relative_to(folder).as_posix()
        written = provenance(folder)["files"].get(name)
        if written is not None and path.is_file() and of_file(path) != written:
            raise DiffgeoError(
                f"{path} is damaged: its contents are not what was written; restore it, or delete "
                f"{folder / PROVENANCE} to take it as it is"
            )
    return path
