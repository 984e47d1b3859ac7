"""`diffgeo trajectory`: what sampling paths look like, and what a reference makes of the same noise

    diffgeo trajectory model=exact data=cifar10 n=64 sampler=euler sampler.steps=20
    diffgeo trajectory run=FOLDER against=exact,gaussian        a network beside both, one noise
    diffgeo trajectory data=points8 chart=flow keep=true        and the paths themselves, paths.npy

prints how far the sampling path (x) and the denoising path (r = D(x)) are from their chords, how
they turn, and whether the five observations of Chen et al. (2023) hold. One pass gives every chart.
trajectory.csv holds every series by level, trajectory.json the rest.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.commands.trajectory import pictures, told
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import choices, plain
from diffgeo.config.line import conf_dir
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Denoiser, ImageSet, Trajectory
from diffgeo.data.reference import REFERENCES, reference
from diffgeo.errors import UsageError
from diffgeo.geometry.charts import CHARTS
from diffgeo.geometry.measure import Geometry, measure, numbers_of
from diffgeo.geometry.observations import observations
from diffgeo.geometry.projection import window_of
from diffgeo.machine import memory
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store import npy
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import markdown

PATHS = "paths.npy"


def main(cfg, job: Job) -> None:
    """Measure cfg.n paths."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    chart = charted(cfg.chart)
    check_levels(experiment)
    window = window_of(len(experiment.simulation.sigmas), plain("window", cfg.window, int | None))
    keep = plain("keep", cfg.keep, bool)
    model = model_name(experiment.model, cfg)
    names = chosen(cfg.against, model)
    if keep:
        check_room(experiment, job.path)
    references = {name: reference(name, experiment.data) for name in names}
    folder = RunFolder.of("trajectory", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    experiment = fitted(experiment)
    geometry = measured(experiment, references, cfg.batch, job.path / PATHS if keep else None)
    spent = time.process_time() - started

    setting = told.Setting(
        model=model,
        law=law_name(experiment.data, cfg, job.overrides),
        method=type(experiment.simulation.sampler).__name__,
        grid=told.grid_name(experiment.chart, geometry.sigma),
        n=geometry.n,
        chart=chart,
        deterministic=geometry.deterministic,
    )
    published = published_of(experiment, geometry)
    write_text(job.path / "trajectory.csv", told.csv_of(geometry))
    write_json(job.path / "trajectory.json", told.json_of(geometry, setting))
    if cfg.figures:
        curves = published.get("curves", {})
        folder_of = job.path / "figures"
        pictures.figures(folder_of, geometry, chart, curves, window, str(setting))
    folder.finish(numbers_of(geometry), experiment.device, measuring_cpu_s=spent)

    rows = published.get("rows", {})
    header = [f"{setting.model} denoiser, chart {chart}", "mean of the paths (sigma)"]
    print(setting)
    if rows:
        header.append("published network")
    print(markdown(header, told.rows(geometry, chart, rows)))
    if rows:
        print(f"published: {published['title']}")
    for line in told.beside(geometry):
        print(line)
    for observation in observations(geometry, chart):
        print(observation)
    kept = f", {PATHS}" if keep else ""
    drawn = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, trajectory.json, trajectory.csv{kept}{drawn}")


def measured(
    experiment: Experiment,
    references: Mapping[str, Denoiser],
    batch: int | None,
    path: Path | None,
) -> Geometry:
    """The geometry of the experiment's paths, which are written to `path` as they come."""
    with (
        memory.advised("write a smaller batch="),
        experiment.sampling.running(experiment.simulation) as simulation,
        written(experiment, path) as keep,
    ):
        return measure(simulation, experiment.numbers, references, batch, keep)


@contextlib.contextmanager
def written(
    experiment: Experiment, path: Path | None
) -> Iterator[Callable[[Trajectory], None] | None]:
    """What writes every batch of paths to `path`, [n,K+1,*D] float64; None for no path."""
    if path is None:
        yield None
        return
    simulation = experiment.simulation
    shape = (len(experiment.numbers), len(simulation.sigmas), *simulation.shape)
    with npy.rows(path, shape, "<f8") as append:

        def keep(trajectory: Trajectory) -> None:
            append(trajectory.x.transpose(0, 1).cpu().numpy())

        yield keep


# what is refused


def charted(name: str) -> str:
    """`chart=`. Raises UsageError."""
    if plain("chart", name, str) not in CHARTS:
        raise UsageError(f"chart={name}: write one of {', '.join(CHARTS)}")
    return name


def check_levels(experiment: Experiment) -> None:
    """Raise UsageError where paths have no levels in common, or too few for a chord."""
    sampler = experiment.simulation.sampler
    if sampler.adaptive:
        raise UsageError(
            f"sampler={type(sampler).__name__} chooses its own levels, so its paths have none in "
            "common to be measured at: write sampler=heun, or another that keeps to the grid"
        )
    sigmas = experiment.simulation.sigmas
    if len(sigmas) < 4:
        raise UsageError(
            f"sampler.steps={len(sigmas) - 1}: a denoising path of one or two estimates is its own "
            "chord; write sampler.steps=3 or more"
        )


def chosen(against, model: str) -> list[str]:
    """The references that `against=` names. Raises UsageError on another name, and on the model
    itself."""
    names = choices("against", against, REFERENCES)
    if model in names:
        raise UsageError(
            f"against={model} is the model itself: write another reference, or run=FOLDER of a "
            "network"
        )
    return names


def check_room(experiment: Experiment, folder: Path) -> None:
    """Raise UsageError where the paths themselves are more than half of what the disk has."""
    simulation = experiment.simulation
    numbers = len(experiment.numbers) * len(simulation.sigmas) * math.prod(simulation.shape)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if 8 * numbers > free / 2:
        one = 8 * len(simulation.sigmas) * math.prod(simulation.shape)
        raise UsageError(
            f"keep=true: {len(experiment.numbers)} paths are {8 * numbers} bytes, and the disk has "
            f"{free} free: write n={free // 2 // one} or less, or keep=false"
        )


# what stands beside


def published_of(experiment: Experiment, geometry: Geometry) -> dict:
    """The published numbers of this whole set of images on this grid; {} where there are none."""
    data = experiment.data
    if not isinstance(data, ImageSet):
        return {}
    path = conf_dir() / "published" / f"trajectory_{data.name}.yaml"
    if not path.is_file():
        return {}
    found = OmegaConf.to_container(OmegaConf.load(path))
    theirs = told.PUBLISHED_GRID.grid(found["steps"])
    same = len(data) == found["images"] and told.is_same(geometry.sigma, theirs)
    return found if same else {}
