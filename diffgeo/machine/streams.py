"""stdout and stderr that never end a run.

A reader that goes away (`diffgeo train | head`), a stream that is closed (`>&-`) or a full disk
behind `> log` is no reason to leave a training half done: what cannot be written is thrown away,
and the work goes on. A reader that left did so by its own choice; any other loss is told at the
end, by `lost`.

This module imports nothing heavy: it is run before every command.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Lasting(io.FileIO):
    """A file descriptor, not closed here, that takes whatever is written to it: from the first
    failure on, into /dev/null."""

    failure: OSError | None = None

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def open_closed() -> None:
    """Open /dev/null on each of the descriptors 0, 1 and 2 that this process was started without:
    the next file to be opened would take its number, and be written to by every print."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)


def lasting(stream: TextIO | None, number: int) -> TextIO:
    """A text stream to the descriptor `number` that is written as `stream` is, and lasts. A stream
    that is no file, which a test or a notebook has put there, is left as it is."""
    if stream is None:  # Python found the descriptor closed
        raw = Lasting(number, "w", closefd=False)
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    if type(stream) is not io.TextIOWrapper:
        return stream
    if not isinstance(stream.buffer, io.BufferedWriter | io.FileIO):
        return stream
    stream.flush()
    raw = Lasting(stream.fileno(), "w", closefd=False)
    buffered = isinstance(stream.buffer, io.BufferedWriter)  # it is not under PYTHONUNBUFFERED
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if buffered else raw,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextmanager
def whole() -> Iterator[None]:
    """stdout and stderr that last, inside the block; as they were after it."""
    open_closed()
    held = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = lasting(sys.stdout, 1)
    sys.stderr = lasting(sys.stderr, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = held


def lost() -> str | None:
    """Why something that was printed was not written, but for a reader that left; None if all
    was."""
    sys.stdout.flush()
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return None
    buffer = sys.stdout.buffer
    raw = buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer
    failure = raw.failure if isinstance(raw, Lasting) else None
    if failure is None or isinstance(failure, BrokenPipeError):
        return None
    return failure.strerror or str(failure)
