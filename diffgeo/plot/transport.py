"""How far a score is from linear by time, and how far a flow's Jacobian from symmetric by point."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from diffgeo.plot.canvas import BLUE, SUPPORT, sheet


def transport(path, gaps: Tensor, each: Tensor | None, points: Tensor | None) -> None:
    """Left, the gap tr(C J)/d - 1 by time, gaps [T,3]: t, the gap, its standard error. Right, the
    asymmetry of the Jacobian, each [n], at the points of the plane that it belongs to [n,2], or as
    a histogram; no right panel where there is none."""
    columns = 1 if each is None else 2
    with sheet(path, 1, columns, (5.0, 3.8)) as (figure, axes):
        ax = axes[0, 0]
        t, gap, error = gaps[gaps[:, 0].argsort()].numpy().T
        ax.errorbar(t, gap, 2 * error, color=BLUE, marker="o", markersize=4, capsize=3)
        linear = float(np.abs(gap).max()) < 1e-9  # a Gaussian: nothing but rounding
        ax.set(xscale="log", xlabel="$t$", ylabel=r"$\mathrm{tr}(C_t\,J)/d - 1$")
        if not linear:
            ax.set_yscale("log", nonpositive="mask")
        ax.minorticks_off()
        ax.set_title("0 for a Gaussian: how far the score is from linear", fontsize=10)
        if each is None:
            return
        ax = axes[0, 1]
        title = r"asymmetry $|J - J'|\,/\,\sqrt{2}\,|J|$ of the flow's Jacobian"
        ax.set_title(title, fontsize=10)
        if points is None:
            ax.hist(each.numpy(), bins=30, color=BLUE)
            ax.set(xlabel="asymmetry", ylabel="points")
            return
        order = each.argsort()  # the largest on top
        x, y = points[order].numpy().T
        top = max(float(each.max()), 1e-12)
        shown = ax.scatter(x, y, c=each[order].numpy(), s=16, cmap="viridis", vmin=0, vmax=top)
        shown.set_edgecolor(SUPPORT)
        shown.set_linewidth(0.3)
        ax.set(xlabel=r"$x_1$ at $\sigma_T$", ylabel=r"$x_2$ at $\sigma_T$")
        ax.set_aspect("equal", adjustable="datalim")
        figure.colorbar(shown, ax=ax)
