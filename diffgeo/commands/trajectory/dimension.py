"""`diffgeo trajectory dimension`: the local dimension of a law at its points, by noise level

    diffgeo trajectory dimension data=circle
    diffgeo trajectory dimension data=sphere data.ambient=32 levels=[.05,.1,.2,.5]
    diffgeo trajectory dimension run=FOLDER                 what a network has learnt of it

prints, at clean points of the law, d + dlog p_s/dlog s = tr dD/dx + |x - D|^2/s^2 by level (FLIPD):
its mean with its standard error, its two parts (trace and residual), and beside it the dimension of
the support.
dimension.csv holds every level.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from torch import Tensor

from diffgeo.config import kinds
from diffgeo.config.build import Experiment, assemble
from diffgeo.config.kinds import plain
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Manifold
from diffgeo.geometry.dimension import FEW, Dimension, dimension
from diffgeo.plot.geometry import phases as plot
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

# what a denoiser of a finite set says by not being 0
FINITE = {
    "exact": "; what is above 0 is what neighbours lend at that level: this measures "
    "memorization, no manifold",
    "learned": "; where the network says more, it has not memorized them",
}


def main(cfg, job: Job) -> None:
    """Measure the dimension at cfg.n points. Raises UsageError, as `dimension` does."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    levels = None if cfg.levels is None else kinds.numbers("levels", cfg.levels)
    noised = plain("noised", cfg.noised, bool)
    probes = kinds.whole("probes", cfg.probes, 2, 10_000)
    started = time.process_time()
    found = dimension(
        experiment.model, experiment.data, cfg.n, levels, cfg.seed, noised, probes, cfg.batch
    )
    folder = RunFolder.of("trajectory dimension", cfg, job)
    if folder.begin():
        return
    spent = time.process_time() - started
    write_text(job.path / "dimension.csv", every_level(found))
    if cfg.figures:
        figure(job.path / "figures" / "dimension.png", found, support(experiment))
    folder.finish(numbers(found), experiment.device, measuring_cpu_s=spent)
    where = "noised points, x0 + sigma eps" if noised else "clean points"
    kind = model_name(experiment.model, cfg)
    law = law_name(experiment.data, cfg, job.overrides)
    print(f"{kind} denoiser of {law}, n = {cfg.n} {where}\n")
    print(table(found))
    print("\n".join(notes(experiment, kind, found, noised)))
    shown = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, dimension.csv{shown}")


def support(experiment: Experiment) -> int:
    """The dimension of the law's support."""
    data = experiment.data
    assert isinstance(data, Manifold)
    return data.dim


def spread(row: Tensor) -> tuple[float, float | None]:
    """Mean and standard error, None of one point."""
    se = float(row.std()) / math.sqrt(len(row)) if len(row) > 1 else None
    return float(row.mean()), se


def shown(row: Tensor) -> str:
    mean, se = spread(row)
    return f"{mean:.6g}" + ("" if se is None else f" +- {se:.2g}")


def table(found: Dimension) -> str:
    """A row a level."""
    header = ["sigma", "dimension", "= tr dD/dx", "+ residual"]
    estimated = bool((found.error > 0).any())
    if estimated:
        header.append("error of one trace")
    rows = []
    for k, sigma in enumerate(found.sigma.tolist()):
        row = [f"{sigma:.4g}", shown(found.value[k]), shown(found.trace[k])]
        row.append(shown(found.residual[k]))
        if estimated:
            row.append(f"{float(found.error[k].square().mean().sqrt()):.2g}")
        rows.append(row)
    return markdown(header, rows)


def notes(experiment: Experiment, kind: str, found: Dimension, noised: bool) -> list[str]:
    """The truth beside it, and what the numbers are not."""
    d = math.prod(experiment.data.shape)
    dim = support(experiment)
    lines = [f"the support has dimension {dim}, in R^{d}"]
    if noised:
        lines.append(
            f"noised=true: averaged over x_s ~ p_s this is d = {d} for every law at every level: a "
            "check of D and its trace, not a dimension"
        )
    elif dim == 0:
        lines.append("warning: a finite set has dimension 0 at its points" + FINITE.get(kind, ""))
    if bool((found.error > 0).any()):
        lines.append(
            f"above {FEW} coordinates the trace of a network is Hutchinson's estimate; its last "
            "column is the standard error at one point"
        )
    return lines


def numbers(found: Dimension) -> dict[str, float]:
    """Every number by name, for metrics.json."""
    values = {}
    rows = {"value": found.value, "trace": found.trace, "residual": found.residual}
    for name, series in rows.items():
        for sigma, row in zip(found.sigma.tolist(), series, strict=True):
            mean, se = spread(row)
            values[f"dimension/{name}@{sigma:.4g}"] = mean
            if se is not None:
                values[f"dimension/{name}@{sigma:.4g}_se"] = se
    return values


def every_level(found: Dimension) -> str:
    """dimension.csv, in the columns of trajectory.csv."""
    rows = []
    series = {"dimension": found.value, "trace": found.trace, "residual": found.residual}
    if bool((found.error > 0).any()):
        series["trace_error"] = found.error
    for name, values in series.items():
        for sigma, row in zip(found.sigma.tolist(), values, strict=True):
            sd = repr(float(row.std())) if len(row) > 1 else ""
            rows.append([name, "all", repr(sigma), repr(float(row.mean())), sd, len(row)])
    return csv_text(["series", "chart", "sigma", "mean", "sd", "n"], rows)


def figure(path: Path, found: Dimension, truth: int) -> None:
    lines = {}
    series = {"dimension": found.value, "trace": found.trace, "residual": found.residual}
    for name, values in series.items():
        se = None
        if values.shape[1] > 1:
            se = (values.std(1) / math.sqrt(values.shape[1])).tolist()
        lines[name] = plot.Line(values.mean(1).tolist(), se)
    plot.dimension(path, found.sigma.tolist(), lines, truth)
