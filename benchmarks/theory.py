"""The closed forms: Pierret and Galerne's 4 schemes x 4 eps x 10 columns, against their recursions
as one would write them in numpy.

Ours reads each recursion from the sampler's own step, and interpolates many eigenvalues from few
where that is exact to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import Row, cpu
from diffgeo.schedule import VP
from diffgeo.theory import distances
from diffgeo.theory.gaussian import SCHEMES, Spectrum, discrete, levels, true

EPS = (0.0, 1e-5, 1e-3, 1e-2)
POINTS = (50, 250, 500, 1000)
NAMES = ("EM", "EI", "Euler", "Heun")


def ours(values: np.ndarray) -> list[float]:
    chart = VP()
    spectrum = Spectrum(torch.from_numpy(values))
    goal = true(spectrum, chart, 0.0)
    schemes = {name: SCHEMES[name](chart) for name in NAMES}
    found = []
    for eps in EPS:
        for n in POINTS:
            cell = discrete(spectrum, chart, schemes, levels(chart, n, eps))
            found += [distances.w2(law, goal, spectrum.counts) for law in cell.values()]
    return found


def plain(values: np.ndarray) -> list[float]:
    """gaussian.md A3, one array operation after the other; both starts at once."""
    B = lambda t: 0.05 * t + 9.95 * t * t / 2
    beta = lambda t: 0.05 + 9.95 * t
    variance = lambda t: np.exp(-2 * B(t)) * values - np.expm1(-2 * B(t))
    found = []
    for eps in EPS:
        for n in POINTS:
            s = 1 - (1 - eps) * np.arange(n) / (n - 1)
            s[-1] = eps
            h = (1 - eps) / (n - 1)
            v = {name: np.stack([variance(1.0), np.ones_like(values)]) for name in NAMES}
            for a, b in zip(s[:-1], s[1:], strict=True):
                q = 1 / variance(a)
                ahead = 1 / variance(b)
                delta = B(a) - B(b)
                x = h * beta(a) * (1 - q)
                y = h * beta(b) * (1 - ahead)
                v["EM"] = (1 + h * beta(a) * (1 - 2 * q)) ** 2 * v["EM"] + 2 * h * beta(a)
                v["EI"] = (1 + np.expm1(delta) * (1 - 2 * q)) ** 2 * v["EI"] + np.expm1(2 * delta)
                v["Euler"] = (1 + x) ** 2 * v["Euler"]
                v["Heun"] = (1 + x / 2 + y / 2 * (1 + x)) ** 2 * v["Heun"]
            for name in NAMES:
                miss = np.sqrt(v[name]) - np.sqrt(values)
                found += np.sqrt((miss**2).sum(1)).tolist()
    return found


def rows() -> list[Row]:
    made = []
    for count, bar in ((3072, 10.0), (200_000, 20.0)):
        values = 221 * np.arange(1.0, count + 1) ** -1.5 + 6e-6
        what = f"Gaussian table, 160 cells, {count} eigenvalues"
        seconds, found = timed(ours, values)
        made.append(Row(what, "CPU s", seconds, math.nan, bar))
        if count < 10_000:
            reference, expected = timed(plain, values)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            made.append(Row(what, "CPU s", seconds, reference, math.nan, "numpy recursions"))
    return made


def timed(way: Callable[[np.ndarray], list[float]], values: np.ndarray) -> tuple[float, list]:
    """CPU seconds of one call, and what it found."""
    found: list[float] = []
    seconds = cpu(lambda: found.extend(way(values)))
    return seconds, found
