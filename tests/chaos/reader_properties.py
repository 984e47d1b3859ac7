"""Properties of a reader on whatever Hypothesis thinks of: a few examples in every run, thousands
in the long suite; and a bound on the memory that a file may cost."""

import contextlib
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

SPARE = 32 << 20  # bytes that a reader may take beside eight times the file

QUIET = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))
FEW = settings(max_examples=15, derandomize=True, **QUIET)
MANY = settings(max_examples=1500, **QUIET)


def both(*strategies):
    """Hypothesis' `given`, as two tests: a few examples, always the same; thousands of new ones."""

    def decorated(test):
        few = FEW(given(*strategies)(test))
        many = MANY(given(*strategies)(test))

        @pytest.mark.parametrize("form", ["few", pytest.param("many", marks=pytest.mark.slow)])
        def run(form):
            few() if form == "few" else many()

        run.__doc__ = test.__doc__
        return run

    return decorated


@contextlib.contextmanager
def file_of(held: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(held)
        yield path


@contextlib.contextmanager
def little_memory(size: int) -> Iterator[None]:
    """Fails where the block takes more memory than a file of `size` bytes is worth."""
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < SPARE + 8 * size, f"{most} bytes for a file of {size}"
