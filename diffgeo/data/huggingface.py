"""A folder that Hugging Face's `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote:
data=huggingface data.path=FOLDER.

Read through the library `datasets` (pip install 'diffgeo[datasets]'), from this folder alone: no
network, no code of the folder's. A picture is the bytes that its cell holds (`save_to_disk` puts
them there); a cell that only names a file or an address is refused. The pictures are those of the
one column of pictures (Image, or Array2D and Array3D of uint8), or of `data.column`; the classes
those of the one column of class labels, or of `data.label`. A set's validation split stands for its
test split where it has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from typing import Any

import numpy as np

from diffgeo.data import origin, prepared
from diffgeo.data.gathered import Gathered, two_splits
from diffgeo.data.inside import Inside
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.libraries import needed

MARKS = {"state.json", "dataset_dict.json"}  # a folder of a Dataset, of a DatasetDict
LABELS = "label"  # what a column of whole numbers is called that holds classes


def library() -> Any:
    """`datasets`, offline. Raises UsageError where it is not installed."""
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(variable, "1")
    return needed("datasets", "data=huggingface", "diffgeo[datasets]")


@dataclass(frozen=True)
class Saved(Gathered):
    """The pictures of a saved data set, in the order of its rows.

    column, label: the names of the columns of pictures and of classes, where there are several.
    """

    column: str | None = None
    label: str | None = None
    name: str = "huggingface"
    licence: str = "yours"
    about: str = "data.path=FOLDER of datasets' save_to_disk"
    source: str = "a saved data set of the user"
    holds = "a folder of Dataset.save_to_disk"

    def options(self) -> list[object]:
        return [*super().options(), self.column, self.label]

    def facts(self) -> dict:
        return super().facts() | {"column": self.column, "label": self.label}

    @property
    def content(self) -> str:
        files = sorted(path for path in self.top.rglob("*") if path.is_file())
        if not {path.name for path in files if path.parent == self.top} & MARKS:
            raise UsageError(
                f"data.path={self.path} is no folder of Dataset.save_to_disk (no state.json and no "
                "dataset_dict.json in it): write one"
            )
        return origin.digest(self.top, files)

    @cached_property
    def tables(self) -> dict[str, Any]:
        """The rows of each split, a `datasets.Dataset`. Raises UsageError, DiffgeoError."""
        datasets = library()
        try:
            loaded = datasets.load_from_disk(str(self.top))
        except Exception as error:  # pyarrow and datasets raise a dozen kinds on a damaged folder
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DiffgeoError(f"{self.top} cannot be read by datasets: {reason}") from error
        parts = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
        found = {split: rows for split, rows in two_splits(parts).items() if len(rows)}
        if "train" not in found:
            raise UsageError(
                f"data.path={self.path} has the splits {', '.join(parts)}, and no rows to train "
                "on: write a folder of a set with a split called train, or of one split alone"
            )
        return {split: self.undecoded(rows, datasets) for split, rows in found.items()}

    def undecoded(self, rows: Any, datasets: Any) -> Any:
        """Rows whose pictures stay bytes: decoding is ours, and opens no file that a cell names."""
        rows = rows.with_format(None)
        for name, feature in rows.features.items():
            if isinstance(feature, datasets.Image):
                rows = rows.cast_column(name, datasets.Image(decode=False))
        return rows

    def chosen(self, option: str, fitting: list[str], rows: Any, what: str) -> str | None:
        """The column that the option names, else the only fitting one; None where there is none.
        Raises UsageError where there is a choice to be made."""
        given = self.column if option == "column" else self.label
        if given is not None:
            if given not in rows.features:
                there = ", ".join(rows.features)
                raise UsageError(f"data.{option}={given}: the columns are {there}; write one")
            return given
        if len(fitting) > 1:
            raise UsageError(
                f"data.path={self.path} has several columns of {what}: write data.{option}= one of "
                f"{', '.join(fitting)}"
            )
        return fitting[0] if fitting else None

    def column_of(self, rows: Any) -> str:
        """The column of pictures."""
        datasets = library()
        fitting = []
        for name, feature in rows.features.items():
            array = isinstance(feature, datasets.Array2D | datasets.Array3D)
            if isinstance(feature, datasets.Image) or (array and feature.dtype == "uint8"):
                fitting.append(name)
        name = self.chosen("column", fitting, rows, "pictures")
        if name is None:
            raise UsageError(
                f"data.path={self.path} has the columns {', '.join(rows.features)}, and none of "
                "pictures (Image, or Array2D and Array3D of uint8): write another folder"
            )
        return name

    @property
    def found(self) -> dict[str, list[Inside]]:
        pictures = {}
        for split, rows in self.tables.items():
            name = self.column_of(rows)
            array = not isinstance(rows.features[name], library().Image)
            content = partial(cell_array if array else cell_bytes, rows, name)
            ending = ".npy" if array else ""
            pictures[split] = [
                Inside(self.top, f"{split} row {i}{ending}", partial(content, i))
                for i in range(len(rows))
            ]
        return pictures

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        datasets = library()
        labels = {}
        for split, rows in self.tables.items():
            fitting = [n for n, f in rows.features.items() if isinstance(f, datasets.ClassLabel)]
            if not fitting and LABELS in rows.features:
                fitting = [LABELS]
            name = self.chosen("label", fitting, rows, "classes")
            if name is None:
                continue
            found = np.asarray(rows[name][:])
            if found.dtype.kind not in "iu" or found.ndim != 1:
                raise UsageError(
                    f"data.path={self.path}: the column {name} holds no whole numbers: write "
                    "data.label= a column of classes, or take it out"
                )
            if (found == -1).all():  # what the library writes where labels are held back
                continue
            if found.min() < 0:
                raise UsageError(
                    f"data.path={self.path}: the column {name} of {split} holds {found.min()}; "
                    "classes are numbered from 0"
                )
            labels[split] = found.astype(np.int64)
        return labels

    @property
    def class_count(self) -> int:
        return prepared.classes_of(self.numbers.values())


def cell_bytes(rows: Any, column: str, row: int) -> bytes:
    """The bytes of a picture. Raises ValueError where the cell holds none: a path or an address is
    not followed."""
    cell = rows[row][column]
    if not isinstance(cell, dict) or not cell.get("bytes"):
        raise ValueError("its cell holds no picture, at most the name of one: save the set anew")
    return cell["bytes"]


def cell_array(rows: Any, column: str, row: int) -> bytes:
    """An array of bytes, as a .npy file has it."""
    page = BytesIO()
    np.save(page, np.asarray(rows[row][column], np.uint8), allow_pickle=False)
    return page.getvalue()
