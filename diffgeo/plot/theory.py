"""The distance-function theory in pictures: the noise a denoiser sees, its error as a projection,
and the theorem's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, SUPPORT, VERMILION, log_axis, sheet

if TYPE_CHECKING:
    from diffgeo.theory.admissibility import Measured, Verdict

BINS = 60  # cells of a histogram in each direction; an empty one is left white
FAR = 3.0  # an axis ends at the largest value, or so many times as high as 99 % of the values reach


def levels(ax, sigma: Tensor) -> None:
    """A log axis of noise levels, noise at the right."""
    positive = sigma[sigma > 0]
    log_axis(ax.xaxis, float(positive.min()), float(positive.max()))
    ax.set_xlabel(r"noise level $\sigma$")


def edges(sigma: np.ndarray) -> np.ndarray:
    """The ends of one column a level, halfway to its neighbours in log sigma, increasing."""
    middle = np.log(np.sort(sigma))
    if len(middle) == 1:
        return np.exp(middle[0] + np.array([-0.5, 0.5]))
    between = (middle[1:] + middle[:-1]) / 2
    return np.exp(
        np.concatenate([[2 * middle[0] - between[0]], between, [2 * middle[-1] - between[-1]]])
    )


def density(figure, ax, sigma: Tensor, value: Tensor, top: float) -> None:
    """How many of the states [K,N] at each level have which value, on a log colour scale; values
    above `top` lie in the last bin."""
    from matplotlib.colors import LogNorm

    columns = edges(sigma.numpy())
    rows = np.linspace(0, top, BINS + 1)
    count = np.stack(
        [
            np.histogram(v.clip(max=top * (1 - 1e-9)), rows)[0]
            for v in value.numpy()[np.argsort(sigma.numpy())]
        ]
    )
    count = np.where(count == 0, np.nan, count)
    mesh = ax.pcolormesh(
        columns,
        rows,
        count.T,
        cmap="viridis_r",
        norm=LogNorm(1, max(value.shape[1], 2)),
        rasterized=True,
    )
    figure.colorbar(mesh, ax=ax, label="trajectories")
    ax.set_ylim(0, top)
    levels(ax, sigma)


def noise_norm(path, measured: Measured) -> None:
    """|eps(x_t, sigma_t)|/sqrt(n) along the runs, by level: near 1 where sigma |eps| tells the
    distance."""
    sigma = measured.sigma[: len(measured.norm)]
    with sheet(path, 1, 1, (5.6, 3.6)) as (figure, axes):
        density(
            figure, axes[0, 0], sigma, measured.norm, max(1.5, 1.1 * float(measured.norm.max()))
        )
        axes[0, 0].axhline(1, color=BLACK, linewidth=0.8)
        axes[0, 0].set(ylabel=r"$\|\epsilon(x_t, \sigma_t)\|\,/\,\sqrt{n}$")


def noise_error(path, sigma: Tensor, error: Tensor) -> None:
    """|eps(x_0 + sigma eps, sigma) - eps|/sqrt(n), [L,n], by level: median and middle 98 % of fresh
    noised points; 1 is predicting 0."""
    low, middle, high = (error.quantile(q, 1) for q in (0.01, 0.5, 0.99))
    with sheet(path, 1, 1, (5.0, 3.6)) as (_, axes):
        ax = axes[0, 0]
        ax.fill_between(sigma, low, high, color=BLUE, alpha=0.25, linewidth=0, label="1 % to 99 %")
        ax.plot(sigma, middle, color=BLUE, linewidth=1.6, label="median")
        ax.axhline(1, color=BLACK, linewidth=0.8)
        ax.set(
            ylim=(0, max(1.2, 1.05 * float(high.max()))),
            ylabel=r"$\|\epsilon(x_0 + \sigma\epsilon, \sigma) - \epsilon\|\,/\,\sqrt{n}$",
        )
        levels(ax, sigma)
        ax.legend(frameon=False, fontsize=8)


def relative_error(path, measured: Measured, one: int = 0) -> None:
    """eta and nu of every state by level, with one run overlaid. Above eta = 1 the denoiser is no
    approximate projection.

    The axes reach the largest value, or say how many lie above them.
    """
    sigma = measured.sigma[: len(measured.eta)]
    with sheet(path, 1, 2, (5.4, 3.6)) as (figure, axes):
        for ax, values, name, least in zip(
            axes[0], (measured.eta, measured.nu), (r"$\eta_t$", r"$\nu_t$"), (0.1, 2.0), strict=True
        ):
            largest = float(values[torch.isfinite(values)].max())
            top = max(
                least,
                1.05
                * min(
                    largest, FAR * float(values.nan_to_num(posinf=largest).quantile(0.99, 1).max())
                ),
            )
            density(figure, ax, sigma, values, top)
            above = int((values > top).sum())
            if above:
                ax.set_title(f"{above} states above, up to {float(values.max()):.3g}", fontsize=9)
            ax.plot(sigma, values[:, one], color=VERMILION, linewidth=1.2, label="one trajectory")
            ax.axhline(1, color=BLACK, linewidth=0.8)
            ax.set_ylabel(name)
        axes[0, 0].legend(frameon=False, fontsize=8)


def distance_bounds(path, verdict: Verdict) -> None:
    """dist(x_t)/dist(x_N) of all runs (grey: range, black: median) between the theorem's bounds,
    with one eta for the whole grid (solid) and with each level's own (dashed). Where the assumption
    is not met there are no bounds to draw; the levels where eta >= 1 are shaded. The axis reaches
    down to the lower bounds, or, where they lie more than six decades below 1, says where they end.
    """
    from diffgeo.theory.certificate import bounds

    measured = verdict.measured
    sigma = torch.tensor(verdict.sigmas, dtype=torch.float64)
    fall = (measured.distance / measured.distance[0])[: len(sigma)]
    with sheet(path, 1, 1, (5.6, 4.0)) as (_, axes):
        ax = axes[0, 0]
        ax.fill_between(
            sigma,
            fall.amin(1),
            fall.amax(1),
            color=SUPPORT,
            alpha=0.5,
            linewidth=0,
            label="all trajectories",
        )
        ax.plot(sigma, fall.median(1).values, color=BLACK, linewidth=1.6, label="median")
        ax.plot(
            sigma, sigma / sigma[0], ":", color=BLACK, linewidth=1, label=r"$\sigma_t/\sigma_N$"
        )
        lowest = float(fall.amin())
        if verdict.met:
            for eta, style, name in (
                (verdict.eta, "-", rf"bounds, $\eta$ = {verdict.eta:.3g}"),
                (verdict.eta_by_level[: len(sigma) - 1], "--", r"bounds, each level's $\eta$"),
            ):
                lower, upper = (
                    torch.tensor(b, dtype=torch.float64) for b in bounds(verdict.sigmas, eta)
                )
                ax.plot(sigma, upper, style, color=VERMILION, linewidth=1.3, label=name)
                ax.plot(sigma, lower.where(lower > 0, torch.nan), style, color=BLUE, linewidth=1.3)
                lowest = min(lowest, float(lower[-1]))
        elif verdict.fails:
            ax.axvspan(
                min(verdict.fails),
                max(verdict.fails),
                color="#F6DDD2",
                zorder=0,
                label=r"$\eta \geq 1$",
            )
        title = "assumption met" if verdict.met else "assumption not met: no bound"
        levels(ax, sigma)
        log_axis(ax.yaxis, max(lowest, 1e-6), 1.5)
        if lowest < ax.get_ylim()[0]:
            title += f"; below the axis, down to {lowest:.1g}"
        ax.set_title(title, fontsize=10)
        ax.set_ylabel(r"dist$(x_t)\,/\,$dist$(x_N)$")
        ax.legend(frameon=False, fontsize=8)


def distance_estimators(path, sigma: Tensor, estimates: Mapping[str, Tensor]) -> None:
    """Median over the runs of each estimator over the exact distance, by level; estimates: name ->
    [K,N], "exact" among them."""
    with sheet(path, 1, 1, (5.4, 3.6)) as (_, axes):
        ax = axes[0, 0]
        ax.axhline(1, color=BLACK, linewidth=0.8)
        for colour, (name, value) in zip(
            COLOURS, ((k, v) for k, v in estimates.items() if k != "exact"), strict=False
        ):
            ax.plot(
                sigma,
                (value / estimates["exact"]).median(1).values,
                color=colour,
                linewidth=1.5,
                label=name,
            )
        levels(ax, sigma)
        ax.margins(y=0.08)
        ax.set_ylabel("estimate / distance, median")
        ax.legend(frameon=False, fontsize=8)
