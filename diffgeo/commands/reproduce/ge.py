"""The figures and texts of `diffgeo reproduce ge/...`: each takes (folder, cells by name) and may
return text for the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo import plot
from diffgeo.commands.reproduce.engine import plain
from diffgeo.plot.canvas import BLUE, VERMILION, plane, sheet, support
from diffgeo.run import load
from diffgeo.store.digest import verified
from diffgeo.tables import markdown
from diffgeo.theory.admissibility import denoiser_errors, inequality, measure
from diffgeo.theory.verdict import Verdict


def timesteps(
    out: Path,
    every: Mapping,
    cells: Sequence[str],
    published: Mapping[str, Sequence[int]],
    fid: Mapping[str, Sequence[float]],
) -> str:
    """Each grid's timesteps against the published ones, and the published FID (CIFAR-10, CelebA) of
    DDIM on it."""
    rows = []
    for name in cells:
        with verified(every[name].folder / "levels.csv").open(encoding="utf-8") as file:
            ours = [int(row["timestep"]) for row in csv.DictReader(file)]
        same = (
            "as published"
            if ours == list(published[name])
            else f"published: {' '.join(map(str, published[name]))}"
        )
        rows.append([name, " ".join(map(str, ours)), same, *(f"{v:g}" for v in fid[name])])
    return "Timesteps, and the published FID of DDIM on them (not measured here)\n\n" + markdown(
        ["schedule", "timesteps", "", "FID CIFAR-10", "FID CelebA"], rows
    )


def assumption(out: Path, every: Mapping, cells: Sequence[str], n: int = 1000) -> str:
    """The three empirical figures and the bound, for every cell; the verdicts as text."""
    lines = []
    for i, name in enumerate(cells):
        e = load(every[name].folder)
        verdict = Verdict(measure(e.simulation, e.data, e.numbers[:n]))
        measured = verdict.measured
        sigma = measured.sigma[: len(measured.eta)]
        errors = denoiser_errors(e.model, e.data, sigma)
        plot.noise_norm(out / f"noise_norm_{i}.png", sigma, measured.norm)
        plot.noise_error(out / f"noise_error_{i}.png", sigma, errors)
        plot.relative_error(out / f"relative_error_{i}.png", sigma, measured.eta, measured.nu)
        plot.distance_bounds(
            out / f"distance_bounds_{i}.png",
            sigma=verdict.sigmas,
            distance=measured.distance,
            bounds=verdict.bounds(),
            fails=verdict.fails,
        )
        lines.append(f"- {name} (figures *_{i}): {verdict}; {inequality(measured)}")
    return f"Verdicts on {n} trajectories each\n\n" + "\n".join(lines) + "\n"


def paths(out: Path, every: Mapping, cells: Sequence[str], n: int = 1000, drawn: int = 12) -> None:
    """Samples (blue) and a few trajectories (red) of several cells side by side over the law, the
    states shrunk by sqrt(1 + sigma^2); the file is named after the first cell."""
    with sheet(
        out / f"{plain(cells[0].partition('gamma')[0])}.png",
        1,
        len(cells),
        (2.8, 2.9),
        sharex=True,
        sharey=True,
    ) as (_, axes):
        for ax, name in zip(axes[0], cells, strict=True):
            e = load(every[name].folder)
            view = plane(e.data)
            run = e.simulation.trajectory(e.numbers[:n])
            shrunk = run.x[:, :drawn] / (1 + run.sigma**2).sqrt()[:, None, None]
            support(ax, e.data, view, linewidth=1)
            ax.scatter(
                *view(run.x[-1]).T, s=2, linewidths=0, color=BLUE, alpha=0.6, rasterized=True
            )
            for path in view(shrunk).transpose(1, 0, 2):
                ax.plot(*path.T, color=VERMILION, linewidth=0.7, alpha=0.8)
            ax.set_title(
                f"{name}\nmean distance {float(e.data.distance(run.x[-1]).mean()):.3g}", fontsize=9
            )
            ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
