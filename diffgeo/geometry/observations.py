"""The five observations of Chen et al. (2023), as verdicts on paths of any model and law.

    1  the sampling path is straighter than the denoising path     kappa x < kappa r, r bent
    2  both come nearer to their ends at every step                |x - x_end|, |r - r_end| fall
    3  the state shrinks and the estimate grows                    |x| falls, |r| rises
    4  a learned D is the exact one at both ends, not between      |D(x*) - D*(x*)| is a bell
    5  the estimate is where it ends before the state is           10 % of |x_end|, at which step

A verdict is one of means over the paths; the share says how many of them do so by themselves. 1 to
3 are statements about a chart. A bell is highest between its ends and below half of that at both.
Nothing is said of straightness where the arc is more than 1.5 times the chord (`paths.LONGEST`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffgeo.geometry.charts import CHARTS, EVERY
from diffgeo.geometry.measure import Geometry, bend
from diffgeo.geometry.paths import LONGEST, falls, rises
from diffgeo.geometry.series import NEAR, STRAIGHT

EXACT = "exact"  # the reference that Observation 4 is about


@dataclass(frozen=True)
class Observation:
    """A verdict.

    holds: None where there is none, and `why` says so.
    sigma: where it fails, or where what is seen is largest.
    shares: of the paths that do so by themselves, by what is meant.
    """

    number: int
    chart: str
    holds: bool | None
    sigma: float | None
    shares: dict[str, float | None]
    why: str

    def __str__(self) -> str:
        chart = "every chart" if self.chart == EVERY else f"chart {self.chart}"
        verdict = {True: "holds", False: "fails", None: "no verdict"}[self.holds]
        where = "" if self.sigma is None else f" at sigma = {self.sigma:.4g}"
        shares = [
            f" {name} {share:.3g}" for name, share in self.shares.items() if share is not None
        ]
        told = f", share{','.join(shares)}".replace("  ", " ") if shares else ""
        return f"Observation {self.number} ({chart}): {verdict}{where}{told}; {self.why}"

    def as_json(self) -> dict:
        return dict(vars(self))


def observations(geometry: Geometry, chart: str) -> list[Observation]:
    """The five in one chart."""
    return [
        straight(geometry, chart),
        approach(geometry, chart),
        sizes(geometry, chart),
        bell(geometry),
        sooner(geometry),
    ]


def every(geometry: Geometry) -> list[Observation]:
    """All of every chart, those that do not depend on it once."""
    found = []
    for chart in CHARTS:
        found += observations(geometry, chart)[:3]
    return [*found, bell(geometry), sooner(geometry)]


def straight(geometry: Geometry, chart: str) -> Observation:
    """Observation 1."""
    x = bend(geometry, "x", chart)
    r = bend(geometry, "r", chart)
    shares = {"": geometry.number("straighter", chart)}
    if r.kappa is None or x.kappa is None:
        which = "denoising" if r.kappa is None else "sampling"
        return Observation(1, chart, None, None, {}, f"the {which} path has no length")
    told = f"kappa {x.kappa:.3g} of x, {r.kappa:.3g} of r"
    for path, found in (("x", x), ("r", r)):
        if not found.judged:
            why = (
                f"{told}, and the arc of {path} is {found.arc_over_chord:.3g} times its chord, "
                f"above {LONGEST:g}"
            )
            return Observation(1, chart, None, None, shares, why)
    holds = r.kappa > max(x.kappa, STRAIGHT)
    if r.kappa <= STRAIGHT:
        told += ": the denoising path is straight"
    return Observation(1, chart, holds, x.sigma, shares, told)


def approach(geometry: Geometry, chart: str) -> Observation:
    """Observation 2."""
    x = geometry.mean("x/distance", chart)
    r = geometry.mean("r/distance")
    shares = {
        "d_x": geometry.number("x/approaches", chart),
        "d_r": geometry.number("r/approaches"),
    }
    sigma = first_wrong(geometry, (x, True), (r, True))
    wrong = []
    for name, series in (("|x - x_end|", x), ("|r - r_end|", r)):
        if not bool(falls(series)):
            wrong.append(f"mean {name} rises on its way")
    why = ", ".join(wrong) or "mean |x - x_end| and |r - r_end| fall at every step"
    return Observation(2, chart, sigma is None, sigma, shares, why)


def sizes(geometry: Geometry, chart: str) -> Observation:
    """Observation 3."""
    x = geometry.mean("x/norm", chart)
    r = geometry.mean("r/norm")
    shares = {"x": geometry.number("x/falls", chart), "r": geometry.number("r/rises")}
    sigma = first_wrong(geometry, (x, True), (r, False))
    wrong = ""
    if not bool(falls(x)):
        low = int(x.argmin())
        wrong = (
            f"mean |x| is least at sigma = {float(geometry.sigma[low]):.4g}, {float(x[low]):.6g}, "
            f"and ends at {float(x[-1]):.6g}"
        )
    elif not bool(rises(r)):
        wrong = "mean |r| falls on its way"
    return Observation(
        3, chart, sigma is None, sigma, shares, wrong or "mean |x| falls and mean |r| rises"
    )


def bell(geometry: Geometry) -> Observation:
    """Observation 4."""
    if not geometry.has(f"{EXACT}/at_star"):
        return Observation(
            4, EVERY, None, None, {}, "it compares a model with the exact one: write against=exact"
        )
    series = geometry.mean(f"{EXACT}/at_star")
    top = int(series.argmax())
    peak = float(series[top])
    first, last = float(series[0]), float(series[-1])
    sigma = float(geometry.sigma[top])
    shares = {"": geometry.number(f"{EXACT}/bell")}
    holds = 2 * first < peak and 2 * last < peak
    why = (
        f"mean |D(x*) - D*(x*)| {first:.3g} at the first level, {peak:.3g}, {last:.3g} at the last"
    )
    return Observation(4, EVERY, holds, sigma, shares, why)


def sooner(geometry: Geometry) -> Observation:
    """Observation 5."""
    size = float(geometry.mean("end"))
    r = arrived(geometry.mean("r/to_end"), size)
    x = arrived(geometry.mean("x/distance", "ve")[:-1], size)
    levels = len(geometry.sigma) - 1
    parts = []
    for name, step in (("r", r), ("x", x)):
        if step < levels:
            where = f"from sigma = {float(geometry.sigma[step]):.4g}, step {step} of {levels}"
        else:
            where = "at the end"
        parts.append(f"{name} {where}")
    sigma = float(geometry.sigma[r]) if r < levels else None
    shares = {"": geometry.number("sooner")}
    why = f"within {100 * NEAR:g} % of |x_end|: {', '.join(parts)}"
    return Observation(5, "ve", r < x, sigma, shares, why)


def arrived(distance: Tensor, size: float) -> int:
    """The step from which on a mean distance [K] stays within `NEAR` of `size`; K for none."""
    far = (distance > NEAR * size).nonzero()
    return int(far[-1]) + 1 if len(far) else 0


def first_wrong(geometry: Geometry, *series: tuple[Tensor, bool]) -> float | None:
    """The first level at which one of the series goes the wrong way; each is given with whether it
    should fall."""
    found = []
    for values, down in series:
        steps = values.diff() if down else -values.diff()
        wrong = (steps > 1e-12 * values.abs().max()).nonzero()
        found += wrong[:1, 0].tolist()
    return float(geometry.sigma[min(found) + 1]) if found else None
