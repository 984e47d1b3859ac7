"""An error budget as its reader sees it: the tables of what `metrics.budget` has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diffgeo.metrics.budget.clouds import ROWS
from diffgeo.tables import aligned

WAYS = {
    "paths": "displacement of samples of the same noise",
    "w2": "displacement of matched samples, W2",
    "moments": "means and deviations, W2 of Gaussians",
}
TINY = 1e-8  # of a distance: rounding


def digit(error: float) -> str:
    """One digit, 10 and not 1e+01."""
    return f"{float(f'{error:.1g}'):g}"


def number(value: float, error: float) -> str:
    """Of a distance, and its standard error where it has one."""
    value = 0.0 if abs(value) < TINY else value
    if abs(error) < TINY:
        return f"{value:.3g}"
    return f"{value:.3g} +- {digit(error)}"


def percent(value: float, error: float) -> str:
    """Of a share; no smaller standard error than a twentieth of a percent, and no minus zero."""
    if error >= 5e-4:
        return f"{100 * value + 0.0:.1f} +- {digit(100 * error)} %"
    return f"{round(100 * value, 1) + 0.0:.1f} %"


@dataclass(frozen=True)
class Column:
    """A column of the table of rows: its title, what follows the row in a key, how it is shown."""

    title: str
    ending: str
    show: Callable[[float, float], str]


COLUMNS = (
    Column("part", "_part", number),
    Column("share", "_share", percent),
    Column("of it normal", "_normal_share", percent),
    Column("alone", "", number),
    Column("W2", "_w2", number),
    Column("distance to the support", "_distance", number),
)


def cell(values: Mapping[str, float], row: str, column: Column) -> str:
    """Empty where the budget has no such number."""
    key = f"budget/{row}{column.ending}"
    if key not in values:
        return ""
    return column.show(values[key], values[f"{key}_se"])


def by_cause(values: Mapping[str, float]) -> list[str]:
    """The table of the run's own budget, a row a cause."""
    lines = [["cause", *(column.title for column in COLUMNS)]]
    for row in ROWS:
        lines.append([row, *(cell(values, row, column) for column in COLUMNS)])
    return aligned(lines)


def by_steps(values: Mapping[str, float]) -> dict[int, dict[str, tuple[float, float]]]:
    """Of each number of steps, increasing, the part of every row and its standard error."""
    counts = set()
    for key in values:
        group, _, rest = key.partition("/")
        word = rest.partition("/")[0]
        if group == "budget" and word.isdigit():
            counts.add(int(word))
    parts: dict[int, dict[str, tuple[float, float]]] = {}
    for count in sorted(counts):
        parts[count] = {}
        for row in ROWS:
            key = f"budget/{count}/{row}_part"
            parts[count][row] = values[key], values[f"{key}_se"]
    return parts


def against_steps(values: Mapping[str, float]) -> list[str]:
    """The table of parts, a row a number of steps; nothing for one number."""
    parts = by_steps(values)
    if len(parts) < 2:
        return []
    lines = [["steps", *ROWS]]
    for count, rows in parts.items():
        lines.append([str(count), *(number(*rows[row]) for row in ROWS)])
    return ["parts by number of steps", *aligned(lines)]


def remarks(values: Mapping[str, float], way: str) -> list[str]:
    """What a reader might take wrong."""
    said = []
    total = values["budget/total"]
    share = max(0.0, values.get("budget/total_normal_share", 0.0))
    normal = share**0.5 * total
    distance = values.get("budget/total_distance")
    if way == "paths" and distance is not None and normal > 5 * abs(distance):
        said.append(
            "a sample that jumps to another branch of the support moves normally, without leaving "
            "it: see the distance"
        )
    if values["budget/rerun"] > 1e-3 * total:
        said.append(
            f"the run's samples are others, by {values['budget/rerun']:.2g} (sampler=, schedule=, "
            "seed=?): this is the budget of the samples that this line draws"
        )
    return said


def text(values: Mapping[str, float]) -> str:
    """The run's own budget, a row a cause, and the parts by number of steps."""
    way = next(way for way in WAYS if f"budget/by_{way}" in values)
    steps = "the sampler's own steps"
    if "budget/steps" in values:
        steps = f"{values['budget/steps']:.0f} steps"
    title = (
        f"error budget at {steps}, by {WAYS[way]}; {values['budget/n']:.0f} samples, data units, "
        "+- one standard error"
    )
    legend = "parts add up to the total; alone: with this cause only"
    if "budget/total_w2" in values:
        legend += "; W2: the same of matched samples, the total's is the run's W2 from the law"
    return "\n".join(
        [
            title,
            *by_cause(values),
            legend,
            *remarks(values, way),
            *against_steps(values),
        ]
    )
