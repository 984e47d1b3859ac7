"""The distance-function theory in pictures: the noise a denoiser sees, its error as a projection,
and the theorem's bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, SUPPORT, VERMILION, log_axis, sheet

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
    first = 2 * middle[0] - between[0]
    last = 2 * middle[-1] - between[-1]
    return np.exp(np.concatenate([[first], between, [last]]))


def density(figure, ax, sigma: Tensor, value: Tensor, top: float) -> None:
    """How many of the states [K,N] at each level have which value, on a log colour scale; values
    above `top` lie in the last bin."""
    from matplotlib.colors import LogNorm

    columns = edges(sigma.numpy())
    rows = np.linspace(0, top, BINS + 1)
    highest = top * (1 - 1e-9)
    increasing = value.numpy()[np.argsort(sigma.numpy())]
    count = np.stack([np.histogram(v.clip(max=highest), rows)[0] for v in increasing])
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


def noise_norm(path, sigma: Tensor, norm: Tensor) -> None:
    """|eps(x_t, sigma_t)|/sqrt(n) of every state, [K,N], by level [K]: near 1 where sigma |eps|
    tells the distance."""
    with sheet(path, 1, 1, (5.6, 3.6)) as (figure, axes):
        density(figure, axes[0, 0], sigma, norm, max(1.5, 1.1 * float(norm.max())))
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


def relative_error(path, sigma: Tensor, eta: Tensor, nu: Tensor, one: int = 0) -> None:
    """eta and nu of every state, [K,N], by level [K], with one run overlaid. Above eta = 1 the
    denoiser is no approximate projection.

    The axes reach the largest value, or say how many lie above them.
    """
    with sheet(path, 1, 2, (5.4, 3.6)) as (figure, axes):
        left, right = axes[0]
        error_panel(figure, left, sigma, eta, r"$\eta_t$", least=0.1, one=one)
        error_panel(figure, right, sigma, nu, r"$\nu_t$", least=2.0, one=one)
        left.legend(frameon=False, fontsize=8)


def error_panel(
    figure, ax, sigma: Tensor, values: Tensor, name: str, least: float, one: int
) -> None:
    """`least`: how far the axis reaches at least."""
    top = max(least, 1.05 * reach(values))
    density(figure, ax, sigma, values, top)
    above = int((values > top).sum())
    if above:
        ax.set_title(f"{above} states above, up to {float(values.max()):.3g}", fontsize=9)
    ax.plot(sigma, values[:, one], color=VERMILION, linewidth=1.2, label="one trajectory")
    ax.axhline(1, color=BLACK, linewidth=0.8)
    ax.set_ylabel(name)


def reach(values: Tensor) -> float:
    """The largest finite value, or FAR times as much as 99 % of the states keep below at every
    level."""
    largest = float(values[torch.isfinite(values)].max())
    usual = float(values.nan_to_num(posinf=largest).quantile(0.99, 1).max())
    return min(largest, FAR * usual)


def distance_bounds(
    path,
    sigma: Sequence[float],
    distance: Tensor,
    bounds: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    fails: Sequence[float] = (),
) -> None:
    """dist(x_t)/dist(x_N) of all runs (grey: range, black: median) between the theorem's bounds.

    sigma: the positive levels [L]. distance: [L or more,N].
    bounds: name -> (lower, upper), each [L]: the first solid, the second dashed. {} where the
        assumption is not met, so that there are none; the levels `fails`, where eta >= 1, are
        shaded then.
    The axis reaches down to the lower bounds, or, where they lie more than six decades below 1,
    says where they end.
    """
    x = torch.tensor(sigma, dtype=torch.float64)
    fall = (distance / distance[0])[: len(x)]
    lowest = float(fall.amin())
    with sheet(path, 1, 1, (5.6, 4.0)) as (_, axes):
        ax = axes[0, 0]
        grey = {"color": SUPPORT, "alpha": 0.5, "linewidth": 0}
        ax.fill_between(x, fall.amin(1), fall.amax(1), label="all trajectories", **grey)
        ax.plot(x, fall.median(1).values, color=BLACK, linewidth=1.6, label="median")
        ax.plot(x, x / x[0], ":", color=BLACK, linewidth=1, label=r"$\sigma_t/\sigma_N$")
        for (name, pair), style in zip(bounds.items(), ("-", "--"), strict=False):
            lower, upper = (torch.tensor(bound, dtype=torch.float64) for bound in pair)
            label = "bounds, " + name.replace("eta", r"$\eta$")
            ax.plot(x, upper, style, color=VERMILION, linewidth=1.3, label=label)
            ax.plot(x, lower.where(lower > 0, torch.nan), style, color=BLUE, linewidth=1.3)
            lowest = min(lowest, float(lower[-1]))
        if fails:
            shade = {"color": "#F6DDD2", "zorder": 0}
            ax.axvspan(min(fails), max(fails), label=r"$\eta \geq 1$", **shade)
        title = "assumption met" if bounds else "assumption not met: no bound"
        levels(ax, x)
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
        exact = estimates["exact"]
        guesses = {name: value for name, value in estimates.items() if name != "exact"}
        for (name, value), colour in zip(guesses.items(), COLOURS, strict=False):
            ratio = (value / exact).median(1).values
            ax.plot(sigma, ratio, color=colour, linewidth=1.5, label=name)
        levels(ax, sigma)
        ax.margins(y=0.08)
        ax.set_ylabel("estimate / distance, median")
        ax.legend(frameon=False, fontsize=8)
