"""Early stopping at t = delta, on data in a subspace: eigenvalue 0, whose score blows up like 1/t.

The uniform grid takes its last step h from t = delta + h, where the score is (delta + h)/delta times smaller than at delta: its error grows
with 1/delta. Steps h_k <= kappa min(1, t_k) keep the ratio: the certificate then grows like ln(1/delta)^2 at most. Stopping costs

    W2(p_0, p_delta) ~ sqrt(2 delta) sqrt(#zeros),        and only O(delta) where the data are not singular;

so at a fixed number of steps there is a best delta. KL to p_0 is infinite on singular data, hence every KL here is to p_delta.
"""
from __future__ import annotations

import torch

from diffgeo.theory import gaussian
from diffgeo.theory.convergence.certificate import initialization, path_kl
from diffgeo.theory.convergence.experiment import HORIZON, Experiment, chart, decaying, end, powers, sampler, series, uniform
from diffgeo.theory.distances import Law, kl, w2
from diffgeo.theory.gaussian import Spectrum

POINT = Spectrum([0.0], [16.0])                     # one point in R^16
HALF = Spectrum([0.0, 0.5], [8.0, 8.0])             # a Gaussian of variance 1/2 in an 8-dimensional subspace of R^16
GRIDS = {"decaying": decaying, "uniform": uniform}


def costs(steps: int, stop: float, grid: str) -> tuple[float, float]:
    """(certificate, KL(p_delta | output)) on the point."""
    times = GRIDS[grid](steps, stop)
    true = gaussian.true(POINT, chart(), stop)
    return initialization(POINT, HORIZON) + path_kl(POINT, times), kl(true, end(POINT, sampler("EI"), times), POINT.counts)


def trade(steps: int, stop: float, grid: str) -> float:
    """W2(p_0, output) on the half-singular Gaussian."""
    return w2(Law(HALF.values), end(HALF, sampler("EI"), GRIDS[grid](steps, stop)), HALF.counts)


def stopped(values: torch.Tensor, stop: float) -> float:
    """W2(p_0, p_delta) of 16 coordinates."""
    spectrum = Spectrum(values, [16.0])
    return w2(Law(spectrum.values), gaussian.true(spectrum, chart(), stop), spectrum.counts)


def early_stopping(full: bool = False) -> list[Experiment]:
    stops, grids = powers(0.1, 0.1, 5), [int(n) for n in powers(100, 2, 7 if full else 5)]
    by_stop = {grid: list(zip(*(costs(400, stop, grid) for stop in stops), strict=True)) for grid in GRIDS}
    by_steps = list(zip(*(costs(n, 1e-4, "decaying") for n in grids), strict=True))
    far = powers(0.1, 0.1, 7 if full else 6)
    small = powers(0.1, 0.1, 5)
    titles = ("path KL (certificate)", "KL(p_delta | output)")
    return [
        Experiment("early_stopping/delta", "a point in R^16, 400 steps of EI-DDPM", "delta", tuple(stops), tuple(
            series(f"{key}_{grid}", f"{title}, {grid} grid", stops, y, fitted=False)
            for grid, columns in by_stop.items() for key, title, y in zip(("path_kl", "kl"), titles, columns, strict=True)),
            "theorem: ln(1/delta)^2 on the decaying grid, no bound on the uniform one"),
        Experiment("early_stopping/N", "the same on the decaying grid, delta = 1e-4", "N", tuple(grids), tuple(
            series(*row[:2], grids, *row[2:]) for row in zip(("path_kl", "kl"), titles, by_steps, (-1.0, -2.0), strict=True))),
        Experiment("early_stopping/trade", "W2(p_0, output), half-singular Gaussian in R^16, 100 steps", "delta", tuple(far), tuple(
            series(f"w2_{grid}", f"{grid} grid", far, [trade(100, stop, grid) for stop in far], fitted=False) for grid in GRIDS),
            "truncation against discretization: on the decaying grid the best delta lies inside; the uniform grid cannot use a small one"),
        Experiment("early_stopping/truncation", "W2(p_0, p_delta)", "delta", tuple(small), (
            series("singular", "eigenvalue 0", small, [stopped([0.0], s) for s in small], 0.5),
            series("regular", "eigenvalue 4", small, [stopped([4.0], s) for s in small], 1.0)))]
