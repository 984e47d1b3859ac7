"""What `diffgeo theory gaussian` is asked for: process, schemes and grid; the spectrum, the error
of the score, and starts of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from omegaconf import ListConfig

from diffgeo.config import named
from diffgeo.config.build import Experiment, assemble, build
from diffgeo.config.kinds import numbers, plain, step_count, whole
from diffgeo.config.line import key_of
from diffgeo.config.nearest import advice
from diffgeo.core import Data, Fitted, ImageSet, Schedule
from diffgeo.data.gaussian import spectrum as eigen
from diffgeo.data.moments import fit
from diffgeo.errors import UsageError
from diffgeo.run import loaded, take_model
from diffgeo.store.arrays import read_array
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.ablation import Error, Scheme, Start, check
from diffgeo.theory.gaussian import SCHEMES, Spectrum, levels, stochastic
from diffgeo.theory.learned import LEVELS, Learned, drawn, measure
from diffgeo.theory.learned import several as several_draws
from diffgeo.theory.linear import tableaux
from diffgeo.theory.process import process

MOST_DIMENSIONS = 10**8  # of power and isotropic
MOST_SAMPLES = 10**8  # of a law without moments in closed form
MOST_DRAWS = 10_000  # of a random error
TYPICAL = 1e-3  # eps of a figure: the one that is asked for nearest to it
NAMED = ("power", "isotropic", "texture")  # spectra without a file


@dataclass(frozen=True)
class Grid:
    """The cells of the table: every scheme at every eps, number of points and start.

    starts: p_T and N_0 as far as they are asked for.    files: other starts, a covariance each.
    count: whether `points` are points or steps.    against: what distances are taken to.
    """

    chart: Schedule
    schemes: dict[str, Scheme]
    eps: list[float]
    points: list[int]
    starts: list[str]
    files: list[str]
    start_names: list[str]  # of both, in the order that was asked for
    distances: list[str]
    against: str
    count: str


def several(key: str, value, kind) -> list:
    """One value of a kind, or a list of them, as a list without repetitions. Raises UsageError on
    an empty list."""
    values = value if isinstance(value, ListConfig) else [value]
    found = [plain(key, one, kind) for one in values]
    if not found:
        raise UsageError(f"{key}=[] is empty: write one, or several as [a,b]")
    return list(dict.fromkeys(found))


def grid_of(cfg) -> Grid:
    """The cells that a config asks for. Raises UsageError."""
    chart = process(numbers("beta", cfg.beta), plain("T", cfg.T))
    asked = several("start", cfg.start, str)
    files = [start for start in asked if start.endswith(".npy")]
    grid = Grid(
        chart=chart,
        schemes={name: scheme(name, chart) for name in several("schemes", cfg.schemes, str)},
        eps=[float(e) for e in several("eps", cfg.eps, float)],
        points=[step_count("grid_points", n) for n in several("grid_points", cfg.grid_points, int)],
        starts=[start for start in asked if start not in files],
        files=files,
        start_names=[Path(start).stem if start in files else start for start in asked],
        distances=list(dict.fromkeys(["w2", *several("distances", cfg.distances, str)])),
        against=cfg.against,
        count=cfg.count,
    )
    check(chart, grid.eps, grid.points, grid.starts, grid.against, grid.distances, grid.count)
    return grid


def typical(grid: Grid) -> float | None:
    """The eps of the figures: of those above 0, the nearest to TYPICAL; None where there is
    none."""
    positive = [eps for eps in grid.eps if eps > 0]
    if not positive:
        return None
    return min(positive, key=lambda eps: abs(math.log(eps / TYPICAL)))


def scheme(name: str, chart: Schedule) -> Scheme:
    """A row of the table by name: one of SCHEMES, or a sampler of conf/sampler, with this process
    for its chart."""
    if name in SCHEMES:
        return Scheme(SCHEMES[name](chart), stochastic(name))
    names = named.names("sampler")
    if name not in names:
        listed = f"write {', '.join(SCHEMES)}, or a sampler: `diffgeo help sampler`"
        raise UsageError(f"schemes={name} is unknown{advice(name, [*SCHEMES, *names], listed)}")
    made = named.sampler(name)
    if isinstance(made, Fitted):
        raise UsageError(
            f"schemes={name}: this sampler is first fitted to a model, so it has no law of its "
            "own; leave it out"
        )
    # some fix theirs: a scheme of a paper
    if any(field.name == "chart" and field.init for field in fields(made)):
        made = replace(made, chart=chart)
    steps = tableaux(made, levels(chart, 11, chart.t_max / 1000))
    return Scheme(made, any(step.draws for step in steps))


def named_spectrum(cfg) -> tuple[Spectrum, str]:
    """One of NAMED, and a word on it."""
    if cfg.spectrum == "texture":
        return spectra.texture(image_law(cfg), plain("image", cfg.image, int))
    d = whole("d", cfg.d, 1, MOST_DIMENSIONS)
    scale = plain("scale", cfg.scale)
    if cfg.spectrum == "isotropic":
        return spectra.isotropic(d, scale), "isotropic"
    exponent = plain("exponent", cfg.exponent)
    return spectra.power(d, exponent, scale), f"power law, exponent {exponent:g}"


def image_law(cfg) -> Data:
    """The set of images whose texture is asked for."""
    data = None if cfg.get("data") is None else build(cfg.data)
    if not isinstance(data, ImageSet):
        raise UsageError(
            "spectrum=texture is of an image: write data=cifar10 (or another set of images) beside "
            "it, and image=NUMBER"
        )
    return data


def subject(cfg, grid: Grid, overrides: Sequence[str]) -> tuple[Spectrum, str, Error]:
    """The spectrum, a word on where it is from, and the relative error of the score."""
    eta = float(plain("eta", cfg.eta))
    random = plain("random", cfg.random, bool)
    if not math.isfinite(eta):
        raise UsageError(f"eta={eta:g}: write a finite relative error, e.g. .003")
    draws = whole("draws", cfg.draws, 1, MOST_DRAWS)
    if "draws" in map(key_of, overrides) and not random:
        raise UsageError(
            f"draws={draws} is of a random error: write random=true eta=.003 (or another) beside it"
        )
    if cfg.run is not None and random:
        raise UsageError("run= measures the error of its network: leave random=true out")
    if cfg.run is not None:
        if cfg.spectrum is not None or eta:
            raise UsageError(
                "run= measures the error of a network on its own law: leave spectrum= and eta= out"
            )
        return of_run(cfg, grid, overrides)
    spectrum, about = given_spectrum(cfg, overrides)
    if not random or not eta:  # eta times any number is 0
        return spectrum, about, eta
    if draws == 1:
        return spectrum, about, drawn(eta, len(spectrum.values), cfg.seed)
    return spectrum, about, several_draws(eta, len(spectrum.values), cfg.seed, draws)


def given_spectrum(cfg, overrides: Sequence[str]) -> tuple[Spectrum, str]:
    """The spectrum that spectrum= or data= names, and a word on where it is from."""
    mean = plain("mean", cfg.mean, bool | str | None)
    check_given(cfg, mean)
    if cfg.spectrum in NAMED:
        return named_spectrum(cfg)
    if cfg.spectrum is not None:
        return spectra.load(str(cfg.spectrum), mean if isinstance(mean, str) else None)
    mirrors = mirrored(cfg, overrides)
    count = whole("samples", cfg.samples, 2, MOST_SAMPLES)
    return spectra.of_law(build(cfg.data), mean, mirrors, count, cfg.seed)


def check_given(cfg, mean: bool | str | None) -> None:
    """Raise UsageError where spectrum=, data= and mean= do not name one Gaussian."""
    spectrum = cfg.spectrum
    has_data = cfg.get("data") is not None
    if spectrum is None and not has_data:
        raise UsageError(
            "nothing to sample: write data=cifar10 (or another law), spectrum=FILE.npy, "
            "spectrum=power or spectrum=isotropic"
        )
    if spectrum is None and isinstance(mean, str):
        raise UsageError(
            f"mean={mean} goes with spectrum=FILE.npy: write mean=true or mean=false with data="
        )
    if spectrum is None:
        return
    if has_data and spectrum != "texture":
        raise UsageError(f"spectrum={spectrum} and data= are two spectra: write one of them")
    if mean and (spectrum in NAMED or not isinstance(mean, str)):
        shown = "true" if mean is True else mean
        raise UsageError(
            f"mean={shown} does not go with spectrum={spectrum}: write mean=FILE.npy beside "
            "spectrum=FILE.npy, or mean=true beside data="
        )


def mirrored(cfg, overrides: Sequence[str]) -> bool:
    """Whether mirror images count: only where the line says so. A set's own data.flip is for
    training, the published fit is of the set."""
    if "flip" in cfg.data and "data.flip" not in map(key_of, overrides):
        cfg.data.flip = False
    return cfg.data.get("flip", False)


def of_run(cfg, grid: Grid, overrides: Sequence[str]) -> tuple[Spectrum, str, Learned]:
    """The Gaussian of a run's own law, and the error of its network in each of that Gaussian's
    eigen-directions."""
    take_model(cfg, overrides)
    experiment = assemble(cfg, loaded)
    data = experiment.data
    images = isinstance(data, ImageSet)
    count = whole("samples", cfg.samples, 2, MOST_SAMPLES)
    found = fit(data, images and data.flip, count, cfg.seed)
    basis, values = eigen(found.covariance)
    kept = cfg.mean is True or (cfg.mean is None and not images)
    spectrum = Spectrum(values, None, basis.mT @ found.mean if kept else None)
    return spectrum, found.about, network_error(experiment, grid, found.mean, basis, values)


def network_error(
    experiment: Experiment,
    grid: Grid,
    mean: torch.Tensor,
    basis: torch.Tensor,
    values: torch.Tensor,
) -> Learned:
    """The error of the experiment's network between the first and the last level of the grid."""
    chart = grid.chart
    low = float(levels(chart, 2, max(min(grid.eps), chart.t_max / 1000))[-1])
    high = float(levels(chart, 2)[0])
    sigmas = torch.linspace(math.log(low), math.log(high), LEVELS, dtype=torch.float64).exp()
    simulation = experiment.simulation
    shown = simulation.loop.around(experiment.model, high)
    return measure(
        shown,
        experiment.data,
        mean,
        basis,
        values,
        sigmas,
        len(experiment.numbers),
        simulation.seed,
        experiment.device,
    )


def other_starts(cfg, files: Sequence[str], error: Error) -> dict[str, Start]:
    """The starts N(0, FILE.npy) of x_T by the file's name; the law of the data then counts with its
    eigenvectors, and with its mean.

    Raises UsageError where a spectrum has no eigenvectors, or the error of the score is one an
    eigenvalue.
    """
    if not files:
        return {}
    if not isinstance(error, float):
        raise UsageError(
            f"start={files[0]}: random=true and run= give an error of each eigenvalue; write eta= "
            "alone beside such a start"
        )
    data, centre = directions(cfg, files[0])
    made = {}
    for file in files:
        covariance = torch.from_numpy(read_array(file, "start"))
        if covariance.shape != data.shape:
            raise UsageError(
                f"start={file} has shape {list(covariance.shape)}, the data's covariance "
                f"{list(data.shape)}: write the same"
            )
        try:
            eigen(covariance)
        except UsageError as wrong:
            raise UsageError(f"start={file}: {wrong}") from None
        made[Path(file).stem] = Start(torch.zeros_like(centre), covariance, centre, data)
    return made


def directions(cfg, start: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The covariance [d,d] and the mean [d] of the data, where `start` needs its directions."""
    if isinstance(cfg.mean, str):
        raise UsageError(
            f"start={start} and mean={cfg.mean}: write mean=true with data=, or leave the mean out "
            "beside such a start"
        )
    if cfg.spectrum in NAMED:
        raise UsageError(
            f"start={start} wants a law with directions: write data=, or spectrum=FILE.npy that "
            "holds a covariance [d,d]"
        )
    if cfg.spectrum is not None:
        covariance = torch.from_numpy(read_array(cfg.spectrum, "spectrum"))
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
            raise UsageError(
                f"start={start} wants a law with directions, and spectrum={cfg.spectrum} holds "
                "eigenvalues alone: write a covariance [d,d]"
            )
        return covariance, covariance.new_zeros(len(covariance))
    law = build(cfg.data)
    count = whole("samples", cfg.samples, 2, MOST_SAMPLES)
    found = fit(law, False, count, cfg.seed)
    counts = cfg.mean if cfg.mean is not None else not isinstance(law, ImageSet)
    return found.covariance, found.mean if counts else torch.zeros_like(found.mean)
