"""The pictures of `diffgeo restore`, taken apart into arrays: images in a row each, clouds of
points in the plane, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement, pinv
from diffgeo.commands.restore.measured import Beside, Row
from diffgeo.commands.restore.problem import Problem
from diffgeo.core import ImageSet, Manifold, generator
from diffgeo.metrics.calibration import histogram
from diffgeo.plot import restoration as plot
from diffgeo.plot.canvas import Plane, plane
from diffgeo.plot.restoration import Cell, Clouds

ROWS = 8  # images of a picture
PANELS = 4  # problems in the plane


def figures(
    folder: Path,
    problem: Problem,
    draws: Tensor,
    besides: Sequence[Beside | None],
    rows: Sequence[Row],
    title: str,
) -> None:
    """Every picture that there is something to draw for."""
    data = problem.experiment.data
    if isinstance(data, ImageSet):
        of_images(folder / "restored.png", problem, data, draws, besides, rows, title)
    elif isinstance(data, Manifold) and len(data.shape) == 1:
        of_points(folder / "restored.png", problem, data, draws, besides, title)
    if problem.calibration:
        of_ranks(folder / "ranks.png", problem, draws, besides)


# images


def of_images(
    path: Path,
    problem: Problem,
    data: ImageSet,
    draws: Tensor,
    besides: Sequence[Beside | None],
    rows: Sequence[Row],
    title: str,
) -> None:
    """truth | A^+ y | exact mean, exact draw | draw, mean, |error|, spread: a row an image."""
    truth = problem.asked.truth
    several = draws.shape[1] > 1
    known = any(own is not None for own in besides)
    heads = (["truth"] if truth is not None else []) + ["measured"]
    groups = [("", len(heads))]
    if known:
        heads += ["mean", "a draw"]
        groups.append(("exact posterior", 2))
    own_heads = ["a draw"] + (["mean"] if several else [])
    own_heads += (["|error|"] if truth is not None else []) + (["spread"] if several else [])
    heads += own_heads
    groups.append(("restored", len(own_heads)))

    lines = []
    names = []
    for place, number in enumerate(problem.asked.images[:ROWS]):
        x0 = None if truth is None else truth(number)
        cells: list[Cell | None] = []
        if x0 is not None:
            cells.append(Cell(data.quantize(x0)))
        seen = seen_of(problem.measurement(number))
        cells.append(None if seen is None else Cell(data.quantize(seen)))
        if known:
            cells += exact_cells(besides[place], rows[place], data)
        cells += own_cells(draws[place], x0, rows[place], data)
        lines.append(cells)
        names.append(str(number))
    plot.images(path, lines, heads, names, title, groups)


def seen_of(measurement: Measurement) -> Tensor | None:
    """What was measured as an image [C,H,W], A^+ y; None of an operator that is not linear."""
    if not isinstance(measurement.operator, Linear):
        return None
    return pinv(measurement.operator, measurement.y[None].double())[0]


def beside_images(problem: Problem, besides: Sequence[Beside | None]) -> Tensor:
    """A^+ y, the exact posterior's mean and one of its draws, [images,3,*D]; nan where there is
    none."""
    images = problem.asked.images
    shape = problem.restoration.simulation.shape
    found = torch.full((len(images), 3, *shape), torch.nan, dtype=torch.float64)
    for place, number in enumerate(images):
        seen = seen_of(problem.measurement(number))
        if seen is not None:
            found[place, 0] = seen
        exact = besides[place]
        if exact is not None:
            found[place, 1] = exact.mean
            found[place, 2] = exact.draws[0]
    return found


def exact_cells(exact: Beside | None, row: Row, data: ImageSet) -> list[Cell | None]:
    """The posterior's mean and one of its draws."""
    if exact is None:
        return [None, None]
    mean = Cell(data.quantize(exact.mean), captions(row, "exact/psnr_of_mean"))
    draw = Cell(data.quantize(exact.draws[0]), captions(row, "exact/psnr", "exact/misfit"))
    return [mean, draw]


def own_cells(draws: Tensor, truth: Tensor | None, row: Row, data: ImageSet) -> list[Cell | None]:
    """A draw, and where there are several their mean and spread; |error| of that mean."""
    several = len(draws) > 1
    mean = draws.mean(0)
    captioned = captions(row, "restore/psnr", "restore/misfit")
    cells: list[Cell | None] = [Cell(data.quantize(draws[0].clone()), captioned)]
    if several:
        cells.append(Cell(data.quantize(mean.clone()), captions(row, "restore/psnr_of_mean")))
    if truth is not None:
        cells.append(Cell((mean - truth).abs().mean(0)))
    if several:
        cells.append(Cell(draws.std(0).mean(0)))
    return cells


def captions(row: Row, *keys: str) -> tuple[str, ...]:
    """The numbers below an image."""
    lines = []
    for key in keys:
        value = row.get(key)
        if value is not None and key.endswith("misfit"):
            lines.append(f"misfit {value:.3g}")
        elif value is not None:
            lines.append(f"{value:.1f} dB")
    return tuple(lines)


# points


def of_points(
    path: Path,
    problem: Problem,
    data: Manifold,
    draws: Tensor,
    besides: Sequence[Beside | None],
    title: str,
) -> None:
    """Draws and exact draws of the first problems, in the plane in which the law is drawn; of a law
    on the line, side by side."""
    view = plane(data)
    panels = []
    names = []
    for place, number in enumerate(problem.asked.images[:PANELS]):
        exact = besides[place]
        truth = None if problem.asked.truth is None else problem.asked.truth(number)
        panels.append(
            Clouds(
                draws=in_plane(view, draws[place][:1000]),
                exact=None if exact is None else in_plane(view, exact.draws[:1000]),
                truth=None if truth is None else in_plane(view, truth[None])[0],
            )
        )
        names.append(f"problem {number}")
    plot.clouds(path, panels, in_plane(view, view.truth[:2000]), view.names, names, title)


def in_plane(view: Plane, x: Tensor) -> np.ndarray:
    """[n,d] -> [n,2]. A law on the line has no second coordinate: its points are spread by chance,
    so that their density is seen."""
    if x.shape[1] > 1:
        return view(x)
    jitter = torch.rand(len(x), 1, generator=generator(0, *b"jitter"), dtype=torch.float64)
    return torch.cat([x.double(), jitter], 1).numpy()


def of_ranks(path: Path, problem: Problem, draws: Tensor, besides: Sequence[Beside | None]) -> None:
    """The ranks of the truths among the draws, and among those of the exact posterior."""
    assert problem.asked.truth is not None
    truths = torch.stack([problem.asked.truth(number) for number in problem.asked.images])
    seed = problem.restoration.simulation.seed
    clouds = {"restored": draws}
    known = [own.draws for own in besides if own is not None]
    if len(known) == len(besides):
        clouds["exact posterior"] = torch.stack(known)
    counts = []
    notes = []
    for cloud in clouds.values():
        found = histogram(cloud.flatten(2), truths.flatten(1), seed)
        counts.append(found.counts)
        notes.append(f"chi^2 {found.chi2:.3g} of {len(found.counts)} bins, p {found.p:.2g}")
    plot.ranks(path, counts, found.expected, list(clouds), notes)
