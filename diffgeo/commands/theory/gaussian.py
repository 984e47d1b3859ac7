"""`diffgeo theory gaussian`: the four errors of sampling a Gaussian in closed form, any spectrum

    diffgeo theory gaussian data=cifar10 published=pierret_galerne   beside the published table
    diffgeo theory gaussian spectrum=FILE.npy 'grid_points=[20,40]' eps=0 out=t.csv
    diffgeo theory gaussian data=cifar10 eta=.003 random=true        the score errs by about so much
    diffgeo theory gaussian run=FOLDER                               by as much as a network does
    diffgeo theory gaussian spectrum=C.npy start=[p_T,N_0,S.npy]     from N(0, S) too, S any matrix
    diffgeo theory gaussian data=cifar10 along=true                  the errors on the way, too

prints W2 to p_0 of every scheme, truncation, grid and start in the published format; table.csv
(and out=) has every cell at full precision, figures/modes.png the errors by eigenvalue. A random
error is drawn draws= times: a number is then the mean over the draws +- the standard deviation of
one of them. along=true adds W2 to p_t at every time on the way, along.csv and figures/along.png.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.commands.theory.gaussian_along import (
    along_numbers,
    along_text,
    on_the_way,
    way_of,
    write_along,
)
from diffgeo.commands.theory.gaussian_options import Grid, grid_of, other_starts, subject, typical
from diffgeo.commands.theory.gaussian_text import printed
from diffgeo.errors import UsageError
from diffgeo.run import Job, RunFolder
from diffgeo.store.digest import verified
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text
from diffgeo.theory.ablation import SPAN, Cell, Error, Start, ablation, modes, noncommuting
from diffgeo.theory.ablation_table import Comparison, compared, power_of_ten, rows
from diffgeo.theory.gaussian import Spectrum

ETA = 0.003  # relative score error of the figure, where none is given


def main(cfg, job: Job) -> None:
    """The table of cfg. Raises UsageError on whatever is no spectrum, process, scheme, grid or
    distance."""
    check_out(cfg.out, job)
    grid = grid_of(cfg)
    way = way_of(cfg, grid)
    started = time.process_time()
    spectrum, about, error = subject(cfg, grid, job.overrides)
    others = other_starts(cfg, grid.files, error)
    fitting = time.process_time() - started
    folder = RunFolder.of("theory gaussian", cfg, job)
    if folder.begin():
        deliver(cfg.out, job.path)
        return
    started = time.process_time()
    cells = every_cell(spectrum, grid, others, error)
    curves = on_the_way(spectrum, grid, way, error)
    measured = {"fitting_cpu_s": fitting, "table_cpu_s": time.process_time() - started}
    found = None
    if cfg.get("published"):
        published = OmegaConf.to_container(cfg.published)
        found = compared(cells, published["columns"], published["table"])
    write_text(job.path / "table.csv", csv_text(*rows(cells, grid.distances, grid.count)))
    deliver(cfg.out, job.path)
    if cfg.figures:
        figures(job.path, grid, error)
    write_along(job.path, way, curves, cfg.figures)
    values = metrics(cells, spectrum, found) | along_numbers(way, curves)
    folder.finish(values, **measured)
    print(printed(about, cells, spectrum, grid, error, found))
    print(along_text(way, curves), end="")
    written = [f"{job.path}/metrics.json", "table.csv"]
    if cfg.out:
        written.append(cfg.out)
    if way is not None:
        written.append("along.csv")
    if cfg.figures:
        written += ["modes.csv", "figures/"]
    print(f"written: {', '.join(written)}")


def check_out(out: str | None, job: Job) -> None:
    """Raise UsageError where `out` cannot be the one file that it names."""
    if out is not None and job.sweep:
        raise UsageError(
            f"out={out} is one file, and a sweep has many jobs: leave it out, each job's folder "
            "holds its table.csv"
        )
    if out is not None and Path(out).is_dir():
        raise UsageError(f"out={out} is a folder: write out=FILE.csv")


def deliver(out: str | None, folder: Path) -> None:
    """The table also where `out` says."""
    if out is not None:
        write_text(out, verified(folder / "table.csv").read_text(encoding="utf-8"))


def every_cell(
    spectrum: Spectrum, grid: Grid, others: dict[str, Start], error: Error
) -> list[Cell]:
    """Every cell of the table, by scheme, eps, points and start in the order that was asked for."""
    # 30 000 tableaux come: their collections need not search all of torch each time, .8 CPU s
    gc.freeze()
    asked = grid.chart, grid.schemes, grid.eps, grid.points
    how = grid.against, grid.distances, error, grid.count
    cells = []
    if grid.starts:
        chart, schemes, eps, points = asked
        cells += ablation(spectrum, chart, schemes, eps, points, grid.starts, *how)
    for name, start in others.items():
        cells += noncommuting(name, start, *asked, *how)
    schemes = list(grid.schemes)
    points = [None, *grid.points]

    def place(cell: Cell) -> tuple[int, int, int, int]:
        return (
            schemes.index(cell.scheme),
            grid.eps.index(cell.eps),
            points.index(cell.points),
            grid.start_names.index(cell.start),
        )

    return sorted(cells, key=place)


def metrics(
    cells: Sequence[Cell], spectrum: Spectrum, found: Comparison | None
) -> dict[str, float]:
    """The numbers of metrics.json: every cell, how many are as published, the spectrum."""
    values = {}
    for c in cells:
        at = f"{c.scheme}@eps={c.eps:g},points={c.points or 'continuous'},start={c.start}"
        for distance, value in c.distances.items():
            values[f"{distance}/{at}"] = value
        for distance, deviation in c.deviations.items():
            values[f"{distance}/{at}_sd"] = deviation
    if found is not None:
        values["published/cells"] = len(found.pairs)
        values["published/cells_matched"] = found.matched
    return values | {
        "spectrum/d": spectrum.d,
        "spectrum/trace": spectrum.trace,
        "spectrum/largest": float(spectrum.values.max()),
        "spectrum/smallest": float(spectrum.values.min()),
        "spectrum/zeros": spectrum.zeros,
    }


def figures(folder: Path, grid: Grid, error: Error) -> None:
    """The errors by eigenvalue: modes.csv and figures/modes.png."""
    from diffgeo.plot import gaussian as plot

    eps = typical(grid) or grid.chart.t_max / 1000
    eta = abs(error) if isinstance(error, float) and error else ETA
    steps = max(grid.points) - (grid.count == "points")
    curves = modes(SPAN, grid.chart, grid.schemes, steps, eps, eta)
    columns = [map(repr, curve.tolist()) for curve in curves.values()]
    write_text(folder / "modes.csv", csv_text(list(curves), zip(*columns, strict=True)))
    title = f"eps = {power_of_ten(eps)}, {steps} steps, eta = {eta:g}"
    plot.modes(folder / "figures" / "modes.png", curves, title)
