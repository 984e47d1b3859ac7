"""What every figure shares: the sheet, the colours, and the plane in which a law is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Data, generator
from diffgeo.plot.page import sheet as sheet

BLACK = "#000000"
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SUPPORT = "#9A9A9A"


def points(x: Tensor) -> Tensor:
    """As pictures are computed: float64 on the CPU, detached, of the same shape."""
    return x.detach().to("cpu", torch.float64)


@dataclass(frozen=True)
class Plane:
    """The affine plane in which a law is drawn: R^2 itself, else the first two principal directions
    of true samples."""

    origin: Tensor  # [d]
    axes: Tensor  # [d,2], orthonormal
    truth: Tensor  # [n,d]
    names: tuple[str, str]

    def __call__(self, x: Tensor) -> np.ndarray:
        """[..., d] -> [..., 2]."""
        return ((points(x) - self.origin) @ self.axes).numpy()

    def lift(self, y: Tensor) -> Tensor:
        """[..., 2] -> the point of the plane, [..., d]."""
        return self.origin + y @ self.axes.mT


def plane(data: Data, n: int = 4_000) -> Plane:
    """The plane of a law, from n true samples."""
    truth = points(data.sample(n, generator(0, *b"plane"))).flatten(1)
    d = truth.shape[1]
    if d <= 2:
        return Plane(
            origin=torch.zeros(d, dtype=truth.dtype),
            axes=torch.eye(d, 2, dtype=truth.dtype),
            truth=truth,
            names=("$x_1$", "$x_2$"),
        )
    centre = truth.mean(0)
    directions = torch.linalg.svd(truth - centre, full_matrices=False).Vh[:2]
    return Plane(
        origin=centre,
        axes=directions.mT,
        truth=truth,
        names=("first principal coordinate", "second principal coordinate"),
    )


def support(ax, data: Data, view: Plane, **style) -> None:
    """Draw the support: atoms, a line along the arc-length coordinate, or else true samples."""
    style = {"color": SUPPORT, "zorder": 0, "linewidth": 1.2} | style
    width = style.pop("linewidth")
    if data.atoms is not None:
        ax.scatter(
            *view(data.atoms).T,
            s=60,
            facecolors="none",
            edgecolors=style["color"],
            linewidths=1.5,
            zorder=style["zorder"],
        )
    elif data.coordinate is not None:
        ax.plot(*line_of(data, view).T, linewidth=width, **style)
    else:
        ax.scatter(*view(view.truth).T, s=1.5, linewidths=0, alpha=0.5, **style)


def line_of(data: Data, view: Plane) -> np.ndarray:
    """The true samples in the order of their arc length, [n,2] in the plane, nan where one piece of
    the support ends and another begins."""
    s, order = data.coordinate(view.truth).sort()
    curve = view.truth[order]
    chord = (curve[1:] - curve[:-1]).norm(dim=1)
    # a chord longer than its arc joins two pieces of the support
    gap = chord > 1.5 * s.diff() + 0.01 * view.truth.std(0).norm()
    y = view(curve)
    y[1:][gap.numpy()] = np.nan
    return y


def log_axis(axis, low: float, high: float) -> None:
    """A log scale with ticks at the decades alone, six of them at most, and wide enough to show
    two."""
    top = np.log10(high) + 0.08
    bottom = max(np.log10(max(low, 1e-300)) - 0.08, top - 6)
    if np.floor(top) - np.ceil(bottom) < 1:
        bottom = np.floor(bottom)
        top = np.ceil(top)
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (10.0**bottom, 10.0**top)})
    axis.minorticks_off()  # hundreds of minor ticks would take most of the drawing time


def label(ax, view: Plane, adjustable: str = "datalim") -> None:
    ax.set(xlabel=view.names[0], ylabel=view.names[1])
    ax.set_aspect("equal", adjustable=adjustable)
