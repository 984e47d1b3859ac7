"""along=true of `diffgeo theory gaussian`: W2 to p_t on the way, of the exact dynamics from N(0, I)
and of every scheme on every grid; along.csv, figures/along.png and the two tables that are
printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffgeo.commands.theory.gaussian_options import Grid, typical
from diffgeo.config.kinds import plain
from diffgeo.errors import UsageError
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.ablation import Error, grid_of, samplers_of
from diffgeo.theory.ablation_table import power_of_ten
from diffgeo.theory.gaussian import Spectrum
from diffgeo.theory.gaussian_along import Curve, exact, schemes, times

SHOWN = (1.0, 0.5, 0.1, 0.01, 0.0)  # times of the table of the exact dynamics, in units of T
ON_A_GRID = (0.8, 0.5, 0.2, 0.1, 0.0)  # of a scheme, at the nearest points of its grid


@dataclass(frozen=True)
class Way:
    """What is asked for: the time at which the schemes stop, and the fewest points of a grid, which
    are the ones that are drawn and printed (along.csv has all)."""

    eps: float
    fewest: int


def way_of(cfg, grid: Grid) -> Way | None:
    """None where along=false. Raises UsageError where it does not go with the rest."""
    if not plain("along", cfg.along, bool):
        return None
    if grid.files:
        raise UsageError(
            f"along=true is of the starts p_T and N_0: leave start={grid.files[0]} out"
        )
    return Way(typical(grid) or 0.0, min(grid.points) + (grid.count == "steps"))


def on_the_way(spectrum: Spectrum, grid: Grid, way: Way | None, error: Error) -> list[Curve]:
    """The curves: exact SDE and ODE from N(0, I), then every scheme by number of points."""
    if way is None:
        return []
    curves = exact(spectrum, grid.chart, times(grid.chart))
    for points in grid.points:
        sigmas = grid_of(grid.chart, points, way.eps, grid.count)
        samplers = samplers_of(grid.schemes)
        curves += schemes(spectrum, grid.chart, samplers, sigmas, grid.starts, error)
    return curves


def write_along(folder: Path, way: Way | None, curves: Sequence[Curve], figures: bool) -> None:
    """along.csv, and figures/along.png."""
    if way is None:
        return
    drawn = any(curve.deviation is not None for curve in curves)
    header = ["name", "start", "points", "t", "w2", *(["w2_sd"] if drawn else [])]
    write_text(folder / "along.csv", csv_text(header, lines(curves, drawn)))
    if not figures:
        return
    from diffgeo.plot import gaussian as plot

    exactly = {curve.name: (curve.t, curve.w2) for curve in curves if curve.points is None}
    by_scheme = {
        (curve.name, curve.start): (curve.t, curve.w2)
        for curve in curves
        if curve.points == way.fewest
    }
    title = f"{way.fewest} points down to t = {power_of_ten(way.eps)}"
    plot.along(folder / "figures" / "along.png", exactly, by_scheme, title)


def lines(curves: Sequence[Curve], drawn: bool) -> list[list[str]]:
    """A line a time of a curve, at full precision."""
    found = []
    for curve in curves:
        points = "continuous" if curve.points is None else str(curve.points)
        for i, (t, w2) in enumerate(zip(curve.t.tolist(), curve.w2.tolist(), strict=True)):
            line = [curve.name, curve.start, points, repr(t), repr(w2)]
            if drawn:
                line.append("0.0" if curve.deviation is None else repr(float(curve.deviation[i])))
            found.append(line)
    return found


def picked(curve: Curve) -> list[int]:
    """Which times of a curve are told."""
    shown = SHOWN if curve.points is None else ON_A_GRID
    return [curve.nearest(share * float(curve.t[0])) for share in shown]


def along_numbers(way: Way | None, curves: Sequence[Curve]) -> dict[str, float]:
    """What metrics.json has of the way: the told times of the curves that are printed, and where on
    its way each is worst."""
    values = {}
    for curve in curves:
        at = f"{curve.name}@points={curve.points or 'continuous'},start={curve.start}"
        worst = int(curve.w2.argmax())
        values[f"along/worst_w2/{at}"] = float(curve.w2[worst])
        values[f"along/worst_t/{at}"] = float(curve.t[worst])
        if curve.points in (None, way.fewest):
            for i in picked(curve):
                values[f"along/w2/{at},t={float(curve.t[i]):.4g}"] = float(curve.w2[i])
    return values


def along_text(way: Way | None, curves: Sequence[Curve]) -> str:
    """The two tables; nothing where nothing was asked for."""
    if way is None:
        return ""
    groups = [
        ("from N_0, the exact dynamics", [curve for curve in curves if curve.points is None]),
        (f"on {way.fewest} points", [curve for curve in curves if curve.points == way.fewest]),
    ]
    text = ""
    for about, members in groups:
        text += f"\nW2 to p_t on the way, {about}\n\n{table(members)}"
    return text


def table(curves: Sequence[Curve]) -> str:
    """A row a curve, a column a time that is told; all are on one grid."""
    columns = picked(curves[0])
    t = curves[0].t
    header = ["", "start", *(f"t = {float(t[i]):.4g}" for i in columns)]
    rows = []
    for curve in curves:
        rows.append([curve.name, curve.start, *(f"{float(curve.w2[i]):.6g}" for i in columns)])
    return markdown(header, rows)
