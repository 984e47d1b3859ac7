"""Distillation in pictures: where each method's target lies on one path of the teacher, and what
the students make of the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import ImageSet, Manifold
from diffgeo.plot.canvas import (
    BLACK,
    BLUE,
    GREEN,
    SUPPORT,
    VERMILION,
    label,
    plane,
    points,
    sheet,
    support,
)
from diffgeo.plot.images import rows as image_rows

DOTS = 1000  # of a cloud
COLUMNS = 4  # panels of targets in a row
ACROSS = 6  # panels of clouds in a row
PICTURES = 10  # images of one student


class Panel(NamedTuple):
    """One path of the teacher, flat, and what a method wants named on it."""

    method: str
    x: Tensor  # [M+1,d], the first is the state that the student is shown
    denoised: Tensor  # [M,d]
    answer: Sequence[Tensor]  # [d] each


class Cloud(NamedTuple):
    """Samples of a student, and two of their numbers."""

    method: str
    nfe: int
    samples: Tensor  # [n,*D]
    distance: float | None
    coupled: float | None


def targets(path, panels: Sequence[Panel], data: Manifold) -> None:
    """A panel a method: the teacher's sampling path and its chord, the denoising path, and the
    target; the view is of the law, so that paths come in from outside."""
    view = plane(data)
    lines = -(-len(panels) // COLUMNS)
    truth = view(view.truth)
    middle = truth.mean(0)
    reach = 1.35 * float(abs(truth - middle).max())
    with sheet(path, lines, COLUMNS, (3.1, 3.2)) as (figure, axes):
        for ax in axes.flat[len(panels) :]:
            ax.axis("off")
        for ax, panel in zip(axes.flat, panels, strict=False):
            support(ax, data, view)
            x = view(panel.x)
            ax.plot(*x[[0, -1]].T, "--", color=BLACK, linewidth=0.9, label="chord")
            ax.plot(*x.T, "-", color=BLUE, linewidth=1.3, marker=".", markersize=3.5)
            ax.plot([], [], "-", color=BLUE, marker=".", label="sampling path")
            r = view(panel.denoised)
            ax.plot(*r.T, "-", color=GREEN, linewidth=1.3, marker=".", markersize=3.5)
            ax.plot([], [], "-", color=GREEN, marker=".", label="denoising path")
            marks = view(torch.stack(list(panel.answer)))
            size = 60 if len(marks) == 1 else 16
            style = {"s": size, "facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.6}
            ax.scatter(*marks.T, zorder=5, label="target", **style)
            label(ax, view, adjustable="box")
            ax.set(xlim=middle[0] + [-reach, reach], ylim=middle[1] + [-reach, reach])
            ax.set_title(panel.method, fontsize=10)
        names = axes.flat[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def clouds(path, found: Sequence[Cloud], data: Manifold) -> None:
    """A panel a cloud, over the support."""
    view = plane(data)
    truth = view(view.truth)
    middle = truth.mean(0)
    reach = 1.25 * float(abs(truth - middle).max())
    across = min(ACROSS, len(found))
    with sheet(path, -(-len(found) // across), across, (2.1, 2.3)) as (_, axes):
        for ax in axes.flat[len(found) :]:
            ax.axis("off")
        for ax, cloud in zip(axes.flat, found, strict=False):
            support(ax, data, view, color=SUPPORT)
            ax.scatter(
                *view(points(cloud.samples[:DOTS]).flatten(1)).T,
                s=4,
                color=BLUE,
                alpha=0.4,
                linewidths=0,
                rasterized=True,
            )
            ax.set_aspect("equal", adjustable="box")
            ax.set(xlim=middle[0] + [-reach, reach], ylim=middle[1] + [-reach, reach])
            ax.tick_params(labelsize=7)
            ax.set_title(heading(cloud), fontsize=8)
        for ax in axes[:, 0]:
            ax.set_ylabel(view.names[1], fontsize=8)
        for ax in axes.flat[max(0, len(found) - across) : len(found)]:
            ax.set_xlabel(view.names[0], fontsize=8)


def heading(cloud: Cloud) -> str:
    said = f"{cloud.method}, NFE {cloud.nfe}"
    return f"{said}\noff {cloud.distance:.3f}, rms {cloud.coupled:.3f}"


def images(path, found: Sequence[Cloud], data: ImageSet) -> None:
    """A row a cloud: its first images, those of one column from the same noise."""
    few = min(PICTURES, len(found[0].samples))
    rows = [data.quantize(cloud.samples[:few]) for cloud in found]
    names = [f"{cloud.method}, NFE {cloud.nfe}" for cloud in found]
    heads = [str(number) for number in range(few)]
    image_rows(path, rows, names, heads, title="the same noise in each column")
