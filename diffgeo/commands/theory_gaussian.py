"""`diffgeo theory gaussian`: the four errors of sampling a Gaussian, in closed form.

    diffgeo theory gaussian data=cifar10 published=pierret_galerne          the published table, beside the published cells
    diffgeo theory gaussian spectrum=FILE.npy 'grid_points=[20,40]' eps=0 out=t.csv
    diffgeo theory gaussian data=cifar10 eta=.003 random=true               with a relative error in the score
    diffgeo theory gaussian run=FOLDER                                      with that of a trained network, measured

prints W2 to p_0 of every scheme, truncation, grid and start in the published format; table.csv (and out=) has every cell at full precision,
figures/modes.png the errors by eigenvalue.
"""
from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import ListConfig, OmegaConf
from torch import Tensor

from diffgeo.commands.compare import markdown
from diffgeo.commands.sample import loaded
from diffgeo.commands.theory_admissibility import take_model
from diffgeo.commands.theory_certify import write_csv
from diffgeo.core import Sampler, Schedule
from diffgeo.data.gaussian import spectrum as eigen
from diffgeo.errors import UsageError
from diffgeo.files import write_json, write_text
from diffgeo.kinds import numbers, plain
from diffgeo.line import key_of
from diffgeo.run import assemble, begin, build, provenance
from diffgeo.schedule import VP
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.ablation import SPAN, Cell, Comparison, Error, Scheme, ablation, check, compared, modes, power_of_ten, rows, table
from diffgeo.theory.gaussian import SCHEMES, Spectrum, first_order, levels, stochastic
from diffgeo.theory.learned import LEVELS, Learned, drawn, effective, measure
from diffgeo.theory.linear import tableaux


def main(cfg) -> None:
    theory_gaussian(cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task)


def theory_gaussian(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """The table of cfg into `folder`. Raises UsageError on whatever is no spectrum, process, scheme, grid or distance."""
    chart = process(cfg.beta, plain("T", cfg.T))
    schemes = {name: scheme(name, chart) for name in several("schemes", cfg.schemes, str)}
    eps, starts = [float(e) for e in several("eps", cfg.eps, float)], several("start", cfg.start, str)
    points = several("grid_points", cfg.grid_points, int)
    distances = list(dict.fromkeys(["w2", *several("distances", cfg.distances, str)]))
    check(chart, eps, points, starts, cfg.against, distances, cfg.count)
    started = time.process_time()
    spectrum, about, error = subject(cfg, chart, eps, overrides)
    fitting = time.process_time() - started
    if begin(folder, cfg, overrides):
        deliver(cfg.out, folder)
        return
    gc.freeze()                         # 30 000 tableaux come: their collections need not search all of torch each time, .8 CPU s
    started = time.process_time()
    cells = ablation(spectrum, chart, schemes, eps, points, starts, cfg.against, distances, error, cfg.count)
    measured = {"fitting_cpu_s": fitting, "table_cpu_s": time.process_time() - started}
    found = compared(cells, cfg.published["columns"], OmegaConf.to_container(cfg.published.table)) if cfg.get("published") else None
    write_csv(folder / "table.csv", *rows(cells, distances, cfg.count))
    deliver(cfg.out, folder)
    values = metrics(cells) | ({} if found is None else {"published/cells": len(found.pairs), "published/cells_matched": found.matched})
    values |= {"spectrum/d": spectrum.d, "spectrum/trace": spectrum.trace, "spectrum/largest": float(spectrum.values.max()),
               "spectrum/smallest": float(spectrum.values.min()), "spectrum/zeros": float(spectrum.counts[spectrum.values == 0].sum())}
    if cfg.figures:
        figures(folder, chart, schemes, max(points) - (cfg.count == "points"), eps, error)
    provenance(folder, cfg, "theory gaussian", torch.device("cpu"), **measured)
    write_json(folder / "metrics.json", values)
    print(f"{about}: d = {spectrum.d:g}, trace {spectrum.trace:.6g}, eigenvalues {values['spectrum/smallest']:.4g} to "
          f"{values['spectrum/largest']:.6g}, {values['spectrum/zeros']:g} of them 0")
    for distance in distances:
        shown = table(cells, distance, cfg.count, found if distance == "w2" else None)
        print(f"\n{TITLES[distance].format(cfg.against)}\n\n{markdown(*shown)}")
    for line in remarks(cells, spectrum, eps, chart, error, found):
        print(line)
    more = ([cfg.out] if cfg.out else []) + (["modes.csv", "figures/"] if cfg.figures else [])
    print(f"written: {', '.join([f'{folder}/metrics.json', 'table.csv', *more])}")


ETA = 0.003             # relative score error of the figure, where none is given
TITLES = {"w2": "W2 to {}", "kl": "KL(law of the samples | {}), nats", "tv": "total variation distance to {}",
          "frechet": "Frechet distance (W2^2) to {}"}


# what is asked for

def several(key: str, value, kind) -> list:
    """One value of a kind, or a list of them, as a list without repetitions. Raises UsageError on an empty list."""
    found = [plain(key, v, kind) for v in (value if isinstance(value, ListConfig) else [value])]
    if not found:
        raise UsageError(f"{key}=[] is empty: write one, or several as [a,b]")
    return list(dict.fromkeys(found))


def process(beta, horizon: float) -> VP:
    """The forward process with the rate beta, affine on [0, T] between two values, or one constant. VP's rates are twice these."""
    rates = numbers("beta", beta if OmegaConf.is_config(beta) else OmegaConf.create({"beta": beta}).beta)
    low, high = rates[0], rates[-1]
    if len(rates) > 2 or not 0 < low <= high < 1e6:
        raise UsageError(f"beta={[f'{r:g}' for r in rates]}: write [beta_min,beta_max] with 0 < beta_min <= beta_max, or one constant"
                         .replace("'", ""))
    if not 0 < horizon < 1e6:
        raise UsageError(f"T={horizon:g}: write a positive time")
    if (low + high) * horizon > 600:
        raise UsageError(f"beta and T={horizon:g}: e^(-2B) vanishes with B = (beta_min + beta_max) T/2 = {(low + high) * horizon / 2:g}: "
                         "write rates or a time that leave B at 300 or less")
    return VP(t_min=0.0, t_max=horizon, beta_min=2 * low, beta_max=2 * (low + (high - low) / horizon))


@contextmanager
def another_hydra() -> Iterator[None]:
    """Room for a config that is composed while Hydra runs this command: it holds one at a time."""
    only = GlobalHydra.instance()
    held, only.hydra = only.hydra, None
    try:
        yield
    finally:
        only.hydra = held


def scheme(name: str, chart: Schedule) -> Scheme:
    """A row of the table by name: one of SCHEMES, or a sampler of conf/sampler, with this process for its chart."""
    if name in SCHEMES:
        return Scheme(lambda steps: SCHEMES[name](chart), stochastic(name))
    from diffgeo.commands.theory_orders import names, sampler

    if name not in names():
        raise UsageError(f"schemes={name} is unknown: write {', '.join(SCHEMES)}, or a sampler of {', '.join(names())}")

    @lru_cache
    def make(steps: int) -> Sampler:
        with another_hydra():
            made = sampler(name, steps)
        if hasattr(made, "fit"):
            raise UsageError(f"schemes={name}: this sampler is first fitted to a model, so it has no law of its own; leave it out")
        return replace(made, chart=chart) if hasattr(made, "chart") else made

    return Scheme(make, any(step.draws for step in tableaux(make(10), levels(chart, 11, chart.t_max / 1000))))


NAMED = {"power": lambda cfg: (spectra.power(plain("d", cfg.d, int), plain("exponent", cfg.exponent), plain("scale", cfg.scale)),
                               f"power law, exponent {cfg.exponent:g}"),
         "isotropic": lambda cfg: (spectra.isotropic(plain("d", cfg.d, int), plain("scale", cfg.scale)), "isotropic"),
         "texture": lambda cfg: spectra.texture(image_law(cfg), plain("image", cfg.image, int))}


def image_law(cfg):
    data = None if cfg.get("data") is None else build(cfg.data)
    if not hasattr(data, "images"):
        raise UsageError("spectrum=texture is of an image: write data=cifar10 (or another set of images) beside it, and image=NUMBER")
    return data


def subject(cfg, chart: Schedule, eps: Sequence[float], overrides: Sequence[str]) -> tuple[Spectrum, str, float | Tensor | Learned]:
    """The spectrum, a word on where it is from, and the relative error of the score."""
    eta, mean = plain("eta", cfg.eta), plain("mean", cfg.mean, bool | str | None)
    if not math.isfinite(eta):
        raise UsageError(f"eta={eta:g}: write a finite relative error, e.g. .003")
    if plain("random", cfg.random, bool) and not eta and cfg.run is None:
        raise UsageError("random=true draws eta times a normal number of each eigenvalue: write eta=.003 (or another) beside it")
    if cfg.run is not None:
        if cfg.spectrum is not None or eta:
            raise UsageError("run= measures the error of a network on its own law: leave spectrum= and eta= out")
        return of_run(cfg, chart, eps, overrides)
    if cfg.spectrum is None and cfg.get("data") is None:
        raise UsageError("nothing to sample: write data=cifar10 (or another law), spectrum=FILE.npy, spectrum=power or spectrum=isotropic")
    if cfg.spectrum is not None and cfg.get("data") is not None and cfg.spectrum != "texture":
        raise UsageError(f"spectrum={cfg.spectrum} and data= are two spectra: write one of them")
    if cfg.spectrum is not None and mean and (cfg.spectrum in NAMED or not isinstance(mean, str)):
        raise UsageError(f"mean={str(mean).lower() if mean is True else mean} does not go with spectrum={cfg.spectrum}: "
                         "write mean=FILE.npy beside spectrum=FILE.npy, or mean=true beside data=")
    if cfg.spectrum in NAMED:
        spectrum, about = NAMED[cfg.spectrum](cfg)
    elif cfg.spectrum is not None:
        spectrum, about = spectra.load(str(cfg.spectrum), mean if isinstance(mean, str) else None)
    elif isinstance(mean, str):
        raise UsageError(f"mean={mean} goes with spectrum=FILE.npy: write mean=true or mean=false with data=")
    else:
        spectrum, about = spectra.of_law(build(cfg.data), mean, mirrored(cfg, overrides), plain("samples", cfg.samples, int), cfg.seed)
    return spectrum, about, drawn(eta, len(spectrum.values), cfg.seed) if cfg.random else eta


def mirrored(cfg, overrides: Sequence[str]) -> bool:
    """Whether mirror images count: only where the line says so. A set's own data.flip is for training, the published fit is of the set."""
    if "flip" in cfg.data and "data.flip" not in map(key_of, overrides):
        cfg.data.flip = False
    return cfg.data.get("flip", False)


def of_run(cfg, chart: Schedule, eps: Sequence[float], overrides: Sequence[str]) -> tuple[Spectrum, str, Learned]:
    """The Gaussian of a run's own law, and the error of its network in each of that Gaussian's eigen-directions."""
    take_model(cfg, overrides)
    e = assemble(cfg, loaded)
    found = spectra.fit(e.data, getattr(e.data, "flip", False), cfg.samples, cfg.seed)
    basis, values = eigen(found.covariance)
    low, high = float(levels(chart, 2, max(min(eps), chart.t_max / 1000))[-1]), float(levels(chart, 2)[0])
    sigmas = torch.linspace(math.log(low), math.log(high), LEVELS, dtype=torch.float64).exp()
    error = measure(e.loop.around(e.model, high), e.data, found.mean, basis, values, sigmas, cfg.n, cfg.seed, e.device)
    kept = cfg.mean is True or (cfg.mean is None and not hasattr(e.data, "images"))
    return Spectrum(values, None, basis.mT @ found.mean if kept else None), found.about, error


# what comes of it

def deliver(out: str | None, folder: Path) -> None:
    """The table also where `out` says."""
    if out is not None:
        write_text(out, (folder / "table.csv").read_text())


def metrics(cells: Sequence[Cell]) -> dict[str, float]:
    return {f"{d}/{c.scheme}@eps={c.eps:g},points={c.points or 'continuous'},start={c.start}": value
            for c in cells for d, value in c.distances.items()}


def remarks(cells: Sequence[Cell], spectrum: Spectrum, eps: Sequence[float], chart: Schedule, error: Error,
            found: Comparison | None) -> Iterator[str]:
    """What the table does not say by itself, a line each."""
    if found is not None:
        yield f"{found}; [in brackets]: published" if found.matched < len(found.pairs) else str(found)
    infinite = {d: list(dict.fromkeys(c.scheme for c in cells if math.isinf(c.distances[d]))) for d in cells[0].distances}
    if any(math.isinf(c.distances["w2"]) and c.eps > 0 for c in cells):
        yield "inf at eps > 0: the scheme is unstable on this grid, and its variance is beyond the largest number; write more grid_points"
    elif infinite["w2"]:
        yield (f"inf: {', '.join(infinite['w2'])} took the score at eps = 0, where that of a singular Gaussian is infinite "
               f"({float(spectrum.counts[spectrum.values == 0].sum()):g} eigenvalues are 0); write eps=1e-5")
    if infinite.get("kl") and infinite["kl"] != infinite["w2"]:
        yield "inf: KL between two laws of which one is singular where the other is not"
    if not (isinstance(error, float) and error == 0):
        for e in eps:
            first = [first_order(spectrum, chart, e, effective(spectrum, chart, e, error, s) if callable(error) else error, s)
                     for s in (True, False)]
            yield f"score error alone, to first order, eps = {power_of_ten(e)}: W2 = {first[0]:.3g} (SDE), {first[1]:.3g} (ODE)"
    if isinstance(error, Learned):
        for i in torch.linspace(0, len(error.sigma) - 1, 7).round().int().tolist():
            rms = float(error.error[i].square().mean().sqrt())
            yield (f"network at sigma = {float(error.sigma[i]):.3g}: relative error {rms:.3g} rms over the eigen-directions; "
                   f"{float(error.rest[i]):.0%} of its squared error is not of this form")


def figures(folder: Path, chart: Schedule, schemes: Mapping[str, Scheme], steps: int, eps: Sequence[float], error: Error) -> None:
    """The errors by eigenvalue: modes.csv and figures/modes.png."""
    from diffgeo.plot import gaussian as plot

    eps = min((e for e in eps if e > 0), key=lambda e: abs(math.log(e / 1e-3)), default=chart.t_max / 1000)
    eta = abs(error) if isinstance(error, float) and error else ETA
    curves = modes(SPAN, chart, schemes, steps, eps, eta)
    columns = [map(repr, curve.tolist()) for curve in curves.values()]
    write_csv(folder / "modes.csv", list(curves), zip(*columns, strict=True))
    plot.modes(folder / "figures" / "modes.png", curves, f"eps = {power_of_ten(eps)}, {steps} steps, eta = {eta:g}")
