"""The errors of sampling a Gaussian in pictures: by eigenvalue, and where a score error turns a
ranking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, VERMILION, sheet

FLOOR = 1e-13, 1e-8  # of the two panels: below it an error is rounding, or a change of sign


def positive(value: Tensor) -> np.ndarray:
    """What a log axis can show, nan elsewhere."""
    shown = value.numpy()
    return np.where((shown > 0) & np.isfinite(shown), shown, np.nan)


def log_log(ax, x: str, y: str = "", title: str = "") -> None:
    ax.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    ax.set_title(title, fontsize=9)
    ax.minorticks_off()


def modes(path, curves: Mapping[str, Tensor], title: str) -> None:
    """Error by eigenvalue, as in the last figure of Pierret and Galerne's deck: initialization
    (SDE, ODE) and truncation at the left; at the right the discretization of each scheme and,
    dashed, the first-order effect of a relative error of the score."""
    left = {
        "initialization SDE": (BLUE, "-"),
        "initialization ODE": (VERMILION, "-"),
        "truncation": (BLACK, "-"),
    }
    schemes = [name for name in curves if name.startswith("discretization")]
    right = {name: (COLOURS[k % len(COLOURS)], "-") for k, name in enumerate(schemes)}
    right |= {"score SDE": (BLUE, "--"), "score ODE": (VERMILION, "--")}
    with sheet(path, 1, 2, (5.2, 3.8)) as (figure, axes):
        for ax, drawn, floor in zip(axes[0], (left, right), FLOOR, strict=True):
            for name, (colour, style) in drawn.items():
                ax.plot(
                    curves["eigenvalue"],
                    positive(curves[name]),
                    style,
                    color=colour,
                    linewidth=1.5,
                    label=name.removeprefix("discretization "),
                )
            log_log(ax, r"eigenvalue $\lambda$")
            ax.legend(frameon=False, fontsize=8)
            ax.set_ylim(bottom=floor)
        axes[0, 0].set_ylabel(r"$|\sqrt{\tilde\lambda} - \sqrt{\lambda}|$")
        axes[0, 0].set_title("initialization, and truncation", fontsize=10)
        axes[0, 1].set_title("discretization, and score error (dashed)", fontsize=10)
        figure.suptitle(title, fontsize=9)


def flips(path, eigenvalues: Tensor, by_points: Mapping[int, Tensor], title: str) -> None:
    """The relative score error from which Heun is worse than EM at each eigenvalue, a line a number
    of grid points."""
    with sheet(path, 1, 1, (5.2, 3.8)) as (_, axes):
        ax = axes[0, 0]
        for (points, eta), colour in zip(by_points.items(), COLOURS, strict=False):
            ax.plot(
                eigenvalues,
                positive(eta),
                "o-",
                markersize=3,
                color=colour,
                linewidth=1.4,
                label=f"{points} points",
            )
        log_log(ax, r"eigenvalue $\lambda$", r"relative score error $\eta$ at the flip", title)
        ax.legend(frameon=False, fontsize=8)


Line = tuple[Tensor, Tensor]  # times and errors


def along(
    path, exact: Mapping[str, Line], schemes: Mapping[tuple[str, str], Line], title: str
) -> None:
    """W2 to p_t on the way from noise (left) to data: the exact SDE and ODE from N(0, I), as the
    left figure of Pierret and Galerne's deck; each scheme, full from p_T, dashed from N_0."""
    names = list(dict.fromkeys(name for name, _ in schemes))
    colour_of = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    with sheet(path, 1, 2, (5.2, 3.8)) as (_, axes):
        left, right = axes[0]
        for (name, (t, w2)), colour in zip(exact.items(), (BLUE, VERMILION), strict=True):
            left.plot(t, positive(w2), color=colour, linewidth=1.5, label=name)
        left.set_title("exact dynamics from $N(0, I)$: initialization alone", fontsize=10)
        for (name, start), (t, w2) in schemes.items():
            exactly = start == "p_T"
            label = name if exactly or (name, "p_T") not in schemes else None
            right.plot(
                t,
                positive(w2),
                "-" if exactly else "--",
                color=colour_of[name],
                linewidth=1.3,
                label=label,
            )
        right.set_title(f"{title} (from $N(0, I)$ dashed)", fontsize=10)
        for ax in (left, right):
            ax.set(yscale="log", xlabel="$t$, from noise to data")
            ax.invert_xaxis()
            ax.minorticks_off()
            ax.legend(frameon=False, fontsize=8)
        left.set_ylabel(r"$W_2$ to $p_t$")
