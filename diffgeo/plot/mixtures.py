"""What descent and EM learn of a mixture, in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diffgeo.plot.canvas import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILION, log_axis, sheet

Curve = Sequence[tuple[float, float]]  # (mean, standard error) at each value of the variable

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


def draw(path, sweeps: Mapping[str, tuple[Sequence[float], Mapping[str, Curve]]]) -> None:
    """A panel a sweep, a line a quantity, with standard errors; errors on a log axis, against n
    beside n^(-1/2). sweeps: variable -> (its values, quantity -> curve)."""
    with sheet(path, 1, len(sweeps), (4.8, 3.8)) as (_, axes):
        for ax, (variable, (values, curves)) in zip(axes[0], sweeps.items(), strict=True):
            panel(ax, variable, np.asarray(values, dtype=float), curves)


def panel(ax, variable: str, x: np.ndarray, curves: Mapping[str, Curve]) -> None:
    for key, curve in curves.items():
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
    if variable == "n":  # from where the last curve begins
        guide = mean[0] * (x / x[0]) ** -0.5
        ax.plot(x, guide, ":", color=BLACK, linewidth=1.2, label=r"$n^{-1/2}$")
    across, upwards = AXES[variable]
    ax.set(xscale="linear" if variable == "R" else "log", xlabel=across, ylabel=upwards)
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.minorticks_off()
    if variable != "t":
        means = np.array([mean for curve in curves.values() for mean, _ in curve])
        log_axis(ax.yaxis, means.min(), means.max())
    ax.legend(frameon=False, fontsize=7)
