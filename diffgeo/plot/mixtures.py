"""What descent and EM learn of a mixture, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffgeo.plot.canvas import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILION, log_axis, sheet

if TYPE_CHECKING:
    from diffgeo.theory.mixtures import Found

AXES = {
    "n": ("samples n", "error"),
    "R": ("length R of the means", "error, n = 20 000"),
    "t": ("time t", "gradient step against EM step"),
}
MEANS = r"$|\hat\mu - \mu|$"
SCORE = "score"
LINES = {
    "gd": (f"descent, {MEANS}", "o-", BLUE),
    "em": (f"EM, {MEANS}", "o-", VERMILION),
    "gd_score": (f"descent, {SCORE}", "s--", SKY),
    "em_score": (f"EM, {SCORE}", "s--", ORANGE),
    "deck_score": (f"without norms and weights, {SCORE}", "^--", GREEN),
    "cosine": ("cosine", "o", BLUE),
    "cosine_exact": ("by quadrature", "-", BLUE),
    "ratio": ("ratio of lengths", "o", VERMILION),
    "ratio_exact": ("by quadrature", "-", VERMILION),
}


def draw(path, found: Sequence[Found]) -> None:
    """A panel a sweep, a line a quantity, with standard errors; errors on a log axis, against n
    beside n^(-1/2)."""
    with sheet(path, 1, len(found), (4.8, 3.8)) as (_, axes):
        for ax, one in zip(axes[0], found, strict=True):
            x = np.asarray(one.values, dtype=float)
            for key, curve in one.curves.items():
                label, style, colour = LINES[key]
                mean, error = np.asarray(curve).T
                ax.errorbar(
                    x,
                    mean,
                    np.nan_to_num(error),
                    fmt=style,
                    markersize=4,
                    linewidth=1.3,
                    capsize=2,
                    color=colour,
                    label=label,
                )
            if one.label == "n":
                ax.plot(
                    x,
                    mean[0] * (x / x[0]) ** -0.5,
                    ":",
                    color=BLACK,
                    linewidth=1.2,
                    label=r"$n^{-1/2}$",
                )
            ax.set(
                xscale="linear" if one.label == "R" else "log",
                xlabel=AXES[one.label][0],
                ylabel=AXES[one.label][1],
            )
            ax.set_xticks(x, [f"{v:g}" for v in x])
            ax.minorticks_off()
            if one.label != "t":
                every = np.array([mean for curve in one.curves.values() for mean, _ in curve])
                log_axis(ax.yaxis, every.min(), every.max())
            ax.legend(frameon=False, fontsize=7)
