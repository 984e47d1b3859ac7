"""Predictors, correctors and both, budget beside budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffgeo.plot.canvas import COLOURS, SUPPORT, log_axis, sheet

MARKS = ("o", "s", "^", "D")


class Panel(NamedTuple):
    """One comparison: values by row and budget, None where there is none."""

    title: str
    label: str  # of the axis of values
    rows: Mapping[str, Mapping[str, float | None]]


def panels(path, asked: Sequence[Panel]) -> None:
    """A panel each: a line a predictor, a mark a budget, on a log axis."""
    with sheet(path, 1, len(asked), (3.9, 2.9)) as (figure, axes):
        for ax, panel in zip(axes[0], asked, strict=True):
            draw(ax, panel)
        for ax in axes[0, 1:]:
            ax.tick_params(labelleft=list(asked[0].rows) != list(asked[-1].rows))
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)


def draw(ax, panel: Panel) -> None:
    """One panel, the first row on top."""
    names = list(panel.rows)
    budgets = list(next(iter(panel.rows.values())))
    values = []
    for k, budget in enumerate(budgets):
        aside = 0.08 * (k - (len(budgets) - 1) / 2)  # or equal ones hide each other
        rows = enumerate(panel.rows.values())
        points = [(row[budget], -i - aside) for i, row in rows if row[budget]]
        values += [value for value, _ in points]
        style = {"marker": MARKS[k], "color": COLOURS[k], "s": 42, "zorder": 2}
        ax.scatter(*zip(*points, strict=True), label=budget, **style)
    for i in range(len(names)):
        ax.axhline(-i, color=SUPPORT, lw=0.6, zorder=0)
    ax.set_yticks([-i for i in range(len(names))], names)
    ax.set(title=panel.title, xlabel=panel.label, ylim=(0.6 - len(names), 0.6))
    ax.title.set_fontsize(10)
    log_axis(ax.xaxis, min(values) / 1.3, max(values) * 1.3)
