"""Pictures in the plane of the data: clouds, denoiser fields, trajectories."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Manifold, Trajectory
from diffgeo.errors import UsageError
from diffgeo.plot.canvas import (
    BLACK,
    BLUE,
    VERMILION,
    Plane,
    label,
    log_axis,
    plane,
    points,
    sheet,
    support,
)

SHOWN = 4_000
BINS = 40
SHARES = (0.02, 0.1, 0.5, 2.0)  # of the law's spread: the noise levels of a picture of fields


def cloud(path, x: Tensor, data: Data) -> None:
    """A cloud x [N,*D] over the support of its law, one panel."""
    with sheet(path, 1, 1, (4.2, 3.8)) as (_, axes):
        _cloud(axes[0, 0], points(x).flatten(1), data, plane(data))


def samples(path, cloud: Tensor, data: Data) -> None:
    """A cloud [N,*D] over the support; beside it the distances to the support, where that is known,
    and where along the support the samples lie.

    The last panel, for laws with an arc-length coordinate, counts samples between exact quantiles:
    1 is the truth, the grey band two standard deviations of a true cloud of the same size.
    """
    view = plane(data)
    x = points(cloud)
    distance = data.distance(x) if isinstance(data, Manifold) else torch.zeros(len(x))
    off = bool((distance > 0).any())
    curve = data.coordinate is not None
    with sheet(path, 1, 1 + off + curve, (4.2, 3.8)) as (_, axes):
        panels = iter(axes.flat)
        _cloud(next(panels), x.flatten(1), data, view)
        if off:
            _distances(next(panels), distance)
        if curve:
            _density(next(panels), data.coordinate(x), data)


def _cloud(ax, x: Tensor, data: Data, view: Plane) -> None:
    """The first samples, under a thin support or over a wide one."""
    thin = data.coordinate is not None or data.atoms is not None
    style = {"color": BLACK, "zorder": 3} if thin else {}
    support(ax, data, view, linewidth=0.6, **style)
    shown = x[:SHOWN]
    ax.scatter(*view(shown).T, s=4, color=BLUE, alpha=0.4, linewidths=0)
    label(ax, view)
    colour = "black" if thin else "grey"
    title = f"{len(shown)} of {len(x)} samples (blue), truth ({colour})"
    ax.set_title(title, fontsize=10)


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
    ax.legend(loc="best", frameon=False, fontsize=8)


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
    data: Data,
    sigmas: tuple[float, ...] | None = None,
    arrows: int = 17,
    pixels: int = 100,
    name: str = "learned",
) -> None:
    """The fields D - x, exact above and that of `denoise`, the `name` one, below, at several noise
    levels (default: SHARES of the law's spread).

    Arrows point from x to D(x), drawn to scale up to one grid cell. Below, the colour is the error
    |D - D*|/sigma of the learned denoiser on the plane of the figure, where x is likely to lie:
    within 3 sigma of the support. denoise None: the exact row alone. Raises UsageError for a law
    whose support and exact denoiser are not known.
    """
    if not isinstance(data, Manifold):
        raise UsageError(f"fields are held against an exact denoiser, and {data.key} has none")
    view = plane(data)
    exact = data.denoiser()
    spread = float(view.truth.std(0).norm() / view.axes.shape[1] ** 0.5) or 1.0
    sigmas = tuple(sigmas or (spread * share for share in SHARES))
    box = Box.around(view, spread)
    rows = 1 if denoise is None else 2
    with sheet(path, rows, len(sigmas), (3.2, 3.0)) as (figure, axes), torch.no_grad():
        mesh = None
        for column, sigma in enumerate(sigmas):
            low, high = box.reaching(min(2.5 * sigma, spread))
            coarse = _grid(low, high, arrows)
            for row, model in enumerate([exact, denoise][:rows]):
                ax = axes[row, column]
                support(ax, data, view, zorder=1, linewidth=0.8)
                field = view(model(view.lift(coarse), sigma)) - coarse.numpy()
                _arrows(ax, coarse, field, BLUE if row == 1 else BLACK)
                label(ax, view, "box")
                ax.set(
                    xlim=(float(low[0]), float(high[0])),
                    ylim=(float(low[1]), float(high[1])),
                    title=f"exact, $\\sigma$ = {sigma:.3g}" if row == 0 else name,
                    xlabel=view.names[0] if row == rows - 1 else "",
                    ylabel=view.names[1] if column == 0 else "",
                )
            if denoise is not None:
                x = view.lift(_grid(low, high, pixels))
                likely = data.distance(x) <= 3 * sigma + 2 * box.half / pixels
                error = torch.full((len(x),), torch.nan, dtype=x.dtype)
                difference = points(denoise(x[likely], sigma)) - exact(x[likely], sigma)
                error[likely] = difference.norm(dim=1) / sigma
                mesh = _errors(axes[1, column], error.reshape(pixels, pixels), low, high)
        if mesh is not None:
            unit = r"$|D - D^*|\,/\,\sigma$"
            figure.colorbar(mesh, ax=axes[1, :].tolist(), label=unit, extend="both", aspect=12)


class Box(NamedTuple):
    """The square of the plane that holds the true samples."""

    centre: Tensor  # [2]
    half: float  # of its side

    @classmethod
    def around(cls, view: Plane, spread: float) -> Box:
        truth = torch.as_tensor(view(view.truth))
        low = truth.amin(0)
        high = truth.amax(0)
        return cls((low + high) / 2, float((high - low).max()) / 2 or spread)

    def reaching(self, margin: float) -> tuple[Tensor, Tensor]:
        """Two corners, with an eighth more room and a margin."""
        reach = 1.12 * self.half + margin
        return self.centre - reach, self.centre + reach


def _errors(ax, error: Tensor, low: Tensor, high: Tensor):
    """A picture of errors [pixels,pixels], nan where none is shown."""
    from matplotlib.colors import LogNorm

    return ax.imshow(
        error.numpy(),
        cmap="YlOrRd",
        norm=LogNorm(1e-3, 1, clip=True),
        zorder=0,
        origin="lower",
        extent=(float(low[0]), float(high[0]), float(low[1]), float(high[1])),
    )


def _grid(low: Tensor, high: Tensor, n: int) -> Tensor:
    """n x n points of the box, [n*n,2], rows along the first axis."""
    first = torch.linspace(float(low[0]), float(high[0]), n, dtype=torch.float64)
    second = torch.linspace(float(low[1]), float(high[1]), n, dtype=torch.float64)
    return torch.stack(torch.meshgrid(first, second, indexing="xy"), -1).flatten(0, 1)


def _arrows(ax, x: Tensor, v: np.ndarray, colour: str) -> None:
    """The vectors v at the points x, cut where they are longer than a cell of the grid."""
    cell = float((x[1] - x[0]).norm())
    length = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    v = v * np.minimum(1, 0.9 * cell / length)
    ax.quiver(
        *x.T.numpy(),
        *v.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.004,
        headwidth=3.5,
        headlength=4,
        color=colour,
        zorder=2,
    )


def trajectories(path, trajectory: Trajectory, data: Data, n: int = 80) -> None:
    """The first n paths from noise (open circles) to samples (dots) over the support, coloured by
    the noise level.

    In the "ve" chart the noise is far wider than the data, so the states are drawn as x/sqrt(1 +
    sigma^2/s^2), s the law's spread.
    """
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
        from matplotlib.collections import LineCollection
        from matplotlib.colors import LogNorm

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
        title = f"chart {trajectory.chart}"
        if trajectory.chart == "ve":
            title = r"$x\,/\,\sqrt{1+\sigma^2/s^2}$" + f",  s = {spread:.3g}"
        ax.set_title(title)
        ax.legend(loc="upper right", frameon=True, fontsize=8)
        name = r"noise level $\sigma$ at the start of the step"
        figure.colorbar(lines, ax=ax, label=name, extend="both")
