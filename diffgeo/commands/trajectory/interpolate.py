"""`diffgeo trajectory interpolate`: samples of latents between two, by three ways

    diffgeo trajectory interpolate data=mixture kind=linear,slerp,rescaled
    diffgeo trajectory interpolate run=FOLDER lambda=[0,.5,1]
    diffgeo trajectory interpolate data=digits n=200 kind=slerp pairs=6     images, as strips

prints, at every place on the way, how long the latents are beside the closed form, and what the
cloud made of n pairs is worth. Latent i is the noise of sample i of the run, its partner that of
sample i + n; noise=FILE of 2n rows gives n pairs of its own. interpolation.csv holds every number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.commands.trajectory import quality
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import choices, numbers, whole
from diffgeo.config.prompted import check_law
from diffgeo.core import ImageSet
from diffgeo.errors import UsageError
from diffgeo.geometry.interpolation import WAYS, Length, Pairs, length
from diffgeo.plot.geometry import starts
from diffgeo.report.finish import ready
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.simulation import Simulation, ranges
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

CURVE = 65  # places of a curve in the plane


class Place(NamedTuple):
    """One place of one way: what its latents and samples are."""

    kind: str
    at: float
    norms: Tensor  # of the latents, [n]
    known: Length  # of these norms
    sizes: Tensor  # |x0| of the samples, [n]
    worth: dict[str, float]  # metrics of the samples

    @property
    def mean(self) -> float:
        return float(self.norms.mean())

    @property
    def root(self) -> float:
        """The root mean square of the norms."""
        return float(self.norms.square().mean().sqrt())


def main(cfg, job: Job) -> None:
    """Measure cfg.n pairs at every place of every way. Raises UsageError on a way or a place that
    there is not, on an odd number of given latents, and on metrics that take a run apart."""
    take_model(cfg, job.overrides)
    kinds = choices("kind", cfg.kind, WAYS)
    if not kinds:
        raise UsageError(f"kind=[] is empty: write some of {', '.join(WAYS)}")
    at = places(cfg["lambda"])
    shown = whole("pairs", cfg.pairs, 1, 16)
    experiment = assemble(cfg, loaded)
    check_law(experiment.data)
    pairs = pairs_of(experiment)
    quality.check(experiment)
    ready(experiment, pairs.apart)
    folder = RunFolder.of("trajectory interpolate", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    pairs = pairs._replace(simulation=fitted(experiment).simulation)
    found = list(measured(experiment, pairs, kinds, at))
    spent = time.process_time() - started
    write_text(job.path / "interpolation.csv", table_of_all(found))
    keys = quality.columns(found[0].worth)
    if cfg.figures:
        figures(job.path / "figures", experiment, pairs, found, keys, min(shown, pairs.apart))
    folder.finish(numbers_of(found), experiment.device, measuring_cpu_s=spent)
    d = math.prod(experiment.data.shape)
    print(quality.title(experiment, cfg, job, pairs.apart) + f" pairs, latents in R^{d}\n")
    print(table(found, keys))
    print(sentences(found, keys, d))
    pictures = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, interpolation.csv{pictures}")


def places(value) -> list[float]:
    """Where on the way, 0 to 1. Raises UsageError."""
    at = numbers("lambda", value)
    wrong = [place for place in at if not 0 <= place <= 1]
    if wrong:
        raise UsageError(f"lambda={wrong[0]:g}: write places on the way, from 0 to 1")
    if len(set(at)) < len(at):
        raise UsageError("lambda names a place twice: write it once")
    return at


def pairs_of(experiment: Experiment) -> Pairs:
    """The pairs of latents: of n samples and the n after them, or of the two halves of given
    noise. Raises UsageError where those are no halves."""
    simulation = experiment.simulation
    n = len(experiment.numbers)
    if simulation.noise is None:
        return Pairs(simulation, n)
    if n % 2:
        raise UsageError(
            f"noise= holds {n} latents, and pairs are made of 2n: write an even number"
        )
    return Pairs(simulation, n // 2)


def measured(
    experiment: Experiment, pairs: Pairs, kinds: list[str], at: list[float]
) -> Iterator[Place]:
    """Every place of every way. At its ends all ways are one, and are drawn once."""
    first = experiment.numbers.start
    numbers = range(first, first + pairs.apart)
    d = math.prod(experiment.data.shape)
    ends: dict[float, Place] = {}
    for kind in kinds:
        for place in at:
            if place in ends:
                yield ends[place]._replace(kind=kind, known=length(kind, d, place))
                continue
            norms, samples = drawn(experiment, pairs, kind, place, numbers)
            sizes = torch.linalg.vector_norm(samples.flatten(1).double(), dim=1)
            worth = quality.of_cloud(experiment, samples)
            found = Place(kind, place, norms, length(kind, d, place), sizes, worth)
            if place in (0.0, 1.0):
                ends[place] = found
            yield found


def drawn(
    experiment: Experiment, pairs: Pairs, kind: str, at: float, numbers: range
) -> tuple[Tensor, Tensor]:
    """The norms of the latents of these pairs at one place, [n], and their samples [n,*D]."""
    norms = []
    samples = []
    with experiment.sampling.running(pairs.simulation) as simulation:
        running = pairs._replace(simulation=simulation)
        for piece in ranges(numbers, experiment.sampling.batch):
            here = running.between(kind, at, piece)
            norms.append(norms_of(here))
            samples.append(here.draw(piece).samples)
    return torch.cat(norms), torch.cat(samples)


def norms_of(simulation: Simulation) -> Tensor:
    """|z| of the given noise, [n]."""
    assert simulation.noise is not None
    return torch.linalg.vector_norm(simulation.noise.flatten(1).double(), dim=1)


def numbers_of(found: list[Place]) -> dict[str, float]:
    """Every number by name."""
    values: dict[str, float] = {}
    for place in found:
        name = f"interpolate/{place.kind}"
        values[f"{name}/norm@{place.at:g}"] = place.mean
        values[f"{name}/norm_rms@{place.at:g}"] = place.root
        if place.known.mean is not None:
            values[f"{name}/norm_exact@{place.at:g}"] = place.known.mean
        if math.isfinite(place.known.square):
            values[f"{name}/norm_rms_exact@{place.at:g}"] = math.sqrt(place.known.square)
        values[f"{name}/magnitude@{place.at:g}"] = float(place.sizes.mean())
        for key, value in place.worth.items():
            values[f"{name}/{key}@{place.at:g}"] = value
    return values


def table_of_all(found: list[Place]) -> str:
    """interpolation.csv: a row a place, every number at full precision; empty where there is no
    closed form, or it is infinite."""
    keys = list(found[0].worth)
    header = ["kind", "lambda", "norm", "norm_sd", "norm_exact", "norm_rms", "norm_rms_exact"]
    header += ["magnitude", "magnitude_sd", "n", *keys]
    rows = []
    for place in found:
        n = len(place.norms)
        known = place.known
        row = [place.kind, repr(place.at), repr(place.mean), spread(place.norms)]
        row.append("" if known.mean is None else repr(known.mean))
        row.append(repr(place.root))
        row.append(repr(math.sqrt(known.square)) if math.isfinite(known.square) else "")
        row += [repr(float(place.sizes.mean())), spread(place.sizes), str(n)]
        rows.append(row + [repr(place.worth[key]) for key in keys])
    return csv_text(header, rows)


def spread(values: Tensor) -> str:
    """The standard deviation of some numbers; "" of one."""
    return repr(float(values.std())) if len(values) > 1 else ""


def table(found: list[Place], keys: list[str]) -> str:
    """The table that is printed."""
    header = ["kind", "lambda", "E|z|", "exact", "rms |z|", "exact", "|x0|", *keys]
    rows = []
    for place in found:
        mean = "-" if place.known.mean is None else f"{place.known.mean:.6f}"
        square = place.known.square
        root = f"{math.sqrt(square):.6f}" if math.isfinite(square) else "infinite"
        row = [place.kind, f"{place.at:g}", f"{place.mean:.4f}", mean]
        row += [f"{place.root:.4f}", root, f"{float(place.sizes.mean()):.4g}"]
        rows.append(row + [quality.cell(place.worth, key) for key in keys])
    return markdown(header, rows)


def sentences(found: list[Place], keys: list[str], d: int) -> str:
    """What to read off the table."""
    lines = []
    if d <= 3 and any(place.kind == "slerp" for place in found):
        lines.append(
            f"slerp in R^{d}: latents of nearly opposite directions are so frequent that E|z|^2 is "
            "infinite between the ends"
        )
    lines.append(quality.stars([place.worth for place in found], keys))
    return "\n".join(line for line in lines if line)


def figures(
    folder: Path,
    experiment: Experiment,
    pairs: Pairs,
    found: list[Place],
    keys: list[str],
    few: int,
) -> None:
    """Norms and quality along the way; the first few pairs as strips of images or as curves."""
    kinds = list(dict.fromkeys(place.kind for place in found))
    lines = {}
    panels: dict[str, dict[str, starts.Line]] = {key: {} for key in keys}
    for kind in kinds:
        own = sorted((place for place in found if place.kind == kind), key=lambda p: p.at)
        at = [place.at for place in own]
        lines[f"{kind}, measured"] = starts.Line(at, [place.root for place in own])
        exact = [math.sqrt(place.known.square) for place in own]
        lines[f"{kind}, exact"] = starts.Line(at, exact, dashed=True)
        for key in keys:
            panels[key][kind] = starts.Line(at, [place.worth[key] for place in own])
    starts.norms(folder / "norms.png", {"root mean square norm of the latents": lines})
    if keys:
        tops = quality.tops([place.worth for place in found], keys)
        starts.quality(folder / "quality.png", panels, r"$\lambda$", tops)
    first = experiment.numbers.start
    numbers = range(first, first + few)
    images = isinstance(experiment.data, ImageSet)
    at = sorted({place.at for place in found}) if images else steps(CURVE)
    ways = {kind: taken(experiment, pairs, kind, at, numbers) for kind in kinds}
    if isinstance(experiment.data, ImageSet):
        data = experiment.data
        rows = {}
        for i in range(few):
            for kind, states in ways.items():
                rows[f"{kind} {i}"] = data.quantize(states[:, i])
        starts.strips(folder / "strips.png", rows, at)
    elif len(experiment.data.shape) == 1:
        starts.curves(folder / "curves.png", ways, experiment.data)


def steps(count: int) -> list[float]:
    """So many places, equally far apart."""
    return torch.linspace(0, 1, count, dtype=torch.float64).tolist()


def taken(
    experiment: Experiment, pairs: Pairs, kind: str, at: list[float], numbers: range
) -> Tensor:
    """The samples of these pairs at each place of a way, [L,n,*D]."""
    states = [drawn(experiment, pairs, kind, place, numbers)[1] for place in at]
    return torch.stack(states)
