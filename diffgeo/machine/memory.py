"""Running out of memory, on a GPU or on a CPU, said in one line that names what to write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from diffgeo.errors import DiffgeoError

WORDS = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory", "out of memory")


@contextlib.contextmanager
def advised(advice: str) -> Iterator[None]:
    """Turn a failed allocation inside the block into a DiffgeoError that ends in `advice`."""
    try:
        yield
    except DiffgeoError:  # said already, inside
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise DiffgeoError(f"out of memory: {advice}") from error


def out_of_memory(error: Exception) -> bool:
    """Whether an error says so: by its type, or, of a CPU's allocator, in its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(word in str(error) for word in WORDS)
