"""The paper-style figures of `diffgeo reproduce`: each takes (folder, cells by name) and may return
text for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from diffgeo import plot
from diffgeo.config.build import Experiment, load_array
from diffgeo.core import generator
from diffgeo.metrics import denoiser_error
from diffgeo.metrics import fixed_point as fixed_point_curves
from diffgeo.plot.canvas import BLUE, plane, sheet, support
from diffgeo.run import load
from diffgeo.schedule import OU
from diffgeo.schedule.spacing import UniformTimes

PAPER_T_MIN = 10 / 199  # the smallest training time of the paper's grid


def lowest_nodes(nodes: int = 100) -> torch.Tensor:
    """The first positive levels of the paper's exponential grid, increasing, [nodes]."""
    return OU().grid(200)[:-1].flip(0)[:nodes]


def runs(cells: Mapping, names: Sequence[str]) -> dict[str, Experiment]:
    return {name: load(cells[name].folder) for name in names}


def clouds(
    out: Path,
    every: Mapping,
    cells: Sequence[str],
    file: str = "clouds.png",
    limit: float | None = None,
) -> None:
    """The samples of several cells side by side over the support, each with its mean distance."""
    with sheet(out / file, 1, len(cells), (3.4, 3.4), sharex=True, sharey=True) as (_, axes):
        for ax, name in zip(axes[0], cells, strict=True):
            data = load(every[name].folder).data
            view = plane(data)
            samples = load_array(str(every[name].folder), "run", data.shape)
            support(ax, data, view, linewidth=1)
            dots = {"s": 1.5, "linewidths": 0, "alpha": 0.5, "rasterized": True}
            ax.scatter(*view(samples).T, color=BLUE, **dots)
            distance = float(data.distance(samples).mean())
            ax.set_title(f"{name}\nmean distance {distance:.3g}", fontsize=10)
            ax.set_aspect("equal", adjustable="box")
            if limit:
                ax.set(xlim=(-limit, limit), ylim=(-limit, limit))


def fixed_point(out: Path, every: Mapping, cells: Sequence[str]) -> None:
    """Figure 2: S, epsilon and f at x_t = (1, -.1) over the last hundred sampling times."""
    loaded = runs(every, cells)
    curves = {
        name: fixed_point_curves(e.model, e.data, lowest_nodes(), device=e.device)
        for name, e in loaded.items()
    }
    plot.fixed_point(out / "fixed_point.png", curves, PAPER_T_MIN)


def errors(out: Path, every: Mapping, cells: Sequence[str], n: int = 2000) -> None:
    """Figure 3: equation (63) over the last hundred sampling times, in all and by direction."""
    loaded = runs(every, cells)
    curves = {
        name: denoiser_error(e.model, e.data, lowest_nodes(), OU(), n, device=e.device)
        for name, e in loaded.items()
    }
    plot.errors(out / "errors.png", curves, PAPER_T_MIN)


def snapshots(
    out: Path, every: Mapping, cells: Sequence[str], after: Sequence[int], n: int = 2000
) -> None:
    """Figure 5: the states of the first cell's sampler after the given numbers of steps, in the
    chart x_t."""
    e = load(every[cells[0]].folder)
    path = e.simulation.trajectory(e.numbers[:n])
    with sheet(out / "snapshots.png", 1, len(after), (2.6, 2.6)) as (_, axes):
        for ax, i in zip(axes[0], after, strict=True):
            x_t = path.x[i] * e.chart.scale(path.sigma[i])
            ax.scatter(*x_t.T, s=2, linewidths=0, color=BLUE, alpha=0.5, rasterized=True)
            ax.scatter(*e.data.atoms.T, s=40, facecolors="none", edgecolors="black", linewidths=1)
            ax.set_title(f"after step {i}", fontsize=10)
            ax.set_aspect("equal", adjustable="datalim")


def posterior_variance(out: Path, every: Mapping, cells: Sequence[str], n: int = 4000) -> str:
    """Figure 8: 1/E|X_0 - f(X_t, t)|^2 on exact f against c/(e^t - 1), c fitted in the mean of the
    logarithm."""
    e = load(every[cells[0]].folder)
    data = e.data
    exact = e.data.denoiser()
    ou = OU()
    t = torch.logspace(-4, 1, 26, dtype=torch.float64)
    variance = torch.empty_like(t)
    for k, sigma in enumerate(ou.sigma(t)):
        g = generator(0, 8, k)
        x0 = data.sample(n, g)
        x = x0 + sigma * torch.randn(x0.shape, generator=g, dtype=x0.dtype)
        variance[k] = (exact(x, sigma) - x0).square().sum(1).mean()
    weight = 1 / variance
    paper = 1 / torch.expm1(t)
    used = t < 1
    c = float(torch.exp((weight.log() - paper.log())[used].mean()))
    worst = float((weight / (c * paper))[used].log().abs().max().exp())
    with sheet(out / "lambda.png", 1, 1, (5.0, 3.6)) as (_, axes):
        ax = axes[0, 0]
        ax.loglog(
            t, weight, "o", markersize=4, color=BLUE, label=r"$1/E|X_0-f(X_t,t)|^2$, exact $f$"
        )
        ax.loglog(t, c * paper, color="black", linewidth=1, label=rf"$c/(e^t-1)$, c = {c:.3g}")
        ax.axvline(
            PAPER_T_MIN, color="#999999", linestyle=":", linewidth=1, label="smallest training time"
        )
        ax.set(xlabel="t", ylabel=r"$\lambda(t)$")
        ax.legend(frameon=False, fontsize=8)
    return (
        f"Figure 8: below t = 1 the ideal weight follows c/(e^t - 1), c = {c:.3g}, within a factor "
        f"{worst:.3g}; see the figure lambda\n"
    )


def learned_errors_are_where(out: Path, every: Mapping, cells: Sequence[str]) -> str:
    """How much of each network's epsilon error lies at times below the training grid."""
    lines = []
    for name, e in runs(every, cells).items():
        sigmas = OU(training=UniformTimes(200)).grid(200)[:-1].flip(0)
        curves = denoiser_error(e.model, e.data, sigmas, OU(), 500, device=e.device)
        below = curves["t"] < PAPER_T_MIN
        inside, outside = (root_with_error(curves, "epsilon", mask) for mask in (~below, below))
        lines.append(
            f"- {name}: rms error of epsilon {outside} below the training times, {inside} within "
            "them"
        )
    return "Where the error is, +- its standard error\n\n" + "\n".join(lines) + "\n"


def root_with_error(curves: Mapping[str, torch.Tensor], name: str, mask: torch.Tensor) -> str:
    """The root of a curve's mean over some levels, with its standard error."""
    root = float(curves[name][mask].mean().sqrt())
    variance = float(curves[f"{name}_variance"][mask].sum()) / int(mask.sum()) ** 2
    return f"{root:.3g} +- {math.sqrt(variance) / (2 * root):.1g}"
