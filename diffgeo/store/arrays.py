"""Arrays of numbers from files that anybody may have written: .npy, .npz and .csv."""

from __future__ import annotations

import os
from pathlib import Path

from diffgeo.errors import UsageError


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
