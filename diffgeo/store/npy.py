"""Arrays as .npy files: a header of shape and type, then the elements. They are written row by row
into space that was allocated for them, never through a memory-map, which a full disk ends with
SIGBUS."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from diffgeo.errors import DiffgeoError
from diffgeo.store.files import allocate, atomic, put, write_bytes


def header(shape: tuple[int, ...], dtype: np.dtype, fortran: bool = False) -> bytes:
    """The first bytes of a .npy file, as `numpy.save` writes them. Raises ValueError on Python
    objects, which only a pickle can hold."""
    if dtype.hasobject:
        raise ValueError("an array of Python objects is not written: it would have to be pickled")
    facts = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": fortran,
        "shape": shape,
    }
    page = io.BytesIO()
    np.lib.format.write_array_header_1_0(page, facts)
    return page.getvalue()


def elements(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8))


def write_array(path: str | os.PathLike, array) -> None:
    """Replace a .npy file, of the bytes that `numpy.save` would write."""
    array = np.asarray(array)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    first = header(array.shape, array.dtype, fortran)
    content = np.ascontiguousarray(array.T if fortran else array)
    write_bytes(path, first, elements(content))


@contextlib.contextmanager
def rows(
    path: Path, shape: tuple[int, ...], dtype: str | np.dtype
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Yield `append(block)`, which writes the next rows of an array of this shape and returns them
    as they were written; the file is there when the block ends.

    Raises DiffgeoError when the disk has no room for all of it, at once, or when the rows that came
    are not those that the shape says.
    """
    kind = np.dtype(dtype)
    first = header(shape, kind)
    size = len(first) + math.prod(shape) * kind.itemsize
    done = 0
    with atomic(path, size) as temporary, open(temporary, "wb", buffering=0) as stream:
        allocate(stream, size)
        put(stream, first)

        def append(block: np.ndarray) -> np.ndarray:
            nonlocal done
            block = np.ascontiguousarray(block, dtype=kind)
            if block.shape[1:] != shape[1:]:
                raise DiffgeoError(
                    f"cannot write {path}: a row of it is {list(shape[1:])}, and one that came "
                    f"{list(block.shape[1:])}"
                )
            put(stream, elements(block))
            done += len(block)
            return block

        yield append
        if done != shape[0]:
            raise DiffgeoError(f"cannot write {path}: {done} of its {shape[0]} rows came")


def parsed(content: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file, without a copy of its elements; nothing is unpickled.
    Raises ValueError where they are none, or fewer than their header says."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"it is a .npy file of version {version[0]}.{version[1]}")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("it has more or fewer bytes than its header says")
    elements = np.frombuffer(content, dtype, offset=stream.tell())
    return elements.reshape(shape, order="F" if fortran else "C")


def is_of_pictures(path: Path) -> bool:
    """Whether a .npy file says that it holds images, uint8 [n,H,W] or [n,H,W,C]; only its header is
    read. A file that is none holds no images: who reads it says what is wrong."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim in (3, 4)
