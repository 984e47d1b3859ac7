"""What `diffgeo theory gaussian` prints: the spectrum, a table for each distance, and remarks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from diffgeo.commands.theory.gaussian_options import Grid
from diffgeo.tables import markdown
from diffgeo.theory.ablation import Cell, Error
from diffgeo.theory.ablation_table import Comparison, power_of_ten, table
from diffgeo.theory.gaussian import Spectrum, first_order
from diffgeo.theory.learned import Draws, Learned, effective, spread

TITLES = {
    "w2": "W2 to {}",
    "kl": "KL(law of the samples | {}), nats",
    "tv": "total variation distance to {}",
    "frechet": "Frechet distance (W2^2) to {}",
}
LEVELS = 7  # at which a network's error is told


def printed(
    about: str,
    cells: Sequence[Cell],
    spectrum: Spectrum,
    grid: Grid,
    error: Error,
    found: Comparison | None,
) -> str:
    """The whole text."""
    smallest = float(spectrum.values.min())
    largest = float(spectrum.values.max())
    lines = [
        f"{about}: d = {spectrum.d:g}, trace {spectrum.trace:.6g}, eigenvalues {smallest:.4g} to "
        f"{largest:.6g}, {spectrum.zeros:g} of them 0"
    ]
    for distance in grid.distances:
        beside = found if distance == "w2" else None
        title = TITLES[distance].format(grid.against)
        lines.append(f"\n{title}\n\n{markdown(*table(cells, distance, grid.count, beside))}")
    if found is not None:
        some_differ = found.matched < len(found.pairs)
        lines.append(f"{found}; [in brackets]: published" if some_differ else str(found))
    lines += infinities(cells, spectrum)
    if not (isinstance(error, float) and error == 0):
        lines += score_errors(spectrum, grid, error)
    if isinstance(error, Learned):
        lines += network_errors(error)
    return "\n".join(lines)


def infinities(cells: Sequence[Cell], spectrum: Spectrum) -> Iterator[str]:
    """Why a cell is infinite."""
    infinite = {}
    for distance in cells[0].distances:
        schemes = [cell.scheme for cell in cells if math.isinf(cell.distances[distance])]
        infinite[distance] = list(dict.fromkeys(schemes))
    if any(math.isinf(cell.distances["w2"]) and cell.eps > 0 for cell in cells):
        yield (
            "inf at eps > 0: the scheme is unstable on this grid, and its variance is beyond the "
            "largest number; write more grid_points"
        )
    elif infinite["w2"]:
        yield (
            f"inf: {', '.join(infinite['w2'])} took the score at eps = 0, where that of a singular "
            f"Gaussian is infinite ({spectrum.zeros:g} eigenvalues are 0); write eps=1e-5"
        )
    if infinite.get("kl") and infinite["kl"] != infinite["w2"]:
        yield "inf: KL between two laws of which one is singular where the other is not"


def score_errors(spectrum: Spectrum, grid: Grid, error: Error) -> Iterator[str]:
    """What the error of the score costs by itself, to first order, at each eps."""
    if isinstance(error, Draws):
        yield (
            f"{len(error.errors)} draws of the random error: mean +- standard deviation of a draw"
        )
    for eps in grid.eps:
        costs = []
        for name, stochastic in (("SDE", True), ("ODE", False)):
            alone = alone_at(spectrum, grid, eps, error, stochastic)
            deviation = f" +- {spread(alone)[1]:.2g}" if len(alone) > 1 else ""
            costs.append(f"{sum(alone) / len(alone):.3g}{deviation} ({name})")
        yield (
            f"score error alone, to first order, eps = {power_of_ten(eps)}: W2 = {', '.join(costs)}"
        )


def alone_at(
    spectrum: Spectrum, grid: Grid, eps: float, error: Error, stochastic: bool
) -> list[float]:
    """W2 of the error alone, to first order, one number a draw of it."""
    errors = list(error.errors) if isinstance(error, Draws) else [error]
    found = []
    for one in errors:
        constant = one
        if callable(one):
            constant = effective(spectrum, grid.chart, eps, one, stochastic)
        found.append(first_order(spectrum, grid.chart, eps, constant, stochastic))
    return found


def network_errors(error: Learned) -> Iterator[str]:
    """What was measured of a network, at a few levels."""
    for i in torch.linspace(0, len(error.sigma) - 1, LEVELS).round().int().tolist():
        rms = float(error.error[i].square().mean().sqrt())
        yield (
            f"network at sigma = {float(error.sigma[i]):.3g}: relative error {rms:.3g} rms over "
            f"the eigen-directions (standard error of one {float(error.noise[i]):.2g}); "
            f"{float(error.rest[i]):.0%} of its squared error is not of this form"
        )
