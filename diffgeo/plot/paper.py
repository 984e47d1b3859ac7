"""figures.style=paper: a figure for one column of a paper, 3.3 inches wide, letters of 8 points.

A row of panels that does not fit the column goes on below itself: at most as many panels stand side
by side as leave each what it needs to be read. Words that are longer than their panel are broken.
"""

from __future__ import annotations

import math
import textwrap

import numpy as np

WIDTH = 3.3  # of a column, in inches
LETTERS = 8  # points
TALL = 0.75  # height over width of a panel that has the column to itself, at most
SMALL = 3.0  # inches of a panel on a screen that has more than a cloud or a picture to show
LEAST = 1.6  # inches of a panel with an axis
TICKS = 0.4  # inches that the numbers beside an axis take
LETTER = 0.56 * LETTERS / 72  # the width of a letter of LETTERS points, in inches
SETTINGS = {
    "font.size": LETTERS,
    "axes.titlesize": LETTERS,
    "figure.titlesize": LETTERS,
    "legend.fontsize": LETTERS,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.labelpad": 2.0,
    "axes.titlepad": 3.0,
    "legend.handlelength": 1.4,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.h_pad": 0.02,
}


def across(columns: int, width: float) -> int:
    """How many of a row's panels, `width` inches wide on a screen, stand side by side: one of a
    few large ones, two of several, as many small pictures as can be told apart."""
    if columns <= 3 and width > SMALL:
        return 1
    least = min(LEAST, 0.62 * width)
    return max(1, min(columns, int(WIDTH / least)))


def panels(rows: int, columns: int, size: tuple[float, float], subplots: dict) -> tuple:
    """A figure of the column's width, and its panels [rows,columns] of the proportions of `size`;
    a row that is too long goes on in the next line."""
    from matplotlib.figure import Figure

    beside = across(columns, size[0])
    lines = math.ceil(columns / beside)  # of a row
    side = WIDTH / beside
    high = side * min(size[1] / size[0], TALL if beside == 1 else 1.2)
    figure = Figure(figsize=(WIDTH, rows * lines * high), layout="constrained")
    grid = figure.subplots(rows * lines, beside, squeeze=False, **subplots)
    found = np.empty((rows, columns), dtype=object)
    for row in range(rows):
        for place in range(lines * beside):
            ax = grid[row * lines + place // beside, place % beside]
            if place < columns:
                found[row, place] = ax
            else:
                # the panel above is then the last of its column
                ax.set_axis_off()
                if place >= beside:
                    grid[row * lines + place // beside - 1, place % beside].tick_params(
                        labelbottom=True
                    )
    return figure, found


def fit(figure) -> None:
    """Letters of at most LETTERS points, long words broken at the width of their panel, and no
    lines of panels that show nothing."""
    from matplotlib.text import Text

    shorten(figure)
    for text in figure.findobj(Text):
        if text.get_fontsize() > LETTERS:
            text.set_fontsize(LETTERS)
    for ax in figure.axes:
        place = ax.get_subplotspec()
        lines, beside = place.get_gridspec().get_geometry() if place else (1, 1)
        wide = int((WIDTH / beside - TICKS) / LETTER)  # words stand over the axes
        high = int(figure.get_size_inches()[1] / lines / LETTER)
        for text, letters in ((ax.title, wide), (ax.xaxis.label, wide), (ax.yaxis.label, high)):
            text.set_text(broken(text.get_text(), letters))
        move_legend(ax)
    if figure.get_suptitle():
        title = " ".join(figure.get_suptitle().split("\n"))
        figure.suptitle(broken(title, int(WIDTH / LETTER)), fontsize=LETTERS)


def shorten(figure) -> None:
    """Leave out the lines of a grid at whose end no panel is seen."""
    placed = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    grid = placed[0].get_subplotspec().get_gridspec()
    lines, beside = grid.get_geometry()
    last = max(ax.get_subplotspec().rowspan.stop for ax in placed if ax.get_visible())
    if last == lines:
        return
    wide, high = figure.get_size_inches()
    figure.set_size_inches(wide, high * last / lines)
    shorter = figure.add_gridspec(last, beside)
    for ax in placed:
        place = ax.get_subplotspec()
        if place.rowspan.start >= last:
            ax.remove()
        else:
            ax.set_subplotspec(shorter[place.rowspan.start, place.colspan.start])


def move_legend(ax) -> None:
    """Put a legend that lies in its panel where it covers least: letters are larger here."""
    legend = ax.get_legend()
    if legend is not None and legend.get_bbox_to_anchor().bounds == ax.bbox.bounds:
        legend.set_loc("best")


def broken(text: str, letters: int) -> str:
    """A text in lines of at most so many letters; formulas stay whole, and lines of before."""
    lines = []
    for line in text.split("\n"):
        parts = line.split("$")
        # of a formula, between two dollars, no space is a place to break at
        parts[1::2] = [part.replace(" ", "\0") for part in parts[1::2]]
        lines += textwrap.wrap("$".join(parts), max(letters, 8), break_long_words=False) or [""]
    return "\n".join(lines).replace("\0", " ")
