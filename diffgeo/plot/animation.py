"""Sampling as a film: particles on their way from noise to the law, or images.

    points(trajectory, data)                       frames of a law in the plane, or of its plane
    images(states, estimates, sigma, heads)        frames of two grids: the states, and D of them

Every step of the sampler takes the same time. Inside a step x goes from one state to the next along
the straight line in x and sigma, which is what a step of Euler's method does; the states themselves
are the sampler's own. A bar below says how far the noise level has come, from the first level at
its left to 0 at its right, on a logarithmic scale. Frames are bytes [H,W,3] (`film.write`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Manifold, Trajectory
from diffgeo.plot.canvas import BLUE, SUPPORT, label, plane, support
from diffgeo.plot.canvas import points as on_cpu
from diffgeo.plot.page import literal, title_now
from diffgeo.store.caches import need_home
from diffgeo.store.drawing import SCREEN, now

FRAMES = 72  # at least, and one a state where there are more states
MOST = 180
SIDE = 4.8  # inches of a panel
FOOT = 0.6  # inches of the bar


class Moment(NamedTuple):
    """A frame's place: between the states `step` and `step` + 1, a share `part` of the way."""

    step: int
    part: float

    def between(self, states: Tensor) -> Tensor:
        """What lies there of [K+1,...]."""
        if self.part == 0:
            return states[self.step]
        return torch.lerp(states[self.step], states[self.step + 1], self.part)


def moments(steps: int) -> list[Moment]:
    """The frames of so many steps, first and last state among them: each step has as many frames as
    the others, or where there are more than MOST some are left out."""
    each = max(1, math.ceil((FRAMES - 1) / steps))
    count = min(each * steps, MOST - 1)
    found = []
    for frame in range(count + 1):
        at = frame * steps / count
        step = math.floor(at)
        found.append(Moment(step, at - step))
    return found


def points(trajectory: Trajectory, data: Manifold) -> Iterator[np.ndarray]:
    """Frames of particles on their way over the support of their law. In the "ve" chart, where the
    noise is far wider than the data, x is drawn as x/sqrt(1 + sigma^2/s^2), s the law's spread."""
    view = plane(data)
    spread = float(view.truth.std(0).norm() / view.truth.shape[1] ** 0.5) or 1.0
    x = on_cpu(trajectory.x).flatten(2)
    sigma = on_cpu(trajectory.sigma)
    page = Page(1, sigma, SIDE)
    (ax,) = page.axes
    support(ax, data, view, linewidth=1.5)
    cloud = ax.scatter([], [], s=6, color=BLUE, alpha=0.6, linewidths=0, zorder=3)
    page.moving.append(cloud)
    shrunk = trajectory.chart == "ve"
    label(ax, view, "box")
    name = r"$x\,/\,\sqrt{1+\sigma^2/s^2}$" if shrunk else f"chart {trajectory.chart}"
    page.heads([name])

    def drawn(state: Tensor, level: Tensor) -> np.ndarray:
        """Particles [N,d] as places of the page [N,2]."""
        scale = torch.sqrt(1 + (level / spread) ** 2) if shrunk else torch.ones(())
        return view(view.origin + (state - view.origin) / scale)

    ends = np.concatenate([drawn(x[0], sigma[0]), drawn(x[-1], sigma[-1]), view(view.truth)])
    low = ends.min(0)
    high = ends.max(0)
    half = 0.54 * float((high - low).max()) or 1.0
    centre = (low + high) / 2
    ax.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    for moment in moments(len(x) - 1):
        level = moment.between(sigma)
        cloud.set_offsets(drawn(moment.between(x), level))
        yield page.frame(moment, level)


def images(
    states: Tensor, estimates: Tensor, sigma: Tensor, heads: tuple[str, str]
) -> Iterator[np.ndarray]:
    """Frames of two grids of images: at the left the states, bytes [K+1,n,C,H,W], at the right what
    the denoiser makes of them, bytes [K,n,C,H,W], at the end the samples. sigma: [K+1]."""
    page = Page(2, on_cpu(sigma), 0.7 * SIDE)
    page.heads(heads)
    left, right = page.axes
    shown = []
    for ax, first in ((left, states[0]), (right, estimates[0])):
        style = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
        shown.append(ax.imshow(mosaic(first), **style))
        ax.set_axis_off()
    page.moving += shown
    estimates = torch.cat([estimates, states[-1:]])
    levels = on_cpu(sigma)
    numbers = states.float()
    for moment in moments(len(states) - 1):
        shown[0].set_data(mosaic(moment.between(numbers).round().byte()))
        shown[1].set_data(mosaic(estimates[moment.step]))
        yield page.frame(moment, moment.between(levels))


def mosaic(images: Tensor) -> np.ndarray:
    """Images [n,C,H,W], bytes, as one, as square as n allows, white lines between them: [h,w] of
    grey ones, [h,w,3] of colours."""
    n, channels, high, wide = images.shape
    across = math.ceil(math.sqrt(n))
    gap = max(1, wide // 16)
    lines = math.ceil(n / across)
    sheet = np.full(
        (lines * (high + gap) - gap, across * (wide + gap) - gap, channels), 255, np.uint8
    )
    for i, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        y = i // across * (high + gap)
        x = i % across * (wide + gap)
        sheet[y : y + high, x : x + wide] = image
    return sheet[..., 0] if channels == 1 else sheet


class Page:
    """A figure that is drawn again and again: panels of `side` inches, below them the bar."""

    def __init__(self, panels: int, sigma: Tensor, side: float):
        """sigma: the levels [K+1]."""
        need_home()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.steps = len(sigma) - 1
        positive = sigma[sigma > 0]
        self.top = float(positive.max())
        self.bottom = min(float(positive.min()), 0.999 * self.top)
        self.figure = Figure(
            figsize=(panels * side, side + FOOT),
            layout="constrained",
            dpi=now().dpi or SCREEN,
        )
        self.canvas = FigureCanvasAgg(self.figure)
        grid = self.figure.add_gridspec(2, panels, height_ratios=(side, FOOT / 4))
        self.axes = [self.figure.add_subplot(grid[0, k]) for k in range(panels)]
        for ax in self.axes:
            ax.spines[["top", "right"]].set_visible(False)
        self.bar = self.figure.add_subplot(grid[1, :])
        self.bar.set(xscale="log", xlim=(self.top, self.bottom), ylim=(0, 1), yticks=[])
        self.bar.minorticks_off()
        self.bar.spines[["top", "right", "left"]].set_visible(False)
        self.bar.tick_params(labelsize=8)
        self.filled = self.bar.axvspan(self.top, self.top, color=SUPPORT)
        self.said = self.bar.set_title(" ", fontsize=9)
        self.figure.suptitle(literal(title_now()), fontsize=9)
        self.moving = [self.filled, self.said]
        self.still = None  # the page without what moves, drawn once

    def heads(self, names) -> None:
        """What stands above the panels."""
        for ax, name in zip(self.axes, names, strict=True):
            ax.set_title(name, fontsize=10)

    def frame(self, moment: Moment, level: Tensor) -> np.ndarray:
        """The page as it is now, at a noise level, with its bar: bytes [H,W,3]."""
        sigma = float(level)
        reached = max(sigma, self.bottom)
        self.filled.set(x=reached, width=self.top - reached)
        step = min(moment.step + (moment.part > 0), self.steps)
        self.said.set_text(f"noise level $\\sigma$ = {sigma:.3g},  step {step} of {self.steps}")
        if self.still is None:
            for artist in self.moving:
                artist.set_animated(True)  # left out by draw()
            self.canvas.draw()
            self.still = self.canvas.copy_from_bbox(self.figure.bbox)
        self.canvas.restore_region(self.still)
        for artist in self.moving:
            artist.axes.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()
