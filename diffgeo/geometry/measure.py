"""The geometry of a sampling: its paths, a batch at a time, and what is kept of each number: mean,
standard deviation, count (`spread`). Nothing else grows with the number of samples, and nothing
depends on the size of a batch but in its last digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Trajectory
from diffgeo.geometry.charts import CHARTS, EVERY
from diffgeo.geometry.paths import LONGEST, ROUNDING
from diffgeo.geometry.projection import project
from diffgeo.geometry.record import record
from diffgeo.geometry.series import Name, series
from diffgeo.geometry.spread import Spread
from diffgeo.simulation import Simulation, ranges

NUMBERS = 1 << 23  # of the states and estimates of a batch: 64 MiB
SHOWN = 8  # paths whose projection is kept


@dataclass(frozen=True)
class Geometry:
    """What n paths down the levels sigma [K+1] showed.

    spreads: of every number of `series`, a row a level that it has.
    shown: the first paths in three dimensions, [K+1,m,3] (`projection`).
    atoms: how many different atoms of a finite law the paths end at; None: it is none.
    nfe: evaluations of the model a path.    deterministic: the paths are the flow's, as far as the
    steps go; else noise was drawn on the way.
    """

    sigma: Tensor
    n: int
    spreads: dict[Name, Spread]
    shown: Tensor
    atoms: int | None
    nfe: float
    deterministic: bool

    def spread(self, series: str, chart: str = EVERY) -> Spread:
        return self.spreads[Name(series, chart)]

    def mean(self, series: str, chart: str = EVERY) -> Tensor:
        """Of a series [L], of a number []; nan where no sample has it."""
        return self.spread(series, chart).known()

    def number(self, name: str, chart: str = EVERY) -> float | None:
        """The mean of a number a sample; None where none has it."""
        return known(self.mean(name, chart))

    def has(self, series: str, chart: str = EVERY) -> bool:
        return Name(series, chart) in self.spreads

    @property
    def references(self) -> list[str]:
        """That the model was held against."""
        return [name.series.partition("/")[0] for name in self.spreads if is_states(name)]


def is_states(name: Name) -> bool:
    return name.series.endswith("/states")


def known(value: Tensor | float) -> float | None:
    """A number; None for nan, which JSON does not have."""
    number = float(value)
    return number if math.isfinite(number) else None


def fitting(simulation: Simulation) -> int:
    """How many paths to take at once: 2^23 numbers of states and estimates."""
    levels = 2 * len(simulation.sigmas) - 1
    return max(1, NUMBERS // (levels * math.prod(simulation.shape)))


def measure(
    simulation: Simulation,
    numbers: range,
    references: Mapping[str, Denoiser] | None = None,
    batch: int | None = None,
    keep: Callable[[Trajectory], None] | None = None,
) -> Geometry:
    """The geometry of the paths of these numbers.

    references: denoisers to hold the model against, by name.
    keep: what is shown every batch, in order.
    Raises DiffgeoError where a sample is not finite.
    """
    spreads: dict[Name, Spread] = {}
    shown: list[Tensor] = []
    ends: set[int] | None = None
    nfe = 0.0
    for piece in ranges(numbers, batch or fitting(simulation)):
        recorded = record(simulation, piece, references)
        if keep is not None:
            keep(recorded.trajectory)
        for name, values in series(recorded).items():
            spread = Spread.of(values)
            spreads[name] = spreads[name].merged(spread) if name in spreads else spread
        missing = SHOWN - sum(path.shape[1] for path in shown)
        if missing > 0:
            shown.append(project(recorded.trajectory.x[:, :missing]))
        if recorded.weights is not None:
            ends = (ends or set()) | set(recorded.weights.nearest[-1].tolist())
        nfe += recorded.trajectory.nfe * len(piece)
    return Geometry(
        sigma=simulation.sigmas,
        n=len(numbers),
        spreads=spreads,
        shown=torch.cat(shown, 1),
        atoms=None if ends is None else len(ends),
        nfe=nfe / len(numbers),
        deterministic=simulation.deterministic,
    )


@dataclass(frozen=True)
class Bend:
    """How bent paths are in one chart: ratios are of means, never means of ratios. None is what a
    path without a length does not have."""

    deviation: float | None  # the largest mean over the levels
    spread: float | None  # the deviation's own standard deviation there
    sigma: float | None  # where; None of a straight path too, 0 but for rounding
    chord: float
    kappa: float | None  # deviation/chord
    arc_over_chord: float | None
    turning: float | None  # radians

    @property
    def judged(self) -> bool:
        """Whether kappa says anything of straightness: the arc is not much longer than the
        chord."""
        return self.arc_over_chord is not None and self.arc_over_chord <= LONGEST


def bend(geometry: Geometry, path: str, chart: str) -> Bend:
    """Of the sampling paths (`x`) in a chart, or the denoising ones (`r`), the same in every
    chart."""
    own = EVERY if path == "r" else chart
    chord = float(geometry.mean(f"{path}/chord", own))
    largest = float(geometry.mean(f"{path}/norm", own).max())
    if chord <= ROUNDING * largest:
        return Bend(None, None, None, chord, None, None, None)
    deviation = geometry.spread(f"{path}/deviation", own)
    k = int(deviation.mean.argmax())
    worst = float(deviation.mean[k])
    straight = worst <= ROUNDING * largest
    if straight:
        worst = 0.0
    return Bend(
        deviation=worst,
        spread=known(deviation.sd[k]),
        sigma=None if straight else float(geometry.sigma[k]),
        chord=chord,
        kappa=worst / chord,
        arc_over_chord=float(geometry.mean(f"{path}/arc", own)) / chord,
        turning=geometry.number(f"{path}/turning", own),
    )


def numbers_of(geometry: Geometry) -> dict[str, float | None]:
    """`trajectory/<chart>/<sampling|denoising>/<number>` of every chart; the denoising path is the
    same in all of them."""
    values: dict[str, float | None] = {}
    for chart in CHARTS:
        for path, name in (("x", "sampling"), ("r", "denoising")):
            bent = bend(geometry, path, chart)
            key = f"trajectory/{chart}/{name}"
            values[f"{key}/deviation"] = bent.deviation
            values[f"{key}/deviation_sigma"] = bent.sigma
            values[f"{key}/chord"] = bent.chord
            values[f"{key}/kappa"] = bent.kappa
            values[f"{key}/arc_over_chord"] = bent.arc_over_chord
            values[f"{key}/turning"] = bent.turning
    return values
