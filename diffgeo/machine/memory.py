"""Running out of memory, on a GPU or on a CPU, said in one line that names what to write."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

from diffgeo.errors import DiffgeoError, UsageError

# of this machine, and of the container that a process may be in
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
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


def total() -> int:
    """The memory, in bytes, that processes here share: the machine's, or the container's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found = min(found, int(limit.read_text(encoding="utf-8")))
    return found


def check_fits(what: str, needed: float, advice: str) -> None:
    """Raise UsageError, before anything is allocated, where `what` needs more bytes than there
    are."""
    if needed > total():
        raise UsageError(
            f"{what} needs {needed / 1e9:.3g} GB of memory, and this machine has "
            f"{total() / 1e9:.3g} GB: {advice}"
        )


class Bounded(TorchFunctionMode):
    """Refuses, inside its block, tensors that together are more than the memory there is: each is
    weighed by its shape, in float32, before it is made.

    what, advice: for the UsageError that it raises.
    """

    MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
    MOST = 5000  # tensors; the largest network of conf/net has some hundreds

    def __init__(self, what: str, advice: str):
        super().__init__()
        self.what = what
        self.advice = advice
        self.numbers = 0
        self.tensors = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.MAKERS:
            self.weigh(args)
        return func(*args, **(kwargs or {}))

    def weigh(self, args: tuple) -> None:
        """Count a tensor that is made by torch.empty(2, 3), or torch.empty((2, 3))."""
        sizes = args[0] if args and isinstance(args[0], Sequence) else args
        self.numbers += math.prod(size for size in sizes if isinstance(size, int))
        self.tensors += 1
        if self.tensors > self.MOST:
            raise UsageError(
                f"{self.what}: more than {self.MOST} tensors of weights: {self.advice}"
            )
        what = f"{self.what}: a network of {self.numbers:.3g} weights"
        check_fits(what, 4 * self.numbers, self.advice)
