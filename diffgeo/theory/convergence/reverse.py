"""The reverse diffusion with a frozen score (EI-DDPM) on Gaussians: what its certificate says, and
what its error is.

    initialization    KL(p_T | N(0, I)) falls like e^-2T |m|^2, and like e^-4T where the mean is 0
    ddpm              the certificate grows like T^2 L^2 d/N, the KL of the output like d/N^2: the
                      certificate is one power of N too large
    score             a constant error of norm eps adds T eps^2 to the certificate and O(eps) to
                      the TV
    steps             steps until sqrt(KL/2) = .1:  ~ d by the certificate,  ~ sqrt(d) in truth
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from diffgeo.core import Sampler, Sigma
from diffgeo.sampler import steps
from diffgeo.theory import linear
from diffgeo.theory.convergence.experiment import (
    HORIZON,
    Experiment,
    chart,
    end,
    final,
    powers,
    sampler,
    series,
    tiled,
    uniform,
)
from diffgeo.theory.convergence.girsanov import initialization as initial_kl
from diffgeo.theory.convergence.girsanov import uniform_path_kl
from diffgeo.theory.distances import Law, kl, tv, w2
from diffgeo.theory.gaussian import Spectrum

WARNING = (
    "the certificate bounds the KL of the paths; the law of the output is what the other columns "
    "measure, and has a rate of its own"
)


def initialization(full: bool = False) -> list[Experiment]:
    horizons = powers(2.0, 2**0.5, 6 if full else 4)
    d = 64.0
    centred = tiled(d)
    moved = Spectrum(centred.values, centred.counts, centred.counts.sqrt())  # |m|^2 = d
    with_mean = [initial_kl(moved, horizon) for horizon in horizons]
    without = [initial_kl(centred, horizon) for horizon in horizons]
    return [
        Experiment(
            "initialization/T",
            "KL(p_T | N(0, I)), d = 64",
            "T",
            tuple(horizons),
            (
                series("mean", "mean of norm sqrt d", horizons, with_mean, -2.0, True),
                series("centred", "mean 0", horizons, without, -4.0, True),
            ),
            exponential=True,
        )
    ]


def errors(spectrum: Spectrum, law: Law) -> tuple[float, float, float]:
    """KL(p_0 | law), TV, W2."""
    true = Law(spectrum.values)
    return (
        kl(true, law, spectrum.counts),
        tv(true, law, spectrum.counts),
        w2(true, law, spectrum.counts),
    )


def certificate(spectrum: Spectrum, steps: int) -> float:
    """The whole certificate on the uniform grid: start and discretization."""
    return initial_kl(spectrum, HORIZON) + uniform_path_kl(spectrum, steps, HORIZON)


def rows(
    x: Sequence[float], spectra: list[Spectrum], grids: list[int], expected: tuple[float, ...]
) -> tuple:
    """Certificate, and KL, TV, W2 of the output, at each x."""
    titles = {
        "path_kl": "path KL (certificate)",
        "kl": "KL of the output",
        "tv": "TV of the output",
        "w2": "W2 of the output",
    }
    laws = {n: end(tiled(4.0), sampler("EI"), uniform(n)) for n in set(grids)}
    found = []
    for spectrum, n in zip(spectra, grids, strict=True):
        found.append((certificate(spectrum, n), *errors(spectrum, laws[n])))
    columns = zip(*found, strict=True)
    curves = []
    for (key, title), column, rate in zip(titles.items(), columns, expected, strict=True):
        curves.append(series(key, title, x, column, rate))
    return tuple(curves)


def ddpm(full: bool = False) -> list[Experiment]:
    grids = [int(n) for n in powers(50, 2, 9 if full else 6)]
    dims = powers(4, 4, 5)
    slopes = powers(2, 2, 7 if full else 6)  # beyond, h L is no longer small
    d = 64.0
    paths = [uniform_path_kl(Spectrum([1 / L], [d]), 3200, HORIZON) for L in slopes]
    return [
        Experiment(
            "ddpm/N",
            "EI-DDPM against its steps, d = 64",
            "N",
            tuple(grids),
            rows(grids, [tiled(d)] * len(grids), grids, (-1.0, -2.0, -1.0, -1.0)),
            WARNING,
        ),
        Experiment(
            "ddpm/d",
            "EI-DDPM of 400 steps against the dimension",
            "d",
            tuple(dims),
            rows(dims, [tiled(d) for d in dims], [400] * len(dims), (1.0, 1.0, 0.5, 0.5)),
            WARNING,
        ),
        Experiment(
            "ddpm/L",
            "path KL against the smoothness L, all eigenvalues 1/L, d = 64, 3200 steps",
            "L",
            tuple(slopes),
            (series("path_kl", "path KL (certificate)", slopes, paths, 2.0, last=2, bound=True),),
            "L^2 is the theorem's bound; a Gaussian does not attain it, its path KL tends "
            "to L^1 (the slope is of the last two)",
        ),
    ]


def response(method: Sampler, values: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """The mean, in the chart, that a score error of 1 in every direction leaves at the end of a run
    [k]: the run itself, without noise."""
    path = chart()
    c = linear.gain(values)

    def denoise(x: torch.Tensor, sigma: Sigma, **cond) -> torch.Tensor:
        scale = path.scale(torch.tensor(sigma, dtype=torch.float64))
        return x - c(float(sigma)) * x + scale * sigma**2

    zero = torch.zeros(1, len(values), dtype=torch.float64)
    last = final(steps(method, denoise, zero, sigmas, lambda: zero))
    return last[0] * path.scale(sigmas[-1])


def shift_tv(spectrum: Spectrum, law: Law, mean: torch.Tensor) -> float:
    """TV between a sampler's law and the same moved by the vector with `mean` [k] in each
    coordinate of an eigenspace."""
    moved = float((spectrum.counts * mean**2 / law.variance).sum())
    return math.erf(math.sqrt(moved / 8))


def score(full: bool = False) -> list[Experiment]:
    eps = powers(0.01, 2, 6 if full else 5)
    d = 64.0
    spectrum = tiled(d)
    times = uniform(400)
    law = end(spectrum, sampler("EI"), times)
    r = response(sampler("EI"), spectrum.values, chart().sigma(times))
    added = [float((-times.diff() * e**2).sum()) for e in eps]
    change = [shift_tv(spectrum, law, e / math.sqrt(d) * r) for e in eps]
    title = "a score error of norm eps in one constant direction, EI-DDPM of 400 steps, d = 64"
    return [
        Experiment(
            "score/eps",
            title,
            "eps",
            tuple(eps),
            (
                series("path_kl", "what it adds to the path KL (T eps^2)", eps, added, 2.0),
                series("tv", "TV to the output with the exact score", eps, change, 1.0),
            ),
        )
    ]


def smallest(error: Callable[[int], float], target: float, guess: int, rate: float) -> int:
    """The least n with error(n) <= target, for a falling error ~ n^-rate: secant steps in log n,
    within a bracket of whole numbers."""
    low = 0
    high = 0
    n = max(1, guess)
    while high - low != 1:
        e = error(n)
        if e <= target:
            high = n
        else:
            low = n
        n = max(low + 1, round(n * (e / target) ** (1 / rate)))
        n = min(n, high - 1) if high else n
    return high


def path_steps(d: float, target: float) -> int:
    """Steps at which the certificate gives sqrt(KL/2) <= target."""
    s = tiled(d)

    def error(n: int) -> float:
        return math.sqrt(certificate(s, n) / 2)

    return smallest(error, target, int(19 * d / target**2), 0.5)


def marginal_steps(d: float, target: float) -> int:
    """Steps at which the output itself has sqrt(KL/2) <= target."""
    s = tiled(d)

    def error(n: int) -> float:
        law = end(s, sampler("EI"), uniform(n))
        return math.sqrt(kl(Law(s.values), law, s.counts) / 2)

    return smallest(error, target, int(4.8 * math.sqrt(d) / target), 1.0)
