"""Pictures of what restoration algorithms are wrong by: distance to the posterior against steps,
and the variance that fresh noise takes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diffgeo.plot.canvas import COLOURS, SUPPORT, sheet
from diffgeo.plot.page import outside

Line = tuple[Sequence[float], Sequence[float]]  # x, y
MARKS = "osD^vPX*<"


def gaps(path, lines: Mapping[str, Line], highest: float = 10.0) -> None:
    """W2 to the posterior against steps, a line an algorithm; nothing above `highest` is shown."""
    with sheet(path, 1, 1, (6.4, 3.6)) as (figure, axes):
        ax = axes[0, 0]
        for number, (name, (x, y)) in enumerate(lines.items()):
            ax.plot(
                x,
                y,
                color=COLOURS[number % len(COLOURS)],
                linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
                marker=MARKS[number % len(MARKS)],
                markersize=4.5,
                linewidth=1.3,
                label=name,
            )
        counts = sorted({count for x, _ in lines.values() for count in x})
        ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="W2 to the exact posterior")
        ax.set_xticks(counts, [f"{count:g}" for count in counts])
        ax.set_ylim(top=min(highest, ax.get_ylim()[1]))
        ax.minorticks_off()
        ax.grid(alpha=0.25)
        figure.legend(**outside(), frameon=False, fontsize=8)


def temperatures(path, panels: Mapping[str, Mapping[str, Line]], factor) -> None:
    """Variance over the posterior's against zeta, a panel an algorithm, a line a number of steps,
    over the limit `factor`(zeta)."""
    zeta = np.linspace(0, 1, 201)
    with sheet(path, 1, len(panels), (3.5, 3.2), sharey=True) as (figure, axes):
        for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
            ax.plot(zeta, factor(zeta), color=SUPPORT, linewidth=5, label="limit of many steps")
            for number, (name, (x, y)) in enumerate(lines.items()):
                ax.plot(
                    x,
                    y,
                    color=COLOURS[number % len(COLOURS)],
                    linestyle=("-", "--")[number // len(COLOURS) % 2],
                    marker=MARKS[number % len(MARKS)],
                    markersize=4.5,
                    linewidth=1.2,
                    label=name,
                )
            ax.set(xlabel="zeta, share of fresh noise", title=title, ylim=(0, 1.05))
        axes[0, 0].set_ylabel("variance over the posterior's")
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, **outside(), frameon=False, fontsize=8)
