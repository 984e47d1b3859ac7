"""What a cloud of samples is worth: the experiment's metrics of it, as every command of this folder
that makes clouds asks for them, and how a table shows them.

A cloud is measured as `sample` measures what it has drawn: images as the bytes that samples.npy
would hold. What takes a run apart is no measure of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from diffgeo.commands.trajectory import told
from diffgeo.config.build import Experiment
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Run
from diffgeo.errors import UsageError
from diffgeo.metrics.suite import by_name, pairs_of_floors, star_line, within_floor
from diffgeo.report.comparison import Row, floor_tops, named
from diffgeo.run import Job
from diffgeo.schedule.path import Below

# what a reader looks at first, in this order; of points, then of images
FIRST = (
    "transport/w2",
    "transport/sliced_w2",
    "fid",
    "fid_*",
    "frechet/*",
    "kid",
    "kid/*",
    "distance/mean",
    "atoms/chi2",
)
COLUMNS = 2  # metrics of a table

Values = Mapping[str, float]


def check(experiment: Experiment) -> None:
    """Raise UsageError where a metric takes a run apart."""
    metrics = experiment.metrics
    every = by_name(metrics)
    for name, metric in every.items():
        if metric.needs_run:
            raise UsageError(
                f"metrics: {name} takes a run apart, and here clouds are measured; write "
                "metrics=default, or metrics=images for images"
            )


def of_cloud(experiment: Experiment, samples: Tensor) -> dict[str, float]:
    """The metrics of a cloud [n,*D]; {} where the experiment has none."""
    data = experiment.data
    kept = data.restore(data.store(samples))
    run = Run(kept.to(experiment.device), seed=experiment.simulation.seed)
    return experiment.metrics(run, data)


def columns(values: Values, most: int = COLUMNS) -> list[str]:
    """The metrics that a table shows."""
    return named([Row("", {}, values)], FIRST)[:most]


def tops(every: Sequence[Values], keys: Sequence[str]) -> dict[str, float]:
    """Of every metric with a floor, the highest value that passes for fresh samples of the
    truth."""
    return floor_tops([Row("", {}, values) for values in every], keys)


def cell(values: Values, key: str) -> str:
    """A metric as a table shows it: starred within its floor, "-" where it is not there."""
    if key not in values:
        return "-"
    return f"{values[key]:.4g}" + (" *" if within_floor(values, key) else "")


def stars(every: Sequence[Values], keys: Sequence[str]) -> str:
    """The floors under a table in words, and what its stars mean; "" where there are none."""
    lines = []
    pairs: set[int] = set()
    for key in keys:
        held = [values for values in every if key + "_floor" in values]
        if held:
            floor = held[0][key + "_floor"]
            lines.append(f"{key}: a fresh cloud of the truth has {floor:.4g}")
        starred = [values for values in every if within_floor(values, key)]
        for values in starred:
            pairs |= pairs_of_floors(values, [key])
    if pairs:
        lines.append(star_line(pairs))
    return "\n".join(lines)


def title(experiment: Experiment, cfg, job: Job, n: int) -> str:
    """What the numbers are of: model, law, solver, grid and n."""
    chart = experiment.chart
    if isinstance(chart, Below):
        chart = chart.path
    law = law_name(experiment.data, cfg, job.overrides)
    grid = told.grid_name(chart, experiment.simulation.sigmas)
    method = type(experiment.simulation.sampler).__name__
    return f"{model_name(experiment.model, cfg)} denoiser of {law}, {method}, {grid}, n = {n}"
