"""Pierret and Galerne's table as an object: W2 (and other distances) of every scheme, truncation
eps, grid and start, in closed form.

    continuous, p_T     the exact flow from p_T, stopped at eps:
                        truncation alone
    continuous, N_0     the exact flow from N(0, I), stopped at eps:
                        initialization and truncation
    N, p_T or N_0       the scheme on N points t_k = eps + (T - eps) k/(N-1):
                        discretization as well

each against p_0, as published, or against p_eps, which leaves the truncation out. All laws are
Gaussian with one variance an eigenvalue (theory/linear.py), so a cell is a number and not an
estimate. A relative error e of the score, a number, one an eigenvalue or a function of sigma,
enters the discrete columns; of several draws of a random one a cell is the mean over them, beside
it their standard deviation. How the cells are printed: theory/ablation_table.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Chart, Sampler
from diffgeo.errors import UsageError
from diffgeo.theory import distances as metric
from diffgeo.theory.gaussian import (
    STARTS,
    Law,
    Spectrum,
    continuous,
    discrete,
    first_order,
    level,
    levels,
    true,
)
from diffgeo.theory.gaussian_matrix import continuous_matrix, discrete_matrix
from diffgeo.theory.learned import Draws, spread

AGAINST = ("p_0", "p_eps")
COUNTS = ("points", "steps")
KINDS = {"SDE": True, "ODE": False}
DISTANCES: dict[str, Callable[..., float]] = {
    "w2": metric.w2,
    "kl": metric.kl,
    "tv": metric.tv,
    "frechet": metric.frechet,
}
Error = float | Tensor | Callable[[float], Tensor] | Draws


class Scheme(NamedTuple):
    """A row of the table: the sampler, and whether it follows the reverse SDE or the probability
    flow."""

    sampler: Sampler
    stochastic: bool


class Cell(NamedTuple):
    """One cell. points: the number of grid points that was asked for; None: the continuous flow.
    deviations: over the draws of a random error, where there are several; the distances are then
    means."""

    scheme: str
    eps: float
    points: int | None
    start: str
    distances: dict[str, float]
    deviations: Mapping[str, float] = {}


def grid_of(chart: Chart, points: int, eps: float, count: str) -> Tensor:
    """The levels of a grid of `points` points, or steps as `count` says."""
    if count == "steps":
        return levels(chart, eps=eps, steps=points)
    return levels(chart, points, eps)


def samplers_of(schemes: Mapping[str, Scheme]) -> dict[str, Sampler]:
    return {name: scheme.sampler for name, scheme in schemes.items()}


# spectra: every law is a variance for each eigenvalue


def ablation(
    spectrum: Spectrum,
    chart: Chart,
    schemes: Mapping[str, Scheme],
    eps: Sequence[float],
    points: Sequence[int],
    starts: Sequence[str] = STARTS,
    against: str = "p_0",
    distances: Sequence[str] = ("w2",),
    error: Error = 0.0,
    count: str = "points",
) -> list[Cell]:
    """The table, scheme after scheme, within it eps after eps, the continuous columns first.

    points: of each grid, or its steps with count="steps".
    Raises UsageError on words that are none of STARTS, AGAINST, DISTANCES and COUNTS, on eps
    outside [0, T) and on grids of one point.
    """
    check(chart, eps, points, starts, against, distances, count)
    asked = list(dict.fromkeys(["w2", *distances]))
    samplers = samplers_of(schemes)
    cells: dict[tuple, Cell] = {}

    def put(name: str, stop: float, n: int | None, start: str, laws: Sequence[Law], goal: Law):
        values = {}
        deviations = {}
        for d in asked:
            drawn = [float(DISTANCES[d](law, goal, spectrum.counts)) for law in laws]
            values[d] = drawn[0]
            if len(laws) > 1:
                values[d], deviations[d] = spread(drawn)
        cells[name, stop, n, start] = Cell(name, stop, n, start, values, deviations)

    for stop in eps:
        goal = true(spectrum, chart, 0.0 if against == "p_0" else stop)
        for start in starts:
            flow = continuous(spectrum, chart, stop, start, stochastic=False)
            diffusion = continuous(spectrum, chart, stop, start, stochastic=True)
            for name, scheme in schemes.items():
                law = diffusion if scheme.stochastic else flow
                put(name, stop, None, start, [law], goal)
        for n in points:
            grid = grid_of(chart, n, stop, count)
            ends = ends_of(spectrum, chart, samplers, grid, starts, error)
            for (name, start), laws in ends.items():
                put(name, stop, n, start, laws, goal)
    columns = [(n, start) for n in (None, *points) for start in starts]
    return [cells[name, stop, n, start] for name in schemes for stop in eps for n, start in columns]


def ends_of(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    grid: Tensor,
    starts: Sequence[str],
    error: Error,
) -> dict[tuple[str, str], list[Law]]:
    """{(scheme, start): the law at the end for each draw of the error}; one law for an error that
    is not drawn. All draws go in one pass, as so many more eigenvalues."""
    if not isinstance(error, Draws):
        laws = discrete(spectrum, chart, samplers, grid, starts, error)
        return {place: [law] for place, law in laws.items()}
    draws, k = error.errors.shape
    mean = None if spectrum.mean is None else spectrum.mean.repeat(draws)
    wide = Spectrum(spectrum.values.repeat(draws), None, mean)
    found = {}
    laws = discrete(wide, chart, samplers, grid, starts, error.errors.flatten())
    for place, law in laws.items():
        variances = law.variance.view(draws, k)
        means = [None] * draws if law.mean is None else law.mean.view(draws, k)
        found[place] = [Law(v, m) for v, m in zip(variances, means, strict=True)]
    return found


# covariances: a start that need not commute with the data


class Start(NamedTuple):
    """A law N(mean, covariance) of x_T that need not commute with the data's, N(centre, data): [d]
    and [d,d], in the same coordinates."""

    mean: Tensor
    covariance: Tensor
    centre: Tensor
    data: Tensor


class Moments(NamedTuple):
    """A Gaussian by its mean [d] and covariance [d,d]."""

    mean: Tensor
    covariance: Tensor


def noncommuting(
    name: str,
    start: Start,
    chart: Chart,
    schemes: Mapping[str, Scheme],
    eps: Sequence[float],
    points: Sequence[int],
    against: str = "p_0",
    distances: Sequence[str] = ("w2",),
    error: float = 0.0,
    count: str = "points",
) -> list[Cell]:
    """The cells of one more start, called `name`; as `ablation`, with covariances in place of
    spectra."""
    asked = list(dict.fromkeys(["w2", *distances]))
    samplers = samplers_of(schemes)
    cells = []
    for stop in eps:
        goal = data_at(start, chart, 0.0 if against == "p_0" else stop)
        flow, diffusion = (
            continuous_matrix(
                covariance=start.data,
                chart=chart,
                eps=stop,
                start=start.covariance,
                stochastic=kind,
                mean=start.centre,
                start_mean=start.mean,
            )
            for kind in (False, True)
        )
        for scheme, made in schemes.items():
            found = Moments(*(diffusion if made.stochastic else flow))
            cells.append(Cell(scheme, stop, None, name, between(found, goal, asked)))
        for n in points:
            ends = discrete_matrix(
                covariance=start.data,
                chart=chart,
                samplers=samplers,
                sigmas=grid_of(chart, n, stop, count),
                start=start.covariance,
                mean=start.centre,
                start_mean=start.mean,
                error=error,
            )
            for scheme, end in ends.items():
                cells.append(Cell(scheme, stop, n, name, between(Moments(*end), goal, asked)))
    return cells


def data_at(start: Start, chart: Chart, t: float) -> Moments:
    """p_t of the data, in the chart."""
    sigma, scale = level(chart, t)
    noise = sigma**2 * torch.eye(len(start.centre), dtype=torch.float64)
    return Moments(scale * start.centre, scale**2 * (start.data + noise))


def between(found: Moments, goal: Moments, asked: Sequence[str]) -> dict[str, float]:
    """The distances `asked` of two Gaussians; at the largest value of each where the run has
    diverged."""
    if not bool(found.covariance.isfinite().all()):
        return {name: 1.0 if name == "tv" else math.inf for name in asked}
    w2 = metric.bures(*found, *goal)
    values = {"w2": w2, "frechet": w2**2}
    invariant = [name for name in ("kl", "tv") if name in asked]
    if invariant:
        a, b = metric.commuting(*found, *goal)
        for name in invariant:
            values[name] = DISTANCES[name](a, b, torch.ones_like(a.variance))
    return {name: values[name] for name in asked}


# what was asked for


def check(
    chart: Chart,
    eps: Sequence[float],
    points: Sequence[int],
    starts: Sequence[str],
    against: str,
    distances: Sequence[str],
    count: str,
) -> None:
    """Raise UsageError on a word, a time or a number of points that there is not."""
    known_word("start", starts, STARTS, more="; or FILE.npy, a covariance [d,d]")
    known_word("against", [against], AGAINST)
    known_word("distances", distances, tuple(DISTANCES))
    known_word("count", [count], COUNTS)
    for e in eps:
        if not 0 <= e < chart.t_max:
            raise UsageError(f"eps={e:g}: write a time from 0 up to but below T={chart.t_max:g}")
    least = 2 if count == "points" else 1
    for n in points:
        if n < least:
            raise UsageError(f"grid_points={n} is no number of {count}: write {least} or more")


def known_word(option: str, words: Sequence[str], known: Sequence[str], more: str = "") -> None:
    for word in words:
        if word not in known:
            choice = f"{', '.join(known[:-1])} or {known[-1]}"
            raise UsageError(f"{option}={word} is unknown: write {choice}{more}")


# error by eigenvalue

# eigenvalues of the published figure, and up to CIFAR-10's largest
SPAN = torch.logspace(-6, 2.5, 171, dtype=torch.float64)


def modes(
    values: Tensor,
    chart: Chart,
    schemes: Mapping[str, Scheme],
    steps: int,
    eps: float,
    eta: float,
) -> dict[str, Tensor]:
    """|sqrt v - sqrt w| by eigenvalue [k], in data units: what one direction of each eigenvalue
    adds to W2^2, under a root.

    initialization (SDE, ODE)       the exact flow from N_0 down to 0, against p_0
    truncation                      p_eps against p_0
    discretization of each scheme   from p_T in so many steps down to eps, against p_eps
    score (SDE, ODE)                a relative error eta, to first order
    """
    spectrum = Spectrum(values)
    goal = true(spectrum, chart, 0.0).variance
    stopped = true(spectrum, chart, eps).variance
    curves = {"eigenvalue": values}
    for name, kind in KINDS.items():
        begun = continuous(spectrum, chart, 0.0, "N_0", kind)
        curves[f"initialization {name}"] = metric.roots(begun.variance, goal).abs()
    curves["truncation"] = metric.roots(stopped, goal).abs()
    grid = levels(chart, steps + 1, eps)
    laws = discrete(spectrum, chart, samplers_of(schemes), grid, ("p_T",))
    for (name, _), law in laws.items():
        curves[f"discretization {name}"] = metric.roots(law.variance, stopped).abs()
    for name, kind in KINDS.items():
        alone = [first_order(Spectrum(value[None]), chart, eps, eta, kind) for value in values]
        curves[f"score {name}"] = torch.tensor(alone, dtype=torch.float64)
    return curves
