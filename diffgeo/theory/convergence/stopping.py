"""Early stopping at t = delta, on data in a subspace: eigenvalue 0, whose score blows up like 1/t.

The uniform grid takes its last step h from t = delta + h, where the score is smaller by far than at
delta: in d directions this step alone costs the certificate d/2 (ln(h/delta) - 1), and more steps
lower it by a logarithm until h < delta. Steps h_k <= kappa min(1, t_k) bound the ratio of times: a
step costs about d kappa^2/4, and the certificate is at most d (T + ln 1/delta)^2/N up to a
constant. Stopping costs

    W2(p_0, p_delta) ~ sqrt(2 delta) sqrt(#zeros),

and only O(delta) where the data are not singular; so at a fixed number of steps there is a best
delta. KL to p_0 is infinite on singular data, hence every KL here is to p_delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffgeo.theory import gaussian
from diffgeo.theory.convergence.experiment import (
    HORIZON,
    Experiment,
    chart,
    decaying,
    end,
    powers,
    sampler,
    series,
    slope,
    uniform,
)
from diffgeo.theory.convergence.girsanov import initialization, path_kl
from diffgeo.theory.convergence.reverse import WARNING
from diffgeo.theory.distances import Law, kl, w2
from diffgeo.theory.gaussian import Spectrum

POINT = Spectrum([0.0], [16.0])  # one point in R^16
HALF = Spectrum([0.0, 0.5], [8.0, 8.0])  # variance 1/2 in an 8-dimensional subspace of R^16
GRIDS = {"decaying": decaying, "uniform": uniform}


def costs(steps: int, stop: float, grid: str) -> tuple[float, float]:
    """(certificate, KL(p_delta | output)) on the point."""
    times = GRIDS[grid](steps, stop)
    certificate = initialization(POINT, HORIZON) + path_kl(POINT, times)
    true = gaussian.true(POINT, chart(), stop)
    return certificate, kl(true, end(POINT, sampler("EI"), times), POINT.counts)


def trade(steps: int, stop: float, grid: str) -> float:
    """W2(p_0, output) on the half-singular Gaussian."""
    found = end(HALF, sampler("EI"), GRIDS[grid](steps, stop))
    return w2(Law(HALF.values), found, HALF.counts)


def stopped(values: Sequence[float], stop: float) -> float:
    """W2(p_0, p_delta) of 16 coordinates."""
    spectrum = Spectrum(values, [16.0])
    return w2(Law(spectrum.values), gaussian.true(spectrum, chart(), stop), spectrum.counts)


def early_stopping(full: bool = False) -> list[Experiment]:
    return [by_delta(), by_steps(full), by_trade(full), by_truncation()]


TITLES = {"path_kl": "path KL (certificate)", "kl": "KL(p_delta, output)"}


def by_delta() -> Experiment:
    """Both grids at a fixed number of steps."""
    stops = powers(0.1, 0.1, 5)
    found = {}
    curves = []
    for grid in GRIDS:
        columns = zip(*(costs(400, stop, grid) for stop in stops), strict=True)
        found[grid] = dict(zip(TITLES, columns, strict=True))
        for key, title in TITLES.items():
            y = found[grid][key]
            curves.append(series(f"{key}_{grid}", f"{title}, {grid} grid", stops, y, fitted=False))
    growth = slope([math.log(1 / stop) for stop in stops], found["decaying"]["path_kl"])
    before, last = found["uniform"]["path_kl"][-2:]
    per_log = (last - before) / math.log(stops[-2] / stops[-1])
    return Experiment(
        "early_stopping/delta",
        "a point in R^16, 400 steps of EI-DDPM",
        "delta",
        tuple(stops),
        tuple(curves),
        f"decaying grid, power of ln(1/delta): bound of the theorem 2, measured {growth:.2f}; "
        "uniform grid, whose last step h costs d/2 ln(h/delta): expected 8 ln(1/delta), measured "
        f"{per_log:.2f} ln(1/delta) between the last two; {WARNING}",
    )


def by_steps(full: bool) -> Experiment:
    """The decaying grid against its steps."""
    grids = [int(n) for n in powers(100, 2, 7 if full else 5)]
    path, output = zip(*(costs(n, 1e-4, "decaying") for n in grids), strict=True)
    return Experiment(
        "early_stopping/N",
        "the same on the decaying grid, delta = 1e-4",
        "N",
        tuple(grids),
        (
            series("path_kl", TITLES["path_kl"], grids, path, -1.0),
            series("kl", TITLES["kl"], grids, output, -2.0),
        ),
    )


def by_trade(full: bool) -> Experiment:
    """What stopping saves and what it costs."""
    stops = powers(0.1, 0.1, 7 if full else 6)
    curves = []
    for grid in GRIDS:
        y = [trade(100, stop, grid) for stop in stops]
        curves.append(series(f"w2_{grid}", f"{grid} grid", stops, y, fitted=False))
    return Experiment(
        "early_stopping/trade",
        "W2(p_0, output), half-singular Gaussian in R^16, 100 steps",
        "delta",
        tuple(stops),
        tuple(curves),
        "truncation against discretization: on the decaying grid the best delta lies inside; "
        "the uniform grid cannot use a small one",
    )


def by_truncation() -> Experiment:
    """What stopping alone costs."""
    stops = powers(0.1, 0.1, 5)
    singular = [stopped([0.0], stop) for stop in stops]
    regular = [stopped([4.0], stop) for stop in stops]
    return Experiment(
        "early_stopping/truncation",
        "W2(p_0, p_delta)",
        "delta",
        tuple(stops),
        (
            series("singular", "eigenvalue 0", stops, singular, 0.5),
            series("regular", "eigenvalue 4", stops, regular, 1.0),
        ),
    )
