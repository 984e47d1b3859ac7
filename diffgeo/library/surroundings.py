"""What a call changes of torch while it runs, and gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from diffgeo.core import Data, Pictures
from diffgeo.errors import UsageError
from diffgeo.machine import environment


@contextlib.contextmanager
def undisturbed(data: Data | None = None) -> Iterator[None]:
    """Inside, torch has the threads that a law is worth (points: one, on which they are fastest;
    images: all cores); afterwards it has those it had, and its global random numbers go on as if
    nothing had happened."""
    held = torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if data is not None:
            torch.set_num_threads(threads(data))
        try:
            yield
        finally:
            torch.set_num_threads(held)


def threads(data: Data) -> int:
    """As the command line has them: see `undisturbed`; OMP_NUM_THREADS wins for images."""
    if not isinstance(data, Pictures):
        return 1
    return environment.threads() or environment.cores()


def device_of(name: str | torch.device) -> torch.device:
    """`auto` is the GPU where there is one. Raises UsageError for a device that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name} is not available here: write cpu or auto") from error
    return device
