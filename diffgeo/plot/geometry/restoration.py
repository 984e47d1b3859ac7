"""Pictures of what a measurement moves: sampling and denoising paths over the posterior."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffgeo.core import Manifold
from diffgeo.plot.canvas import COLOURS, SUPPORT, plane, points, sheet
from diffgeo.plot.geometry.starts import limits

DRAWN = 4  # paths of a panel


def paths(
    path,
    states: Mapping[str, Tensor],
    estimates: Mapping[str, Tensor],
    sigma: Tensor,
    data: Manifold,
    posterior: Tensor,
) -> None:
    """A column an algorithm: above its sampling paths [K+1,n,*D], drawn as m + (x - m)/sqrt(1 +
    sigma^2/s^2), s the law's spread; below its denoising paths [K,n,*D]. Grey the law, black draws
    of the posterior [m,*D]; a dot is the end of a path."""
    view = plane(data)
    spread = float(view.truth.std(0).norm() / view.truth.shape[1] ** 0.5) or 1.0
    shrink = torch.sqrt(1 + (points(sigma) / spread) ** 2)[:, None, None]
    box = limits(view)
    cloud = view(points(posterior).flatten(1))
    size = (3.4, 3.4)
    with sheet(path, 2, len(states), size, sharex=True, sharey=True) as (_, axes):
        for column, name in enumerate(states):
            shrunk = view.origin + (points(states[name]).flatten(2) - view.origin) / shrink
            for row, lines in ((0, shrunk), (1, points(estimates[name]).flatten(2))):
                ax = axes[row, column]
                ax.scatter(*view(view.truth).T, s=1.5, linewidths=0, alpha=0.35, color=SUPPORT)
                ax.scatter(*cloud.T, s=2.5, linewidths=0, alpha=0.5, color="black")
                drawn = view(lines[:, :DRAWN])
                for i in range(drawn.shape[1]):
                    colour = COLOURS[i % len(COLOURS)]
                    ax.plot(*drawn[:, i].T, color=colour, linewidth=1.0)
                    ax.plot(*drawn[-1, i], "o", color=colour, markersize=5)
                ax.set(xlim=box[0], ylim=box[1])
            axes[0, column].set_title(name)
            axes[1, column].set_xlabel(view.names[0])
        axes[0, 0].set_ylabel("sampling path $x$, shrunk\n" + view.names[1])
        axes[1, 0].set_ylabel("denoising path $\\hat D$\n" + view.names[1])
