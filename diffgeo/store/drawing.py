"""How figures are written: the format of their files, their resolution and their style.

    Drawing                   format png, svg or pdf; dots an inch; style screen, or paper, which is
                              one column of a paper
    with drawn_as(drawing):   every figure that is drawn inside is written so
    now()                     the drawing of this moment
    of_path(path)             the drawing of the figure `path`, whose suffix may say a format
    file_of(path)             its file: the stem, and the suffix of the format
    figures_in(folder)        the figures that lie in a folder, whatever their formats

It is asked where a page is written and set where a command begins; the sixty functions between the
two need not know of it. Imports neither torch nor matplotlib.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from pathlib import Path

from diffgeo.errors import UsageError

FORMATS = ("png", "svg", "pdf")
STYLES = ("screen", "paper")
FILMS = ("gif", "mp4")
PIXELS = (".png", ".gif")  # suffixes of what any program that shows pictures opens
SCREEN = 100  # dots an inch of png on a screen, where nothing else is asked for
PRINT = 300  # of paper, and of what lies as a picture inside svg and pdf
FEWEST = 20
MOST = 1200  # a page of 20 inches is then 24 000 dots wide


@dataclass(frozen=True)
class Drawing:
    """How figures are written. Raises UsageError on a value that there is not.

    format: of the files.    dpi: dots an inch; None: SCREEN or PRINT.
    style: screen; or paper, 3.3 inches wide with letters of 8 points and no names above.
    animation: the format of moving figures.
    """

    format: str = "png"
    dpi: int | None = None
    style: str = "screen"
    animation: str = "gif"

    def __post_init__(self):
        for key, known in (("format", FORMATS), ("style", STYLES), ("animation", FILMS)):
            value = vars(self)[key]
            if value not in known:
                raise UsageError(f"figures.{key}={value}: write {', '.join(known)}")
        if self.dpi is not None and not FEWEST <= self.dpi <= MOST:
            raise UsageError(f"figures.dpi={self.dpi}: write {FEWEST} to {MOST} dots an inch")

    @property
    def dots(self) -> int:
        """Dots an inch."""
        usual = SCREEN if self.style == "screen" and self.format == "png" else PRINT
        return self.dpi or usual

    @property
    def paper(self) -> bool:
        return self.style == "paper"


OPTIONS = tuple(field.name for field in fields(Drawing))  # typed as figures.format=, figures.dpi=


def check_film(kind: str) -> None:
    """Raise UsageError where films of this kind, gif or mp4, cannot be made here."""
    if kind == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UsageError(
            "figures.animation=mp4 needs imageio-ffmpeg: pip install 'diffgeo[video]', or write "
            "figures.animation=gif"
        )


_now: ContextVar[Drawing] = ContextVar("drawing", default=Drawing())  # noqa: B039 (it is frozen)


def now() -> Drawing:
    """How figures are drawn at this moment."""
    return _now.get()


@contextlib.contextmanager
def drawn_as(drawing: Drawing) -> Iterator[None]:
    """Every figure that is drawn inside is written so."""
    before = _now.set(drawing)
    try:
        yield
    finally:
        _now.reset(before)


def of_path(path: str | os.PathLike) -> Drawing:
    """How the figure `path` is drawn: as now, but a path that ends in .svg or .pdf says its format
    itself."""
    ending = Path(path).suffix.removeprefix(".")
    named = ending in FORMATS and ending != "png"
    return replace(now(), format=ending) if named else now()


def file_of(path: str | os.PathLike) -> Path:
    """The file that the figure `path` is written to: cloud, cloud.png -> cloud.svg where that is
    the format."""
    path = Path(path)
    known = path.suffix.removeprefix(".") in FORMATS
    return path.with_name(f"{path.stem if known else path.name}.{of_path(path).format}")


def figures_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The figures of a folder whose stems the pattern matches, by name, of any format."""
    known = [f".{ending}" for ending in (*FORMATS, *FILMS)]
    return sorted(path for path in folder.glob(f"{pattern}.*") if path.suffix in known)


def remove_figures(folder: Path, pattern: str) -> None:
    """Remove the figures of before that the pattern matches, of any format."""
    for path in figures_in(folder, pattern):
        path.unlink()
