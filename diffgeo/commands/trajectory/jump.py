"""`diffgeo trajectory jump`: the denoised estimate put out at any step, against going on

    diffgeo trajectory jump data=mixture                        the exact denoiser, in the plane
    diffgeo trajectory jump run=FOLDER sampler=heun             a network, along Heun's paths
    diffgeo trajectory jump data=cifar10 n=64 sampler.schedule.to_zero=false sampler.steps=20

prints, for every step of the run, how far the estimate r = D(x) and the state x still are from the
end of the path, and what the cloud of the estimates is worth beside a fresh run that takes as many
evaluations on its own grid. jump.csv holds every level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.commands.trajectory import quality
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import plain
from diffgeo.core import ImageSet
from diffgeo.geometry.jump import Jumps, check, jumps, shorter
from diffgeo.machine import memory
from diffgeo.plot.geometry import starts
from diffgeo.report.finish import ready
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.simulation import Simulation, ranges
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

SHOWN = 14  # levels in the printed table
PICTURED = 8  # levels in the picture of two rows
SHARE = 0.1  # of the norm of the end: how near is near


@dataclass
class Found:
    """What a run gave, its levels first to last."""

    sigma: list[float] = field(default_factory=list)  # [L]
    taken: list[float] = field(default_factory=list)  # evaluations of each jump, [L]
    whole: float = 0.0  # of the run
    estimate: Tensor = torch.empty(0)  # |r - x_0|/|x_0|, [L,n]
    state: Tensor = torch.empty(0)  # |x - x_0|/|x_0|, [L,n]
    jumped: list[np.ndarray] = field(default_factory=list)  # the cloud at each level, as stored
    end: np.ndarray | None = None
    first: Jumps | None = None  # of the first samples, for pictures


def main(cfg, job: Job) -> None:
    """Jump out of the paths of cfg.n samples. Raises UsageError on an adaptive sampler, on metrics
    that take a run apart, and on more clouds than the machine holds."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    go_on = plain("continued", cfg.continued, bool)
    check(experiment.simulation)
    quality.check(experiment)
    check_room(experiment)
    ready(experiment, len(experiment.numbers))
    folder = RunFolder.of("trajectory jump", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    experiment = fitted(experiment)
    found = run(experiment)
    jumped = [of_stored(experiment, cloud) for cloud in found.jumped]
    fresh = continued(experiment, found) if go_on else [{}] * len(found.sigma)
    end = of_stored(experiment, found.end)
    spent = time.process_time() - started
    write_text(job.path / "jump.csv", table_of_all(found, jumped, fresh))
    keys = quality.columns(end)
    if cfg.figures:
        figures(job.path / "figures", experiment, found, jumped, fresh, keys)
    values = numbers_of(found, jumped, fresh, end)
    folder.finish(values, experiment.device, measuring_cpu_s=spent)
    print(quality.title(experiment, cfg, job, len(experiment.numbers)) + ", chart ve\n")
    print(shown(found, jumped, fresh, keys))
    print(sentences(found, [*jumped, *fresh, end], end, keys))
    print(f"written: {job.path}/metrics.json, jump.csv" + (", figures/" if cfg.figures else ""))


def check_room(experiment: Experiment) -> None:
    """Raise UsageError where the clouds of all levels are more than the machine has."""
    one = math.prod(experiment.data.shape) * (1 if isinstance(experiment.data, ImageSet) else 8)
    levels = len(experiment.simulation.sigmas) + 1
    n = len(experiment.numbers)
    most = max(1, memory.total() // (4 * levels * one))
    memory.check_fits(f"n={n}", 2 * levels * n * one, f"write n={most} or less")


def run(experiment: Experiment) -> Found:
    """Every level of the experiment's samples, batch by batch."""
    data = experiment.data
    parts: list[Jumps] = []
    clouds: list[list[np.ndarray]] = []
    found = Found()
    estimates = []
    states = []
    ends = []
    with experiment.sampling.running(experiment.simulation) as simulation:
        for numbers in ranges(experiment.numbers, experiment.sampling.batch):
            part = jumps(simulation, numbers)
            clouds.append([data.store(cloud) for cloud in part.denoised])
            ends.append(data.store(part.end))
            estimates.append(part.remaining())
            states.append(part.remaining_of_states())
            if not parts:
                parts.append(part)
    found.first = parts[0]
    found.sigma = parts[0].sigma.tolist()
    found.taken = parts[0].evaluations
    found.whole = parts[0].whole
    found.estimate = torch.cat(estimates, 1)
    found.state = torch.cat(states, 1)
    found.jumped = [np.concatenate(level) for level in zip(*clouds, strict=True)]
    found.end = np.concatenate(ends)
    return found


def of_stored(experiment: Experiment, cloud: np.ndarray) -> dict[str, float]:
    return quality.of_cloud(experiment, experiment.data.restore(cloud))


def continued(experiment: Experiment, found: Found) -> list[dict[str, float]]:
    """The metrics of a fresh run of at most as many evaluations as each jump; {} where there is no
    such run. A run that two jumps ask for is made once."""
    known: dict[float, dict[str, float]] = {}
    rows = []
    with experiment.sampling.running(experiment.simulation) as simulation:
        choice = shorter(simulation, experiment.chart.grid, max(found.taken))
        for most in found.taken:
            affordable = [(taken, other) for taken, other in choice if taken <= most]
            if not affordable:
                rows.append({})
                continue
            taken, other = affordable[-1]
            if taken not in known:
                known[taken] = measured(experiment, other) | {"evaluations": taken}
            rows.append(known[taken])
    return rows


def measured(experiment: Experiment, simulation: Simulation) -> dict[str, float]:
    """The metrics of a simulation's samples."""
    drawn = simulation.draw(experiment.numbers, experiment.sampling.batch)
    return quality.of_cloud(experiment, drawn.samples)


def numbers_of(
    found: Found,
    jumped: list[dict[str, float]],
    fresh: list[dict[str, float]],
    end: Mapping[str, float],
) -> dict[str, float]:
    """Every number by name: left to go by level, quality by evaluations."""
    values: dict[str, float] = {"jump/evaluations_of_run": found.whole}
    for level, estimate, state in zip(found.sigma, found.estimate, found.state, strict=True):
        for name, series in (("left", estimate), ("left_of_state", state)):
            mean = float(series.mean())
            if math.isfinite(mean):  # a sample may end in 0
                values[f"jump/{name}@{level:.4g}"] = mean
    for taken, own, other in zip(found.taken, jumped, fresh, strict=True):
        for key, value in own.items():
            values[f"jump/{key}@{taken:g}"] = value
        for key, value in other.items():
            if key != "evaluations":
                values[f"continued/{key}@{taken:g}"] = value
    return values | {f"run/{key}": value for key, value in end.items()}


def table_of_all(
    found: Found, jumped: list[dict[str, float]], fresh: list[dict[str, float]]
) -> str:
    """jump.csv: a row a level, every number at full precision."""
    n = found.estimate.shape[1]
    keys = list(jumped[0])
    header = ["sigma", "evaluations", "left", "left_sd", "left_of_state", "left_of_state_sd", "n"]
    header += [f"jump/{key}" for key in keys]
    header += ["evaluations_of_continued"] + [f"continued/{key}" for key in keys]
    rows = []
    for k, level in enumerate(found.sigma):
        row = [repr(level), repr(found.taken[k])]
        for series in (found.estimate[k], found.state[k]):
            row += [number(float(series.mean())), number(float(series.std())) if n > 1 else ""]
        row.append(str(n))
        row += [repr(jumped[k][key]) for key in keys]
        row += [repr(fresh[k][key]) if key in fresh[k] else "" for key in ["evaluations", *keys]]
        rows.append(row)
    return csv_text(header, rows)


def number(value: float) -> str:
    """A number at full precision; "" where there is none."""
    return repr(value) if math.isfinite(value) else ""


def some(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 .. count-1, the ends among them."""
    few = min(most, count)
    return torch.linspace(0, count - 1, few).round().int().tolist()


def shown(
    found: Found,
    jumped: list[dict[str, float]],
    fresh: list[dict[str, float]],
    keys: list[str],
) -> str:
    """The table that is printed."""
    header = ["sigma", "evaluations", "|r-x0|/|x0|", "|x-x0|/|x0|"]
    for key in keys:
        header += [f"{key} jump", "continued"]
    rows = []
    for k in some(len(found.sigma), SHOWN):
        row = [f"{found.sigma[k]:.4g}", f"{found.taken[k]:g}"]
        for series in (found.estimate, found.state):
            mean = float(series[k].mean())
            row.append(f"{mean:.3g}" if math.isfinite(mean) else "-")
        for key in keys:
            row += [quality.cell(jumped[k], key), quality.cell(fresh[k], key)]
        rows.append(row)
    return markdown(header, rows)


def sentences(
    found: Found, every: list[dict[str, float]], end: Mapping[str, float], keys: list[str]
) -> str:
    """Where r and x are near the end of the path, and what the whole run is worth."""
    lines = []
    for name, series in (("r", found.estimate), ("x", found.state)):
        near = [k for k, mean in enumerate(series.mean(1).tolist()) if mean <= SHARE]
        if near:
            k = near[0]
            lines.append(
                f"{name} is within {SHARE:.0%} of the end on average from sigma = "
                f"{found.sigma[k]:.4g} on, after {k} of {len(found.sigma)} levels"
            )
        else:
            lines.append(f"{name} is nowhere within {SHARE:.0%} of the end on average")
    if keys:
        worth = ", ".join(f"{key} {quality.cell(end, key)}" for key in keys)
        lines.append(f"the whole run, {found.whole:g} evaluations: {worth}")
    lines.append(quality.stars(every, keys))
    return "\n".join(line for line in lines if line)


def figures(
    folder: Path,
    experiment: Experiment,
    found: Found,
    jumped: list[dict[str, float]],
    fresh: list[dict[str, float]],
    keys: list[str],
) -> None:
    """What is left to go, quality against evaluations, and the two rows."""
    sigma = torch.tensor(found.sigma, dtype=torch.float64)
    starts.remaining(folder / "left.png", sigma, found.estimate.mean(1), found.state.mean(1), SHARE)
    panels = {}
    for key in keys:
        lines = {"jump": starts.Line(found.taken, [values[key] for values in jumped])}
        there = [values for values in fresh if key in values]
        if there:
            x = [values["evaluations"] for values in there]
            lines["fresh run"] = starts.Line(x, [values[key] for values in there])
        panels[key] = lines
    if panels:
        starts.quality(
            folder / "quality.png",
            panels,
            "network evaluations a sample",
            quality.tops(jumped, keys),
            log_x=True,
        )
    first = found.first
    assert first is not None
    kept = some(len(found.sigma), PICTURED)
    levels = [found.sigma[k] for k in kept]
    taken = [found.taken[k] for k in kept]
    if isinstance(experiment.data, ImageSet):
        data = experiment.data
        rows = [data.quantize(x[kept, 0]) for x in (first.denoised, first.states)]
        starts.jump_images(folder / "jump.png", *rows, levels, taken)
    elif len(experiment.data.shape) == 1:
        states = first.states[kept]
        starts.jump_points(
            folder / "jump.png", first.denoised[kept], states, levels, taken, experiment.data
        )
