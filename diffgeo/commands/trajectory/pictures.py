"""The figures of `diffgeo trajectory`, from a `Geometry`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from diffgeo.geometry.charts import CHARTS, EVERY
from diffgeo.geometry.measure import Geometry, bend
from diffgeo.geometry.projection import derivatives, frenet, laid_on
from diffgeo.plot.geometry import paths
from diffgeo.plot.geometry.paths import Curve


def curve(geometry: Geometry, series: str, chart: str = EVERY, label: str = "") -> Curve:
    """A series as it is drawn, at the levels that it has."""
    spread = geometry.spread(series, chart)
    mean = spread.known()
    return Curve(geometry.sigma[: len(mean)], mean, spread.sd, label)


def figures(
    folder: Path, geometry: Geometry, chart: str, published: Mapping, window: int, title: str
) -> None:
    """Every picture of the paths, the sampling ones in `chart`."""
    x = bend(geometry, "x", chart)
    r = bend(geometry, "r", chart)
    paths.deviation(
        folder / "deviation.png",
        curve(geometry, "x/deviation", chart, f"mean, chord {x.chord:.4g}"),
        curve(geometry, "r/deviation", label=f"mean, chord {r.chord:.4g}"),
        published if chart == "ve" else {},
        title,
    )
    paths.magnitude(
        folder / "magnitude.png",
        curve(geometry, "x/norm", chart, "mean"),
        curve(geometry, "r/norm", label="mean"),
        curve(geometry, "eps/norm", label="mean"),
        published,
        title,
    )
    paths.distances(
        folder / "distances.png",
        curve(geometry, "x/distance", chart, r"$|x - x_{end}|$"),
        curve(geometry, "r/distance", label=r"$|r - r_{end}|$"),
        curve(geometry, "r/to_end", label=r"$|r - x_{end}|$"),
        title,
    )
    paths.cosine(folder / "cosine.png", curve(geometry, "cosine"), title)
    if geometry.has("entropy"):
        paths.weights(
            folder / "weights.png", curve(geometry, "entropy"), curve(geometry, "settled"), title
        )
    held = {}
    for name in CHARTS:
        found = bend(geometry, "x", name)
        if found.arc_over_chord is not None:
            drawn = curve(geometry, "x/deviation", name)
            held[name] = (drawn, found.chord, found.arc_over_chord)
    paths.charts(folder / "charts.png", held, title)
    in_space(folder / "projection.png", geometry, window, title)
    beside(folder, geometry, published, title)


def in_space(path: Path, geometry: Geometry, window: int, title: str) -> None:
    """The first paths in three dimensions, laid on the first of them; derivatives by sigma."""
    laid = laid_on(geometry.shown, geometry.shown[:, 0])
    curvature, torsion = frenet(*derivatives(laid, geometry.sigma, window))
    # of a straight path rounding alone bends and twists; near an end a window is to one side
    real = curvature * laid[0, :, 0].abs() > 1e-9
    number = torch.arange(len(laid))[:, None]
    real &= (number >= window // 2) & (number < len(laid) - window // 2)
    torsion = torch.where(real, torsion, torch.nan)
    curvature = torch.where(real, curvature, torch.nan)
    note = f"{title}; cubic fits over {window} levels"
    paths.projection(path, geometry.sigma, laid, curvature, torsion, note)


def beside(folder: Path, geometry: Geometry, published: Mapping, title: str) -> None:
    """The four series against each reference, and which of them is nearest."""
    references = {}
    for name in geometry.references:
        series = {}
        for key, _, _ in paths.FOUR:
            series[key] = curve(geometry, f"{name}/{key}")
        references[name] = series
    if references:
        paths.four(folder / "four_series.png", references, published, title)
    if len(references) > 1:
        shares = [curve(geometry, f"{name}/nearest", label=name) for name in references]
        paths.nearest(folder / "nearest.png", shares, title)
