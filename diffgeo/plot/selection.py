"""What is best in pictures: errors of samplers against evaluations, and gradient estimation's best
gamma."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from diffgeo.plot.canvas import BLACK, COLOURS, SUPPORT, log_axis, sheet

Errors = Mapping[str, Mapping[int, float]]  # sampler -> budget -> its error on its best schedule
Winner = tuple[str, str, float]  # sampler, schedule, error


def winners(
    path,
    errors: Mapping[str, Errors],
    best: Mapping[str, Mapping[int, Winner]],
    solved: float,
    about: Mapping[str, str],
) -> None:
    """A panel a law: each sampler's error on its best schedule against the evaluations, coloured
    when it wins somewhere; the winning schedules stand below the points.

    errors, best, about: by law; best: budget -> winner.
    solved: errors below it count as equal, and no winner among them is named.
    """
    colours = colours_of(best, solved)
    with sheet(path, 1, len(errors), (3.4, 3.6), sharey=True) as (figure, axes):
        for ax, law in zip(axes[0], errors, strict=True):
            for sampler, by_budget in errors[law].items():
                race(ax, by_budget, colours.get(sampler))
            for budget, (_, schedule, error) in best[law].items():
                if error > solved:
                    write_below(ax, schedule, budget, error)
            budgets = list(best[law])
            ax.set(
                xscale="log",
                xlim=(0.8 * min(budgets), 1.25 * max(budgets)),
                xlabel="network evaluations",
            )
            ax.set_title(f"{law}\n{about[law]}", fontsize=9)
            ax.set_xticks(budgets, [str(b) for b in budgets])
            ax.minorticks_off()
        first = axes[0, 0]
        log_axis(first.yaxis, solved / 4, 2)
        first.set_ylabel("rms error on the best schedule\n(in deviations of the law)")
        for sampler, colour in colours.items():
            first.plot([], [], color=colour, label=sampler)
        figure.legend(loc="outside lower center", ncols=8, frameon=False, fontsize=8)


def colours_of(best: Mapping[str, Mapping[int, Winner]], solved: float) -> dict[str, str]:
    """A colour for the samplers that win, as far as the colours go, the most frequent first."""
    won: Counter[str] = Counter()
    for by_budget in best.values():
        for sampler, _, error in by_budget.values():
            if error > solved:
                won[sampler] += 1
    names = [name for name, _ in won.most_common()]
    return dict(zip(names, COLOURS, strict=False))


def race(ax, errors: Mapping[int, float], colour: str | None) -> None:
    """The line of one sampler; one without a colour is thin and grey."""
    budgets = sorted(errors)
    style = {"markersize": 2, "color": SUPPORT, "linewidth": 0.6, "zorder": 1}
    if colour is not None:
        style = {"markersize": 3, "color": colour, "linewidth": 1.5, "zorder": 2}
    ax.plot(budgets, [errors[b] for b in budgets], "o-", **style)


def write_below(ax, text: str, x: float, y: float) -> None:
    ax.annotate(
        text,
        (x, y),
        (0, -5),
        textcoords="offset points",
        fontsize=6,
        ha="center",
        va="top",
        rotation=60,
    )


def gamma(
    path,
    steps: Sequence[int],
    best: Mapping[str, Sequence[float]],
    span: float,
    radii: Sequence[tuple[float, float, float, float]],
) -> None:
    """The best gamma against the number of steps, a line a law; and its coefficient a on a circle
    whose radius nears the first level.

    best: law -> gamma at each of `steps`. span: log(sigma_0/sigma_N), so that h = span/N.
    radii: rows of (radius/sigma_0, measured, by quadrature, of the Gaussian of that deviation).
    """
    with sheet(path, 1, 2, (5.0, 3.8)) as (_, axes):
        left, right = axes[0]
        for (name, values), colour in zip(best.items(), COLOURS, strict=False):
            left.plot(steps, values, "o-", markersize=4, color=colour, linewidth=1.4, label=name)
        n = np.geomspace(steps[0], steps[-1], 100)
        h = span / n
        black = {"color": BLACK, "linewidth": 1.2}
        left.plot(n, 1 + np.exp(-h) / 2, label=r"AB2, $1 + e^{-h}/2$", **black)
        left.plot(n, 1.5 + h / 8, "--", label=r"$3/2 + h/8$", **black)
        left.axhline(2, linestyle=":", label="2, published", **black)
        left.set(xscale="log", xlabel="steps N", ylabel=r"best $\gamma$", ylim=(0.95, 2.7))
        left.set_xticks(steps, [str(count) for count in steps])
        left.minorticks_off()
        left.legend(frameon=False, fontsize=7, ncols=2, loc="upper right")
        if radii:
            by_radius(right, radii)


def by_radius(ax, radii: Sequence[tuple[float, float, float, float]]) -> None:
    x, measured, predicted, gaussian = np.asarray(radii).T
    ax.plot(x, measured, "o", color=COLOURS[0], label="circle, measured")
    ax.plot(x, predicted, color=COLOURS[0], linewidth=1.4, label="circle, quadrature")
    ax.plot(x, gaussian, "--", color=BLACK, linewidth=1.2, label="Gaussian, closed form")
    ax.axhline(0.5, color=SUPPORT, linewidth=0.8)
    ax.set(
        xscale="log",
        xlabel=r"radius / $\sigma_0$",
        ylabel=r"$a$ in $\gamma^* = 3/2 + (a - 1/2)\,h$",
    )
    ax.legend(frameon=False, fontsize=8)
