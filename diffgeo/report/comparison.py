"""One table of the runs below a folder, a row a job, and what can be read off it: the ranking over
seeds, the best within each number of network evaluations, the noise floors."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffgeo.errors import UsageError
from diffgeo.store.files import read_json
from diffgeo.tables import csv_text, markdown

NFE = "sampling/nfe"
SHOWN = (
    "flow/rms",
    "distance/mean",
    "distance/median",
    "distance/q99",
    "tangential/w2",
    "transport/w2",
    "transport/sliced_w2",
    "atoms/chi2",
    "denoiser/f_l2",
    "budget/total",
    "budget/total_w2",
)
# against evaluations
WORK = ("flow/rms", "distance/mean", "tangential/w2", "transport/sliced_w2")
FEW = 8  # metrics that are shown where runs share none of SHOWN


class Row(NamedTuple):
    """One job."""

    settings: dict[str, str]
    metrics: dict[str, float]


class Group(NamedTuple):
    """Jobs that differ in nothing but the seed."""

    settings: dict[str, str]
    count: int
    metrics: dict[str, tuple[float, float]]  # mean and standard deviation


def settings_of(folder: Path) -> dict[str, str]:
    """What was typed for a run, by key."""
    import yaml

    path = folder / "overrides.yaml"
    overrides = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else []
    settings = {}
    for override in overrides or []:
        key, _, value = str(override).lstrip("+").partition("=")
        settings[key] = value
    return settings


def rows_below(folder: Path) -> list[Row]:
    """One row for each finished run, with the settings in which the runs differ, the seed last.
    Raises UsageError when there is no run."""
    if not folder.is_dir():
        raise UsageError(
            f"compare {folder}: there is no such folder; write a sweep's folder or any folder that "
            "holds finished runs"
        )
    runs = sorted(path.parent for path in folder.rglob("metrics.json"))
    if not runs:
        raise UsageError(
            f"compare {folder}: no finished run in it (no metrics.json); write a folder that holds "
            "finished runs"
        )
    settings = [settings_of(run) for run in runs]
    every = {key for one in settings for key in one}
    different = [key for key in every if len({one.get(key) for one in settings}) > 1]
    different.sort(key=lambda key: (key == "seed", key))
    rows = []
    for run, one in zip(runs, settings, strict=True):
        own = {key: one.get(key, "") for key in different}
        rows.append(Row(own or {"run": run.name}, read_json(run / "metrics.json")))
    return rows


def over_seeds(rows: list[Row]) -> list[Group]:
    """The rows that differ in their seed alone, together."""
    members: dict[tuple, list[Row]] = {}
    for row in rows:
        key = tuple((k, v) for k, v in row.settings.items() if k != "seed")
        members.setdefault(key, []).append(row)
    groups = []
    for key, together in members.items():
        shared = set.intersection(*(set(row.metrics) for row in together))
        spread = {}
        for name in sorted(shared):
            values = [float(row.metrics[name]) for row in together]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            spread[name] = statistics.fmean(values), deviation
        groups.append(Group(dict(key), len(together), spread))
    return groups


def common(rows: list[Row]) -> list[str]:
    """The metrics of SHOWN that all rows have; without any, the first few that all have."""
    every = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
    return [name for name in SHOWN if name in every] or every[:FEW]


def differ(rows: list[Row], key: str) -> bool:
    """Whether every row has the metric and they do not all have the same."""
    if not all(key in row.metrics for row in rows):
        return False
    return len({row.metrics[key] for row in rows}) > 1


def criterion(rows: list[Row], by: str) -> str:
    """The metric to rank by: `by`, else the first that all rows have. Raises UsageError when no row
    has it."""
    if by and not any(by in row.metrics for row in rows):
        known = {k for row in rows for k in row.metrics if not k.endswith(("_floor", "_floor_sd"))}
        raise UsageError(
            f"by={by}: no run has that metric; write one of {', '.join(sorted(known))}"
        )
    if by:
        return by
    return next((k for k in SHOWN if all(k in row.metrics for row in rows)), "")


def report(rows: list[Row], by: str) -> str:
    """The tables as text: a row a job, the ranking by the metric `by`, the floors."""
    asked = [*SHOWN, *common(rows), by]
    if differ(rows, NFE):
        asked.insert(0, NFE)
    shown = [k for k in dict.fromkeys(asked) if any(k in row.metrics for row in rows)]
    ranked = [group for group in over_seeds(rows) if by in group.metrics]
    ranked.sort(key=lambda group: group.metrics[by][0])
    text = jobs(rows, shown)
    if len(ranked) > 1:
        text += ranking(ranked, by, shown)
        if differ(rows, NFE):
            text += best_within(ranked, by)
    return text + floors(rows, shown)


def jobs(rows: list[Row], shown: list[str]) -> str:
    """A row a job."""
    names = list(rows[0].settings)
    lines = []
    for row in rows:
        cells = [f"{row.metrics[k]:.4g}" if k in row.metrics else "" for k in shown]
        lines.append([*(row.settings[name] for name in names), *cells])
    return markdown([*names, *shown], lines)


def spread_of(ranked: list[Group]) -> Callable[[float, float], str]:
    """How a mean over seeds is written: with its deviation, where there are several seeds."""
    if any(group.count > 1 for group in ranked):
        return lambda mean, deviation: f"{mean:.4g} +- {deviation:.2g}"
    return lambda mean, deviation: f"{mean:.4g}"


def ranking(ranked: list[Group], by: str, shown: list[str]) -> str:
    """The groups from the best to the worst."""
    spread = spread_of(ranked)
    several = any(group.count > 1 for group in ranked)
    names = list(ranked[0].settings)
    lines = []
    for rank, group in enumerate(ranked, 1):
        settings = [group.settings[name] for name in names]
        cells = [spread(*group.metrics[k]) if k in group.metrics else "" for k in shown]
        lines.append([str(rank), *settings, str(group.count), *cells])
    over = ", mean +- standard deviation over seeds" if several else ""
    return f"\nranked by {by}{over}\n\n" + markdown(["rank", *names, "runs", *shown], lines)


def best_within(ranked: list[Group], by: str) -> str:
    """The best group within each number of evaluations at which it changes."""
    spread = spread_of(ranked)
    names = list(ranked[0].settings)
    lines = []
    last = None
    for budget in sorted({group.metrics[NFE][0] for group in ranked}):
        affordable = [group for group in ranked if group.metrics[NFE][0] <= budget]
        best = affordable[0]
        if best is not last:
            settings = [best.settings[name] for name in names]
            lines.append([f"{budget:g}", *settings, spread(*best.metrics[by])])
        last = best
    title = f"\nbest {by} within so many network evaluations a sample\n\n"
    return title + markdown(["evaluations", *names, by], lines)


def floors(rows: list[Row], shown: list[str]) -> str:
    """The noise floors that all rows share."""
    lines = []
    first = rows[0].metrics
    for key in shown:
        floor = f"{key}_floor"
        if floor in first and len({row.metrics.get(floor) for row in rows}) == 1:
            lines.append([key, f"{first[floor]:.4g}", f"{first[f'{floor}_sd']:.2g}"])
    if not lines:
        return ""
    title = "\nnoise floor: what fresh true samples of the same number give\n\n"
    return title + markdown(["metric", "floor", "sd"], lines)


def table(rows: list[Row]) -> str:
    """Every setting and every metric of every row, as CSV."""
    metrics = sorted({key for row in rows for key in row.metrics})
    lines = [
        [*row.settings.values(), *(row.metrics.get(key, "") for key in metrics)] for row in rows
    ]
    return csv_text([*rows[0].settings, *metrics], lines)
