"""A suite: metrics, their noise floors, what the last step's noise costs, and the table a reader
looks at.

A value is starred where it is no farther from its floor than one fresh cloud of the truth in 1000
is. Floor and spread are estimates themselves, of m clouds, so that is no fixed number of sd but
(metrics/floor.py)

    t sd sqrt(1 + 1/m),     t Student's quantile with m - 1 degrees of freedom:

5.1 sd for m = 8, 3.4 for 32, 3.1 for many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from diffgeo.core import Data, Metric, Pictures, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.machine.progress import Bar
from diffgeo.metrics.base import Measure
from diffgeo.metrics.floor import RARE, UNTOLD, pairs_of, reach, reference
from diffgeo.tables import aligned

# what follows the key of a value: its floor, the spread of a cloud about it, the floor's own
# standard error, what the last step's noise costs
FLOOR = "_floor"
SPREAD = "_floor_sd"
FLOOR_ERROR = "_floor_se"
NOISE = "_last_step_noise"
# the standard error of a value that is a mean over draws of its own
ERROR = "_se"
# a key that ends so stands beside another one
SIDES = (FLOOR, SPREAD, FLOOR_ERROR, NOISE, "_sd", "_se")

# shares and weights have no better side: they are within a floor from above and from below
TWO_SIDED = ("distance/below_", "atoms/w_", "posterior/spread_ratio")


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

    Raises what `check` raises.
    """

    metrics: Mapping[str, Metric]
    pairs: int = 8
    cheap_pairs: int = 32

    def __post_init__(self):
        for name, pairs in (("pairs", self.pairs), ("cheap_pairs", self.cheap_pairs)):
            if pairs < 0 or pairs == 1:
                raise UsageError(
                    f"metrics.{name}={pairs}: give 2 or more, for a spread, or 0 for no floors"
                )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        check(run.samples, data)
        report = {}
        with progress.bar(len(self.metrics), "metrics", "metric", leave=False) as bar:
            for name, metric in self.metrics.items():
                bar.tell(now=name)
                report |= self.with_floors(name, metric, run, data, bar)
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
    """Raise DiffgeoError where a value of the metric `name` is no plain number."""
    for key, value in values.items():
        if not isinstance(value, int | float):
            raise DiffgeoError(
                f"metrics.{name}: {key} is a {type(value).__name__}, not a number; return a float"
            )


def suite(pairs: int = 8, cheap_pairs: int = 32, **metrics: Metric | None) -> Suite:
    """A `Suite` from named metrics: the target of conf/metrics/*.yaml, so that
    `metrics.transport.n=500` reads well."""
    chosen = {name: metric for name, metric in metrics.items() if metric is not None}
    return Suite(chosen, pairs, cheap_pairs)


def text(metrics: Metric, values: Mapping[str, float]) -> str:
    """What a reader is shown of `values`: the table, then the keys of metrics that show theirs (all
    that begin with `prefix`) in `text`."""
    known = list(metrics.metrics.values()) if isinstance(metrics, Suite) else [metrics]
    rest = dict(values)
    shown = []
    for metric in known:
        if metric.prefix is None:
            continue
        own = [key for key in values if key.startswith(metric.prefix)]
        if own:
            shown.append(metric.text(values))
        for key in own:
            rest.pop(key, None)
    if rest or not shown:
        shown.insert(0, table(rest))
    return "\n\n".join(shown)


def margin(values: Mapping[str, float], key: str) -> float:
    """How far from its floor values[key] may be and still be starred."""
    return reach(values[key + SPREAD], pairs_beside(values, key))


def pairs_beside(values: Mapping[str, float], key: str) -> int:
    """Of how many pairs the floor of values[key] is."""
    return pairs_of(values[key + SPREAD], values.get(key + FLOOR_ERROR))


def within_floor(values: Mapping[str, float], key: str) -> bool:
    """Is values[key] within its floor, that is, at most floor + margin? Shares and weights have no
    better side: within the margin either way."""
    if key + FLOOR not in values or key + SPREAD not in values:
        return False
    excess = values[key] - values[key + FLOOR]
    if key.startswith(TWO_SIDED):
        excess = abs(excess)
    return excess <= margin(values, key)


def pairs_of_floors(values: Mapping[str, float], keys: Iterable[str]) -> set[int]:
    """Of how many pairs the floors of these values are; none of those without a spread."""
    return {pairs_beside(values, key) for key in keys if values[key + SPREAD] > 0}


def star_line(pairs: set[int]) -> str:
    """The rule of the star in words, for floors of these numbers of pairs."""
    reaches = []
    for number in sorted(pairs or {UNTOLD}):
        reaches.append(f"floor + {reach(1.0, number):.2g} sd of {number} pairs")
    return (
        f"* no worse than 1 in {1 / RARE:.0f} fresh clouds of the truth, at this n: within "
        f"{', '.join(reaches)}"
    )


def number(value: float, digits: int) -> str:
    """A distance of 1e-17 is rounding."""
    return f"{0.0 if abs(value) <= 1e-12 else value:.{digits}g}"


def line(values: Mapping[str, float], key: str) -> list[str]:
    """A row of the table."""
    floor = error = spread = noise = star = ""
    if key + FLOOR in values:
        floor = number(values[key + FLOOR], 3)
        spread = number(values[key + SPREAD], 2)
    if key + FLOOR_ERROR in values:
        error = "+- " + number(values[key + FLOOR_ERROR], 2)
    value = number(values[key], 4)
    if key + ERROR in values:
        value += " +- " + number(values[key + ERROR], 2)
    if key + NOISE in values:
        noise = number(values[key + NOISE], 3)
    if within_floor(values, key):
        star = "*"
    return [key, value, star, floor, error, spread, noise]


def table(values: Mapping[str, float]) -> str:
    """Plain text, one row a metric: value, with its standard error where it tells one, floor with
    its own, the deviation of a fresh cloud about it, what the last step's noise alone gives, and
    `*` within the floor."""
    header = ["metric", "value", "", "floor", "", "sd", "last step's noise"]
    beside = (FLOOR, SPREAD, FLOOR_ERROR, NOISE, ERROR)
    keys = [key for key in values if not key.endswith(beside)]
    rows = [line(values, key) for key in keys]
    if not rows:
        return "metric  value"
    lines = aligned([header, *rows], left=(0, 2, 4))
    starred = [key for key in keys if within_floor(values, key)]
    if starred:
        lines.append(star_line(pairs_of_floors(values, starred)))
    return "\n".join(lines)
