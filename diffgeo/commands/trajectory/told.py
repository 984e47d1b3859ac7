"""What `diffgeo trajectory` says of a `Geometry`: its title, its table, its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Schedule
from diffgeo.geometry.charts import CHARTS, EVERY
from diffgeo.geometry.measure import Bend, Geometry, bend, known
from diffgeo.geometry.observations import every
from diffgeo.schedule import VE
from diffgeo.tables import csv_text

PUBLISHED_GRID = VE(to_zero=False)  # rho 7, 80 to .002
COLUMNS = ("series", "chart", "sigma", "mean", "sd", "n")


@dataclass(frozen=True)
class Setting:
    """What the numbers are of.

    model: exact, gaussian, .. or learned.    law: its config's name and, of images, how many.
    method: of sampling.    grid: of levels, in words.
    """

    model: str
    law: str
    method: str
    grid: str
    n: int
    chart: str
    deterministic: bool

    def __str__(self) -> str:
        text = (
            f"{self.model} denoiser of {self.law}, {self.method}, {self.grid}, "
            f"n = {self.n}, chart {self.chart}"
        )
        if not self.deterministic:
            text += (
                "\nThe sampler draws noise on its way: deviations are those of its own paths, "
                "which are not the flow's."
            )
        return text


def grid_name(schedule: Schedule, sigmas: Tensor) -> str:
    """The levels in words; the published grid of K steps is called GK."""
    steps = len(sigmas) - 1
    first = float(sigmas[0])
    last = float(sigmas[-1])
    theirs = PUBLISHED_GRID.grid(steps) if steps > 1 else sigmas[:1]
    if is_same(sigmas, theirs):
        return f"grid G{steps} ({steps + 1} levels of rho 7 from 80 to .002, no step to 0)"
    return f"grid {type(schedule).__name__} ({steps + 1} levels from {first:.4g} to {last:.4g})"


def is_same(sigmas: Tensor, others: Tensor) -> bool:
    if len(sigmas) != len(others):
        return False
    return bool(torch.isclose(sigmas, others.to(sigmas), rtol=1e-9).all())


# the table


def rows(geometry: Geometry, chart: str, published: Mapping[str, str]) -> list[list[str]]:
    """The numbers of the table, and the published ones beside them where there are any."""
    x = bend(geometry, "x", chart)
    r = bend(geometry, "r", chart)
    found = {
        "deviation of x": worst(x),
        "chord, kappa of x": chord(x),
        "deviation of r": worst(r),
        "chord, kappa of r": chord(r),
    }
    for other in CHARTS:
        if other != chart:
            found[f"kappa of x, chart {other}"] = kappa(bend(geometry, "x", other))
    found["arc/chord, turning of x"] = way(x)
    found["arc/chord, turning of r"] = way(r)
    found["norm of r"] = at_levels(geometry, geometry.mean("r/norm"))
    found["norm of eps"] = ends_of(geometry.mean("eps/norm"))
    found["cosine"] = least(geometry, geometry.mean("cosine"))
    shares = [geometry.number(f"x/component {name}", "ve") for name in ("1", "1-2", "1-3")]
    found["off the chord, in PC 1, 1-2, 1-3"] = ", ".join(map(digits, shares))
    if geometry.has("entropy"):
        found["entropy H"] = at_levels(geometry, geometry.mean("entropy"))
        found["at its last atom already"] = at_levels(geometry, geometry.mean("settled"))
        found["different atoms at the end"] = str(geometry.atoms)
    table = []
    for name, value in found.items():
        row = [named(name, chart), value]
        table.append([*row, published.get(name, "")] if published else row)
    return table


NAMES = {
    "cosine": "least cos(eps, x - x_end)",
    "norm of eps": "norm of eps, first and last",
}


def named(name: str, chart: str) -> str:
    """A row's name as it is shown, with its chart."""
    if name.endswith("of x"):
        return f"{name} ({chart})"
    return NAMES.get(name, name)


def digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def worst(found: Bend) -> str:
    if found.deviation is None:
        return "- (the path has no length)"
    if found.sigma is None:
        return "0 (straight)"
    spread = "" if found.spread is None else f" +- {found.spread:.3g}"
    return f"{found.deviation:.4g}{spread} at {found.sigma:.4g}"


def chord(found: Bend) -> str:
    return f"{found.chord:.5g}, {kappa(found)}"


def kappa(found: Bend) -> str:
    """With a note where it says nothing of straightness."""
    if found.kappa is None or found.judged:
        return digits(found.kappa)
    return f"{found.kappa:.4g} (no verdict: arc/chord {found.arc_over_chord:.3g})"


def way(found: Bend) -> str:
    if found.arc_over_chord is None:
        return "-"
    turning = found.turning
    if turning is not None and turning < 1e-9:  # of rounding alone
        turning = 0.0
    return f"{found.arc_over_chord:.6g}, {digits(turning)} rad"


def at_levels(geometry: Geometry, series: Tensor) -> str:
    """A series at four levels: the first, two between, the last."""
    last = len(series) - 1
    steps = sorted({0, round(0.2 * last), round(0.37 * last), last})
    parts = [f"{float(series[k]):.4g} ({float(geometry.sigma[k]):.3g})" for k in steps]
    return ", ".join(parts)


def ends_of(series: Tensor) -> str:
    return f"{float(series[0]):.4g}, {float(series[-1]):.4g}"


def least(geometry: Geometry, series: Tensor) -> str:
    """The smallest mean of a series and where it is."""
    known_ = series.nan_to_num(nan=torch.inf)
    k = int(known_.argmin())
    return f"{float(series[k]):.5f} at {float(geometry.sigma[k]):.4g}"


def beside(geometry: Geometry) -> list[str]:
    """What the references say, in lines: the four series where they are largest, and which of
    several references the model is nearest to at which levels."""
    lines = []
    for name in geometry.references:
        parts = []
        for series, text in FOUR.items():
            mean = geometry.mean(f"{name}/{series}")
            k = int(mean.argmax())
            parts.append(f"{text} {float(mean[k]):.3g} at {float(geometry.sigma[k]):.3g}")
        lines.append(f"beside {name}, largest: {', '.join(parts)}")
    if len(geometry.references) > 1:
        lines.append(f"D(x) is nearest to {nearest(geometry)}")
    return lines


FOUR = {
    "states": "|x - x*|",
    "estimates": "|D(x) - D*(x*)|",
    "at_x": "|D(x) - D*(x)|",
    "at_star": "|D(x*) - D*(x*)|",
}


def nearest(geometry: Geometry) -> str:
    """Which reference the mean of |D(x) - D*(x)| is least for, by stretches of levels."""
    winners = winners_of(geometry)
    stretches = []
    begin = 0
    for k in range(1, len(winners) + 1):
        if k == len(winners) or winners[k] != winners[begin]:
            high = float(geometry.sigma[begin])
            low = float(geometry.sigma[k - 1])
            share = geometry.mean(f"{winners[begin]}/nearest")[begin:k].mean()
            stretches.append(
                f"{winners[begin]} for sigma {high:.3g} to {low:.3g} (share {float(share):.2f})"
            )
            begin = k
    return ", ".join(stretches)


def winners_of(geometry: Geometry) -> list[str]:
    """The reference nearest to the model at each level, by the mean of |D(x) - D*(x)|."""
    names = geometry.references
    means = torch.stack([geometry.mean(f"{name}/at_x") for name in names])
    return [names[k] for k in means.argmin(0).tolist()]


# the files


def csv_of(geometry: Geometry) -> str:
    """Every series, a row a level, at full precision; no number where there is none."""
    lines: list[Sequence] = []
    for name, spread in geometry.spreads.items():
        if spread.mean.dim() == 0:
            continue
        columns = (spread.known(), spread.sd, spread.count)
        for k, (mean, sd, count) in enumerate(zip(*columns, strict=True)):
            numbers = [written(mean), written(sd), int(count)]
            lines.append([name.series, name.chart, repr(float(geometry.sigma[k])), *numbers])
    return csv_text(COLUMNS, lines)


def written(value: Tensor) -> str:
    number = known(value)
    return "" if number is None else repr(number)


def json_of(geometry: Geometry, setting: Setting) -> dict:
    """All that is known of the paths but the series, JSON-able."""
    numbers = []
    for name, spread in geometry.spreads.items():
        if spread.mean.dim() == 0:
            row = {"number": name.series, "chart": name.chart, "mean": known(spread.known())}
            numbers.append(row | {"sd": known(spread.sd), "n": int(spread.count)})
    paths = {}
    for chart in CHARTS:
        for path, name in (("x", "sampling"), ("r", "denoising")):
            found = bend(geometry, path, chart)
            paths[f"{chart}/{name}"] = dict(vars(found)) | {"judged": found.judged}
    told = dict(vars(setting)) | {
        "levels": geometry.sigma.tolist(),
        "evaluations": geometry.nfe,
        "denoising": f"the same in every chart, called {EVERY} in trajectory.csv",
        "paths": paths,
        "numbers": numbers,
        "atoms": geometry.atoms,
        "observations": [observation.as_json() for observation in every(geometry)],
    }
    if len(geometry.references) > 1:
        told["nearest"] = winners_of(geometry)
    return told
