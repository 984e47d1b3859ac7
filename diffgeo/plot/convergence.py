"""Rates in pictures: a panel an experiment, with the stated slope beside every quantity that has
one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from diffgeo.plot.canvas import COLOURS, SUPPORT, log_axis, sheet

COLUMNS = 4
NARROW = 3.0  # values within this factor of each other are drawn on a linear axis from 0
WIDE = 1e6  # values further apart are drawn on whatever log axis they take
Line = tuple[Sequence[float], float | None, float]  # values, stated slope, noise floor (0: exact)


def panels(path, drawn: Sequence[Mapping]) -> None:
    """A panel for each set of keywords of `panel`, side by side."""
    columns = min(COLUMNS, len(drawn))
    with sheet(path, math.ceil(len(drawn) / columns), columns, (4.2, 3.6)) as (_, axes):
        for ax, keywords in zip(axes.flat, drawn, strict=False):
            panel(ax, **keywords)
        for ax in axes.flat[len(drawn) :]:
            ax.set_axis_off()


def panel(
    ax,
    title: str,
    axis: str,
    x: Sequence[float],
    lines: Mapping[str, Line],
    exponential: bool = False,
) -> None:
    """Quantities, by their labels, against the variable x called `axis`; grey: the stated slopes,
    dotted: noise floors.

    exponential: slopes are per unit of x, which is then on a linear axis; else both are log axes.
    """
    at = np.array(x)
    every = np.array([values for values, _, _ in lines.values()])
    if not exponential:
        log_axis(ax.xaxis, at.min(), at.max())
    if every.max() < NARROW * every.min():
        ax.set_ylim(0, 1.1 * every.max())
    elif every.max() < WIDE * every.min():
        log_axis(ax.yaxis, every.min(), every.max())
    else:
        ax.set_yscale("log")
    for (label, (values, slope, floor)), colour in zip(lines.items(), COLOURS, strict=False):
        y = np.array(values)
        ax.plot(at, y, "o-", markersize=3.5, linewidth=1.4, color=colour, label=label)
        if slope is not None:
            stated = slope * (at - at[-1] if exponential else np.log(at / at[-1]))
            ax.plot(at, y[-1] * np.exp(stated), "--", linewidth=0.9, color=SUPPORT, zorder=0)
        if floor:
            ax.axhline(floor, linestyle=":", linewidth=0.9, color=colour)
    ax.set_xlabel(axis)
    ax.set_title(title, fontsize=8, wrap=True)
    ax.legend(frameon=False, fontsize=6.5)
