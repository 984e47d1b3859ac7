"""A suite: metrics, their noise floors, what the last step's noise costs, what the exact denoiser
gives. How its values are read: metrics/table.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from diffgeo.core import Data, Metric, Pictures, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.machine.progress import Bar
from diffgeo.metrics.base import Measure
from diffgeo.metrics.floor import reference
from diffgeo.metrics.table import (
    ERROR,
    FLOOR,
    FLOOR_ERROR,
    NOISE,
    SIDES,
    SPREAD,
    margin,
    pairs_of_floors,
    star_line,
    table,
    within_floor,
)
from diffgeo.metrics.twin import beside

__all__ = [
    "ERROR",
    "FLOOR",
    "FLOOR_ERROR",
    "NOISE",
    "SIDES",
    "SPREAD",
    "Suite",
    "check",
    "last_step_noise",
    "margin",
    "pairs_of_floors",
    "star_line",
    "suite",
    "table",
    "text",
    "within_floor",
]


def check(samples: Tensor, data: Data) -> None:
    """Raise UsageError when the samples [N,*D] have another shape than the law's, DiffgeoError when
    some are not finite."""
    shapes = [tuple(data.shape)]
    if isinstance(data, Pictures):
        shapes.append(data.picture)
    if tuple(samples.shape[1:]) not in shapes:
        raise UsageError(
            f"the samples have shape {tuple(samples.shape)}, the law wants (n, "
            f"{', '.join(map(str, data.shape))}): name the law that made them with data=LAW, or "
            "give a file of that width"
        )
    if not len(samples):
        raise UsageError("there are no samples to measure: give n=1 or more")
    bad = int((~samples.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise DiffgeoError(
            f"{bad} of {len(samples)} samples are not finite, so no metric was computed"
        )


def last_step_noise(run: Run) -> float:
    """Standard deviation, in data units, of the independent noise that the sampler's last step
    leaves in every coordinate; 0 for none."""
    if run.simulation is None:
        return 0.0
    return float(run.simulation.method.terminal_noise(run.simulation.sigmas))


@dataclass(frozen=True)
class Suite(Measure):
    """Every metric of `metrics` (name -> metric) on one run, each value of a cloud followed by its
    `_floor`, `_floor_sd`, `_floor_se` and, when the sampler ends with noise,
    `_last_step_noise`.

    pairs: of fresh true clouds, which make a floor; 0 for none. A metric whose `floors` is false
        has none.
    cheap_pairs: of the metrics that cost little; never fewer than `pairs`.
    exact: whether what the law's exact denoiser gives in the place of a network stands beside, as
        `_exact`: of all samples, of none, or "auto", of as many as are cheap (`metrics.twin`).

    Raises what `check` raises.
    """

    metrics: Mapping[str, Metric]
    pairs: int = 8
    cheap_pairs: int = 32
    exact: bool | str = False

    def __post_init__(self):
        if self.exact not in (True, False, "auto"):
            raise UsageError(f"metrics.exact={self.exact}: write auto, true or false")
        for name, pairs in (("pairs", self.pairs), ("cheap_pairs", self.cheap_pairs)):
            if pairs < 0 or pairs == 1:
                raise UsageError(
                    f"metrics.{name}={pairs}: give 2 or more, for a spread, or 0 for no floors"
                )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        check(run.samples, data)
        report: dict[str, float] = {}
        apply: list[Metric] = []  # to this run
        with progress.bar(len(self.metrics), "metrics", "metric", leave=False) as bar:
            for name, metric in self.metrics.items():
                bar.tell(now=name)
                values = self.with_floors(name, metric, run, data, bar)
                if values:
                    apply.append(metric)
                report |= values
        if self.exact:
            report |= beside(apply, run, data, report, self.exact)
        return report

    def with_floors(
        self, name: str, metric: Metric, run: Run, data: Data, bar: Bar
    ) -> dict[str, float]:
        """The values of one metric, each followed by what stands beside it. `bar` is told of every
        cloud that is measured for it."""
        n = len(run.samples)
        noise = last_step_noise(run)
        values = metric(run, data)
        check_numbers(name, values)
        pairs = self.pairs_for(metric) if values and metric.floors else 0
        clouds = 1 + pairs + (pairs if noise else 0)
        told = partial(shared, bar, clouds)
        told(1)
        floors = {}
        noisy = {}
        if pairs:
            floors = reference(metric, data, n, pairs, done=told)
        if pairs and noise:
            noisy = reference(metric, data, n, pairs, noise, done=told)
        report = {}
        for key, value in values.items():
            report[key] = value
            if key in floors:
                mean, sd = floors[key]
                report[key + FLOOR] = mean
                report[key + SPREAD] = sd
                report[key + FLOOR_ERROR] = sd / math.sqrt(pairs)
            if key in noisy:
                report[key + NOISE], _ = noisy[key]
        return report

    def pairs_for(self, metric: Metric) -> int:
        """Of fresh true clouds, for the floors of a metric."""
        if self.pairs and isinstance(metric, Measure) and metric.cheap:
            return max(self.pairs, self.cheap_pairs)
        return self.pairs

    def prepare(self, data: Data, n: int) -> None:
        """Have every metric of n samples load its files now, so that what is missing is said before
        a run and not after it."""
        for metric in self.metrics.values():
            metric.prepare(data, n)

    def describe(self, run: Run, data: Data) -> dict[str, dict]:
        """By the metric's name, what makes its numbers comparable, JSON-able, for the metrics that
        say."""
        told = {name: metric.describe(run, data) for name, metric in self.metrics.items()}
        return {name: facts for name, facts in told.items() if facts}


def shared(bar: Bar, clouds: int, done: float) -> None:
    """Of the clouds that a metric measures, `done` more are: its share of one metric."""
    bar.update(done / clouds)


def check_numbers(name: str, values: Mapping[str, float]) -> None:
    """Raise DiffgeoError where the values of the metric `name` are no plain numbers by name."""
    if not isinstance(values, Mapping):
        raise DiffgeoError(
            f"metrics.{name} returns a {type(values).__name__}: return its values by name, as "
            f'{{"{name}/value": 1.0}}, or {{}} where it does not apply'
        )
    for key, value in values.items():
        if not isinstance(value, int | float):
            raise DiffgeoError(
                f"metrics.{name}: {key} is a {type(value).__name__}, not a number; return a float"
            )


def suite(
    pairs: int = 8, cheap_pairs: int = 32, exact: bool | str = False, **metrics: Metric | None
) -> Suite:
    """A `Suite` from named metrics: the target of conf/metrics/*.yaml, so that
    `metrics.transport.n=500` reads well."""
    chosen = {name: metric for name, metric in metrics.items() if metric is not None}
    return Suite(chosen, pairs, cheap_pairs, exact)


def by_name(metrics: Metric) -> Mapping[str, Metric]:
    """The metrics of a suite by their names; one metric alone by that of its class."""
    return metrics.metrics if isinstance(metrics, Suite) else {type(metrics).__name__: metrics}


def text(metrics: Metric, values: Mapping[str, float]) -> str:
    """What a reader is shown of `values`: the table, then the keys of metrics that show theirs (all
    that begin with `prefix`) in `text`."""
    known = by_name(metrics).values()
    rest = dict(values)
    shown = []
    ways: dict[str, str] = {}
    for metric in known:
        if isinstance(metric, Measure):
            ways |= metric.better
        if metric.prefix is None:
            continue
        own = [key for key in values if key.startswith(metric.prefix)]
        if own:
            shown.append(metric.text(values))
        for key in own:
            rest.pop(key, None)
    if rest or not shown:
        shown.insert(0, table(rest, ways))
    return "\n\n".join(shown)
