"""`diffgeo theory lowdegree`: low-degree polynomials learn the score of a mixture, and of a circle

    diffgeo theory lowdegree                                    the numbers of the talk's examples
    diffgeo theory lowdegree cell_atoms=-3,0,4 cell_degrees=1,2,3,4
    diffgeo theory lowdegree radius=5 sigma=.5 points=[]

f(y) = E[mu | y] of atoms on the line seen under N(0, sigma^2): what polynomials of low degree leave
of it, beside the bound by the generator of the Ornstein-Uhlenbeck process; what they leave with a
polynomial of its own in every Voronoi cell, and when these are regressed on draws; and the same of
a circle in R^n. table.csv holds every number at full precision.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from diffgeo.config.kinds import numbers, plain, whole
from diffgeo.config.line import check_own
from diffgeo.errors import UsageError
from diffgeo.plot.lowdegree import lowdegree as figure
from diffgeo.run import Job, RunFolder
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.lowdegree import (
    Line,
    Regression,
    Tail,
    cell_errors,
    checked_centres,
    regression,
    tail,
)
from diffgeo.theory.lowdegree_circle import MOST, covering, sector_errors

HIGHEST = 40  # degree of a polynomial on the line
MOST_DRAWS = 10**7  # that one regression takes
# part, quantity, at (n, R or m), degree, pieces, value, standard error: a row of table.csv
Row = tuple[str, str, float | None, int | None, int | None, float, float | None]
COLUMNS = ("part", "quantity", "at", "degree", "pieces", "value", "standard_error")
LOOKS_AT = "its laws are atoms on the line and a circle, write cell_atoms=-2,2 or radius=10"


def main(cfg, job: Job) -> None:
    """The three parts of cfg. Raises UsageError on what is no law, degree, radius or number of
    draws."""
    check_own("theory lowdegree", job.overrides, LOOKS_AT)
    torch.set_num_threads(plain("threads", cfg.threads or 1, int))
    started = time.process_time()
    sigma = plain("sigma", cfg.sigma)
    found = tail(
        line_of("tail", cfg.tail_atoms, cfg.tail_weights, sigma),
        whole_numbers("tail_degrees", cfg.tail_degrees, 1, 1024),
        whole("powers", cfg.powers, 1, 20),
    )
    pieces = Pieces(cfg, sigma)
    circles = circles_of(cfg, sigma)
    regressed = pieces.regressed(cfg)
    spent = time.process_time() - started
    folder = RunFolder.of("theory lowdegree", cfg, job)
    if folder.begin():
        return
    rows = [
        *tail_rows(found),
        *pieces.rows(),
        *regression_rows(regressed, cfg.regression_degree),
        *circle_rows(circles),
    ]
    write_text(job.path / "table.csv", csv_text(COLUMNS, [list(map(as_text, row)) for row in rows]))
    if cfg.figures:
        measured = [(r.n, r.mean, r.standard_error) for r in regressed]
        figure(
            job.path / "figures" / "lowdegree.png",
            tail=(found.degrees, found.left, found.bound),
            cells=(pieces.degrees, pieces.one, pieces.every, len(pieces.centres)),
            regressed=(cfg.regression_degree, measured),
            circles=circles,
        )
    folder.finish(values_of(rows), measuring_cpu_s=spent)
    print(tail_table(found))
    print(pieces.table(regressed, cfg.regression_degree))
    print(circle_table(circles))
    drawn = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, table.csv{drawn}")


def line_of(part: str, atoms, weights, sigma: float) -> Line:
    """The atoms of a part of the command. Raises UsageError."""
    places = numbers(f"{part}_atoms", atoms)
    shares = None if weights is None else numbers(f"{part}_weights", weights)
    if shares is not None and (len(shares) != len(places) or min(shares) <= 0):
        raise UsageError(
            f"{part}_weights={shares}: write {len(places)} numbers above 0, one an atom"
        )
    return Line(places, shares, sigma)


def whole_numbers(key: str, value, least: int, most: int) -> list[int]:
    """Whole numbers of a range, increasing. Raises UsageError."""
    found = []
    for degree in numbers(key, value):
        found.append(whole(key, int(degree) if degree.is_integer() else degree, least, most))
    return sorted(set(found))


class Pieces:
    """The second part: one polynomial, and one in every cell."""

    def __init__(self, cfg, sigma: float):
        self.line = line_of("cell", cfg.cell_atoms, cfg.cell_weights, sigma)
        asked = self.line.places.tolist() if cfg.centres is None else cfg.centres
        chosen = asked if cfg.centres is None else numbers("centres", asked)
        self.centres = checked_centres(chosen)
        self.degrees = whole_numbers("cell_degrees", cfg.cell_degrees, 0, HIGHEST)
        middle = self.line.law.mean
        self.one = picked(cell_errors(self.line, middle, self.degrees[-1]), self.degrees)
        self.every = picked(cell_errors(self.line, self.centres, self.degrees[-1]), self.degrees)

    def regressed(self, cfg) -> list[Regression]:
        """The regressions that cfg asks for. Raises UsageError."""
        degree = whole("regression_degree", cfg.regression_degree, 0, HIGHEST)
        repeats = whole("repeats", cfg.repeats, 2, 10_000)
        asked = whole_numbers("points", cfg.points, 1, MOST_DRAWS) if cfg.points else []
        found = []
        for n in asked:
            found.append(regression(self.line, self.centres, degree, n, repeats, cfg.seed))
        return found

    def rows(self) -> list[Row]:
        found: list[Row] = []
        for pieces, errors in ((1, self.one), (len(self.centres), self.every)):
            for degree, error in zip(self.degrees, errors, strict=True):
                found.append(("cells", "best", None, degree, pieces, error, None))
        return found

    def table(self, regressed: Sequence[Regression], degree: int) -> str:
        """A row a degree, then a line of the regressions."""
        rows = []
        for number, at in enumerate(self.degrees):
            rows.append([str(at), f"{self.one[number]:.6f}", f"{self.every[number]:.6f}"])
        places = " ".join(f"{place:g}" for place in self.line.places.tolist())
        lines = [
            f"L2 error of a polynomial under the law of y, atoms at {places}, sigma = "
            f"{self.line.sigma:g}",
            markdown(["degree", "one cell", f"{len(self.centres)} cells"], rows),
        ]
        if regressed:
            words = [f"{r.mean:.4f} +- {r.standard_error:.4f} (n = {r.n})" for r in regressed]
            repeats = len(regressed[0].errors)
            lines.append(
                f"regressed on n draws in each cell, degree {degree}: {', '.join(words)}; mean and "
                f"standard error of {repeats}; the best has {regressed[0].best:.6f}\n"
            )
        return "\n".join(lines)


def picked(errors: Tensor, degrees: Sequence[int]) -> list[float]:
    """The errors [P] of some degrees."""
    return errors[list(degrees)].tolist()


Circle = tuple[float, int, list[int], list[float], list[float]]  # R, balls, degrees, balls', one's


def circles_of(cfg, sigma: float) -> list[Circle]:
    """Every radius with its sectors and the errors of each degree. Raises UsageError."""
    degrees = whole_numbers("circle_degrees", cfg.circle_degrees, 0, MOST)
    found = []
    for radius in numbers("radius", cfg.radius):
        one = picked(sector_errors(radius, sigma, 1, degrees[-1]), degrees)
        balls = covering(radius, sigma)
        every = picked(sector_errors(radius, sigma, balls, degrees[-1]), degrees)
        found.append((radius, balls, degrees, every, one))
    return found


def tail_rows(found: Tail) -> list[Row]:
    rows: list[Row] = [
        ("tail", "norm", m, None, None, norm, None) for m, norm in enumerate(found.norms)
    ]
    for degree, left, bound in zip(found.degrees, found.left, found.bound, strict=True):
        rows.append(("tail", "left", None, degree, None, left, None))
        rows.append(("tail", "bound", None, degree, None, bound, None))
    return rows


def regression_rows(regressed: Sequence[Regression], degree: int) -> list[Row]:
    rows: list[Row] = []
    for r in regressed:
        rows.append(("cells", "regressed", r.n, degree, None, r.mean, r.standard_error))
        rows.append(("cells", "first_order", r.n, degree, None, r.expected, None))
    return rows


def circle_rows(circles: Sequence[Circle]) -> list[Row]:
    rows: list[Row] = []
    for radius, balls, degrees, every, one in circles:
        for degree, error, alone in zip(degrees, every, one, strict=True):
            rows.append(("circle", "best", radius, degree, 1, alone, None))
            if balls > 1:
                rows.append(("circle", "best", radius, degree, balls, error, None))
    return rows


def as_text(value) -> str:
    """A cell of table.csv."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def values_of(rows: Sequence[Row]) -> dict[str, float]:
    """metrics.json: lowdegree/tail/left@d=4, lowdegree/cells/best@d=5,pieces=2, ..."""
    values = {}
    for part, quantity, at, degree, pieces, value, error in rows:
        names = {"at": at, "d": degree, "pieces": pieces}
        words = [f"{name}={known:g}" for name, known in names.items() if known is not None]
        key = f"lowdegree/{part}/{quantity}@{','.join(words)}"
        values[key] = value
        if error is not None:
            values[f"{key}_se"] = error
    return values


def tail_table(found: Tail) -> str:
    rows = []
    for number, degree in enumerate(found.degrees):
        row = [str(degree), f"{found.left[number]:.6f}", f"{found.bound[number]:.6f}"]
        rows.append([*row, str(found.power[number])])
    norms = ", ".join(f"{norm:.6f}" for norm in found.norms[:5])
    header = ["degree d", "tail of f", "(sigma^2/d)^m |L^m f|", "at m ="]
    return f"|L^m f| under N(0, sigma^2), m = 0, 1, ..: {norms}\n{markdown(header, rows)}"


def circle_table(circles: Sequence[Circle]) -> str:
    header = ["degree"]
    for radius, balls, _, _, _ in circles:
        header += [f"R = {radius:g}: one cell", f"{balls} cells"]
    rows = []
    for number, degree in enumerate(circles[0][2]):
        row = [str(degree)]
        for _, _, _, every, one in circles:
            row += [f"{one[number]:.6f}", f"{every[number]:.6f}"]
        rows.append(row)
    return f"L2 error on a circle of radius R in R^n, every n\n{markdown(header, rows)}"
