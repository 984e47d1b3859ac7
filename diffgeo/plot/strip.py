"""Estimates of x0 on the way to a sample: a row a run, a column a noise level, last the sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffgeo.plot.canvas import BLUE, SUPPORT, sheet

SIDE = 1.3  # of a panel, in inches
LEAST = 96  # pixels below which a picture is enlarged as squares


class Row(NamedTuple):
    """One run.

    name: to the left of it.    levels: sigma of each column but the last, [k].
    columns: bytes [k+1,C,H,W], or points of a plane [k+1,n,2]; last the samples.
    truth: points of the plane from the law itself [m,2]; None of pictures.
    """

    name: str
    levels: Sequence[float]
    columns: np.ndarray
    truth: np.ndarray | None = None


def strip(path, rows: Sequence[Row], title: str) -> None:
    """The rows below each other. Every column says its level, once where all rows share theirs."""
    most = max(len(row.columns) for row in rows)
    shared = all(list(row.levels) == list(rows[0].levels) for row in rows)
    with sheet(path, len(rows), most, (SIDE, SIDE * 1.12)) as (figure, axes):
        for i, row in enumerate(rows):
            limits = frame(row)
            for j in range(most):
                ax = axes[i, j]
                ax.set(xticks=[], yticks=[])
                if j >= len(row.columns):
                    ax.set_axis_off()
                    continue
                panel(ax, row.columns[j], row.truth, limits)
                if i == 0 or not shared:
                    last = j == len(row.levels)
                    head = "sample" if last else rf"$\sigma$ = {row.levels[j]:.3g}"
                    ax.set_title(head, fontsize=9)
            axes[i, 0].set_ylabel(row.name, fontsize=9, rotation=0, ha="right", va="center")
        figure.suptitle(title, fontsize=10)


def frame(row: Row) -> tuple[np.ndarray, np.ndarray] | None:
    """A square of the plane that holds the truth and the samples of a row; None of pictures."""
    if row.truth is None:
        return None
    both = np.concatenate([row.truth, row.columns[-1]])
    low = both.min(0)
    high = both.max(0)
    half = 0.6 * max(float((high - low).max()), 1e-9)
    centre = (low + high) / 2
    return centre - half, centre + half


def panel(ax, column: np.ndarray, truth: np.ndarray | None, limits) -> None:
    """One estimate: a picture, or a cloud over the law."""
    if truth is None:
        image = column[0] if len(column) == 1 else column.transpose(1, 2, 0)
        kind = "nearest" if min(image.shape[:2]) < LEAST else "antialiased"
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation=kind)
        ax.spines[:].set_visible(False)
        return
    low, high = limits
    ax.scatter(*truth.T, s=3, color=SUPPORT, linewidths=0, zorder=0)
    ax.scatter(*column.T, s=4, color=BLUE, alpha=0.5, linewidths=0)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_aspect("equal", adjustable="box")
