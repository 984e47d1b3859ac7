"""How far a loop is, said where somebody looks.

    with bar(total=4000, what="train", unit="step") as shown:
        for step in ...:
            shown.update(1)
            shown.tell(loss="0.0123")

On a terminal it is tqdm's bar, in a notebook tqdm's widget. Where stderr is neither (a log, a
cluster's output) it is a line every 30 s,

    train: 1200 of 4000 steps (30 %), loss 0.0123, 155 steps/s, 18 s left

whose rate is that of the time since the last one; a loop of less than 30 s says nothing there.
Lines are written by `update`, so call it often: what is done may be a fraction of a unit.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Self, TextIO

from typing_extensions import Protocol

EVERY = 30.0  # seconds between two lines


class Bar(Protocol):
    """What `bar` gives: a context in which progress is told."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error) -> None: ...
    def update(self, done: float = 1) -> None: ...  # so many units more are done
    def tell(self, **said: str) -> None: ...  # what to show beside them, by name


class Silent:
    """Nothing is said: of a process that is not the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None: ...
    def update(self, done: float = 1) -> None: ...
    def tell(self, **said: str) -> None: ...


class Drawn:
    """A bar of tqdm's."""

    def __init__(self, drawn):
        self.drawn = drawn
        self.fraction = 0.0  # of a unit, that is done and not drawn yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        if round(self.fraction):
            self.drawn.update(1)
        self.drawn.close()

    def update(self, done: float = 1) -> None:
        whole = int(self.fraction + done + 1e-6)  # thirds add up to one
        self.fraction += done - whole
        if whole:
            self.drawn.update(whole)

    def tell(self, **said: str) -> None:
        self.drawn.set_postfix(said, refresh=False)


class Lines:
    """A line every 30 s, and one at the end where there was one before."""

    def __init__(self, stream: TextIO, total: int, what: str, unit: str, done: int):
        self.stream = stream
        self.total = total
        self.what = what
        self.unit = unit
        self.done = float(done)
        self.said: dict[str, str] = {}
        self.began = time.monotonic()
        self.first = self.done  # what was done before this process began
        self.last = self.began, self.done  # when a line was last written, and how far it was then

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        if self.last[0] > self.began:
            seconds = time.monotonic() - self.began
            self.write(f"{self.rate(self.done - self.first, seconds)}, {duration(seconds)} in all")

    def update(self, done: float = 1) -> None:
        self.done += done
        now = time.monotonic()
        before, there = self.last
        if now - before < EVERY:
            return
        rate = (self.done - there) / (now - before)
        left = max(0.0, self.total - self.done)
        ahead = f"{duration(left / rate)} left" if rate > 0 else "time left unknown"
        self.last = now, self.done
        if self.total and left <= 1e-6:  # the last line says it all, and comes at once
            return
        self.write(f"{self.rate(self.done - there, now - before)}, {ahead}")

    def tell(self, **said: str) -> None:
        self.said |= said

    def rate(self, done: float, seconds: float) -> str:
        """Units a second, or seconds a unit where they are few."""
        if done <= 0:
            return f"0 {self.unit}s/s"
        if done >= seconds:
            return f"{done / max(seconds, 1e-9):.4g} {self.unit}s/s"
        return f"{seconds / done:.4g} s/{self.unit}"

    def write(self, end: str) -> None:
        done = int(self.done + 1e-6)
        share = f" ({100 * self.done / self.total:.0f} %)" if self.total else ""
        said = "".join(f", {name} {value}" for name, value in self.said.items())
        line = f"{self.what}: {done} of {self.total} {self.unit}s{share}{said}, {end}"
        print(line, file=self.stream, flush=True)


def bar(
    total: int,
    what: str,
    unit: str = "step",
    done: int = 0,
    shown: bool = True,
    leave: bool = True,
) -> Bar:
    """A bar on a terminal or in a notebook, else a line every 30 s on stderr.

    total: how many units there are.
    what: they belong to, a word: train, sample.
    unit: what one is called, in the singular.
    done: how many were done before.
    shown: whether anything is said at all; not by the second process of a run.
    leave: whether a bar stays on the terminal when it is full.
    """
    stream = sys.stderr
    if not shown or stream is None:
        return Silent()
    options = {
        "total": total,
        "initial": done,
        "desc": what,
        "unit": unit,
        "mininterval": 0.5,
        "leave": leave,
        "delay": 0 if leave else 0.5,  # what is done at once does not flash
    }
    if widgets := notebook():
        return Drawn(widgets.tqdm(**options))
    if in_notebook() or stream.isatty():
        from tqdm import tqdm

        return Drawn(tqdm(file=stream, **options))
    return Lines(stream, total, what, unit, done)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, as IPython says where it is loaded."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def notebook() -> ModuleType | None:
    """tqdm's widgets, in a notebook that has ipywidgets; else None."""
    if not in_notebook():
        return None
    from tqdm import notebook

    return notebook if notebook.IProgress is not None else None


def duration(seconds: float) -> str:
    """A time in words: 18 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"
