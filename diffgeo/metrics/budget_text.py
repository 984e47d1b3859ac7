"""An error budget as its reader sees it: the tables of what `metrics.budget` has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffgeo.metrics.budget_clouds import ROWS

WAYS = {
    "paths": "displacement of samples of the same noise",
    "w2": "displacement of matched samples, W2",
    "moments": "means and deviations, W2 of Gaussians",
}


def number(value: float, error: float) -> str:
    value, error = (0.0 if abs(v) < 1e-8 else v for v in (value, error))
    return f"{value:.3g} +- {digit(error)}" if error else f"{value:.3g}"


def digit(error: float) -> str:
    """One digit, 10 and not 1e+01."""
    return f"{float(f'{error:.1g}'):g}"


def percent(value: float, error: float) -> str:
    """Of a share; no smaller standard error than a twentieth of a percent, and no minus zero."""
    return (
        f"{100 * value + 0.0:.1f} +- {digit(100 * error)} %"
        if error >= 5e-4
        else f"{round(100 * value, 1) + 0.0:.1f} %"
    )


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns without an entry left out, the first to the left, the others to the right."""
    kept = [column for column in zip(*lines, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    return [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*kept, strict=True)
    ]


def by_steps(values: Mapping[str, float]) -> dict[int, dict[str, tuple[float, float]]]:
    """Of each number of steps, increasing, the part of every row and its standard error."""
    counts = sorted(
        {
            int(key.split("/")[1])
            for key in values
            if key.startswith("budget/") and key.split("/")[1].isdigit()
        }
    )
    return {
        k: {
            row: (values[f"budget/{k}/{row}_part"], values[f"budget/{k}/{row}_part_se"])
            for row in ROWS
        }
        for k in counts
    }


COLUMNS = {
    "part": ("_part", number),
    "share": ("_share", percent),
    "of it normal": ("_normal_share", percent),
    "alone": ("", number),
    "W2": ("_w2", number),
    "distance to the support": ("_distance", number),
}


def text(values: Mapping[str, float]) -> str:
    """The run's own budget, a row a cause, and the parts by number of steps."""
    get = lambda row, what: values.get(f"budget/{row}{what}")
    way = next(way for way in WAYS if f"budget/by_{way}" in values)
    lines = [["cause", *COLUMNS]]
    for row in ROWS:
        lines.append(
            [
                row,
                *(
                    "" if (v := get(row, what)) is None else show(v, get(row, what + "_se"))
                    for what, show in COLUMNS.values()
                ),
            ]
        )
    steps = (
        f"{values['budget/steps']:.0f} steps"
        if "budget/steps" in values
        else "the sampler's own steps"
    )
    out = [
        f"error budget at {steps}, by {WAYS[way]}; {values['budget/n']:.0f} samples, data units, "
        "+- one standard error",
        *aligned(lines),
        "parts add up to the total; alone: with this cause only"
        + (
            "; W2: the same of matched samples, the total's is the run's W2 from the law"
            if "budget/total_w2" in values
            else ""
        ),
    ]
    normal = max(0.0, get("total", "_normal_share") or 0.0) ** 0.5 * get("total", "")
    if (
        way == "paths"
        and "budget/total_distance" in values
        and normal > 5 * abs(get("total", "_distance"))
    ):
        out.append(
            "a sample that jumps to another branch of the support moves normally, without leaving "
            "it: see the distance"
        )
    if values["budget/rerun"] > 1e-3 * get("total", ""):
        out.append(
            f"the run's samples are others, by {values['budget/rerun']:.2g} (sampler=, schedule=, "
            "seed=?): this is the budget of "
            "the samples that this line draws"
        )
    if len(parts := by_steps(values)) > 1:
        grid = [[str(k), *(number(*parts[k][row]) for row in ROWS)] for k in parts]
        out += ["parts by number of steps", *aligned([["steps", *ROWS], *grid])]
    return "\n".join(out)
