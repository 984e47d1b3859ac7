"""Sampling paths in pictures: how far from their chords, how long, at what angle, in which chart,
and in three dimensions. Every series is drawn against the noise level, noise at the right, as its
mean and a band of one standard deviation over the paths."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.plot.canvas import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    ORANGE,
    PURPLE,
    SUPPORT,
    VERMILION,
    log_axis,
    sheet,
)

SIZE = (3.7, 3.1)
WIDE = 34  # letters of a title above one panel


class Curve(NamedTuple):
    """A series: levels, mean and standard deviation [L], nan where there is none; and a name."""

    sigma: Tensor
    mean: Tensor
    sd: Tensor
    label: str


Points = Sequence[Sequence[float]]  # published (sigma, value)


def entitled(figure, title: str, panels: int) -> None:
    figure.suptitle("\n".join(textwrap.wrap(title, WIDE * panels + 14 * (panels - 1))), fontsize=8)


def draw(ax, curve: Curve, colour: str, band: bool = True, **style) -> None:
    """A mean and its band; the level 0, which has no place on a log axis, is left out."""
    shown = (curve.sigma > 0) & ~curve.mean.isnan()
    sigma = curve.sigma[shown].numpy()
    mean = curve.mean[shown]
    style = {"linewidth": 1.6, "marker": ".", "markersize": 4} | style
    ax.plot(sigma, mean.numpy(), color=colour, label=curve.label, **style)
    if band and not bool(curve.sd.isnan().all()):
        sd = curve.sd[shown].nan_to_num(nan=0.0)
        ax.fill_between(sigma, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)


def beside(
    ax,
    points: Points | None,
    lowest: float,
    label: str | None = "published network",
    colour: str = BLACK,
) -> None:
    """Published points; sigma 0 among them stands for the last level."""
    if not points:
        return
    sigma = [place or lowest for place, _ in points]
    values = [value for _, value in points]
    ax.plot(
        sigma,
        values,
        linestyle="none",
        marker="D",
        markersize=5,
        markerfacecolor="none",
        color=colour,
        label=label,
        zorder=5,
    )


def axis(ax, sigma: Tensor, ylabel: str) -> None:
    positive = sigma[sigma > 0]
    log_axis(ax.xaxis, float(positive.min()), float(positive.max()))
    ax.set(xlabel=r"noise level $\sigma$", ylabel=ylabel)


def legend(ax, **style) -> None:
    ax.legend(frameon=False, fontsize=8, **style)


def panels(
    path,
    named: Mapping[str, Sequence[Curve]],
    title: str,
    published: Mapping[str, Points] | None = None,
    logarithmic: Sequence[str] = (),
) -> None:
    """A panel for each label of a y-axis, with its curves in the order of the palette.

    published: by the label of the panel. logarithmic: the panels whose y is."""
    with sheet(path, 1, len(named), SIZE) as (figure, axes):
        for ax, (ylabel, curves) in zip(axes[0], named.items(), strict=True):
            log = ylabel in logarithmic
            for number, (colour, curve) in enumerate(zip(COLOURS, curves, strict=False)):
                if log:
                    curve = curve._replace(mean=curve.mean.where(curve.mean > 0, torch.nan))
                style = {"linestyle": "--"} if number else {}  # curves that coincide stay visible
                draw(ax, curve, colour, band=not log and not number, **style)
            lowest = min(float(curve.sigma[curve.sigma > 0].min()) for curve in curves)
            beside(ax, (published or {}).get(ylabel), lowest)
            axis(ax, curves[0].sigma, ylabel)
            if log:
                ax.set_yscale("log")
            else:
                ax.set_ylim(bottom=0)
            legend(ax)
        entitled(figure, title, len(named))


def deviation(path, x: Curve, r: Curve, published: Mapping[str, Points], title: str) -> None:
    """Figure 2 of Chen et al. (2023): how far sampling and denoising paths are from their chords,
    whose lengths the labels say."""
    left = "sampling path off its chord"
    right = "denoising path off its chord"
    theirs = {left: published.get("x/deviation", ()), right: published.get("r/deviation", ())}
    panels(path, {left: [x], right: [r]}, title, theirs)


def magnitude(
    path, x: Curve, r: Curve, eps: Curve, published: Mapping[str, Points], title: str
) -> None:
    """The norms of states, estimates and noise."""
    names = (r"$|x|$", r"$|r|$", r"$|\varepsilon|$")
    theirs = {names[1]: published.get("r/norm", ()), names[2]: published.get("eps/norm", ())}
    drawn = {names[0]: [x], names[1]: [r], names[2]: [eps]}
    panels(path, drawn, title, theirs, logarithmic=names[:1])


def distances(path, x: Curve, r: Curve, to_end: Curve, title: str) -> None:
    """How far states and estimates still are from where they end."""
    panels(
        path,
        {"distance from the end": [x], "distance of the estimate": [r, to_end]},
        title,
        logarithmic=("distance from the end",),
    )


def cosine(path, curve: Curve, title: str) -> None:
    """The angle between the noise and the way to the end."""
    with sheet(path, 1, 1, SIZE) as (figure, axes):
        ax = axes[0, 0]
        draw(ax, curve, BLUE)
        ax.axhline(1, color=SUPPORT, linewidth=0.8)
        axis(ax, curve.sigma, r"$\cos(\varepsilon,\ x - x_{end})$")
        lowest = float((curve.mean - curve.sd.nan_to_num(nan=0.0)).nan_to_num(nan=1.0).min())
        ax.set_ylim(top=1 + 0.05 * (1 - lowest) + 1e-6)  # a band of one deviation goes above 1
        entitled(figure, title, 1)


def weights(path, entropy: Curve, settled: Curve, title: str) -> None:
    """The entropy of the posterior weights, and the share of paths whose heaviest atom is the one
    that they end at."""
    with sheet(path, 1, 2, SIZE) as (figure, axes):
        draw(axes[0, 0], entropy, BLUE)
        axis(axes[0, 0], entropy.sigma, "entropy of the posterior weights (nats)")
        draw(axes[0, 1], settled, GREEN, band=False)
        axis(axes[0, 1], settled.sigma, "share at the final atom already")
        axes[0, 0].set_ylim(bottom=0)
        axes[0, 1].set_ylim(0, 1.03)
        entitled(figure, title, 2)


def charts(path, curves: Mapping[str, tuple[Curve, float, float]], title: str) -> None:
    """The same paths in every chart: deviation over the mean chord. curves: by chart, with its
    chord and arc/chord."""
    with sheet(path, 1, len(curves), (3.3, 3.1), sharey=True) as (figure, axes):
        for ax, colour, (chart, held) in zip(axes[0], COLOURS, curves.items(), strict=False):
            curve, chord, ratio = held
            relative = Curve(
                curve.sigma,
                curve.mean / chord,
                curve.sd / chord,
                f"$\\kappa$ = {float(curve.mean.max()) / chord:.3g}\n"
                f"chord {chord:.4g}, arc/chord {ratio:.5g}",
            )
            draw(ax, relative, colour)
            axis(ax, curve.sigma, "deviation / mean chord" if chart == next(iter(curves)) else "")
            ax.set_title(f"chart {chart}", fontsize=10)
            ax.margins(y=0.25)
            legend(ax, loc="upper left")
        axes[0, 0].set_ylim(bottom=0)
        entitled(figure, title, len(curves))


def projection(
    path, sigma: Tensor, paths: Tensor, curvature: Tensor, torsion: Tensor, title: str
) -> None:
    """Paths [L,N,3] along their chord and the first two principal directions off it, with curvature
    and torsion [L,N] by level."""
    with sheet(path, 1, 3, (3.9, 3.5)) as (figure, axes):
        flat = axes[0, 0]
        place = flat.get_subplotspec()
        flat.remove()
        space = figure.add_subplot(place, projection="3d")
        for number in range(paths.shape[1]):
            colour = COLOURS[number % len(COLOURS)]
            along, first, second = paths[:, number].T.numpy()
            space.plot(along, first, second, color=colour, linewidth=1.2)
        space.plot(
            [0, float(paths[0, :, 0].mean())],
            [0, 0],
            [0, 0],
            color=SUPPORT,
            linewidth=0.8,
            linestyle="--",
        )
        space.set_xlabel("along the chord", fontsize=8, labelpad=4)
        space.set_ylabel("off it, PC 1", fontsize=8)
        space.set_zlabel("PC 2", fontsize=8, labelpad=-2)
        space.tick_params(labelsize=7, pad=0)
        space.locator_params(nbins=4)
        space.set_box_aspect(None, zoom=0.82)
        drawn = ((axes[0, 1], curvature, "curvature"), (axes[0, 2], torsion, "torsion"))
        for ax, values, name in drawn:
            for number in range(values.shape[1]):
                colour = COLOURS[number % len(COLOURS)]
                curve = Curve(sigma, values[:, number], values[:, number] * float("nan"), "")
                draw(ax, curve, colour, band=False, linewidth=1)
            axis(ax, sigma, f"{name} (1 / unit of the data)")
        axes[0, 1].set_yscale("log")
        top = largest(curvature)
        axes[0, 1].set_ylim(1e-6 * top, 3 * top)
        axes[0, 2].axhline(0, color=SUPPORT, linewidth=0.8)
        both_signs(axes[0, 2], largest(torsion))
        entitled(figure, title, 3)


def largest(values: Tensor) -> float:
    """The largest size of what is there; 1 where nothing is."""
    size = float(values.abs().nan_to_num(nan=0.0).max())
    return size or 1.0


def both_signs(ax, top: float, decades: int = 3) -> None:
    """A log scale to either side of 0, for sizes up to `top`, over so many decades."""
    highest = math.ceil(math.log10(top))
    lowest = highest - decades
    ax.set_yscale("symlog", linthresh=10.0**lowest)
    ticks = [10.0**power for power in range(highest, lowest - 1, -1)]
    ax.set_yticks([-tick for tick in ticks] + [0.0] + ticks)
    ax.set_ylim(-(10.0**highest), 10.0**highest)
    ax.minorticks_off()


FOUR = (
    ("states", r"$|x - x^*|$", BLUE),
    ("estimates", r"$|r(x) - r^*(x^*)|$", VERMILION),
    ("at_x", r"$|r(x) - r^*(x)|$", GREEN),
    ("at_star", r"$|r(x^*) - r^*(x^*)|$", PURPLE),
)


def four(
    path,
    references: Mapping[str, Mapping[str, Curve]],
    published: Mapping[str, Points],
    title: str,
) -> None:
    """A model beside each reference from the same noise: the four series, and the published
    network's beside the exact one."""
    with sheet(path, 1, len(references), (4.2, 3.6), sharey=True) as (figure, axes):
        for ax, (name, series) in zip(axes[0], references.items(), strict=True):
            for key, label, colour in FOUR:
                curve = series[key]._replace(label=label)
                draw(ax, curve, colour)
                lowest = float(curve.sigma[curve.sigma > 0].min())
                if name == "exact":
                    beside(ax, published.get(key), lowest, label=None, colour=colour)
            if name == "exact" and published:
                ax.plot(
                    [],
                    [],
                    linestyle="none",
                    marker="D",
                    markerfacecolor="none",
                    color=BLACK,
                    label="published network",
                )
            axis(ax, series["states"].sigma, f"distance, * = {name}")
            legend(ax, loc="upper right")
        axes[0, 0].set_ylim(0, 1.25 * axes[0, 0].get_ylim()[1])  # room for the legend
        entitled(figure, title, len(references))


def nearest(path, curves: Sequence[Curve], title: str) -> None:
    """At each level, the share of paths whose estimate is nearest to each reference's."""
    with sheet(path, 1, 1, SIZE) as (figure, axes):
        for colour, curve in zip((ORANGE, BLUE, GREEN, VERMILION), curves, strict=False):
            draw(axes[0, 0], curve, colour, band=False)
        axis(axes[0, 0], curves[0].sigma, "share of paths nearest to")
        axes[0, 0].set_ylim(0, 1.03)
        legend(axes[0, 0])
        entitled(figure, title, 1)
