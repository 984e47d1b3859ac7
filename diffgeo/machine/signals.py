"""What stops a process from outside: Ctrl-C (SIGINT), SIGTERM, and SIGUSR1, by which a cluster says
that it is about to take the machine away.

    handled()     inside, once the start-up is over (`begin`: an import that is broken off halfway
                  leaves a library that cannot be imported again), each of them ends the work with
                  the exception `Stopped`
    deferred()    inside, a signal is only noted, and `asked` tells it: a training looks after every
                  step, writes a checkpoint and ends; an exception would leave half a step

A second signal ends the work at once; one that follows within ECHO seconds is taken for the same,
which a launcher hands on to processes that have had it. This module imports nothing heavy: `cli`
uses it before every command.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO = 1.0
BEGINS_AGAIN = "the same line begins again"


class Stopped(KeyboardInterrupt):
    """A signal has ended the work.

    number: the signal.    where: how far the work was, in words.
    """

    def __init__(self, number: int, where: str = ""):
        super().__init__(number, where)
        self.number = number
        self.where = where


class Noted:  # plain: importing dataclasses takes a fifth of `--help`
    """What has come so far."""

    number: int = 0  # the signal; 0 for none
    at: float = 0.0  # of time.monotonic
    deferred: bool = True
    advice: str = ""


_noted = Noted()


def come(number: int, frame: FrameType | None) -> None:
    """The handler."""
    first = not _noted.number
    now = time.monotonic()
    if not first and now - _noted.at < ECHO:
        return
    _noted.number = number
    _noted.at = now
    if not (first and _noted.deferred):
        raise Stopped(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Inside, the signals are ours; afterwards what they were, until the process ends. What it was
    told to ignore stays ignored, and only the main thread can have any."""
    global _noted
    _noted = Noted()
    held = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                held[number] = signal.signal(number, come)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        _noted.number = 0


def begin() -> None:
    """The start-up is over. A signal that has come meanwhile ends the work."""
    _noted.deferred = False
    check()


@atexit.register
def ignore() -> None:
    """The work is done, and has its status: the second that Python takes to end does not change
    it."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, a first signal is noted; it ends the work when the block does."""
    _noted.deferred = True
    try:
        yield
    finally:
        _noted.deferred = False
    check()


def asked() -> int:
    """The signal that has come; 0 for none."""
    return _noted.number


def check() -> None:
    """End the work where a signal has come: also where a library met its exception and raised
    another. Raises Stopped."""
    if _noted.number:
        raise Stopped(_noted.number)


def advise(text: str) -> None:
    """How to go on, in words, should a signal come. What was said first stays: a sweep and a table
    know of more than one job of theirs."""
    _noted.advice = _noted.advice or text


def told(stop: KeyboardInterrupt) -> tuple[str, int]:
    """One line and an exit status for what has ended the work: 128 and the number of the signal, as
    a shell has it, or that of SIGTERM."""
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    where = f" {stop.where}" if isinstance(stop, Stopped) and stop.where else ""
    interrupted = number == signal.SIGINT
    what = "interrupted" if interrupted else "terminated"
    status = 128 + (signal.SIGINT if interrupted else signal.SIGTERM)
    return f"{what}{where}; {_noted.advice or BEGINS_AGAIN}", int(status)
