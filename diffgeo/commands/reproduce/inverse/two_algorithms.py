"""The figures of `diffgeo reproduce inverse/two_algorithms`: the paths of a cell run again, and
what the data moves by level, from moves.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.config.build import assemble
from diffgeo.config.restoring import measurement_of, simulations_of
from diffgeo.core import Manifold
from diffgeo.errors import UsageError
from diffgeo.geometry.restoration import moves, posterior_draws
from diffgeo.plot.geometry import restoration as picture
from diffgeo.plot.geometry import starts
from diffgeo.run import loaded, read_config
from diffgeo.store.digest import verified
from diffgeo.tables import markdown

SHOWN = (10.0, 1.0, 0.1)  # levels of the text
DOTS = 500  # draws of the posterior in a picture


def paths(out: Path, every: Mapping, cell: str) -> None:
    """paths.png: sampling and denoising paths of the first samples of a cell, over the law and its
    posterior."""
    cfg = read_config(every[cell].folder)
    experiment = assemble(cfg, loaded)
    data = experiment.data
    told = measurement_of(cfg, experiment)
    posterior = posterior_draws(data, told, DOTS, experiment.simulation.seed)
    if posterior is None or not isinstance(data, Manifold):
        raise UsageError(f"{cell}: this law cannot be drawn with its posterior")
    found = {}
    for name, simulation in simulations_of(cfg, experiment, told).items():
        found[name] = moves(simulation, range(picture.DRAWN))
    states = {name: own.states for name, own in found.items()}
    estimates = {name: own.estimates for name, own in found.items()}
    sigma = experiment.simulation.sigmas
    picture.paths(out / "paths.png", states, estimates, sigma, data, posterior[0])


def levels(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """moves.png: what the data moves by level, a line an algorithm and cell. The text: the same at
    a few levels."""
    panels: dict[str, dict[str, starts.Line]] = {"estimate": {}, "state": {}}
    rows = []
    for cell in cells:
        series: dict[str, list[dict[str, str]]] = {}
        with verified(every[cell].folder / "moves.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                series.setdefault(row["algorithm"], []).append(row)
        for name, by_level in series.items():
            label = name if name == "dps_yt" else f"{name}, {cell}"
            sigma = [float(row["sigma"]) for row in by_level]
            told = [label]
            for key, lines in panels.items():
                moved = [float(row[key]) for row in by_level]
                lines[label] = starts.Line(sigma, moved)
                for level in SHOWN:
                    told.append(f"{moved[nearest(sigma, level)]:.3g}")
            if told not in rows:
                rows.append(told)
    names = (
        r"denoising path moved, $|\hat D - D|$",
        r"sampling path moved, $|x' - x'_0|/\sqrt{1+\sigma'^2}$",
    )
    drawn = dict(zip(names, panels.values(), strict=True))
    starts.quality(out / "moves.png", drawn, r"noise level $\sigma$", log_x=True)
    header = ["", *(f"D moved at sigma = {level:g}" for level in SHOWN)]
    header += [f"x moved at {level:g}" for level in SHOWN]
    return "What the data moves, mean over the paths\n\n" + markdown(header, rows)


def nearest(sigma: Sequence[float], level: float) -> int:
    """The number of the level that is nearest."""
    apart = [abs(own - level) for own in sigma]
    return apart.index(min(apart))
