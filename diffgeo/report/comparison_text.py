"""The runs of report/comparison.py as text: a table of the jobs, the ranking over seeds, the best
within each number of network evaluations, the noise floors; and everything as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffgeo.metrics.suite import FLOOR, FLOOR_ERROR, SPREAD
from diffgeo.metrics.table import number
from diffgeo.report.comparison import (
    NFE,
    SHOWN,
    Group,
    Row,
    by_problem,
    common,
    differ,
    named,
    over_seeds,
)
from diffgeo.tables import csv_text, markdown


def report(rows: Sequence[Row], by: str) -> str:
    """The tables: a row a job, the ranking by the metric `by`, the floors."""
    asked = [*named(rows, SHOWN), *common(rows), by]
    if differ(rows, NFE):
        asked.insert(0, NFE)
    shown = [key for key in dict.fromkeys(asked) if any(key in row.metrics for row in rows)]
    text = jobs(rows, shown)
    problems = by_problem(over_seeds(rows), by)
    for problem, ranked in problems.items():
        if len(ranked) > 1:
            among = said(problem) if len(problems) > 1 else ""
            text += ranking(ranked, by, shown, among)
            if differ(rows, NFE):
                text += best_within(ranked, by, among)
    return text + floors(rows, shown)


def said(problem: Sequence[tuple[str, str]]) -> str:
    """` of operator=pool`: which of several problems."""
    return " of " + " ".join(f"{key}={value}" for key, value in problem)


def jobs(rows: Sequence[Row], shown: Sequence[str]) -> str:
    """A row a job, in the order of the jobs; one without metrics says why."""
    names = list(rows[0].settings)
    some_lack = any(row.status for row in rows)
    lines = []
    for row in rows:
        cells = [number(row.metrics[key], 4) if key in row.metrics else "" for key in shown]
        status = [row.status] if some_lack else []
        lines.append([*(row.settings[name] for name in names), *cells, *status])
    return markdown([*names, *shown, *(["status"] if some_lack else [])], lines)


def written(group: Group, key: str) -> str:
    """A mean over seeds, with its deviation where there are several; "" where it is not there."""
    if key not in group.metrics:
        return ""
    mean, deviation = group.metrics[key]
    if math.isnan(deviation):
        return number(mean, 4)
    return f"{number(mean, 4)} +- {number(deviation, 2)}"


def ranking(ranked: Sequence[Group], by: str, shown: Sequence[str], among: str) -> str:
    """The groups of one problem from the best to the worst."""
    names = list(ranked[0].settings)
    lines = []
    for rank, group in enumerate(ranked, 1):
        settings = [group.settings[name] for name in names]
        cells = [written(group, key) for key in shown]
        lines.append([str(rank), *settings, str(group.runs), *cells])
    over = ", one run each: seed=0,1,2 on the line would say what of it is chance"
    if any(group.runs > 1 for group in ranked):
        over = ", mean +- standard deviation over seeds"
    return f"\nranked by {by}{among}{over}\n\n" + markdown(["rank", *names, "runs", *shown], lines)


def best_within(ranked: Sequence[Group], by: str, among: str) -> str:
    """The best group within each number of evaluations at which it changes."""
    names = list(ranked[0].settings)
    lines = []
    last = None
    for budget in sorted({group.metrics[NFE][0] for group in ranked}):
        affordable = [group for group in ranked if group.metrics[NFE][0] <= budget]
        best = affordable[0]
        if best is not last:
            settings = [best.settings[name] for name in names]
            lines.append([f"{budget:g}", *settings, written(best, by)])
        last = best
    title = f"\nbest {by}{among} within so many network evaluations a sample\n\n"
    return title + markdown(["evaluations", *names, by], lines)


def floors(rows: Sequence[Row], shown: Sequence[str]) -> str:
    """The noise floors that all rows with metrics share."""
    measured = [row.metrics for row in rows if not row.status]
    lines = []
    for key in shown:
        values = {metrics.get(key + FLOOR) for metrics in measured}
        if len(values) != 1 or None in values:
            continue
        first = measured[0]
        if key + SPREAD not in first:
            continue
        error = number(first[key + FLOOR_ERROR], 2) if key + FLOOR_ERROR in first else ""
        lines.append([key, number(first[key + FLOOR], 4), error, number(first[key + SPREAD], 2)])
    if not lines:
        return ""
    title = "\nnoise floor: what fresh true samples of the same number give\n\n"
    return title + markdown(["metric", "floor", "its standard error", "sd of a draw"], lines)


def table(rows: Sequence[Row]) -> str:
    """Every setting and every metric of every row, as CSV; a column `status` where a row has no
    metrics."""
    names = list(rows[0].settings)
    metrics = list(dict.fromkeys(sorted(key for row in rows for key in row.metrics)))
    some_lack = any(row.status for row in rows)
    lines = []
    for row in rows:
        status = [row.status] if some_lack else []
        numbers = [row.metrics.get(key, "") for key in metrics]
        lines.append([*(row.settings[name] for name in names), *status, *numbers])
    return csv_text([*names, *(["status"] if some_lack else []), *metrics], lines)
