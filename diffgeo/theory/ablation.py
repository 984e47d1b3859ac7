"""Pierret and Galerne's table as an object: W2 (and other distances) of every scheme, truncation
eps, grid and start, in closed form.

    continuous, p_T     the exact flow from p_T, stopped at eps:                truncation alone
    continuous, N_0     the exact flow from N(0, I), stopped at eps:            initialization and truncation
    N, p_T or N_0       the scheme on N points t_k = eps + (T - eps) k/(N-1):   discretization as well

each against p_0, as published, or against p_eps, which leaves the truncation out. All laws are
Gaussian with one variance an eigenvalue (theory/linear.py), so a cell is a number and not an
estimate. A relative error e of the score, a number, one an eigenvalue or a function of sigma,
enters the discrete columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Sampler, Schedule
from diffgeo.errors import UsageError
from diffgeo.theory import distances as metric
from diffgeo.theory.gaussian import (
    STARTS,
    Law,
    Spectrum,
    continuous,
    continuous_matrix,
    discrete,
    discrete_matrix,
    first_order,
    level,
    levels,
    true,
)

AGAINST = ("p_0", "p_eps")
COUNTS = ("points", "steps")
KINDS = {"SDE": True, "ODE": False}
DISTANCES: dict[str, Callable[..., float]] = {
    "w2": metric.w2,
    "kl": metric.kl,
    "tv": metric.tv,
    "frechet": metric.frechet,
}
Error = float | Tensor | Callable[[float], Tensor]


class Scheme(NamedTuple):
    """A row of the table: makes the sampler for a number of steps; whether it follows the reverse
    SDE or the probability flow."""

    make: Callable[[int], Sampler]
    stochastic: bool


class Cell(NamedTuple):
    """One cell. points: the number of grid points that was asked for; None: the continuous flow."""

    scheme: str
    eps: float
    points: int | None
    start: str
    distances: dict[str, float]


def ablation(
    spectrum: Spectrum,
    chart: Schedule,
    schemes: Mapping[str, Scheme],
    eps: Sequence[float],
    points: Sequence[int],
    starts: Sequence[str] = STARTS,
    against: str = "p_0",
    distances: Sequence[str] = ("w2",),
    error: Error = 0.0,
    count: str = "points",
) -> list[Cell]:
    """The table, scheme after scheme, within it eps after eps, the continuous columns first.

    points: of each grid, or its steps with count="steps".
    Raises UsageError on words that are none of STARTS, AGAINST, DISTANCES and COUNTS, on eps
    outside [0, T) and on grids of one point.
    """
    check(chart, eps, points, starts, against, distances, count)
    measures = {name: DISTANCES[name] for name in ("w2", *distances)}
    cells: dict[tuple, Cell] = {}

    def put(name: str, e: float, n: int | None, start: str, law: Law, goal: Law) -> None:
        cells[name, e, n, start] = Cell(
            name,
            e,
            n,
            start,
            {k: float(f(law, goal, spectrum.counts)) for k, f in measures.items()},
        )

    for e in eps:
        goal = true(spectrum, chart, 0.0 if against == "p_0" else e)
        for start in starts:
            flows = [
                continuous(spectrum, chart, e, start, stochastic) for stochastic in (False, True)
            ]
            for name, scheme in schemes.items():
                put(name, e, None, start, flows[scheme.stochastic], goal)
        for n in points:
            grid = levels(chart, n + (count == "steps"), e)
            samplers = {name: scheme.make(len(grid) - 1) for name, scheme in schemes.items()}
            for (name, start), law in discrete(
                spectrum, chart, samplers, grid, starts, error
            ).items():
                put(name, e, n, start, law, goal)
    return [
        cells[name, e, n, start]
        for name in schemes
        for e in eps
        for n in (None, *points)
        for start in starts
    ]


class Start(NamedTuple):
    """A law N(mean, covariance) of x_T that need not commute with the data's, N(centre, data): [d]
    and [d,d], in the same coordinates."""

    mean: Tensor
    covariance: Tensor
    centre: Tensor
    data: Tensor


def noncommuting(
    name: str,
    start: Start,
    chart: Schedule,
    schemes: Mapping[str, Scheme],
    eps: Sequence[float],
    points: Sequence[int],
    against: str = "p_0",
    distances: Sequence[str] = ("w2",),
    error: float = 0.0,
    count: str = "points",
) -> list[Cell]:
    """The cells of one more start, called `name`; as `ablation`, with covariances in place of
    spectra."""
    cells = []

    def put(
        scheme: str,
        e: float,
        n: int | None,
        found: tuple[Tensor, Tensor],
        goal: tuple[Tensor, Tensor],
    ) -> None:
        if not bool(found[1].isfinite().all()):
            cells.append(
                Cell(
                    scheme,
                    e,
                    n,
                    name,
                    {
                        k: 1.0 if k == "tv" else float("inf")
                        for k in dict.fromkeys(("w2", *distances))
                    },
                )
            )
            return
        w2 = metric.bures(*found, *goal)
        a, b = metric.commuting(*found, *goal) if {"kl", "tv"} & set(distances) else (None, None)
        values = {"w2": w2, "frechet": w2**2} | {
            k: DISTANCES[k](a, b, torch.ones_like(a.variance))
            for k in ("kl", "tv")
            if a is not None
        }
        cells.append(
            Cell(scheme, e, n, name, {k: values[k] for k in dict.fromkeys(("w2", *distances))})
        )

    for e in eps:
        sigma, scale = level(chart, 0.0 if against == "p_0" else e)
        goal = (
            scale * start.centre,
            scale**2 * (start.data + sigma**2 * torch.eye(len(start.centre), dtype=torch.float64)),
        )
        flows = [
            continuous_matrix(
                start.data, chart, e, start.covariance, kind, start.centre, start.mean
            )
            for kind in (False, True)
        ]
        for scheme, made in schemes.items():
            put(scheme, e, None, flows[made.stochastic], goal)
        for n in points:
            grid = levels(chart, n + (count == "steps"), e)
            samplers = {scheme: made.make(len(grid) - 1) for scheme, made in schemes.items()}
            ended = discrete_matrix(
                start.data, chart, samplers, grid, start.covariance, start.centre, start.mean, error
            )
            for scheme, found in ended.items():
                put(scheme, e, n, found, goal)
    return cells


def check(
    chart: Schedule,
    eps: Sequence[float],
    points: Sequence[int],
    starts: Sequence[str],
    against: str,
    distances: Sequence[str],
    count: str,
) -> None:
    for option, words, known in (
        ("start", starts, STARTS),
        ("against", (against,), AGAINST),
        ("distances", distances, tuple(DISTANCES)),
        ("count", (count,), COUNTS),
    ):
        if unknown := [w for w in words if w not in known]:
            more = "; or FILE.npy, a covariance [d,d]" if option == "start" else ""
            raise UsageError(
                f"{option}={unknown[0]} is unknown: write "
                f"{' or '.join([', '.join(known[:-1]), known[-1]])}{more}"
            )
    if wrong := [e for e in eps if not 0 <= e < chart.t_max]:
        raise UsageError(f"eps={wrong[0]:g}: write a time from 0 up to but below T={chart.t_max:g}")
    least, what = (
        (2, "points: write 2 or more") if count == "points" else (1, "steps: write 1 or more")
    )
    if wrong := [n for n in points if n < least]:
        raise UsageError(f"grid_points={wrong[0]} is no number of {what}")


def rows(
    cells: Sequence[Cell], distances: Sequence[str], count: str = "points"
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a CSV file, a line a cell at full precision; points are grid points,
    whatever was counted."""

    def points(c: Cell) -> str:
        return "continuous" if c.points is None else str(c.points + (count == "steps"))

    return ["scheme", "eps", "points", "start", *distances], [
        [
            c.scheme,
            repr(float(c.eps)),
            points(c),
            c.start,
            *(repr(c.distances[d]) for d in distances),
        ]
        for c in cells
    ]


def printed(value: float) -> str:
    """As the published table prints: 0 as "0", below 1e-2 one decimal and a bare exponent
    ("6.7E-4"), otherwise two decimals."""
    if value == 0 or not value < 1e-2:
        return "0" if value == 0 else f"{value:.2f}"
    mantissa, exponent = f"{value:.1E}".split("E")
    return f"{mantissa}E{int(exponent)}"


class Comparison(NamedTuple):
    """Cells as printed, beside the published ones: (scheme, eps, points or None, start) ->
    (measured, published)."""

    pairs: dict[tuple, tuple[str, str]]

    @property
    def matched(self) -> int:
        return sum(measured == published for measured, published in self.pairs.values())

    def __str__(self) -> str:
        return f"{self.matched} of {len(self.pairs)} published cells equal as printed"


def compared(
    cells: Sequence[Cell],
    columns: Sequence[int | str],
    table: Mapping[str, Mapping[float, Sequence[str]]],
) -> Comparison:
    """The cells that a published table has too. `columns` are its numbers of grid points,
    "continuous" first, two cells each (p_T, N_0); `table` is scheme -> eps -> cells as printed."""
    places = [(None if c == "continuous" else int(c), start) for c in columns for start in STARTS]
    published = {
        (scheme, float(e), *place): text
        for scheme, rows in table.items()
        for e, row in rows.items()
        for place, text in zip(places, row, strict=True)
    }
    return Comparison(
        {
            key: (printed(c.distances["w2"]), published[key])
            for c in cells
            if (key := (c.scheme, float(c.eps), c.points, c.start)) in published
        }
    )


def power_of_ten(eps: float) -> str:
    """0, 1e-5, 0.05: as a person writes it."""
    mantissa, exponent = f"{eps:e}".split("e")
    return f"{eps:g}" if eps == 0 or eps >= 0.02 else f"{float(mantissa):g}e{int(exponent)}"


def table(
    cells: Sequence[Cell], distance: str, count: str, found: Comparison | None
) -> tuple[list[str], list[list[str]]]:
    """Header and rows in the published format; a cell that is not as published has the published
    one in brackets."""

    def shown(c: Cell) -> str:
        text = printed(c.distances[distance])
        measured, published = (found.pairs if found else {}).get(
            (c.scheme, c.eps, c.points, c.start), (text, text)
        )
        return text if measured == published else f"{text} [{published}]"

    lines: dict[tuple[str, float], list[Cell]] = {}
    for c in cells:
        lines.setdefault((c.scheme, c.eps), []).append(c)
    unit = " steps" if count == "steps" else ""
    columns = [
        f"continuous {c.start}" if c.points is None else f"{c.points}{unit} {c.start}"
        for c in next(iter(lines.values()))
    ]
    return ["scheme", "eps", *columns], [
        [name, power_of_ten(e), *map(shown, row)] for (name, e), row in lines.items()
    ]


# eigenvalues of the published figure, and up to CIFAR-10's largest
SPAN = torch.logspace(-6, 2.5, 171, dtype=torch.float64)


def modes(
    values: Tensor,
    chart: Schedule,
    schemes: Mapping[str, Scheme],
    steps: int,
    eps: float,
    eta: float,
) -> dict[str, Tensor]:
    """|sqrt v - sqrt w| by eigenvalue [k], in data units: what one direction of each eigenvalue
    adds to W2^2, under a root.

    initialization (SDE, ODE): the exact flow from N_0 down to 0, against p_0. truncation: p_eps
    against p_0. discretization of each
    scheme: from p_T in so many steps down to eps, against p_eps. score (SDE, ODE): a relative error
        eta, to first order.
    """
    spectrum = Spectrum(values)
    goal = true(spectrum, chart, 0.0).variance
    stopped = true(spectrum, chart, eps).variance
    curves = {"eigenvalue": values}
    for name, kind in KINDS.items():
        curves[f"initialization {name}"] = metric.roots(
            continuous(spectrum, chart, 0.0, "N_0", kind).variance, goal
        ).abs()
    curves["truncation"] = metric.roots(stopped, goal).abs()
    samplers = {name: scheme.make(steps) for name, scheme in schemes.items()}
    for (name, _), law in discrete(
        spectrum, chart, samplers, levels(chart, steps + 1, eps), ("p_T",)
    ).items():
        curves[f"discretization {name}"] = metric.roots(law.variance, stopped).abs()
    for name, kind in KINDS.items():
        alone = [first_order(Spectrum(value[None]), chart, eps, eta, kind) for value in values]
        curves[f"score {name}"] = torch.tensor(alone, dtype=torch.float64)
    return curves
