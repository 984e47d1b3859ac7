"""Arrays of numbers from files that anybody may have written: .npy, .npz and .csv.

A table (.csv) has one point a line, numbers apart by commas, as Python's `float` reads them, `nan`
and `inf` among them. The first line may name the columns: then no cell of it is a number. Lines
that are empty, and what follows a #, are skipped. Every other line that is not numbers, or not as
many as the first, is an error that says its number.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from array import array as numbers_array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.store.digest import verified

NAMES = ("samples", "points", "arr_0")  # what is read of a .npz file with several arrays
# what stands for a number that is not there: no name of a column
MISSING = ("", "-", "na", "n/a", "null", "none", "?")
# the errors of a spreadsheet begin as a comment does
SPREADSHEET = re.compile(r'(?:^|,)\s*"?(#(?:N/A|DIV/0!|REF!|NUM!|VALUE!|NAME\?|NULL!))')


def read_array(path: str | os.PathLike, option: str, booleans: bool = False) -> np.ndarray:
    """A float64 array from a .npy file, a .npz file (its only array, or the one called samples,
    points or arr_0) or a table in a .csv file.

    booleans: whether true and false may stand for 1 and 0, as they do in a mask.

    Nothing is unpickled. Raises UsageError, naming `option`, when the file is missing or holds
    anything but real numbers; numbers that are not finite are the caller's to refuse. Raises
    DiffgeoError when it is not what its run folder was finished with.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{option}={path} is not a .npy, .npz or .csv file")
    try:
        if not path.is_file():
            raise UsageError(f"{option}={path}: there is no such file")
        return real(reader(verified(path)), booleans)
    except DiffgeoError:
        raise
    except Exception as error:  # numpy raises half a dozen kinds on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds Python objects"
        if "mmap length" in reason:
            reason = "it is shorter than its header says"
        raise UsageError(
            f"{option}={path} cannot be read as an array of numbers: {reason}"
        ) from error


def real(array: np.ndarray, booleans: bool = False) -> np.ndarray:
    """The same numbers as float64, row after row in memory. Raises ValueError on a single number,
    and on what is no array of real numbers: true and false (but for `booleans`), words, dates,
    complex numbers."""
    if array.dtype.kind not in ("iufb" if booleans else "iuf"):
        what = {"c": "complex numbers", "b": "true and false", "U": "words", "S": "words"}
        raise ValueError(f"it holds {what.get(array.dtype.kind, array.dtype)}")
    if array.ndim == 0:
        raise ValueError("it holds a single number")
    return np.ascontiguousarray(array, dtype=np.float64)


def from_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, by way of a memory-map: one whose header claims more than the file
    holds gets none. Raises ValueError."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def from_npz(path: Path) -> np.ndarray:
    """The only array of an archive, or the first of `NAMES` that it has. Raises ValueError."""
    with np.load(path, allow_pickle=False) as archive:
        if not archive.files:
            raise ValueError("it holds no array")
        if len(archive.files) == 1:
            return np.asarray(archive[archive.files[0]])
        for name in NAMES:
            if name in archive.files:
                return np.asarray(archive[name])
        raise ValueError(
            f"it holds the arrays {', '.join(archive.files)}: call the one that is meant {NAMES[0]}"
        )


def from_csv(path: Path) -> np.ndarray:
    """A table as float64 [rows, columns]. Raises ValueError."""
    values = numbers_array("d")
    header: list[str] = []
    columns = rows = 0
    # numbered as an editor does, whatever ends the lines: \n, \r\n or \r
    lines = text_of(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if spoilt := SPREADSHEET.search(line):
            raise ValueError(f"line {number} holds {spoilt[1]}, an error of a spreadsheet")
        told = line.partition("#")[0]
        if not told.strip():
            continue
        row = cells(told)
        if not rows and not header and are_names(row):
            header = named_columns(cells(line), number)
            columns = len(header)
            continue
        if '"' in told:
            check_quotes(told, number)
        values.extend(numbers(row, line, number))
        columns = columns or len(row)
        if len(row) != columns:
            raise ValueError(
                f"line {number} has {len(row)} {'cell' if len(row) == 1 else 'cells'}, the first "
                f"has {columns}"
            )
        rows += 1
    if not rows:
        raise ValueError("it has no row of numbers" if header else "it is empty")
    return np.frombuffer(values).reshape(rows, columns)


READERS = {".npy": from_npy, ".npz": from_npz, ".csv": from_csv}


def text_of(path: Path) -> str:
    """A file's text, without the mark that Windows puts in front. Raises ValueError on any other
    encoding than UTF-8."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("its text is UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text: save it as UTF-8") from None


def cells(line: str) -> list[str]:
    """The cells of a line, without quotation marks and surrounding spaces."""
    row = next(csv.reader([line], skipinitialspace=True)) if '"' in line else line.split(",")
    return [cell.strip() for cell in row]


def check_quotes(line: str, number: int) -> None:
    """Raise ValueError where a quotation mark neither begins nor ends a cell: "1"2 is not 12."""
    try:
        list(csv.reader([line], skipinitialspace=True, strict=True))
    except csv.Error:
        raise ValueError(f"line {number} has a quotation mark amid a cell, or one alone") from None


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def are_names(row: Sequence[str]) -> bool:
    """Whether a line may be the names of columns: no cell of it is a number, some cell has a
    letter, and none stands for a number that is missing, unless it is empty beside a name."""
    missing = any(cell.lower() in MISSING[1:] for cell in row)
    worded = any(character.isalpha() for cell in row for character in cell)
    return worded and not missing and not any(is_number(cell) for cell in row)


def named_columns(names: list[str], number: int) -> list[str]:
    """The names in a header. Raises ValueError where one is empty: a spreadsheet or pandas counts
    the rows there, and a count is no coordinate."""
    if "" in names:
        raise ValueError(
            f"line {number} leaves a column without a name: take out the column that counts the "
            "rows, or a comma too many"
        )
    return names


def numbers(row: Sequence[str], line: str, number: int) -> list[float]:
    """The cells of a row as numbers. Raises ValueError, with the number of the line and what is
    wrong in it."""
    try:
        return [float(cell) for cell in row]
    except ValueError:
        wrong = next(cell for cell in row if not is_number(cell))
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in line:
            raise ValueError(
                f"line {number} has {name} between its cells: write commas there, and points in "
                "decimal numbers"
            )
    if wrong.lower() in MISSING:
        raise ValueError(f"line {number} lacks a number: {shortened(line.strip())}")
    if len(wrong.split()) > 1 and all(is_number(part) for part in wrong.split()):
        raise ValueError(f"line {number} has spaces between its numbers: write commas")
    raise ValueError(f"line {number} holds {shortened(wrong)}, which is no number")


def shortened(text: str) -> str:
    """A text in quotation marks, its beginning where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
