"""Pictures of restorations: a row an image, a column what was made of it; clouds of draws beside
those of the exact posterior; ranks of the truth among the draws.

Images are plain PNG, drawn without matplotlib but for the colours of a map: every map of a sheet
(an error, a spread) is in cividis on one scale from 0, whose end the sheet says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, SUPPORT, VERMILION, sheet
from diffgeo.plot.page import picture
from diffgeo.store.caches import need_home

# in pixels
SIDE = 84  # the least of a shown image
GAP = 6  # between images
LINE = 12  # the height of a line of text
LETTER = 6  # the width of a letter
BAR = 120  # the width of the scale
INK = (40, 40, 40)


class Cell(NamedTuple):
    """One image of a sheet.

    image: bytes [C,H,W]; or a map of numbers >= 0, float [H,W]. caption: lines below it.
    """

    image: Tensor
    caption: tuple[str, ...] = ()


def images(
    path,
    rows: Sequence[Sequence[Cell | None]],
    heads: Sequence[str],
    names: Sequence[str],
    title: str,
    groups: Sequence[tuple[str, int]] = (),
) -> None:
    """Rows of cells (None: an empty place) with a head above each column and a name to the left of
    each row. groups: (name, columns) of the columns, in order, with a wider gap between them."""
    from PIL import Image, ImageDraw

    most = scale_of(rows)
    side = shown_side(rows)
    lines = caption_lines(rows)
    left = LETTER * max(map(len, names)) + 2 * GAP
    ends = boundaries(groups)
    titles = wrapped(title, (left + len(heads) * (side + GAP)) // LETTER)
    top = LINE * (len(titles) + 1 + bool(groups)) + 2 * GAP
    high = side + LINE * lines + GAP

    def place(column: int) -> int:
        """Where a column begins."""
        wider = sum(1 for end in ends if column >= end)
        return left + column * (side + GAP) + 2 * GAP * wider

    width = place(len(heads) - 1) + side + 2 * GAP
    foot = LINE + 2 * GAP if most else GAP
    canvas = np.full((top + high * len(rows) + foot, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell is not None:
                pixels = enlarged(colours(cell.image, most), side)
                y = top + i * high
                x = place(j)
                canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    if most:
        put_scale(canvas, left, top + high * len(rows) + GAP)
    page = Image.fromarray(canvas)
    draw = ImageDraw.Draw(page)
    for k, line in enumerate(titles):
        draw.text((GAP, GAP + k * LINE), line, fill=INK)
    first = 0
    for name, columns in groups:
        draw.text((place(first), top - 2 * LINE - 2), name, fill=INK)
        first += columns
    for j, head in enumerate(heads):
        draw.text((place(j), top - LINE - 2), head, fill=INK)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        draw.text((GAP, top + i * high + side // 2), name, fill=INK)
        for j, cell in enumerate(row):
            for k, line in enumerate(cell.caption if cell is not None else ()):
                draw.text((place(j), top + i * high + side + k * LINE), line, fill=INK)
    if most:
        text = f"error and spread, from 0 to {most:.2g}, in units of the data"
        draw.text((left + BAR + GAP, top + high * len(rows) + GAP), text, fill=INK)
    picture(path, page)


def boundaries(groups: Sequence[tuple[str, int]]) -> list[int]:
    """The columns at which a group but the first begins."""
    ends = []
    last = 0
    for _, columns in groups[:-1]:
        last += columns
        ends.append(last)
    return ends


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def cells_of(rows: Sequence[Sequence[Cell | None]]) -> list[Cell]:
    return [cell for row in rows for cell in row if cell is not None]


def scale_of(rows: Sequence[Sequence[Cell | None]]) -> float:
    """The end of the scale of all maps: their largest 99 % quantile, so that one pixel does not
    darken all others; 0 of none."""
    ends = []
    for cell in cells_of(rows):
        if cell.image.ndim == 2:
            ends.append(float(torch.quantile(cell.image.double(), 0.99)))
    return max(ends, default=0.0)


def shown_side(rows: Sequence[Sequence[Cell | None]]) -> int:
    """The side at which every image is shown: a whole multiple of the largest."""
    largest = max(max(cell.image.shape[-2:]) for cell in cells_of(rows))
    return largest * max(1, math.ceil(SIDE / largest))


def caption_lines(rows: Sequence[Sequence[Cell | None]]) -> int:
    return max(len(cell.caption) for cell in cells_of(rows))


def enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    """An image [H,W,3] at the side at which it is shown, its pixels squares."""
    times = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(times, 0).repeat(times, 1)


def colours(image: Tensor, most: float) -> np.ndarray:
    """Bytes [H,W,3] of an image, or of a map on a scale that ends at `most`."""
    if image.ndim == 2:
        share = (image.double() / (most or 1.0)).clamp(0, 1).numpy()
        return in_cividis(share)
    planes = image.permute(1, 2, 0).numpy()
    return np.broadcast_to(planes, (*planes.shape[:2], 3))


def in_cividis(share: np.ndarray) -> np.ndarray:
    """Numbers 0 .. 1 as bytes [...,3]: a map that colour-blind readers see as others do."""
    need_home()
    from matplotlib import colormaps

    return (colormaps["cividis"](share)[..., :3] * 255 + 0.5).astype(np.uint8)


def put_scale(canvas: np.ndarray, x: int, y: int) -> None:
    """The scale of the maps, from its 0 at x to its end."""
    canvas[y : y + LINE - 2, x : x + BAR] = in_cividis(np.linspace(0, 1, BAR))[None]


class Clouds(NamedTuple):
    """One problem in the plane, [n,2] each; None of what is not known."""

    draws: np.ndarray
    exact: np.ndarray | None = None
    truth: np.ndarray | None = None  # [2]


def clouds(
    path,
    problems: Sequence[Clouds],
    prior: np.ndarray,
    axes_names: tuple[str, str],
    names: Sequence[str],
    title: str,
) -> None:
    """The draws of each problem beside draws of its exact posterior, over the prior [n,2]."""
    with sheet(path, 1, len(problems), (3.6, 3.6)) as (figure, axes):
        for ax, problem, name in zip(axes[0], problems, names, strict=True):
            ax.scatter(*prior.T, s=2, color=SUPPORT, alpha=0.35, linewidths=0, label="prior")
            if problem.exact is not None:
                ax.scatter(*problem.exact.T, s=7, color=BLACK, linewidths=0, label="exact")
            ax.scatter(*problem.draws.T, s=7, color=BLUE, alpha=0.6, linewidths=0, label="restored")
            if problem.truth is not None:
                ax.scatter(*problem.truth, s=90, marker="*", color=VERMILION, label="truth")
            ax.set(title=name, xlabel=axes_names[0], ylabel=axes_names[1])
            ax.set_aspect("equal", adjustable="datalim")
        axes[0, 0].legend(frameon=False, fontsize=7, loc="best")
        figure.suptitle("\n".join(wrapped(title, 26 * len(problems) + 14)), fontsize=8)


def ranks(
    path, counts: Sequence[Tensor], expected: float, names: Sequence[str], notes: Sequence[str]
) -> None:
    """Histograms of ranks, a panel each, beside the band in which nineteen bars of twenty lie where
    the draws are calibrated."""
    with sheet(path, 1, len(counts), (4.0, 2.8), sharey=True) as (_, axes):
        for ax, own, name, note in zip(axes[0], counts, names, notes, strict=True):
            bins = len(own)
            problems = expected * bins
            spread = 1.96 * math.sqrt(problems / bins * (1 - 1 / bins))
            low = max(0.0, expected - spread)
            ax.axhspan(low, expected + spread, color="#E3E3E3", zorder=0)
            ax.axhline(expected, color=SUPPORT, linewidth=1, zorder=1)
            middle = (np.arange(bins) + 0.5) / bins
            ax.bar(middle, own.numpy(), width=0.9 / bins, color=BLUE, zorder=2)
            ax.set(title=f"{name}\n{note}", xlabel="rank of the truth among the draws", xlim=(0, 1))
            ax.title.set_fontsize(8)
        axes[0, 0].set_ylabel("problems")
