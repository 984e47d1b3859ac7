"""The runs below a folder, a row a job, and what can be read off them: which metrics they share,
what the seeds agree on, which metric ranks them.

A job that did not finish is a row without metrics, and so is one whose metrics cannot be read: its
`status` says which. How all of it is written: report/comparison_text.py.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from diffgeo.config.nearest import advice
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.better import LARGER, NEAREST, matches
from diffgeo.metrics.suite import FLOOR, SIDES, SPREAD, margin
from diffgeo.metrics.table import is_of_twin
from diffgeo.store.digest import verified
from diffgeo.store.files import read_json

NFE = "sampling/nfe"
# what a reader looks at first, in this order; of points, then of images
SHOWN = (
    "flow/rms",
    "distance/mean",
    "distance/median",
    "distance/q99",
    "tangential/w2",
    "transport/w2",
    "transport/sliced_w2",
    "start/w2_exact",
    "atoms/chi2",
    "denoiser/f_l2",
    "budget/total",
    "budget/total_w2",
    "posterior/w2_moments",
    "posterior/w2",
    "restore/error",
    "restore/psnr",
    "restore/ssim",
    "restore/misfit",
    "posterior/mean_error",
    "posterior/spread_ratio",
    "calibration/coverage_90",
    "fid",
    "fid_*",
    "frechet/*",
    "kid",
    "kid/*",
    "clip/score",
    "memorization/ratio",
)
# against evaluations
WORK = (
    "flow/rms",
    "distance/mean",
    "tangential/w2",
    "transport/sliced_w2",
    "posterior/w2_moments",
    "posterior/w2",
    "restore/error",
    "fid",
    "fid_*",
    "frechet/*",
    "kid",
    "kid/*",
    "clip/score",
)
OF_SAMPLER = ("flow/rms",)  # says nothing of the denoiser: a wrong network has a flow too
# options that make another denoiser
OF_DENOISER = ("model", "net", "trainer", "weighting", "schedule", "run", "experiment")
PROBLEM = ("data", "operator", "sigma_n", "image", "split", "y")  # options that say what is solved
ROUNDING = 1e-12  # what a distance from a law of full dimension is
FEW = 8  # metrics that are shown where runs have none of SHOWN
UNFINISHED = "not finished"
UNREADABLE = "not read"


@dataclass(frozen=True)
class Row:
    """One job: its folder below the one that is compared, what was typed for it, its metrics; and
    a word where it has none."""

    name: str
    settings: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: str = ""


class Group(NamedTuple):
    """Jobs that differ in nothing but the seed."""

    settings: dict[str, str]
    runs: int
    # mean, and standard deviation over the jobs; nan of one job
    metrics: dict[str, tuple[float, float]]


# reading


def in_order(path: Path) -> list[tuple[int, str]]:
    """A key that sorts the folders 0, 1, 2, 10 by their numbers and others by their letters."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def settings_of(folder: Path) -> dict[str, str]:
    """What was typed for a run, by key. Raises DiffgeoError where overrides.yaml is no list of
    words."""
    import yaml

    path = folder / "overrides.yaml"
    try:
        overrides = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else []
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DiffgeoError(f"{path} cannot be read: {first_line(error)}") from None
    settings = {}
    for override in listed(path, overrides or []):
        key, _, value = override.lstrip("+").partition("=")
        settings[key] = value
    verified(path)
    return settings


def listed(path: Path, overrides) -> list[str]:
    """The words of overrides.yaml. Raises DiffgeoError on anything else: it may be a stranger's."""
    if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
        raise DiffgeoError(f"{path} is no list of overrides")
    return overrides


def metrics_of(folder: Path) -> dict[str, float]:
    """The numbers of a finished run, without those that do not exist (null). Raises DiffgeoError
    where metrics.json holds anything else."""
    path = folder / "metrics.json"
    try:
        found = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DiffgeoError(f"{path} cannot be read: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise DiffgeoError(f"{path} is no table of numbers")
    found = {key: value for key, value in found.items() if value is not None}
    if not all(map(is_number, found.values())):
        raise DiffgeoError(f"{path} is no table of numbers")
    return found


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class Found(NamedTuple):
    """The rows below a folder, in the order of their jobs, and a line on each that could not be
    read."""

    rows: list[Row]
    problems: list[str]


def rows_below(folder: Path) -> Found:
    """One row for each run, with the settings in which the runs differ, the seed last. Raises
    UsageError when no run is finished, DiffgeoError when none can be read."""
    if not folder.is_dir():
        raise UsageError(
            f"compare {folder}: there is no such folder; write a sweep's folder or any folder that "
            "holds finished runs"
        )
    finished = {path.parent for path in folder.rglob("metrics.json")}
    if not finished:
        raise UsageError(
            f"compare {folder}: no finished run in it (no metrics.json); write a folder that holds "
            "finished runs"
        )
    begun = {path.parent for path in folder.rglob("config.yaml")}
    runs = sorted(finished | begun, key=lambda run: in_order(run.relative_to(folder)))
    rows = []
    problems = []
    for run in runs:
        name = str(run.relative_to(folder)) if run != folder else folder.resolve().name
        settings: dict[str, str] = {}
        try:
            settings = settings_of(run)
            metrics = metrics_of(run) if run in finished else {}
        except DiffgeoError as error:
            rows.append(Row(name, settings, status=UNREADABLE))
            problems.append(str(error))
            continue
        rows.append(Row(name, settings, metrics, "" if run in finished else UNFINISHED))
    if all(row.status for row in rows):
        raise DiffgeoError(f"compare {folder}: {problems[0]}, and no other run is there to compare")
    return Found(distinguished(rows), problems)


def distinguished(rows: Sequence[Row]) -> list[Row]:
    """The rows with the settings in which they differ, the seed last; their folders' names where
    they differ in none."""
    known = [row.settings for row in rows if row.settings or row.status != UNREADABLE]
    every = {key for settings in known for key in settings}
    different = [key for key in every if len({settings.get(key) for settings in known}) > 1]
    different.sort(key=lambda key: (key == "seed", key))
    told = []
    for row in rows:
        own = {key: row.settings.get(key, "") for key in different}
        told.append(Row(row.name, own or {"run": row.name}, row.metrics, row.status))
    return told


# what the rows say


def over_seeds(rows: Sequence[Row]) -> list[Group]:
    """The rows that differ in their seed alone, together; none of those without metrics."""
    members: dict[tuple, list[Row]] = {}
    for row in rows:
        if not row.status:
            key = tuple((k, v) for k, v in row.settings.items() if k != "seed")
            members.setdefault(key, []).append(row)
    groups = []
    for key, together in members.items():
        shared = set.intersection(*(set(row.metrics) for row in together))
        spread = {name: mean_of([row.metrics[name] for row in together]) for name in sorted(shared)}
        groups.append(Group(dict(key), len(together), spread))
    return groups


def badness(key: str, value: float) -> tuple[bool, float]:
    """How bad a value of a metric is: what sorts the best first, and nan behind all."""
    if key in NEAREST:
        return math.isnan(value), abs(value - NEAREST[key])
    if matches(key, LARGER):
        return math.isnan(value), -value
    return math.isnan(value), value


def problem_of(group: Group) -> tuple[tuple[str, str], ...]:
    """The settings of a group that say what it solves: groups of other problems are no rivals."""
    return tuple((k, v) for k, v in group.settings.items() if k.split(".")[0] in PROBLEM)


def by_problem(groups: Sequence[Group], by: str) -> dict[tuple, list[Group]]:
    """The groups that have the metric `by`, those of each problem from the best to the worst."""
    found: dict[tuple, list[Group]] = {}
    for group in groups:
        if by in group.metrics:
            found.setdefault(problem_of(group), []).append(group)
    for rivals in found.values():
        rivals.sort(key=lambda group: badness(by, group.metrics[by][0]))
    return found


def mean_of(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; a deviation that is not to be had, of one value or of infinite
    ones, is nan."""
    if not all(map(math.isfinite, values)):
        return sum(values) / len(values), math.nan
    deviation = statistics.stdev(map(float, values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation


def named(rows: Sequence[Row], patterns: Sequence[str]) -> list[str]:
    """The metrics of any row that a pattern names, in the order of the patterns; what stands beside
    a metric (its floor, its spread, its twin's) is none."""
    every = dict.fromkeys(key for row in rows for key in row.metrics)
    metrics = [key for key in every if not key.endswith(SIDES) and not is_of_twin(every, key)]
    found = []
    for pattern in patterns:
        found += [key for key in metrics if fnmatch(key, pattern)]
    return list(dict.fromkeys(found))


def of_all(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Those of `keys` that every row with metrics has."""
    return [key for key in keys if all(key in row.metrics for row in rows if not row.status)]


def common(rows: Sequence[Row]) -> list[str]:
    """The metrics of SHOWN that all rows have; without any, the first few that all have."""
    known = of_all(rows, named(rows, SHOWN))
    if known:
        return known
    others = [key for key in named(rows, ("*",)) if key != NFE]
    return of_all(rows, others)[:FEW]


def floor_tops(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, float]:
    """Of every metric with a floor, the highest value that passes for fresh samples of the
    truth."""
    tops: dict[str, float] = {}
    for key in keys:
        for row in rows:
            if key + FLOOR in row.metrics and key + SPREAD in row.metrics:
                top = row.metrics[key + FLOOR] + margin(row.metrics, key)
                tops[key] = max(top, tops.get(key, top))
    return tops


def differ(rows: Sequence[Row], key: str) -> bool:
    """Whether every row with metrics has this one, and they do not all have the same."""
    if not of_all(rows, [key]):
        return False
    return len({row.metrics[key] for row in rows if not row.status}) > 1


def criterion(rows: Sequence[Row], by: str) -> str:
    """The metric to rank by: `by`, else the first of SHOWN that all rows have and that is more than
    rounding, of the sampler alone only where the denoiser is the same; else "". Raises UsageError
    when no row has `by`."""
    if by and not any(by in row.metrics for row in rows):
        known = sorted(named(rows, ("*",)))
        if not known:
            raise UsageError(f"by={by}: no run has a metric; leave it out")
        told = advice(by, known, "the first line of compare.csv")
        raise UsageError(f"by={by}: no run has that metric{told}")
    if by:
        return by
    known = of_all(rows, named(rows, SHOWN))
    telling = [key for key in known if any(abs(row.metrics.get(key, 0)) > ROUNDING for row in rows)]
    if any(key.split(".")[0] in OF_DENOISER for row in rows for key in row.settings):
        telling = [key for key in telling if key not in OF_SAMPLER] or telling
    return next(iter(telling or known), "")
