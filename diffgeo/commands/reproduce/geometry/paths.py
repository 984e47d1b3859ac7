"""The figures and texts of `diffgeo reproduce geometry/{trajectories,score_deviation,observations}`
from the files of `diffgeo trajectory`: each takes (folder, cells by name) and may return text for
the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from diffgeo.config.line import conf_dir
from diffgeo.plot.geometry import paths
from diffgeo.plot.geometry.paths import Curve
from diffgeo.store.digest import verified
from diffgeo.store.files import read_json
from diffgeo.tables import markdown

PUBLISHED = "published/trajectory_cifar10.yaml"


def published() -> dict:
    """The published network's numbers and curves."""
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / PUBLISHED))


def series_of(folder: Path, label: str = "") -> dict[tuple[str, str], Curve]:
    """Every series of trajectory.csv, by its name and its chart."""
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    with verified(folder / "trajectory.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault((row["series"], row["chart"]), []).append(row)
    found = {}
    for name, levels in rows.items():
        found[name] = Curve(
            *(column(levels, key) for key in ("sigma", "mean", "sd")),
            label,
        )
    return found


def column(rows: Sequence[Mapping[str, str]], key: str) -> torch.Tensor:
    """Numbers of a column; nan where there is none."""
    numbers = [float(row[key]) if row[key] else float("nan") for row in rows]
    return torch.tensor(numbers, dtype=torch.float64)


def curves(out: Path, every: Mapping, cells: Sequence[str], prefix: str = "") -> str:
    """Figures 2 to 4 of Chen et al. (2023): deviations, norms, distances and cosine of several
    models on one law, and the published network's points. The text: what is known of its curves
    beside each model at the nearest level."""
    theirs = published()["curves"]
    held = {name: series_of(every[name].folder, name) for name in cells}
    pictures = {
        "deviation": (
            ("x/deviation", "ve", "x off its chord, chart ve"),
            ("r/deviation", "all", "r off its chord"),
        ),
        "magnitude": (
            ("r/norm", "all", r"$|r|$"),
            ("eps/norm", "all", r"$|\varepsilon|$"),
        ),
        "distances": (
            ("x/distance", "ve", r"$|x - x_{end}|$, chart ve"),
            ("r/distance", "all", r"$|r - r_{end}|$"),
        ),
        "charts": (
            ("x/deviation", "vp", "x off its chord, chart vp"),
            ("x/deviation", "flow", "x off its chord, chart flow"),
        ),
    }
    title = f"{prefix}Euler on G20"
    for picture, shown in pictures.items():
        drawn = {}
        points = {}
        for series, chart, label in shown:
            drawn[label] = [held[name][series, chart] for name in cells]
            if chart in ("ve", "all") and series in theirs:
                points[label] = theirs[series]
        paths.panels(
            out / f"{picture}.png",
            drawn,
            title,
            points,
            logarithmic=[label for label in drawn if "x_{end}" in label],
        )
    keys = [("x/deviation", "ve"), ("r/deviation", "all"), ("r/norm", "all"), ("eps/norm", "all")]
    return at_published(held, keys, theirs)


def at_published(held: Mapping, keys: Sequence, theirs: Mapping, prefix: str = "") -> str:
    """Each published point, and the mean of every model at the level nearest to it, +- the
    deviation over the paths."""
    rows = []
    for series, chart in keys:
        for sigma, value in theirs[series.removeprefix(prefix)]:
            row = [series.removeprefix(prefix), f"{sigma:g}", f"{value:g}"]
            for curves_ in held.values():
                curve = curves_[series, chart]
                k = nearest(curve.sigma, sigma)
                row.append(f"{float(curve.mean[k]):.4g} +- {float(curve.sd[k]):.2g}")
            rows.append(row)
    header = ["series", "sigma", "published", *held]
    told = "At the published levels (0: the last); +- is the deviation over the paths\n\n"
    return told + markdown(header, rows)


def nearest(sigma: torch.Tensor, value: float) -> int:
    """The level nearest to a value in log sigma; the last for 0."""
    if value == 0:
        return len(sigma) - 1
    return int((sigma.clamp(min=1e-12) / value).log().abs().argmin())


def four(out: Path, every: Mapping, cells: Sequence[str], reference: str = "exact") -> str:
    """The four series of each cell's model against a reference, the published network's points
    beside them, and the numbers at the published levels."""
    theirs = published()["curves"]
    held = {name: series_of(every[name].folder, name) for name in cells}
    texts = []
    for number, name in enumerate(cells):
        series = {key: held[name][f"{reference}/{key}", "all"] for key, _, _ in paths.FOUR}
        drawn = {"exact": series} if reference == "exact" else {reference: series}
        file = out / ("four_series.png" if not number else f"four_series_{number}.png")
        paths.four(file, drawn, theirs, f"{name}, Euler on G20")
    keys = [(f"{reference}/{key}", "all") for key in ("states", "at_x", "at_star")]
    texts.append(at_published(held, keys, theirs, f"{reference}/"))
    return "\n".join(texts)


def observations(out: Path, every: Mapping, cells: Sequence[str], spec: Mapping = {}) -> str:
    """What `diffgeo trajectory` says of the observations in the chart ve, a line a law; `spec`: the
    shares that the specification lists, by cell."""
    rows = []
    for name in cells:
        told = read_json(every[name].folder / "trajectory.json")
        said = [o for o in told["observations"] if o["chart"] in ("ve", "all")]
        row = [name]
        for observation in sorted(said, key=lambda o: o["number"]):
            if observation["number"] in (1, 2, 3, 5):
                row.append(cell_of(observation))
        rows.append([*row, spec.get(name, "")])
    header = ["law", "1", "2: d_x, d_r", "3: norm x, norm r", "5", "specification: 2; 3"]
    title = "Observations in the chart ve: verdict of the means (share of the paths)\n\n"
    return title + markdown(header, rows)


def cell_of(observation: Mapping) -> str:
    """A verdict and its shares."""
    verdict = {True: "yes", False: "NO", None: "-"}[observation["holds"]]
    # the state's share before the estimate's
    names = sorted(observation["shares"], key=lambda name: ("r" in name, name))
    held = [observation["shares"][name] for name in names]
    shares = [f"{share:.2f}" for share in held if share is not None]
    where = observation["sigma"]
    failed = observation["holds"] is False and where is not None
    at = f" from {where:.3g}" if failed and observation["number"] in (2, 3) else ""
    return f"{verdict}{at} ({', '.join(shares)})" if shares else f"{verdict}{at}"
