"""The cells of theory/ablation.py as they are printed: as the published table prints them, beside
the published ones, or at full precision for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffgeo.theory.ablation import Cell
from diffgeo.theory.gaussian import STARTS

Place = tuple[str, float, int | None, str]  # scheme, eps, points (None: continuous), start


def place_of(cell: Cell) -> Place:
    return cell.scheme, float(cell.eps), cell.points, cell.start


def rows(
    cells: Sequence[Cell], distances: Sequence[str], count: str = "points"
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a CSV file, a line a cell at full precision; points are grid points,
    whatever was counted. Of a random error each distance is a mean, and beside it DISTANCE_sd the
    standard deviation of a draw (0 where no error enters)."""
    extra = 1 if count == "steps" else 0
    drawn = any(cell.deviations for cell in cells)
    lines = []
    for cell in cells:
        points = "continuous" if cell.points is None else str(cell.points + extra)
        numbers = [repr(cell.distances[d]) for d in distances]
        if drawn:
            numbers += [repr(cell.deviations.get(d, 0.0)) for d in distances]
        lines.append([cell.scheme, repr(float(cell.eps)), points, cell.start, *numbers])
    deviations = [f"{d}_sd" for d in distances] if drawn else []
    return ["scheme", "eps", "points", "start", *distances, *deviations], lines


def printed(value: float) -> str:
    """As the published table prints: 0 as "0", below 1e-2 one decimal and a bare exponent
    ("6.7E-4"), otherwise two decimals."""
    if value == 0:
        return "0"
    if not value < 1e-2:
        return f"{value:.2f}"
    mantissa, exponent = f"{value:.1E}".split("E")
    return f"{mantissa}E{int(exponent)}"


def power_of_ten(eps: float) -> str:
    """0, 1e-5, 0.05: as a person writes it."""
    if eps == 0 or eps >= 0.02:
        return f"{eps:g}"
    mantissa, exponent = f"{eps:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


# beside a published table


class Comparison(NamedTuple):
    """Cells as printed, beside the published ones: place -> (measured, published)."""

    pairs: dict[Place, tuple[str, str]]

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
    published = published_cells(columns, table)
    pairs = {}
    for cell in cells:
        place = place_of(cell)
        if place in published:
            pairs[place] = printed(cell.distances["w2"]), published[place]
    return Comparison(pairs)


def published_cells(
    columns: Sequence[int | str], table: Mapping[str, Mapping[float, Sequence[str]]]
) -> dict[Place, str]:
    headed = [
        (None if column == "continuous" else int(column), start)
        for column in columns
        for start in STARTS
    ]
    found = {}
    for scheme, by_eps in table.items():
        for eps, line in by_eps.items():
            for (points, start), text in zip(headed, line, strict=True):
                found[scheme, float(eps), points, start] = text
    return found


def table(
    cells: Sequence[Cell], distance: str, count: str, found: Comparison | None
) -> tuple[list[str], list[list[str]]]:
    """Header and rows in the published format, a row a scheme and eps; a cell that is not as
    published has the published one in brackets."""
    pairs = {} if found is None else found.pairs
    lines: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        lines.setdefault((cell.scheme, cell.eps), []).append(cell)
    columns = [column_title(cell, count) for cell in next(iter(lines.values()))]
    body = []
    for (scheme, eps), line in lines.items():
        shown = [beside(cell, distance, pairs) for cell in line]
        body.append([scheme, power_of_ten(eps), *shown])
    return ["scheme", "eps", *columns], body


def column_title(cell: Cell, count: str) -> str:
    if cell.points is None:
        return f"continuous {cell.start}"
    unit = " steps" if count == "steps" else ""
    return f"{cell.points}{unit} {cell.start}"


def beside(cell: Cell, distance: str, pairs: Mapping[Place, tuple[str, str]]) -> str:
    """A cell as printed, with its deviation over draws where there is one; else the published one
    in brackets where that differs."""
    text = printed(cell.distances[distance])
    if distance in cell.deviations:
        return f"{text} +- {printed(cell.deviations[distance])}"
    measured, published = pairs.get(place_of(cell), (text, text))
    return text if measured == published else f"{text} [{published}]"
