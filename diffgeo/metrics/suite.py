"""A suite: metrics, their noise floors, what the last step's noise costs, and the table a reader
looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from diffgeo.core import Data, Metric, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.floor import reference


def check(samples: Tensor, data: Data) -> None:
    """Raise UsageError when the samples [N,*D] have another shape than the law's, DiffgeoError when
    some are not finite."""
    if samples.shape[1:] != tuple(data.shape):
        raise UsageError(
            f"the samples have shape {tuple(samples.shape)}, the law wants (n, "
            f"{', '.join(map(str, data.shape))}): "
            "name the law that made them with data=LAW, or give a file of that width"
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
    return (
        0.0
        if run.simulation is None
        else float(run.simulation.method.terminal_noise(run.simulation.sigmas))
    )


@dataclass(frozen=True)
class Suite:
    """Every metric of `metrics` (name -> metric) on one run, each value of a cloud followed by its
    `_floor`, `_floor_sd` and, when the sampler ends with noise, `_last_step_noise`. `pairs` of
    fresh true clouds make a floor; 0 for none, and none for a metric whose attribute `floors` is
    false.

    Raises what `check` raises.
    """

    metrics: Mapping[str, Metric]
    pairs: int = 8

    def __post_init__(self):
        if self.pairs < 0 or self.pairs == 1:
            raise UsageError(
                f"metrics.pairs={self.pairs}: give 2 or more, for a spread, or 0 for no floors"
            )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        check(run.samples, data)
        n = len(run.samples)
        s = last_step_noise(run)
        report = {}
        for metric in self.metrics.values():
            values = metric(run, data)
            pairs = self.pairs if values and getattr(metric, "floors", True) else 0
            floors = reference(metric, data, n, pairs) if pairs else {}
            noisy = reference(metric, data, n, pairs, noise=s) if pairs and s else {}
            for key, value in values.items():
                report[key] = value
                if key in floors:
                    report[key + "_floor"], report[key + "_floor_sd"] = floors[key]
                if key in noisy:
                    report[key + "_last_step_noise"] = noisy[key][0]
        return report

    def prepare(self, data: Data, n: int) -> None:
        """Have every metric of n samples load its files now, so that what is missing is said before
        a run and not after it."""
        for metric in self.metrics.values():
            getattr(metric, "prepare", lambda data, n: None)(data, n)

    def describe(self, run: Run, data: Data) -> dict[str, dict]:
        """By the metric's name, what makes its numbers comparable, JSON-able, for the metrics that
        say (`describe`)."""
        told = {
            name: metric.describe(run, data)
            for name, metric in self.metrics.items()
            if hasattr(metric, "describe")
        }
        return {name: facts for name, facts in told.items() if facts}


def suite(pairs: int = 8, **metrics: Metric) -> Suite:
    """A `Suite` from named metrics: the target of conf/metrics/*.yaml, so that
    `metrics.transport.n=500` reads well."""
    return Suite({name: metric for name, metric in metrics.items() if metric is not None}, pairs)


def text(metrics: Metric, values: Mapping[str, float]) -> str:
    """What a reader is shown of `values`: the table, then the keys of metrics that show theirs (all
    that begin with `prefix`) in `text`."""
    known = [
        metric for metric in getattr(metrics, "metrics", {}).values() if hasattr(metric, "text")
    ]
    own = [metric for metric in known if any(key.startswith(metric.prefix) for key in values)]
    rest = {
        key: v
        for key, v in values.items()
        if not any(key.startswith(metric.prefix) for metric in own)
    }
    return "\n\n".join(
        [*([table(rest)] if rest or not own else []), *(metric.text(values) for metric in own)]
    )


def within_floor(values: Mapping[str, float], key: str) -> bool:
    """Is values[key] within its floor: at most floor + 4 sd? Shares and weights have no better
    side: within 4 sd either way."""
    floor = values.get(key + "_floor")
    sd = values.get(key + "_floor_sd")
    if floor is None:
        return False
    excess = values[key] - floor
    if key.startswith(("distance/below_", "atoms/w_")):
        excess = abs(excess)
    return excess <= 4 * sd


def table(values: Mapping[str, float]) -> str:
    """Plain text, one row a metric: value, floor +- sd, what the last step's noise alone gives, and
    `*` within the floor."""
    derived = ("_floor", "_floor_sd", "_last_step_noise")
    # a distance of 1e-17 is rounding
    number = lambda v, digits: f"{v if abs(v) > 1e-12 else 0:.{digits}g}"
    rows = [("metric", "value", "", "floor", "sd", "last step's noise")]
    for key in (key for key in values if not key.endswith(derived)):
        floor, sd, noise = (
            number(values[key + part], 3) if key + part in values else "" for part in derived
        )
        rows.append(
            (
                key,
                number(values[key], 4),
                "*" if within_floor(values, key) else "",
                floor,
                sd and f"+- {sd}",
                noise,
            )
        )
    keep = [i for i in range(6) if i < 2 or any(row[i] for row in rows[1:])]
    width = {i: max(len(row[i]) for row in rows) for i in keep}
    lines = [
        "  ".join(
            row[i].rjust(width[i]) if i in (1, 3, 5) else row[i].ljust(width[i]) for i in keep
        ).rstrip()
        for row in rows
    ]
    if any(row[2] for row in rows):
        lines.append("* within floor + 4 sd: as good as fresh samples of the truth, at this n")
    return "\n".join(lines)
