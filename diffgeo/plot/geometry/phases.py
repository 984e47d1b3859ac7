"""The phases of a diffusion in pictures, and the local dimension by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffgeo.plot.canvas import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SUPPORT,
    VERMILION,
    log_axis,
    sheet,
)
from diffgeo.plot.geometry.symmetry import plain_log

COLOURS = {"phi": VERMILION, "uturn": ORANGE, "collision": BLUE, "entropy": GREEN, "trace": PURPLE}
MARKS = {"phi": "s", "uturn": "v", "collision": "o", "entropy": "^", "trace": "D"}
NAMES = {
    "phi": r"$\varphi$, the class is the same",
    "uturn": "the same after the model's U-turn",
    "collision": r"$\Sigma u^2$, the point is the same",
    "entropy": "entropy H of the posterior [nats]",
    "trace": r"tr $dD/dx$",
}
SHARES = ("phi", "uturn", "collision")
SIZES = ("entropy", "trace")


class Line(NamedTuple):
    """A mean by level and its standard error, None of one draw."""

    mean: Sequence[float]
    se: Sequence[float] | None


class Mark(NamedTuple):
    """A level that stands on the axis: predicted, or measured on a line at a height."""

    label: str
    sigma: float
    series: str | None = None
    height: float | None = None


def phases(path, sigma: Sequence[float], lines: Mapping[str, Line], marks: Sequence[Mark]) -> None:
    """Left what is a probability, right what is a size, both against the noise level; predicted
    levels are vertical lines, measured ones rings."""
    panels = [names for names in (SHARES, SIZES) if any(name in lines for name in names)]
    with sheet(path, 1, len(panels), (5.2, 4.5)) as (_, axes):
        for ax, names in zip(axes[0], panels, strict=True):
            for name in names:
                if name in lines:
                    _line(ax, sigma, name, lines[name])
            _marks(ax, marks, names)
            plain_log(ax, min(sigma) / 1.15, 1.15 * max(sigma))
            ax.set_xlabel(r"noise level $\sigma$")
            if names is SHARES:
                ax.set(ylim=(-0.03, 1.06), ylabel="probability")
            else:
                ax.set_ylim(bottom=0)
                ax.set_ylabel("nats; number of directions")
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
            ax.legend(frameon=False, fontsize=8, **below)


def _line(ax, sigma: Sequence[float], name: str, line: Line) -> None:
    colour = COLOURS[name]
    style = {"color": colour, "marker": MARKS[name], "markersize": 4, "linewidth": 1.4}
    ax.errorbar(sigma, line.mean, yerr=line.se, capsize=2, label=NAMES[name], **style)


def _marks(ax, marks: Sequence[Mark], names: Sequence[str]) -> None:
    styles = iter(("--", "-.", ":"))
    for mark in marks:
        if mark.series is None:
            style = {"color": BLACK, "linewidth": 1.1, "linestyle": next(styles)}
            ax.axvline(mark.sigma, label=mark.label, **style)
        elif mark.series in names:
            ring = {"s": 90, "facecolors": "none", "edgecolors": BLACK, "zorder": 4}
            ax.scatter([mark.sigma], [mark.height], label=mark.label, linewidths=1.3, **ring)


def dimension(path, sigma: Sequence[float], lines: Mapping[str, Line], truth: float) -> None:
    """The estimated dimension by level, its two parts, and the support's own."""
    styles = {"dimension": (BLACK, "o"), "trace": (PURPLE, "D"), "residual": (GREEN, "^")}
    names = {"residual": r"$|x - D|^2/\sigma^2$", "trace": NAMES["trace"]}
    with sheet(path, 1, 1, (5.2, 3.6)) as (_, axes):
        ax = axes[0, 0]
        ax.axhline(truth, color=SUPPORT, linewidth=1.2, label=f"of the support: {truth:g}")
        for name, line in lines.items():
            colour, marker = styles[name]
            style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
            ax.errorbar(
                sigma, line.mean, yerr=line.se, capsize=2, label=names.get(name, name), **style
            )
        log_axis(ax.xaxis, min(sigma), max(sigma))
        ax.set_xlabel(r"noise level $\sigma$")
        ax.set_ylabel("directions")
        ax.legend(frameon=False, fontsize=8)
