"""Symmetry breaking in pictures: potentials with their wells, and bifurcation diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, ORANGE, SUPPORT, VERMILION, sheet

LINES = ("-", "--", "-.", ":")
NAMED = 2  # saddle-nodes in a legend
DECADE = 10.0  # how far a picture without a critical level goes


class Curve(NamedTuple):
    """A potential along the axis at one level, and where its wells are."""

    label: str
    r: np.ndarray  # [n]
    u: np.ndarray  # [n]
    wells: np.ndarray  # positions on the axis [k]


class Path(NamedTuple):
    """A branch of fixed points in its order."""

    sigma: np.ndarray  # [m]
    r: np.ndarray  # [m], along the axis
    stable: np.ndarray  # [m] bool


class Panel(NamedTuple):
    """The bifurcation diagram of one dynamics."""

    title: str
    paths: Sequence[Path]
    centre: Path | None
    critical: float | None  # where the centre is lost
    saddle_nodes: Sequence[float]


def potentials(path, panels: Sequence[tuple[str, Sequence[Curve]]]) -> None:
    """Title and curves of each dynamics: the potential less its value at the origin, a dot at each
    well."""
    columns = 2 if len(panels) > 1 else 1
    rows = (len(panels) + 1) // columns
    with sheet(path, rows, columns, (4.6, 3.3)) as (_, axes):
        for ax, (title, curves) in zip(axes.flat, panels, strict=False):
            lowest = 0.0
            for curve, colour, line in zip(curves, COLOURS, LINES, strict=False):
                ax.plot(curve.r, curve.u, line, color=colour, linewidth=1.5, label=curve.label)
                depth = np.interp(curve.wells, curve.r, curve.u)
                ax.scatter(curve.wells, depth, s=26, color=colour, zorder=3, linewidths=0)
                lowest = min(lowest, float(curve.u.min()))
            room = max(-lowest, 0.25)
            ax.set_ylim(lowest - 0.15 * room, 1.3 * room)
            ax.axvline(0, color=SUPPORT, linewidth=0.7, zorder=0)
            ax.set_title(title, fontsize=10)
            ax.set_xlabel(r"$x_t$ on the axis, from the mean")
            ax.set_ylabel("potential u [nats], 0 at the mean")
            ax.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()


def bifurcations(path, panels: Sequence[Panel]) -> None:
    """Fixed points against the noise level, one panel a dynamics. Solid lines are wells, dashed
    ones are unstable."""
    columns = 2 if len(panels) > 1 else 1
    rows = (len(panels) + 1) // columns
    with sheet(path, rows, columns, (4.6, 3.6)) as (_, axes):
        for ax, panel in zip(axes.flat, panels, strict=False):
            _diagram(ax, panel)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()


def _diagram(ax, panel: Panel) -> None:
    every = [*panel.paths]
    if panel.centre is not None:
        every.append(panel.centre)
    for one in every:
        _path(ax, one)
    if panel.critical is not None:
        label = rf"centre lost, $\sigma$ = {panel.critical:.4g}"
        ax.axvline(panel.critical, color=VERMILION, linewidth=1.2, label=label)
    for number, sigma in enumerate(panel.saddle_nodes):
        label = rf"saddle-node, $\sigma$ = {sigma:.4g}" if number < NAMED else None
        ax.axvline(sigma, color=ORANGE, linewidth=1.2, linestyle="-.", label=label)
    ax.plot([], [], color=BLUE, linewidth=1.6, label="stable (a well)")
    ax.plot([], [], color=BLACK, linewidth=1.0, linestyle="--", label="unstable")
    levels = [*panel.saddle_nodes]
    if panel.critical is not None:
        levels.append(panel.critical)
    low = min(float(one.sigma[0]) for one in every)  # where branches begin
    # of a law that has no well but its centre there is no branch
    high = max((float(one.sigma.max()) for one in panel.paths), default=DECADE * low)
    if levels:
        high = 2.2 * max(levels)
    reach = max((float(np.abs(one.r).max()) for one in panel.paths), default=1.0)
    plain_log(ax, low, high)
    ax.set_ylim(-1.15 * reach, 2.0 * reach)  # the legend has the upper part to itself
    ax.set_title(panel.title, fontsize=10)
    ax.set_xlabel(r"noise level $\sigma$")
    ax.set_ylabel(r"fixed points $x_t$, along the axis")
    white = {"facecolor": "white", "edgecolor": "none", "framealpha": 1.0}
    ax.legend(fontsize=8, loc="upper left", ncols=2, **white).set_zorder(5)


def _path(ax, path: Path) -> None:
    """A branch, solid where it is stable and dashed where not; the two parts share a point."""
    stable = path.stable.astype(bool)
    near = stable.copy()
    near[1:] |= stable[:-1]
    ax.plot(path.sigma, np.where(near, path.r, np.nan), color=BLUE, linewidth=1.6, zorder=3)
    dashed = np.where(stable, np.nan, path.r)
    ax.plot(path.sigma, dashed, color=BLACK, linewidth=1.0, linestyle="--", zorder=2)


def plain_log(ax, low: float, high: float) -> None:
    """A log axis of levels with ticks at 1, 2, 5, 10: it spans little more than a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plain = ScalarFormatter()
    plain.set_scientific(False)
    ax.xaxis.set_major_formatter(plain)
    ax.xaxis.set_minor_formatter(NullFormatter())
