"""Sampling schedules by what their steps cost, at the time each step ends at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from diffgeo.plot.canvas import COLOURS, log_axis, sheet

MARKS = ("o", "s", "^", "v", "D")


def schedules(path, grids: Mapping[str, Sequence[Tensor]], N: int) -> None:
    """grids: by name, the times t_2 .. t_N, their relative steps and their steps over 1 - e^-t,
    each [N-1]."""
    panels = (
        r"relative step $(t_k - t_{k-1})/t_k$",
        r"step over the scale, $(t_k - t_{k-1})/(1 - e^{-t_k})$",
    )
    times = [grid[0] for grid in grids.values()]
    lowest = min(float(t.min()) for t in times)
    highest = max(float(t.max()) for t in times)
    with sheet(path, 1, 2, (5.0, 4.2)) as (figure, axes):
        for column, label in enumerate(panels):
            ax = axes[0, column]
            values = [grid[column + 1] for grid in grids.values()]
            for (name, grid), mark, colour in zip(grids.items(), MARKS, COLOURS, strict=False):
                style = {"color": colour, "marker": mark, "ms": 3, "lw": 1.2, "markevery": 0.06}
                ax.plot(grid[0].numpy(), grid[column + 1].numpy(), label=name, **style)
            log_axis(ax.xaxis, lowest, highest)
            low = min(float(v.min()) for v in values)
            log_axis(ax.yaxis, low, max(float(v.max()) for v in values))
            ax.set(xlabel=r"time $t_k$ that the step sets out from", ylabel=label)
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=8)
        axes[0, 0].set_title(f"N = {N}", loc="right", fontsize=9)
