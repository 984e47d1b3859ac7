"""The error budget of a run against its number of steps."""

from __future__ import annotations

from collections.abc import Mapping

from diffgeo.plot.canvas import BLACK, BLUE, GREEN, ORANGE, SUPPORT, VERMILION, sheet

COLOUR = {
    "truncation": GREEN,
    "initialization": ORANGE,
    "discretization": BLUE,
    "score": VERMILION,
    "interaction": SUPPORT,
}


def budget(path, parts: Mapping[int, Mapping[str, tuple[float, float]]], title: str = "") -> None:
    """A stacked bar a number of steps: the parts of the distance from the law, negative ones below
    0; the black mark is their sum, with one standard error. parts: steps -> row -> (part, standard
    error), from `metrics.budget.text.by_steps`."""
    with sheet(path, 1, 1, (2.8 + 0.6 * len(parts), 3.0)) as (_, axes):
        bars(axes[0, 0], parts)
        axes[0, 0].set_title(title, fontsize=10)


def bars(ax, parts: Mapping[int, Mapping[str, tuple[float, float]]]) -> None:
    places = range(len(parts))
    up = [0.0] * len(parts)
    down = [0.0] * len(parts)
    for cause, colour in COLOUR.items():
        heights = [row[cause][0] for row in parts.values()]
        bottoms = []
        for k, height in enumerate(heights):
            pile = up if height > 0 else down
            bottoms.append(pile[k])
            pile[k] += height
        ax.bar(places, heights, 0.7, bottoms, color=colour, label=cause)
    totals = [row["total"][0] for row in parts.values()]
    errors = [row["total"][1] for row in parts.values()]
    ax.errorbar(
        places,
        totals,
        errors,
        fmt="_",
        color=BLACK,
        markersize=22,
        markeredgewidth=1.6,
        capsize=3,
        label="total",
    )
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_xticks(list(places), [str(k) for k in parts])
    ax.set(xlabel="steps", ylabel="part of the distance from the law")
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
