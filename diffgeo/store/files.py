"""Files that are either whole or absent: each is written under a temporary name in the same folder,
flushed, and renamed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from diffgeo.errors import DiffgeoError, UsageError


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, otherwise
    it is removed.

    Raises DiffgeoError, naming the file, when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    # keeps the suffix: numpy and matplotlib look at it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise DiffgeoError(
            f"cannot write {path}: {reason}; "
            "free space, or choose another folder (hydra.run.dir=, data.root=)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where numbers are kept that can be computed again: $DIFFGEO_CACHE, else
    ${XDG_CACHE_HOME:-~/.cache}/diffgeo."""
    if named := os.environ.get("DIFFGEO_CACHE"):
        return Path(named)
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "diffgeo"


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | os.PathLike, value) -> None:
    """Sorted keys and shortest round-trip floats: equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | os.PathLike):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DiffgeoError(f"cannot read {path}: {error}") from error


def _read_npy(path: Path):
    import numpy as np

    return np.load(path, allow_pickle=False)


def _read_npz(path: Path):
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return archive[archive.files[0]]


def _read_csv(path: Path):
    import numpy as np

    first = path.read_text(encoding="utf-8").partition("\n")[0]
    # a letter that is no exponent's, in a line that says no nan: names of columns
    letters = any(character.isalpha() and character not in "eE" for character in first)
    named = letters and "nan" not in first.lower()
    return np.loadtxt(path, delimiter=",", skiprows=int(named), ndmin=2)


READERS = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}


def read_array(path: str | os.PathLike, option: str):
    """A float64 numpy array from a .npy, .npz (its first array) or .csv file (one point a line, a
    first line of names is skipped).

    Nothing is unpickled. Raises UsageError, naming `option`, when the file is missing or holds no
    table of numbers.
    """
    import numpy as np

    path = Path(path)
    if path.suffix not in READERS:
        raise UsageError(f"{option}={path} is not a .npy, .npz or .csv file")
    if not path.is_file():
        raise UsageError(f"{option}={path}: there is no such file")
    try:
        array = READERS[path.suffix](path)
        if np.iscomplexobj(array):
            raise ValueError("it holds complex numbers")
        return np.asarray(array, dtype=np.float64)
    except Exception as error:  # numpy raises half a dozen kinds on a damaged file
        reason = str(error).splitlines()[0]
        if "pickle" in str(error):
            reason = "it holds Python objects"
        raise UsageError(
            f"{option}={path} cannot be read as an array of numbers: {reason}"
        ) from error


def write_array(path: str | os.PathLike, array) -> None:
    import numpy as np

    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)
