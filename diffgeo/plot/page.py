"""The page of a figure: made of a path, or of somebody's matplotlib axes, and written as a command
asks (`store.drawing`).

    with sheet(target, rows, columns, size) as (figure, axes):     panels of matplotlib
    picture(target, image)                                         a finished picture of pixels
    with titled("curve, cem, heun, 18 steps"):                     words above every page inside

target: a path, whose suffix becomes the format's, written whole or not at all; or an Axes, a Figure
or a SubFigure, which is drawn into, and nothing is written. Of a figure of several panels an Axes
gives its place to a SubFigure.

Same numbers, same bytes: no file says when it was made.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator
from contextvars import ContextVar
from io import BytesIO

import numpy as np

from diffgeo.errors import UsageError
from diffgeo.plot import paper
from diffgeo.store.caches import need_home
from diffgeo.store.drawing import SCREEN, Drawing, file_of, now, of_path
from diffgeo.store.files import write_bytes

NO_DATE = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
FIXED = {"svg.hashsalt": "diffgeo", "pdf.fonttype": 42}  # the same names in every file; whole fonts
MANY = 1000  # marks of a cloud: more are one picture inside a drawing of lines
TITLE = 9  # points
NEAREST = 0  # how Pillow enlarges, so that a pixel stays a square

_title: ContextVar[str] = ContextVar("title", default="")


@contextlib.contextmanager
def titled(text: str) -> Iterator[None]:
    """Words that stand above every page that is drawn inside; none with figures.style=paper, where
    the caption says them."""
    before = _title.set(text)
    try:
        yield
    finally:
        _title.reset(before)


def title_now() -> str:
    """The words above a page that is drawn at this moment, "" for none."""
    return "" if now().paper else _title.get()


@contextlib.contextmanager
def sheet(
    target, rows: int = 1, columns: int = 1, size: tuple[float, float] = (4.0, 4.0), **subplots
) -> Iterator:
    """Yield (figure, axes [rows,columns]) of `size` inches a panel; on leaving, write `target`
    where it is a path. `subplots` goes to `Figure.subplots`: sharex, sharey. Raises UsageError on a
    target that is neither a path nor matplotlib's."""
    if not isinstance(target, str | os.PathLike):
        figure, axes = within(target, rows, columns, subplots)
        bare(axes)
        yield figure, axes
        return
    need_home()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawing = of_path(target)
    options = FIXED | paper.SETTINGS if drawing.paper else FIXED
    with rc_context(options):
        if drawing.paper:
            figure, axes = paper.panels(rows, columns, size, subplots)
        else:
            figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False, **subplots)
        bare(axes)
        yield figure, axes
        if drawing.paper:
            paper.fit(figure)
        put_title(figure, title_now())
        write_bytes(file_of(target), written(figure, drawing))


def within(target, rows: int, columns: int, subplots: dict) -> tuple:
    """(figure, axes [rows,columns]) inside what matplotlib has made. Raises UsageError."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    if isinstance(target, Axes):
        if rows == columns == 1:
            return target.figure, np.array([[target]])
        place = target.get_subplotspec()
        if place is None:
            raise UsageError(
                f"this figure has {rows} x {columns} panels, and the axes no place in a grid: draw "
                "it into a Figure, a SubFigure, or axes of plt.subplots"
            )
        target.set_axis_off()
        target = target.figure.add_subfigure(place)
    if not isinstance(target, Figure | SubFigure):
        raise UsageError(
            "a figure is drawn into a path, or a matplotlib Axes, Figure or SubFigure, not into a "
            f"{type(target).__name__}"
        )
    if isinstance(target, Figure) and target.get_layout_engine() is None:
        target.set_layout_engine("constrained")
    return target, target.subplots(rows, columns, squeeze=False, **subplots)


def bare(axes: np.ndarray) -> None:
    """Panels without a frame above and to the right."""
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)


def put_title(figure, text: str) -> None:
    """Words above a page, over those that it has of its own."""
    if not text:
        return
    letters = int(figure.get_size_inches()[0] / (0.58 * TITLE / 72))
    lines = textwrap.wrap(literal(text), letters)
    own = figure.get_suptitle()
    figure.suptitle("\n".join([*lines, own] if own else lines), fontsize=TITLE)


def outside() -> dict:
    """Where the legend of a whole page stands: to its right, or below in a narrow column."""
    if now().paper:
        return {"loc": "outside lower center", "ncols": 3}
    return {"loc": "outside right upper"}


def literal(text: str) -> str:
    """Words of somebody's for matplotlib, which would read a formula between two dollars."""
    return text.replace("$", r"\$")


def written(figure, drawing: Drawing) -> memoryview:
    """The bytes of a page."""
    if drawing.format != "png":
        as_pixels(figure)
    page = BytesIO()
    metadata = NO_DATE[drawing.format]
    figure.savefig(page, dpi=drawing.dots, format=drawing.format, metadata=metadata)
    return page.getbuffer()


def as_pixels(figure) -> None:
    """Make clouds of many marks pictures inside a page of lines: each mark would be an object that
    a reader draws one by one."""
    from matplotlib.collections import PathCollection

    for cloud in figure.findobj(PathCollection):
        if len(cloud.get_offsets()) > MANY:
            cloud.set_rasterized(True)


def picture(target, image) -> None:
    """A finished picture, of Pillow, as a page of its own. A pixel is a dot, or where more dots an
    inch are asked for a square of them; in svg and pdf it lies inside the page as it is, without
    loss."""
    if not isinstance(target, str | os.PathLike):
        figure, axes = within(target, 1, 1, {})
        put_picture(axes[0, 0], image)
        return
    drawing = of_path(target)
    if drawing.format == "png":
        page = BytesIO()
        times = max(1, round((drawing.dpi or SCREEN) / SCREEN))
        image = image.resize((times * image.width, times * image.height), resample=NEAREST)
        inch = {"dpi": (image.width / paper.WIDTH,) * 2} if drawing.paper else {}
        image.save(page, format="PNG", **inch)
        write_bytes(file_of(target), page.getbuffer())
        return
    need_home()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    wide = paper.WIDTH if drawing.paper else image.width / SCREEN
    with rc_context(FIXED):
        figure = Figure(figsize=(wide, wide * image.height / image.width))
        put_picture(figure.add_axes((0, 0, 1, 1)), image)
        write_bytes(file_of(target), written(figure, drawing))


def put_picture(ax, image) -> None:
    """A picture in a panel, pixels as squares."""
    ax.imshow(np.asarray(image), interpolation="none", aspect="equal")
    ax.set_axis_off()
