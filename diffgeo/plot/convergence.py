"""The convergence experiments in pictures: a panel each, with the stated slope beside every
quantity that has one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffgeo.plot.canvas import COLOURS, SUPPORT, log_axis, sheet

if TYPE_CHECKING:
    from diffgeo.theory.convergence import Experiment

COLUMNS = 4
NARROW = 3.0  # values within this factor of each other are drawn on a linear axis from 0


def panels(path, experiments: Sequence[Experiment]) -> None:
    """Every experiment's quantities against x on log axes (x linear where rates are per unit of x).
    Legend: measured slope (stated slope);
    grey: the stated slopes; dotted: noise floors."""
    columns = min(COLUMNS, len(experiments))
    with sheet(path, math.ceil(len(experiments) / columns), columns, (4.2, 3.6)) as (_, axes):
        for ax, experiment in zip(axes.flat, experiments, strict=False):
            panel(ax, experiment)
        for ax in axes.flat[len(experiments) :]:
            ax.set_axis_off()


def panel(ax, experiment: Experiment) -> None:
    x = np.array(experiment.x)
    every = np.array([s.values for s in experiment.series])
    if not experiment.exponential:
        log_axis(ax.xaxis, x.min(), x.max())
    if every.max() < NARROW * every.min():
        ax.set_ylim(0, 1.1 * every.max())
    elif every.max() < 1e6 * every.min():
        log_axis(ax.yaxis, every.min(), every.max())
    else:
        ax.set_yscale("log")
    for series, y, colour in zip(experiment.series, every, COLOURS, strict=False):
        label = (
            series.title
            if series.measured is None
            else f"{series.title}: {series.measured:.2f} ({series.expected:g})"
        )
        ax.plot(x, y, "o-", markersize=3.5, linewidth=1.4, color=colour, label=label)
        if series.expected is not None:
            stated = series.expected * (x - x[-1] if experiment.exponential else np.log(x / x[-1]))
            ax.plot(x, y[-1] * np.exp(stated), "--", linewidth=0.9, color=SUPPORT, zorder=0)
        if series.noise:
            ax.axhline(series.noise, linestyle=":", linewidth=0.9, color=colour)
    ax.set_xlabel(experiment.axis)
    ax.set_title(f"{experiment.name}: {experiment.title}", fontsize=8, wrap=True)
    ax.legend(frameon=False, fontsize=6.5)
