"""What is best in pictures: errors of samplers against evaluations, and gradient estimation's best
gamma."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffgeo.plot.canvas import BLACK, COLOURS, SUPPORT, log_axis, sheet

if TYPE_CHECKING:
    from diffgeo.theory.gamma import Gamma
    from diffgeo.theory.selection import Entry


def winners(
    path, found: Mapping[str, Mapping[int, Sequence[Entry]]], about: Mapping[str, str]
) -> None:
    """A panel a law: each sampler's error on its best schedule against the evaluations, coloured
    when it wins somewhere; the winning schedules stand below the points. Errors below SOLVED are
    drawn there."""
    from diffgeo.theory.selection import SOLVED

    won = Counter(
        entries[0].sampler
        for by_budget in found.values()
        for entries in by_budget.values()
        if entries[0].error > SOLVED
    )
    colours = {name: colour for (name, _), colour in zip(won.most_common(), COLOURS, strict=False)}
    with sheet(path, 1, len(found), (3.4, 3.6), sharey=True) as (figure, axes):
        for ax, (name, by_budget) in zip(axes[0], found.items(), strict=True):
            best: dict[str, dict[int, float]] = {}
            for budget, entries in by_budget.items():
                for e in reversed(entries):  # the least error last
                    best.setdefault(e.sampler, {})[budget] = max(e.error, SOLVED)
            for sampler, errors in best.items():
                budgets = sorted(errors)
                colour = colours.get(sampler)
                ax.plot(
                    budgets,
                    [errors[b] for b in budgets],
                    "o-",
                    markersize=3 if colour else 2,
                    color=colour or SUPPORT,
                    linewidth=1.5 if colour else 0.6,
                    zorder=2 if colour else 1,
                )
            for budget, entries in by_budget.items():
                if entries[0].error > SOLVED:
                    ax.annotate(
                        entries[0].schedule,
                        (budget, entries[0].error),
                        (0, -5),
                        textcoords="offset points",
                        fontsize=6,
                        ha="center",
                        va="top",
                        rotation=60,
                    )
            ax.set(
                xscale="log",
                xlim=(0.8 * min(by_budget), 1.25 * max(by_budget)),
                xlabel="network evaluations",
            )
            ax.set_title(f"{name}\n{about[name]}", fontsize=9)
            ax.set_xticks(list(by_budget), [str(b) for b in by_budget])
            ax.minorticks_off()
        log_axis(axes[0, 0].yaxis, SOLVED / 4, 2)
        axes[0, 0].set_ylabel("rms error on the best schedule\n(in deviations of the law)")
        for sampler, colour in colours.items():
            axes[0, 0].plot([], [], color=colour, label=sampler)
        figure.legend(loc="outside lower center", ncols=8, frameon=False, fontsize=8)


def gamma(
    path, found: Mapping[str, Sequence[Gamma]], radii: Sequence[tuple[float, float, float, float]]
) -> None:
    """The best gamma against the number of steps, a line a law; and its coefficient a on a circle
    whose radius nears the first level: rows of `radii` are (radius/sigma_0, measured, by
    quadrature, of the Gaussian of that deviation)."""
    with sheet(path, 1, 2, (5.0, 3.8)) as (_, axes):
        left, right = axes[0]
        for (name, rows), colour in zip(found.items(), COLOURS, strict=False):
            left.plot(
                [g.n for g in rows],
                [g.best for g in rows],
                "o-",
                markersize=4,
                color=colour,
                linewidth=1.4,
                label=name,
            )
        some = next(iter(found.values()))
        n = np.geomspace(some[0].n, some[-1].n, 100)
        h = some[0].h * some[0].n / n
        left.plot(n, 1 + np.exp(-h) / 2, color=BLACK, linewidth=1.2, label=r"AB2, $1 + e^{-h}/2$")
        left.plot(n, 1.5 + h / 8, "--", color=BLACK, linewidth=1.2, label=r"$3/2 + h/8$")
        left.axhline(2, color=BLACK, linestyle=":", linewidth=1.2, label="2, published")
        left.set(xscale="log", xlabel="steps N", ylabel=r"best $\gamma$", ylim=(0.95, 2.7))
        left.set_xticks([g.n for g in some], [str(g.n) for g in some])
        left.minorticks_off()
        left.legend(frameon=False, fontsize=7, ncols=2, loc="upper right")
        if radii:
            x, measured, predicted, gaussian = np.asarray(radii).T
            right.plot(x, measured, "o", color=COLOURS[0], label="circle, measured")
            right.plot(x, predicted, color=COLOURS[0], linewidth=1.4, label="circle, quadrature")
            right.plot(x, gaussian, "--", color=BLACK, linewidth=1.2, label="Gaussian, closed form")
            right.axhline(0.5, color=SUPPORT, linewidth=0.8)
            right.set(
                xscale="log",
                xlabel=r"radius / $\sigma_0$",
                ylabel=r"$a$ in $\gamma^* = 3/2 + (a - 1/2)\,h$",
            )
            right.legend(frameon=False, fontsize=8)
