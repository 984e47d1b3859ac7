"""The files of MNIST and the sets in its format, which are called IDX."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from diffgeo.errors import DiffgeoError

MOST = 1 << 28  # bytes of an IDX file: MNIST's largest has 47 million
FILES = {  # by the names of the arrays that they become
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def read(path: Path) -> np.ndarray:
    """The bytes of an IDX file (.gz or not) as an array: two zeros, 8 for uint8, the number of
    axes, each length as >u4, the elements."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"it holds more than {MOST} bytes")
        zero, kind, axes = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
        if zero or kind != 8:
            raise ValueError("it is not an IDX file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DiffgeoError(
            f"{path} is corrupt ({error}): remove it and prepare the set again"
        ) from error
