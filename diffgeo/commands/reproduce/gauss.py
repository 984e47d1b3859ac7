"""The tables and figures of `diffgeo reproduce gauss/...`: each takes (folder, cells by name) and
returns text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from diffgeo.config import kinds
from diffgeo.config.build import build, load_array
from diffgeo.plot import gaussian as plot
from diffgeo.plot import images
from diffgeo.run import read_config
from diffgeo.schedule import VP
from diffgeo.store.digest import verified
from diffgeo.tables import markdown
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.ablation import SPAN, Cell, Scheme
from diffgeo.theory.ablation import modes as by_eigenvalue
from diffgeo.theory.ablation_table import compared, table
from diffgeo.theory.gaussian import SCHEMES, stochastic
from diffgeo.theory.learned import flip, flips_by_eigenvalue, several, spread
from diffgeo.theory.process import process

SHOWN = (1e-6, 1e-4, 1e-2, 1.0, 100.0)  # eigenvalues of a table
ETAS = torch.logspace(-5, 0, 26, dtype=torch.float64)
EIGENVALUES = torch.logspace(-5, 2, 15, dtype=torch.float64)  # of a figure; a table has every other


def read(folder: Path) -> list[Cell]:
    """The cells of a run's table.csv."""
    cells = []
    with verified(folder / "table.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scheme = row.pop("scheme")
            eps = float(row.pop("eps"))
            points = row.pop("points")
            start = row.pop("start")
            numbers = {name: float(value) for name, value in row.items()}
            means = {name: value for name, value in numbers.items() if not name.endswith("_sd")}
            deviations = {name: numbers[f"{name}_sd"] for name in means if f"{name}_sd" in numbers}
            count = None if points == "continuous" else int(points)
            cells.append(Cell(scheme, eps, count, start, means, deviations))
    return cells


def forward(config) -> VP:
    """The forward process of a run of `theory gaussian`."""
    return process(kinds.numbers("beta", config.beta), config.T)


def cells(out: Path, every: Mapping, cell: str) -> str:
    """The table as printed, the published cell beside every mismatch, and how many match."""
    folder = every[cell].folder
    published = OmegaConf.to_container(read_config(folder).published)
    measured = read(folder)
    found = compared(measured, published["columns"], published["table"])
    lines = []
    for (name, eps, points, start), (ours, theirs) in found.pairs.items():
        count = str(points or "continuous")
        verdict = "" if ours == theirs else "differs"
        lines.append([name, f"{eps:g}", count, start, theirs, ours, verdict])
    header = ["scheme", "eps", "points", "start", "published", "measured", ""]
    whole = markdown(*table(measured, "w2", "points", found))
    return f"**{found}**, W2 to p_0\n\n{whole}\nCell by cell\n\n{markdown(header, lines)}"


def modes(out: Path, every: Mapping, cell: str, eps: float, points: int, eta: float) -> str:
    """The errors by eigenvalue at one eps and number of grid points, drawn, and at a few
    eigenvalues as a table."""
    chart = forward(read_config(every[cell].folder))
    names = ("EM", "EI", "Euler", "Heun")
    schemes = {name: Scheme(SCHEMES[name](chart), stochastic(name)) for name in names}

    def errors(eigenvalues: torch.Tensor) -> dict[str, torch.Tensor]:
        return by_eigenvalue(eigenvalues, chart, schemes, points - 1, eps, eta)

    title = f"eps = {eps:g}, {points} points, eta = {eta:g}"
    plot.modes(out / "modes.png", errors(SPAN), title)
    rows = []
    for name, values in errors(torch.tensor(SHOWN, dtype=torch.float64)).items():
        if name != "eigenvalue":
            rows.append([name, *(f"{v:.2e}" for v in values.tolist())])
    return (
        f"Error of one direction, by eigenvalue (figure modes): truncation at eps = {eps:g}, "
        f"discretization of {points} points\n"
        f"from p_T against p_eps, score error eta = {eta:g} to first order\n\n"
        + markdown(["", *(f"lambda = {v:g}" for v in SHOWN)], rows)
    )


def at_eta(eta: float) -> str:
    """Where a lead is lost, as a table shows it."""
    if eta == 0:
        return "never ahead"
    return "above 1" if eta > 1 else f"{eta:.2g}"


def over_draws(etas: Sequence[float]) -> str:
    """Where a lead is lost over several draws: mean +- standard deviation, or from where to where
    if some never lose it."""
    if all(0 < eta <= 1 for eta in etas):
        mean, deviation = spread(etas)
        return f"{mean:.2g} +- {deviation:.1g}"
    return f"{at_eta(min(etas))} to {at_eta(max(etas))}"


def flipped(
    out: Path,
    every: Mapping,
    cell: str,
    points: Sequence[int],
    eps: Sequence[float],
    seed: int = 0,
    draws: int = 8,
) -> str:
    """The eta at which Heun falls behind EM: in W2, for random errors, over several draws, and for
    errors of one sign; and eigenvalue by eigenvalue."""
    config = read_config(every[cell].folder)
    chart = forward(config)
    law = build(config.data)
    mirrored = config.data.get("flip", False)
    spectrum, _ = spectra.of_law(law, config.mean, mirrored, config.samples, config.seed)
    samplers = {name: SCHEMES[name](chart) for name in ("Heun", "EM")}
    random = several(1.0, len(spectrum.values), seed, draws).errors
    rows = []
    for e in eps:
        for n in points:
            drawn = [flip(spectrum, chart, samplers, n, e, "N_0", xi).eta for xi in random]
            signs = [flip(spectrum, chart, samplers, n, e, "N_0", xi).eta for xi in (1.0, -1.0)]
            rows.append([f"{e:g}", str(n), over_draws(drawn), *map(at_eta, signs)])
    random_title = f"random, {draws} draws"
    by_sign = markdown(["eps", "points", random_title, "all +", "all -"], rows)

    e = eps[-1]
    single = {}
    for n in points:
        single[n] = flips_by_eigenvalue(EIGENVALUES, chart, samplers, n, e, "N_0", ETAS)
    plot.flips(out / "flips.png", EIGENVALUES, single, f"eps = {e:g}")
    lines = []
    for k in range(0, len(EIGENVALUES), 2):
        lost = [at_eta(float(etas[k])) for etas in single.values()]
        lines.append([f"{float(EIGENVALUES[k]):.0e}", *lost])
    alone = markdown(["lambda", *(f"{n} points" for n in points)], lines)
    return (
        "eta at which Heun's W2 to p_0 exceeds EM's, from N_0, by the sign of the error; +- is the "
        f"standard deviation of a draw\n\n{by_sign}\nThe same for one direction alone, by "
        f"eigenvalue, eps = {e:g} (rms over both signs; figure flips)\n\n{alone}"
    )


def textures(out: Path, every: Mapping, cells: Sequence[str], shown: int = 8) -> None:
    """The first samples of each cell as pictures, a row a cell, with its W2: textures.png."""
    rows = []
    names = []
    for name in cells:
        law = build(read_config(every[name].folder).data)
        samples = load_array(str(every[name].folder), "run", law.shape)
        rows.append(law.quantize(samples[:shown]))
        names.append(f"{name}: {every[name].metrics()['texture/w2']:.3g}")
    title = "the first samples, all from the same noise, and W2 as they give it"
    images.rows(out / "textures.png", rows, names, [""] * shown, title)
