"""Pictures of where a path may begin and end: jumps out of it, latents between others, late
starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Manifold
from diffgeo.plot.canvas import (
    BLUE,
    COLOURS,
    SUPPORT,
    VERMILION,
    Plane,
    log_axis,
    plane,
    points,
    sheet,
    support,
)
from diffgeo.plot.curves import fine_ticks
from diffgeo.plot.images import rows as image_rows

MARKS = "osD^vPX*"
DOTS = 1500  # points of a panel of a row


class Line(NamedTuple):
    """One line of a picture of quality."""

    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False  # of a closed form, drawn without marks


def quality(
    path,
    panels: Mapping[str, Mapping[str, Line]],
    xlabel: str,
    tops: Mapping[str, float] = {},
    log_x: bool = False,
) -> None:
    """A panel a metric, a line a way to get a cloud; the grey band, up to `tops`, is what passes
    for fresh samples of the truth."""
    with sheet(path, 1, len(panels), (4.4, 3.5)) as (_, axes):
        for ax, (name, lines) in zip(axes[0], panels.items(), strict=True):
            drawn = []
            marked = [label for label, line in lines.items() if not line.dashed]
            for label, line in lines.items():
                # "prior" and "prior, exact flow" are one colour
                own = [name for name in marked if label == name or label.startswith(name + ",")]
                i = marked.index(own[-1]) if own else len(marked)
                style = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.4, "label": label}
                if line.dashed:
                    style["linestyle"] = "--"
                else:
                    style |= {"marker": MARKS[i % len(MARKS)], "markersize": 4.5}
                ax.plot(line.x, line.y, **style)
                drawn += [y for y in line.y if math.isfinite(y)]
            ax.set(xlabel=xlabel, ylabel=name)
            top = tops.get(name, 0.0)
            heights(ax, [*drawn, top] if top else drawn)
            if top:
                bottom = ax.get_ylim()[0]
                ax.axhspan(bottom, top, color="#E4E4E4", zorder=0, label="noise floor")
            if log_x:
                x = [value for line in lines.values() for value in line.x]
                if max(x) > 1000 * min(x):
                    log_axis(ax.xaxis, min(x), max(x))
                else:
                    fine_ticks(ax.xaxis, min(x) / 1.1, 1.1 * max(x))
            ax.legend(frameon=False, fontsize=8)


def heights(ax, values: Sequence[float]) -> None:
    """A log scale where values are positive and differ by more than a factor of three, else a
    linear one from 0."""
    low = min(values, default=0.0)
    high = max(values, default=1.0)
    if low <= 0 or high < 3 * low:
        ax.set_ylim(0 if low >= 0 else None, 1.08 * high)
    elif high < 100 * low:
        fine_ticks(ax.yaxis, low / 1.2, 1.2 * high)
    else:
        log_axis(ax.yaxis, low, high)


def remaining(
    path,
    sigma: Tensor,
    estimate: Tensor,
    state: Tensor,
    share: float,
) -> None:
    """How far the estimate r and the state x are from the end of the path, over the end's norm,
    [L] each, against the noise level [L]; the line marks `share`."""
    with sheet(path, 1, 1, (5.2, 3.6)) as (_, axes):
        ax = axes[0, 0]
        x = points(sigma).numpy()
        for values, name, colour, mark in (
            (estimate, r"$|r - x_0|\,/\,|x_0|$", BLUE, "o"),
            (state, r"$|x - x_0|\,/\,|x_0|$", VERMILION, "s"),
        ):
            y = points(values).numpy()
            kept = (y > 0) & (x > 0)
            ax.plot(x[kept], y[kept], marker=mark, markersize=4, color=colour, label=name)
        ax.axhline(share, color=SUPPORT, linestyle=":", label=f"{share:.0%} of the norm")
        ax.set(xscale="log", yscale="log", xlabel=r"noise level $\sigma$")
        ax.set_ylabel("left to go, mean over samples")
        ax.invert_xaxis()
        ax.minorticks_off()
        ax.legend(frameon=False, fontsize=8)


def jump_images(
    path, jumped: Tensor, states: Tensor, sigmas: Sequence[float], taken: Sequence[float]
) -> None:
    """Two rows, one column a level, of one path of images [L,C,H,W]: above the jump r, below the
    state x, which is clipped. taken: the evaluations of each jump."""
    heads = [f"{sigma:.3g}" for sigma in sigmas]
    image_rows(
        path,
        [jumped, states],
        names=("jump r", "state x"),
        heads=heads,
        title=f"noise level sigma; {taken[0]:g} to {taken[-1]:g} evaluations",
    )


def jump_points(
    path,
    jumped: Tensor,
    states: Tensor,
    sigmas: Sequence[float],
    taken: Sequence[float],
    data: Manifold,
) -> None:
    """Two rows of clouds, one column a level: above the jumps r, below the states x, drawn as
    m + (x - m)/sqrt(1 + sigma^2/s^2), s the law's spread; clouds [L,n,d]."""
    view = plane(data)
    spread = float(view.truth.std(0).norm() / view.truth.shape[1] ** 0.5) or 1.0
    sigma = torch.tensor(sigmas, dtype=torch.float64)
    shrink = torch.sqrt(1 + (sigma / spread) ** 2)[:, None, None]
    shrunk = view.origin + (points(states).flatten(2) - view.origin) / shrink
    box = limits(view)
    with sheet(path, 2, len(sigmas), (2.1, 2.1), sharex=True, sharey=True) as (_, axes):
        for row, cloud, colour in ((0, points(jumped).flatten(2), BLUE), (1, shrunk, VERMILION)):
            for column, level in enumerate(sigmas):
                ax = axes[row, column]
                shown = view(cloud[column, :DOTS])
                support(ax, data, view, linewidth=0.8)
                ax.scatter(*shown.T, s=3, linewidths=0, color=colour, alpha=0.5)
                ax.set(xlim=box[0], ylim=box[1])
                if row == 0:
                    ax.set_title(f"$\\sigma$ = {level:.3g}\n{taken[column]:g} evaluations", size=9)
                else:
                    ax.set_xlabel(view.names[0])
        axes[0, 0].set_ylabel("jump $r$\n" + view.names[1])
        axes[1, 0].set_ylabel("state $x$, shrunk\n" + view.names[1])


def limits(view: Plane) -> tuple[tuple[float, float], tuple[float, float]]:
    """The sides of a square that holds the law and a third more."""
    truth = view(view.truth)
    centre = (truth.min(0) + truth.max(0)) / 2
    half = 0.65 * float(np.ptp(truth, axis=0).max()) or 1.0
    sides = [(float(middle) - half, float(middle) + half) for middle in centre]
    return sides[0], sides[1]


def strips(path, images: Mapping[str, Tensor], at: Sequence[float]) -> None:
    """A row of images [L,C,H,W] a name, by column the place on the way between two latents."""
    heads = [f"{place:.3g}" for place in at]
    title = "lambda, from one latent to the other"
    image_rows(path, list(images.values()), list(images), heads, title)


def curves(path, ways: Mapping[str, Tensor], data: Manifold) -> None:
    """A panel a way: where the latents between some pairs are taken, [L,pairs,d], over the law; a
    ring and a dot are the ends."""
    view = plane(data)
    box = limits(view)
    with sheet(path, 1, len(ways), (3.6, 3.6), sharex=True, sharey=True) as (_, axes):
        for ax, (name, states) in zip(axes[0], ways.items(), strict=True):
            support(ax, data, view, linewidth=0.8)
            lines = view(points(states).flatten(2))  # [L,pairs,2]
            for i in range(lines.shape[1]):
                colour = COLOURS[i % len(COLOURS)]
                ax.plot(*lines[:, i].T, color=colour, linewidth=1.0, marker=".", markersize=2.5)
                ax.plot(*lines[0, i], "o", color=colour, markerfacecolor="white", markersize=6)
                ax.plot(*lines[-1, i], "o", color=colour, markersize=6)
            ax.set(xlim=box[0], ylim=box[1], title=name, xlabel=view.names[0])
        axes[0, 0].set_ylabel(view.names[1])


def norms(path, panels: Mapping[str, Mapping[str, Line]]) -> None:
    """Norms against the place on the way: measured, and dashed in closed form; a panel a kind of
    norm, from just below the least to just above the largest."""
    with sheet(path, 1, len(panels), (4.4, 3.5)) as (_, axes):
        for ax, (name, lines) in zip(axes[0], panels.items(), strict=True):
            for i, (label, line) in enumerate(lines.items()):
                colour = COLOURS[i // 2 % len(COLOURS)]
                if line.dashed:
                    ax.plot(line.x, line.y, "--", color=colour, linewidth=1.6, label=label)
                else:
                    mark = MARKS[i // 2 % len(MARKS)]
                    ax.plot(line.x, line.y, mark, color=colour, markersize=5, label=label)
            ax.set(xlabel=r"$\lambda$", ylabel=name)
            ax.legend(frameon=False, fontsize=8)
