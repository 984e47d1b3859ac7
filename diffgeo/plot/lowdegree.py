"""What low-degree polynomials leave of E[mu | y]: of a Hermite series, in Voronoi cells, on a
circle."""

from __future__ import annotations

from collections.abc import Sequence

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, VERMILION, log_axis, sheet

Curve = tuple[Sequence[int], Sequence[float], Sequence[float]]
SMALLEST = 1e-8  # an error below it is off the picture


def lowdegree(
    path,
    tail: Curve,
    cells: tuple[Sequence[int], Sequence[float], Sequence[float], int],
    regressed: tuple[int, Sequence[tuple[int, float, float]]],
    circles: Sequence[tuple[float, int, Sequence[int], Sequence[float], Sequence[float]]],
) -> None:
    """tail: degrees, tails, bounds. cells: degrees, the error of one polynomial, of one in each of
    so many cells. regressed: a degree, and (n, mean, standard error) of each number of draws.
    circles: (radius, sectors, degrees, the error with sectors, with one cell) of each."""
    with sheet(path, 1, 3, (4.3, 3.7)) as (_, axes):
        left, middle, right = axes[0]
        degrees, tails, bounds = tail
        left.plot(
            degrees, bounds, "s--", color=VERMILION, ms=4, label=r"$(s^2/d)^m|L^m f|$, best m"
        )
        left.plot(degrees, tails, "o-", color=BLUE, ms=4, label="tail of f")
        left.set(xscale="log", xlabel="degree d", title="Hermite series under $N(0,s^2)$")
        left.set_xticks(degrees, [str(d) for d in degrees])
        left.minorticks_off()
        frame(left, [*tails, *bounds])

        degrees, one, every, count = cells
        middle.plot(degrees, one, "s--", color=VERMILION, ms=4, label="one polynomial")
        middle.plot(degrees, every, "o-", color=BLUE, ms=4, label=f"one in each of {count} cells")
        shown = [*one, *every]
        degree, measured = regressed
        for number, (n, mean, error) in enumerate(measured):
            middle.errorbar(
                [degree],
                [mean],
                [error],
                fmt="v^<>"[number % 4],
                ms=6,
                capsize=3,
                color=BLACK,
                mfc="none",
                label=f"regressed on n = {n:,}".replace(",", " "),
            )
            shown.append(mean)
        middle.set(xlabel="degree", title="mixture on the line")
        middle.set_xticks(degrees)
        frame(middle, shown)

        shown = []
        for number, (radius, count, degrees, every, one) in enumerate(circles):
            colour = COLOURS[number % len(COLOURS)]
            right.plot(degrees, one, "s--", color=colour, ms=4, label=f"R = {radius:g}, one cell")
            right.plot(
                degrees, every, "o-", color=colour, ms=4, label=f"R = {radius:g}, {count} sectors"
            )
            right.set_xticks(degrees)
            shown += [*every, *one]
        right.set(xlabel="total degree", title="circle of radius R in $R^n$")
        frame(right, shown)


def frame(ax, values: Sequence[float]) -> None:
    """A log axis upwards around the values, and what they are."""
    positive = [value for value in values if value > SMALLEST]
    log_axis(ax.yaxis, min(positive, default=SMALLEST) / 1.5, 1.5 * max(positive, default=1.0))
    ax.set_ylabel(r"$L^2$ error")
    ax.legend(frameon=False, fontsize=7)
