"""What `diffgeo theory gaussian` is asked for: the process, the schemes, the spectrum, the start
and the error of the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from omegaconf import ListConfig
from torch import Tensor

from diffgeo.config import named
from diffgeo.config.build import assemble, build
from diffgeo.config.kinds import plain
from diffgeo.config.line import key_of
from diffgeo.core import Fitted, Schedule
from diffgeo.data.gaussian import spectrum as eigen
from diffgeo.errors import UsageError
from diffgeo.run import loaded, take_model
from diffgeo.store.files import read_array
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.ablation import Scheme, Start
from diffgeo.theory.gaussian import SCHEMES, Spectrum, levels, stochastic
from diffgeo.theory.learned import LEVELS, Learned, drawn, measure
from diffgeo.theory.linear import tableaux


def several(key: str, value, kind) -> list:
    """One value of a kind, or a list of them, as a list without repetitions. Raises UsageError on
    an empty list."""
    found = [plain(key, v, kind) for v in (value if isinstance(value, ListConfig) else [value])]
    if not found:
        raise UsageError(f"{key}=[] is empty: write one, or several as [a,b]")
    return list(dict.fromkeys(found))


def scheme(name: str, chart: Schedule) -> Scheme:
    """A row of the table by name: one of SCHEMES, or a sampler of conf/sampler, with this process
    for its chart."""
    if name in SCHEMES:
        return Scheme(SCHEMES[name](chart), stochastic(name))
    names = named.names("sampler")
    if name not in names:
        raise UsageError(
            f"schemes={name} is unknown: write {', '.join(SCHEMES)}, or a sampler of "
            f"{', '.join(names)}"
        )
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


NAMED = {
    "power": lambda cfg: (
        spectra.power(
            plain("d", cfg.d, int), plain("exponent", cfg.exponent), plain("scale", cfg.scale)
        ),
        f"power law, exponent {cfg.exponent:g}",
    ),
    "isotropic": lambda cfg: (
        spectra.isotropic(plain("d", cfg.d, int), plain("scale", cfg.scale)),
        "isotropic",
    ),
    "texture": lambda cfg: spectra.texture(image_law(cfg), plain("image", cfg.image, int)),
}


def image_law(cfg):
    data = None if cfg.get("data") is None else build(cfg.data)
    if not hasattr(data, "images"):
        raise UsageError(
            "spectrum=texture is of an image: write data=cifar10 (or another set of images) beside "
            "it, and image=NUMBER"
        )
    return data


def subject(
    cfg, chart: Schedule, eps: Sequence[float], overrides: Sequence[str]
) -> tuple[Spectrum, str, float | Tensor | Learned]:
    """The spectrum, a word on where it is from, and the relative error of the score."""
    eta = plain("eta", cfg.eta)
    mean = plain("mean", cfg.mean, bool | str | None)
    if not math.isfinite(eta):
        raise UsageError(f"eta={eta:g}: write a finite relative error, e.g. .003")
    if plain("random", cfg.random, bool) and not eta and cfg.run is None:
        raise UsageError(
            "random=true draws eta times a normal number of each eigenvalue: write eta=.003 (or "
            "another) beside it"
        )
    if cfg.run is not None:
        if cfg.spectrum is not None or eta:
            raise UsageError(
                "run= measures the error of a network on its own law: leave spectrum= and eta= out"
            )
        return of_run(cfg, chart, eps, overrides)
    if cfg.spectrum is None and cfg.get("data") is None:
        raise UsageError(
            "nothing to sample: write data=cifar10 (or another law), spectrum=FILE.npy, "
            "spectrum=power or spectrum=isotropic"
        )
    if cfg.spectrum is not None and cfg.get("data") is not None and cfg.spectrum != "texture":
        raise UsageError(f"spectrum={cfg.spectrum} and data= are two spectra: write one of them")
    if cfg.spectrum is not None and mean and (cfg.spectrum in NAMED or not isinstance(mean, str)):
        raise UsageError(
            f"mean={str(mean).lower() if mean is True else mean} does not go with "
            f"spectrum={cfg.spectrum}: "
            "write mean=FILE.npy beside spectrum=FILE.npy, or mean=true beside data="
        )
    if cfg.spectrum in NAMED:
        spectrum, about = NAMED[cfg.spectrum](cfg)
    elif cfg.spectrum is not None:
        spectrum, about = spectra.load(str(cfg.spectrum), mean if isinstance(mean, str) else None)
    elif isinstance(mean, str):
        raise UsageError(
            f"mean={mean} goes with spectrum=FILE.npy: write mean=true or mean=false with data="
        )
    else:
        spectrum, about = spectra.of_law(
            build(cfg.data),
            mean,
            mirrored(cfg, overrides),
            plain("samples", cfg.samples, int),
            cfg.seed,
        )
    return spectrum, about, drawn(eta, len(spectrum.values), cfg.seed) if cfg.random else eta


def mirrored(cfg, overrides: Sequence[str]) -> bool:
    """Whether mirror images count: only where the line says so. A set's own data.flip is for
    training, the published fit is of the set."""
    if "flip" in cfg.data and "data.flip" not in map(key_of, overrides):
        cfg.data.flip = False
    return cfg.data.get("flip", False)


def of_run(
    cfg, chart: Schedule, eps: Sequence[float], overrides: Sequence[str]
) -> tuple[Spectrum, str, Learned]:
    """The Gaussian of a run's own law, and the error of its network in each of that Gaussian's
    eigen-directions."""
    take_model(cfg, overrides)
    e = assemble(cfg, loaded)
    found = spectra.fit(e.data, getattr(e.data, "flip", False), cfg.samples, cfg.seed)
    basis, values = eigen(found.covariance)
    low = float(levels(chart, 2, max(min(eps), chart.t_max / 1000))[-1])
    high = float(levels(chart, 2)[0])
    sigmas = torch.linspace(math.log(low), math.log(high), LEVELS, dtype=torch.float64).exp()
    error = measure(
        e.simulation.loop.around(e.model, high),
        e.data,
        found.mean,
        basis,
        values,
        sigmas,
        cfg.n,
        cfg.seed,
        e.device,
    )
    kept = cfg.mean is True or (cfg.mean is None and not hasattr(e.data, "images"))
    return Spectrum(values, None, basis.mT @ found.mean if kept else None), found.about, error


def other_starts(cfg, files: Sequence[str], error: float | Tensor | Learned) -> dict[str, Start]:
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
    if isinstance(cfg.mean, str):
        raise UsageError(
            f"start={files[0]} and mean={cfg.mean}: write mean=true with data=, or leave the mean "
            "out beside such a start"
        )
    if cfg.spectrum in NAMED:
        raise UsageError(
            f"start={files[0]} wants a law with directions: write data=, or spectrum=FILE.npy that "
            "holds a covariance [d,d]"
        )
    if cfg.spectrum is not None:
        data = torch.from_numpy(read_array(cfg.spectrum, "spectrum"))
        if data.ndim != 2 or data.shape[0] != data.shape[1]:
            raise UsageError(
                f"start={files[0]} wants a law with directions, and spectrum={cfg.spectrum} holds "
                "eigenvalues alone: "
                "write a covariance [d,d]"
            )
        centre = data.new_zeros(len(data))
    else:
        law = build(cfg.data)
        found = spectra.fit(law, False, plain("samples", cfg.samples, int), cfg.seed)
        counts = cfg.mean if cfg.mean is not None else not hasattr(law, "images")
        data = found.covariance
        centre = found.mean if counts else torch.zeros_like(found.mean)
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
        except UsageError as error:
            raise UsageError(f"start={file}: {error}") from None
        made[Path(file).stem] = Start(torch.zeros_like(centre), covariance, centre, data)
    return made
