"""`diffgeo theory gaussian`: the four errors of sampling a Gaussian, in closed form.

    diffgeo theory gaussian data=cifar10 published=pierret_galerne          the published table, beside the published cells
    diffgeo theory gaussian spectrum=FILE.npy 'grid_points=[20,40]' eps=0 out=t.csv
    diffgeo theory gaussian data=cifar10 eta=.003 random=true               with a relative error in the score
    diffgeo theory gaussian run=FOLDER                                      with that of a trained network, measured
    diffgeo theory gaussian spectrum=C.npy start=[p_T,N_0,S.npy]            from N(0, S) too, which need not commute with N(0, C)

prints W2 to p_0 of every scheme, truncation, grid and start in the published format; table.csv (and
out=) has every cell at full precision, figures/modes.png the errors by eigenvalue.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from diffgeo.commands.theory.gaussian_options import other_starts, scheme, several, subject
from diffgeo.config.kinds import numbers, plain
from diffgeo.core import Schedule
from diffgeo.errors import UsageError
from diffgeo.run import Job, RunFolder
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.ablation import (
    SPAN,
    Cell,
    Error,
    Scheme,
    ablation,
    check,
    modes,
    noncommuting,
)
from diffgeo.theory.ablation_table import Comparison, compared, power_of_ten, rows, table
from diffgeo.theory.gaussian import Spectrum, first_order
from diffgeo.theory.learned import Learned, effective
from diffgeo.theory.process import process


def main(cfg, job: Job) -> None:
    """The table of cfg. Raises UsageError on whatever is no spectrum, process, scheme, grid or
    distance."""
    if cfg.out is not None and job.sweep:
        raise UsageError(
            f"out={cfg.out} is one file, and a sweep has many jobs: leave it out, each job's "
            "folder holds its table.csv"
        )
    folder = job.path
    chart = process(numbers("beta", cfg.beta), plain("T", cfg.T))
    schemes = {name: scheme(name, chart) for name in several("schemes", cfg.schemes, str)}
    eps = [float(e) for e in several("eps", cfg.eps, float)]
    asked = several("start", cfg.start, str)
    files = [start for start in asked if start.endswith(".npy")]
    starts = [start for start in asked if start not in files]
    points = several("grid_points", cfg.grid_points, int)
    distances = list(dict.fromkeys(["w2", *several("distances", cfg.distances, str)]))
    check(chart, eps, points, starts, cfg.against, distances, cfg.count)
    if cfg.out is not None and Path(cfg.out).is_dir():
        raise UsageError(f"out={cfg.out} is a folder: write out=FILE.csv")
    started = time.process_time()
    spectrum, about, error = subject(cfg, chart, eps, job.overrides)
    others = other_starts(cfg, files, error)
    fitting = time.process_time() - started
    record = RunFolder.of("theory gaussian", cfg, job)
    if record.begin():
        deliver(cfg.out, folder)
        return
    # 30 000 tableaux come: their collections need not search all of torch each time, .8 CPU s
    gc.freeze()
    started = time.process_time()
    cells = (
        ablation(
            spectrum, chart, schemes, eps, points, starts, cfg.against, distances, error, cfg.count
        )
        if starts
        else []
    )
    for name, start in others.items():
        cells += noncommuting(
            name, start, chart, schemes, eps, points, cfg.against, distances, error, cfg.count
        )
    orders = (
        list(schemes),
        eps,
        [None, *points],
        [Path(start).stem if start in files else start for start in asked],
    )
    cells.sort(key=lambda c: [order.index(place) for order, place in zip(orders, c, strict=False)])
    measured = {"fitting_cpu_s": fitting, "table_cpu_s": time.process_time() - started}
    found = (
        compared(cells, cfg.published["columns"], OmegaConf.to_container(cfg.published.table))
        if cfg.get("published")
        else None
    )
    write_text(folder / "table.csv", csv_text(*rows(cells, distances, cfg.count)))
    deliver(cfg.out, folder)
    values = metrics(cells) | (
        {}
        if found is None
        else {"published/cells": len(found.pairs), "published/cells_matched": found.matched}
    )
    values |= {
        "spectrum/d": spectrum.d,
        "spectrum/trace": spectrum.trace,
        "spectrum/largest": float(spectrum.values.max()),
        "spectrum/smallest": float(spectrum.values.min()),
        "spectrum/zeros": float(spectrum.counts[spectrum.values == 0].sum()),
    }
    if cfg.figures:
        figures(folder, chart, schemes, max(points) - (cfg.count == "points"), eps, error)
    record.provenance(**measured)
    write_json(folder / "metrics.json", values)
    print(
        f"{about}: d = {spectrum.d:g}, trace {spectrum.trace:.6g}, eigenvalues "
        f"{values['spectrum/smallest']:.4g} to "
        f"{values['spectrum/largest']:.6g}, {values['spectrum/zeros']:g} of them 0"
    )
    for distance in distances:
        shown = table(cells, distance, cfg.count, found if distance == "w2" else None)
        print(f"\n{TITLES[distance].format(cfg.against)}\n\n{markdown(*shown)}")
    for line in remarks(cells, spectrum, eps, chart, error, found):
        print(line)
    more = ([cfg.out] if cfg.out else []) + (["modes.csv", "figures/"] if cfg.figures else [])
    print(f"written: {', '.join([f'{folder}/metrics.json', 'table.csv', *more])}")


ETA = 0.003  # relative score error of the figure, where none is given
TITLES = {
    "w2": "W2 to {}",
    "kl": "KL(law of the samples | {}), nats",
    "tv": "total variation distance to {}",
    "frechet": "Frechet distance (W2^2) to {}",
}


def deliver(out: str | None, folder: Path) -> None:
    """The table also where `out` says."""
    if out is not None:
        write_text(out, (folder / "table.csv").read_text())


def metrics(cells: Sequence[Cell]) -> dict[str, float]:
    return {
        f"{d}/{c.scheme}@eps={c.eps:g},points={c.points or 'continuous'},start={c.start}": value
        for c in cells
        for d, value in c.distances.items()
    }


def remarks(
    cells: Sequence[Cell],
    spectrum: Spectrum,
    eps: Sequence[float],
    chart: Schedule,
    error: Error,
    found: Comparison | None,
) -> Iterator[str]:
    """What the table does not say by itself, a line each."""
    if found is not None:
        yield (
            f"{found}; [in brackets]: published" if found.matched < len(found.pairs) else str(found)
        )
    infinite = {
        d: list(dict.fromkeys(c.scheme for c in cells if math.isinf(c.distances[d])))
        for d in cells[0].distances
    }
    if any(math.isinf(c.distances["w2"]) and c.eps > 0 for c in cells):
        yield "inf at eps > 0: the scheme is unstable on this grid, and its variance is beyond the largest number; write more grid_points"
    elif infinite["w2"]:
        yield (
            f"inf: {', '.join(infinite['w2'])} took the score at eps = 0, where that of a singular "
            "Gaussian is infinite "
            f"({float(spectrum.counts[spectrum.values == 0].sum()):g} eigenvalues are 0); write "
            "eps=1e-5"
        )
    if infinite.get("kl") and infinite["kl"] != infinite["w2"]:
        yield "inf: KL between two laws of which one is singular where the other is not"
    if not (isinstance(error, float) and error == 0):
        for e in eps:
            first = [
                first_order(
                    spectrum,
                    chart,
                    e,
                    effective(spectrum, chart, e, error, s) if callable(error) else error,
                    s,
                )
                for s in (True, False)
            ]
            yield f"score error alone, to first order, eps = {power_of_ten(e)}: W2 = {first[0]:.3g} (SDE), {first[1]:.3g} (ODE)"
    if isinstance(error, Learned):
        for i in torch.linspace(0, len(error.sigma) - 1, 7).round().int().tolist():
            rms = float(error.error[i].square().mean().sqrt())
            yield (
                f"network at sigma = {float(error.sigma[i]):.3g}: relative error {rms:.3g} rms "
                "over the eigen-directions; "
                f"{float(error.rest[i]):.0%} of its squared error is not of this form"
            )


def figures(
    folder: Path,
    chart: Schedule,
    schemes: Mapping[str, Scheme],
    steps: int,
    eps: Sequence[float],
    error: Error,
) -> None:
    """The errors by eigenvalue: modes.csv and figures/modes.png."""
    from diffgeo.plot import gaussian as plot

    eps = min(
        (e for e in eps if e > 0), key=lambda e: abs(math.log(e / 1e-3)), default=chart.t_max / 1000
    )
    eta = abs(error) if isinstance(error, float) and error else ETA
    curves = modes(SPAN, chart, schemes, steps, eps, eta)
    columns = [map(repr, curve.tolist()) for curve in curves.values()]
    write_text(folder / "modes.csv", csv_text(list(curves), zip(*columns, strict=True)))
    plot.modes(
        folder / "figures" / "modes.png",
        curves,
        f"eps = {power_of_ten(eps)}, {steps} steps, eta = {eta:g}",
    )
