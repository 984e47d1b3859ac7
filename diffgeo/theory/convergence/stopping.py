"""Early stopping at t = delta, on data in a subspace: eigenvalue 0, whose score blows up like 1/t.

The uniform grid takes its last step h from t = delta + h, where the score is smaller by far than at
delta: in d directions this step alone costs the certificate d/2 (ln(h/delta) - 1), and more steps
lower it by a logarithm until h < delta. Steps h_k <= kappa min(1, t_k) bound the ratio of times: a
step costs about d kappa^2/4, and the certificate is at most d (T + ln 1/delta)^2/N up to a
constant. Stopping costs

    W2(p_0, p_delta) ~ sqrt(2 delta) sqrt(#zeros),        and only O(delta) where the data are not singular;

so at a fixed number of steps there is a best delta. KL to p_0 is infinite on singular data, hence
every KL here is to p_delta.
"""

from __future__ import annotations

import math

import torch

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
# a Gaussian of variance 1/2 in an 8-dimensional subspace of R^16
HALF = Spectrum([0.0, 0.5], [8.0, 8.0])
GRIDS = {"decaying": decaying, "uniform": uniform}


def costs(steps: int, stop: float, grid: str) -> tuple[float, float]:
    """(certificate, KL(p_delta | output)) on the point."""
    times = GRIDS[grid](steps, stop)
    true = gaussian.true(POINT, chart(), stop)
    return initialization(POINT, HORIZON) + path_kl(POINT, times), kl(
        true, end(POINT, sampler("EI"), times), POINT.counts
    )


def trade(steps: int, stop: float, grid: str) -> float:
    """W2(p_0, output) on the half-singular Gaussian."""
    return w2(Law(HALF.values), end(HALF, sampler("EI"), GRIDS[grid](steps, stop)), HALF.counts)


def stopped(values: torch.Tensor, stop: float) -> float:
    """W2(p_0, p_delta) of 16 coordinates."""
    spectrum = Spectrum(values, [16.0])
    return w2(Law(spectrum.values), gaussian.true(spectrum, chart(), stop), spectrum.counts)


def early_stopping(full: bool = False) -> list[Experiment]:
    stops = powers(0.1, 0.1, 5)
    grids = [int(n) for n in powers(100, 2, 7 if full else 5)]
    by_stop = {
        grid: list(zip(*(costs(400, stop, grid) for stop in stops), strict=True)) for grid in GRIDS
    }
    by_steps = list(zip(*(costs(n, 1e-4, "decaying") for n in grids), strict=True))
    far = powers(0.1, 0.1, 7 if full else 6)
    small = powers(0.1, 0.1, 5)
    titles = ("path KL (certificate)", "KL(p_delta, output)")
    growth = slope([math.log(1 / stop) for stop in stops], by_stop["decaying"][0])
    ends = by_stop["uniform"][0]
    per_log = (ends[-1] - ends[-2]) / math.log(stops[-2] / stops[-1])
    return [
        Experiment(
            "early_stopping/delta",
            "a point in R^16, 400 steps of EI-DDPM",
            "delta",
            tuple(stops),
            tuple(
                series(f"{key}_{grid}", f"{title}, {grid} grid", stops, y, fitted=False)
                for grid, columns in by_stop.items()
                for key, title, y in zip(("path_kl", "kl"), titles, columns, strict=True)
            ),
            f"decaying grid, power of ln(1/delta): bound of the theorem 2, measured {growth:.2f}; "
            "uniform grid, whose last step h costs "
            f"d/2 ln(h/delta): expected 8 ln(1/delta), measured {per_log:.2f} ln(1/delta) between "
            f"the last two; {WARNING}",
        ),
        Experiment(
            "early_stopping/N",
            "the same on the decaying grid, delta = 1e-4",
            "N",
            tuple(grids),
            tuple(
                series(*row[:2], grids, *row[2:])
                for row in zip(("path_kl", "kl"), titles, by_steps, (-1.0, -2.0), strict=True)
            ),
        ),
        Experiment(
            "early_stopping/trade",
            "W2(p_0, output), half-singular Gaussian in R^16, 100 steps",
            "delta",
            tuple(far),
            tuple(
                series(
                    f"w2_{grid}",
                    f"{grid} grid",
                    far,
                    [trade(100, stop, grid) for stop in far],
                    fitted=False,
                )
                for grid in GRIDS
            ),
            "truncation against discretization: on the decaying grid the best delta lies inside; "
            "the uniform grid cannot use a small one",
        ),
        Experiment(
            "early_stopping/truncation",
            "W2(p_0, p_delta)",
            "delta",
            tuple(small),
            (
                series("singular", "eigenvalue 0", small, [stopped([0.0], s) for s in small], 0.5),
                series("regular", "eigenvalue 4", small, [stopped([4.0], s) for s in small], 1.0),
            ),
        ),
    ]
