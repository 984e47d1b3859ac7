"""The singularity of the score in pictures: norms against 1 - e^-t, and the proved rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, GREEN, SUPPORT, VERMILION, sheet

STYLES = {
    "score": (VERMILION, "o"),
    "drift": (BLACK, ""),
    "epsilon": (BLUE, "s"),
    "f": (GREEN, "^"),
}


class Curve(NamedTuple):
    """One quantity in one cloud."""

    norm: Tensor  # [L]
    rate: float  # fitted
    expected: float
    other: Tensor | None = None  # another model's, [L]


def norms(
    path,
    s2: Tensor,
    clouds: Mapping[str, Mapping[str, Curve]],
    below: float,
    titles: Sequence[str],
) -> None:
    """A panel a cloud: rms norms against s2 = 1 - e^-t, noise at the right; grey, the expected
    power of each through its lowest value. Left of the line the rates are fitted; dotted is
    another model."""
    with sheet(path, 1, len(clouds), (5.2, 4.0)) as (_, axes):
        for ax, curves, title in zip(axes[0], clouds.values(), titles, strict=True):
            low, high = float("inf"), 0.0
            for name, curve in curves.items():
                colour, mark = STYLES[name]
                rate = round(curve.rate, 3) + 0.0  # no -0.000
                guide = curve.norm[0] * (s2 / s2[0]) ** curve.expected
                ax.plot(s2, guide, color=SUPPORT, linewidth=3, alpha=0.6, zorder=0)
                ax.plot(
                    s2,
                    curve.norm,
                    color=colour,
                    marker=mark,
                    markersize=3.5,
                    linewidth=1.2,
                    linestyle="--" if name == "drift" else "-",
                    label=f"{name}: rate {rate:.3f} (proved {curve.expected:g})",
                )
                if curve.other is not None:
                    ax.plot(s2, curve.other, ":", color=colour, linewidth=1.5)
                low = min(low, float(curve.norm.min()))
                high = max(high, float(curve.norm.max()))
            ax.plot([], [], color=SUPPORT, linewidth=3, alpha=0.6, label="the proved power")
            if any(curve.other is not None for curve in curves.values()):
                ax.plot([], [], ":", color=BLACK, label="the model beside it")
            ax.axvline(below, ymax=0.6, color=BLACK, linewidth=0.6, label="fitted left of here")
            ax.set(xscale="log", yscale="log", ylim=(low / 3, 1e4 * high))
            ax.minorticks_off()
            ax.set(xlabel=r"$1 - e^{-t}$", ylabel="root mean square norm")
            ax.set_title(title, fontsize=10)
            ax.legend(frameon=False, fontsize=8, loc="upper right")
