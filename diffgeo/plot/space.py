"""Pictures in the plane of the data: clouds, denoiser fields, trajectories."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Denoiser, Manifold, Trajectory
from diffgeo.metrics.points import points
from diffgeo.plot.canvas import BLACK, BLUE, VERMILION, label, log_axis, plane, sheet, support

SHOWN = 4_000
BINS = 40


def samples(path, cloud: Tensor, data: Manifold) -> None:
    """A cloud [N,*D] over the support; beside it the distances to the support, and where along the
    support the samples lie.

    The last panel, for laws with an arc-length coordinate, counts samples between exact quantiles:
    1 is the truth, the grey band two standard deviations of a true cloud of the same size.
    """
    view = plane(data)
    x = points(cloud)
    coordinate = getattr(data, "coordinate", None)
    distance = data.distance(x)
    panels = 1 + bool((distance > 0).any()) + (coordinate is not None)
    with sheet(path, 1, panels, (4.2, 3.8)) as (_, axes):
        axes = list(axes.flat)
        ax = axes.pop(0)
        # then it can lie over the samples
        thin = coordinate is not None or getattr(data, "atoms", None) is not None
        support(ax, data, view, linewidth=0.6, **({"color": BLACK, "zorder": 3} if thin else {}))
        shown = x.flatten(1)[:SHOWN]
        ax.scatter(*view(shown).T, s=4, color=BLUE, alpha=0.4, linewidths=0)
        label(ax, view)
        ax.set_title(
            f"{len(shown)} of {len(x)} samples (blue), truth ({'black' if thin else 'grey'})",
            fontsize=10,
        )
        if (distance > 0).any():
            _distances(axes.pop(0), distance)
        if coordinate is not None:
            _density(axes.pop(0), coordinate(x), data)


def _distances(ax, distance: Tensor) -> None:
    positive = distance[distance > 0]
    low = positive.quantile(0.001).item()
    high = positive.max().item()
    ax.hist(positive.numpy(), bins=np.geomspace(0.9 * low, 1.1 * high, BINS), color=BLUE, alpha=0.6)
    log_axis(ax.xaxis, low, high)
    for name, value, colour in (
        ("mean", distance.mean().item(), BLACK),
        ("q99", distance.quantile(0.99).item(), VERMILION),
    ):
        ax.axvline(max(value, 1e-300), color=colour, linewidth=1, label=f"{name} {value:.3g}")
    ax.set(xlabel="distance to the support", ylabel="samples")
    ax.legend(loc="upper left", frameon=False, fontsize=8)


def _density(ax, s: Tensor, data: Manifold) -> None:
    u = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    inner = data.quantile(u[1:-1])
    counts = torch.bincount(torch.bucketize(s.contiguous(), inner), minlength=BINS) * BINS / len(s)
    band = 2 * (BINS / len(s)) ** 0.5
    ax.axhspan(1 - band, 1 + band, color="#DDDDDD", label="true cloud, 2 sd")
    ax.axhline(1, color=BLACK, linewidth=1)
    ax.stairs(counts.numpy(), u.numpy(), baseline=None, color=BLUE, linewidth=1.5, label="samples")
    ax.set(
        xlim=(0, 1),
        ylim=(0, max(2.0, 1.1 * counts.max().item())),
        xlabel="position along the support (exact quantile)",
        ylabel="density / true density",
    )
    ax.legend(loc="upper right", frameon=False, fontsize=8)


def fields(
    path,
    denoise: Denoiser | None,
    data: Manifold,
    sigmas: tuple[float, ...] | None = None,
    arrows: int = 17,
    pixels: int = 100,
) -> None:
    """The fields D - x, exact above and learned below, at several noise levels (default .02, .1,
    .5, 2 times the law's spread).

    Arrows point from x to D(x), drawn to scale up to one grid cell. Below, the colour is the error
    |D - D*|/sigma of the learned denoiser on the plane of the figure, where x is likely to lie:
    within 3 sigma of the support. denoise None: the exact row alone.
    """
    from matplotlib.colors import LogNorm

    view = plane(data)
    exact = data.denoiser()
    spread = float(view.truth.std(0).norm() / view.axes.shape[1] ** 0.5) or 1.0
    sigmas = tuple(sigmas or (spread * r for r in (0.02, 0.1, 0.5, 2.0)))
    low, high = (torch.as_tensor(f(view(view.truth), 0)) for f in (np.min, np.max))
    centre = (low + high) / 2
    half = float((high - low).max()) / 2 or spread
    rows = 1 + (denoise is not None)
    with sheet(path, rows, len(sigmas), (3.2, 3.0)) as (figure, axes), torch.no_grad():
        for k, sigma in enumerate(sigmas):
            reach = 1.12 * half + min(2.5 * sigma, spread)
            (left, bottom), (right, top) = (centre - reach).tolist(), (centre + reach).tolist()
            coarse, fine = (_grid(centre - reach, centre + reach, m) for m in (arrows, pixels))
            for row, model in enumerate([exact, denoise][:rows]):
                ax = axes[row, k]
                support(ax, data, view, zorder=1, linewidth=0.8)
                _arrows(
                    ax,
                    coarse,
                    view(model(view.lift(coarse), sigma)) - coarse.numpy(),
                    rows == row + 1 and rows > 1,
                )
                label(ax, view, "box")
                ax.set(
                    xlim=(left, right),
                    ylim=(bottom, top),
                    title=f"exact, $\\sigma$ = {sigma:.3g}" if row == 0 else "learned",
                    xlabel=view.names[0] if row == rows - 1 else "",
                    ylabel=view.names[1] if k == 0 else "",
                )
            if denoise is not None:
                x = view.lift(fine)
                likely = data.distance(x) <= 3 * sigma + 2 * half / pixels
                error = torch.full((len(x),), torch.nan, dtype=x.dtype)
                error[likely] = (points(denoise(x[likely], sigma)) - exact(x[likely], sigma)).norm(
                    dim=1
                ) / sigma
                mesh = axes[1, k].imshow(
                    error.reshape(pixels, pixels).numpy(),
                    cmap="YlOrRd",
                    norm=LogNorm(1e-3, 1, clip=True),
                    zorder=0,
                    origin="lower",
                    extent=(left, right, bottom, top),
                )
        if denoise is not None:
            figure.colorbar(
                mesh,
                ax=axes[1, :].tolist(),
                label=r"$|D - D^*|\,/\,\sigma$",
                extend="both",
                aspect=12,
            )


def _grid(low: Tensor, high: Tensor, n: int) -> Tensor:
    """n x n points of the box, [n*n,2], rows along the first axis."""
    first, second = (
        torch.linspace(float(a), float(b), n, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    )
    return torch.stack(torch.meshgrid(first, second, indexing="xy"), -1).flatten(0, 1)


def _arrows(ax, x: Tensor, v: np.ndarray, learned: bool) -> None:
    cell = float((x[1] - x[0]).norm())
    v = v * np.minimum(1, 0.9 * cell / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12))
    ax.quiver(
        *x.T.numpy(),
        *v.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.004,
        headwidth=3.5,
        headlength=4,
        color=BLUE if learned else BLACK,
        zorder=2,
    )


def trajectories(path, trajectory: Trajectory, data: Manifold, n: int = 80) -> None:
    """The first n paths from noise (open circles) to samples (dots) over the support, coloured by
    the noise level.

    In the "ve" chart the noise is far wider than the data, so the states are drawn as x/sqrt(1 +
    sigma^2/s^2), s the law's spread.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm

    view = plane(data)
    spread = float(view.truth.std(0).norm() / view.truth.shape[1] ** 0.5) or 1.0
    sigma = points(trajectory.sigma)
    x = points(trajectory.x)[:, :n].flatten(2)
    if trajectory.chart == "ve":
        x = view.origin + (x - view.origin) / torch.sqrt(1 + (sigma / spread) ** 2)[:, None, None]
    y = view(x)  # [K+1,n,2]
    segments = np.stack([y[:-1], y[1:]], 2).reshape(-1, 2, 2)
    levels = sigma[:-1].repeat_interleave(y.shape[1]).numpy()
    with sheet(path, 1, 1, (6.0, 5.0)) as (figure, axes):
        ax = axes[0, 0]
        support(ax, data, view, linewidth=2)
        norm = LogNorm(max(levels.min(), spread / 100), min(levels.max(), 30 * spread))
        lines = LineCollection(
            segments, array=levels, cmap="viridis_r", norm=norm, linewidths=0.8, alpha=0.8
        )
        ax.add_collection(lines)
        ax.scatter(
            *y[0].T,
            s=10,
            facecolors="none",
            edgecolors=BLACK,
            linewidths=0.6,
            label="noise",
            zorder=3,
        )
        ax.scatter(*y[-1].T, s=10, color=VERMILION, linewidths=0, label="samples", zorder=4)
        label(ax, view)
        ax.set_title(
            r"$x\,/\,\sqrt{1+\sigma^2/s^2}$" + f",  s = {spread:.3g}"
            if trajectory.chart == "ve"
            else f"chart {trajectory.chart}"
        )
        ax.legend(loc="upper right", frameon=True, fontsize=8)
        figure.colorbar(
            lines, ax=ax, label=r"noise level $\sigma$ at the start of the step", extend="both"
        )
