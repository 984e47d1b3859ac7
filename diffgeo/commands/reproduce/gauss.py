"""The tables and figures of `diffgeo reproduce gauss/...`: each takes (folder, cells by name) and
returns text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from diffgeo.commands.compare import markdown
from diffgeo.commands.theory.gaussian_options import process, scheme, subject
from diffgeo.plot import gaussian as plot
from diffgeo.run import read_config
from diffgeo.theory.ablation import SPAN, Cell, compared, table
from diffgeo.theory.ablation import modes as by_eigenvalue
from diffgeo.theory.gaussian import SCHEMES
from diffgeo.theory.learned import drawn, flip, flips_by_eigenvalue


def read(folder: Path) -> list[Cell]:
    """The cells of a run's table.csv."""

    def cell(scheme: str, eps: str, points: str, start: str, **distances: str) -> Cell:
        return Cell(
            scheme,
            float(eps),
            None if points == "continuous" else int(points),
            start,
            {k: float(v) for k, v in distances.items()},
        )

    with (folder / "table.csv").open() as file:
        return [cell(**row) for row in csv.DictReader(file)]


def cells(out: Path, every: Mapping, cell: str) -> str:
    """The table as printed, the published cell beside every mismatch, and how many match."""
    folder = every[cell].folder
    published = OmegaConf.to_container(read_config(folder).published)
    measured = read(folder)
    found = compared(measured, published["columns"], published["table"])
    lines = [
        [
            name,
            f"{eps:g}",
            str(points or "continuous"),
            start,
            theirs,
            ours,
            "" if ours == theirs else "differs",
        ]
        for (name, eps, points, start), (ours, theirs) in found.pairs.items()
    ]
    text = f"**{found}**, W2 to p_0\n\n" + markdown(*table(measured, "w2", "points", found))
    return (
        text
        + "\nCell by cell\n\n"
        + markdown(["scheme", "eps", "points", "start", "published", "measured", ""], lines)
    )


SHOWN = (1e-6, 1e-4, 1e-2, 1.0, 100.0)


def modes(out: Path, every: Mapping, cell: str, eps: float, points: int, eta: float) -> str:
    """The errors by eigenvalue at one eps and number of grid points, drawn, and at a few
    eigenvalues as a table."""
    cfg = read_config(every[cell].folder)
    chart = process(cfg.beta, cfg.T)
    schemes = {name: scheme(name, chart) for name in ("EM", "EI", "Euler", "Heun")}
    title = f"eps = {eps:g}, {points} points, eta = {eta:g}"
    plot.modes(out / "modes.png", by_eigenvalue(SPAN, chart, schemes, points - 1, eps, eta), title)
    few = by_eigenvalue(
        torch.tensor(SHOWN, dtype=torch.float64), chart, schemes, points - 1, eps, eta
    )
    rows = [
        [name, *(f"{v:.2e}" for v in values.tolist())]
        for name, values in few.items()
        if name != "eigenvalue"
    ]
    return (
        f"Error of one direction, by eigenvalue (figure modes.png): truncation at eps = {eps:g}, "
        f"discretization of {points} points\n"
        f"from p_T against p_eps, score error eta = {eta:g} to first order\n\n"
        + markdown(["", *(f"lambda = {v:g}" for v in SHOWN)], rows)
    )


ETAS = torch.logspace(-5, 0, 26, dtype=torch.float64)
EIGENVALUES = torch.logspace(-5, 2, 15, dtype=torch.float64)


def flipped(
    out: Path, every: Mapping, cell: str, points: Sequence[int], eps: Sequence[float], seed: int = 0
) -> str:
    """The eta at which Heun falls behind EM: in W2, for errors of one sign and random ones, and
    eigenvalue by eigenvalue."""
    cfg = read_config(every[cell].folder)
    chart = process(cfg.beta, cfg.T)
    spectrum = subject(cfg, chart, eps, [])[0]
    samplers = {name: SCHEMES[name](chart) for name in ("Heun", "EM")}
    signs = {"random": drawn(1.0, len(spectrum.values), seed), "all +": 1.0, "all -": -1.0}

    def shown(eta: float) -> str:
        return "never ahead" if eta == 0 else "above 1" if eta > 1 else f"{eta:.2g}"

    rows = [
        [
            f"{e:g}",
            str(n),
            *(shown(flip(spectrum, chart, samplers, n, e, "N_0", xi).eta) for xi in signs.values()),
        ]
        for e in eps
        for n in points
    ]
    text = (
        "eta at which Heun's W2 to p_0 exceeds EM's, from N_0, by the sign of the error\n\n"
        + markdown(["eps", "points", *signs], rows)
    )
    e = eps[-1]
    single = {
        n: flips_by_eigenvalue(EIGENVALUES, chart, samplers, n, e, "N_0", ETAS) for n in points
    }
    plot.flips(out / "flips.png", EIGENVALUES, single, f"eps = {e:g}")
    lines = [
        [f"{float(value):.0e}", *(shown(float(found[k])) for found in single.values())]
        for k, value in enumerate(EIGENVALUES)
        if k % 2 == 0
    ]
    return text + (
        f"\nThe same for one direction alone, by eigenvalue, eps = {e:g} (rms over both signs; "
        "figure flips.png)\n\n" + markdown(["lambda", *(f"{n} points" for n in points)], lines)
    )
