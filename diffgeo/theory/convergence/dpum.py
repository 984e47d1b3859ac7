"""DPUM (the flow, corrected by underdamped Langevin) on Gaussians, every call of the score counted;
the calls that a dimension costs.

    dpum     TV ~ sqrt(d) h, and a score error eps costs TV ~ sqrt(L) T eps
    steps    calls until sqrt(KL/2) = .1:  ~ d by the certificate of the reverse diffusion,
             ~ sqrt(d) for its output and for DPUM's

Its law is read from the sampler's own step (theory.linear); the number of calls is the number of
residuals in the tableaux.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from diffgeo.core import Sampler
from diffgeo.sampler import DPUM
from diffgeo.sampler.dpum import ExponentialFlow
from diffgeo.schedule.stages import Stages
from diffgeo.theory import linear
from diffgeo.theory.convergence.experiment import (
    SMOOTHNESS,
    Experiment,
    end,
    powers,
    sampler,
    series,
    tiled,
    uniform,
)
from diffgeo.theory.convergence.reverse import (
    WARNING,
    marginal_steps,
    path_steps,
    response,
    shift_tv,
)
from diffgeo.theory.distances import Law, kl, tv

STOP = 1e-6


class Run(NamedTuple):
    """The law at the end of a run, and how often it called the score."""

    law: Law
    calls: int


def stages(h: float) -> Stages:
    return Stages(L=SMOOTHNESS, h_pred=h, t_min=STOP)


def run(h: float, values: torch.Tensor, method: Sampler | None = None) -> Run:
    """DPUM with h_corr = h_pred = h (a stage is cut in equal steps), or a `method` on its grid,
    from N(0, I), in the chart at t = STOP."""
    path = stages(h)
    grid = path.grid()
    if method is None:
        method = DPUM(stages=path, h_corr=h)
    table = linear.tableaux(method, grid)
    first = float(path.scale(grid[0]))
    last = float(path.scale(grid[-1]))
    start = linear.start(torch.full_like(values, first**-2))
    end = linear.law(table, linear.gain(values), start)
    return Run(Law(last**2 * end.variance), sum(len(step.residuals) for step in table))


def root_kl(found: Law, d: float) -> float:
    """sqrt(KL/2) of a law from the tiled Gaussian in d dimensions."""
    spectrum = tiled(d)
    return math.sqrt(kl(Law(spectrum.values), found, spectrum.counts) / 2)


def dpum(full: bool = False) -> list[Experiment]:
    h = powers(0.05, 0.5, 4 if full else 3)
    dims = powers(4, 4, 5)
    values = tiled(64.0)
    runs = [run(x, values.values) for x in h]
    true = Law(values.values)
    middle = runs[1].law
    by_h = [tv(true, r.law, values.counts) for r in runs]
    by_d = [tv(true, middle, tiled(d).counts) for d in dims]
    return [
        Experiment(
            "dpum/h",
            "DPUM against its step h_pred = h_corr = h, d = 64",
            "h",
            tuple(h),
            (
                series("tv", "TV", h, by_h, 1.0, last=2),
                series("calls", "calls of the score", h, [r.calls for r in runs], -1.0),
            ),
            "from h = 1/(5 L) down; coarser steps are not yet in the range of the rate (slope of "
            "the last two)",
        ),
        Experiment(
            "dpum/d",
            f"DPUM with h = {h[1]:g} against the dimension",
            "d",
            tuple(dims),
            (
                series("tv", "TV", dims, by_d, 0.5),
                series("root_kl", "sqrt(KL/2)", dims, [root_kl(middle, d) for d in dims], 0.5),
            ),
        ),
        bias(full),
    ]


def bias(full: bool = False) -> Experiment:
    """A constant score error of norm eps: what it moves in DPUM, in its predictor alone, and in the
    reverse diffusion."""
    spectrum = tiled(64.0)
    values = spectrum.values
    eps = powers(0.01, 2, 6 if full else 5)
    path = stages(0.05)
    levels = path.grid()
    times = uniform(400)
    dpum = DPUM(stages=path, h_corr=0.05)
    alone = ExponentialFlow(path)
    # what a unit error moves the mean by [k], and the law that it moves
    moved = {
        "ddpm": response(sampler("EI"), values, path.sigma(times)),
        "dpum": response(dpum, values, levels),
        "flow": response(alone, values, levels),
    }
    laws = {
        "ddpm": end(spectrum, sampler("EI"), times),
        "dpum": run(0.05, values).law,
        "flow": run(0.05, values, alone).law,
    }
    titles = {"ddpm": "EI-DDPM", "dpum": "DPUM", "flow": "DPUM's predictor alone"}
    size = {key: float(spectrum.counts @ r.square()) ** 0.5 for key, r in moved.items()}
    curves = []
    for key, title in titles.items():
        caused = [shift_tv(spectrum, laws[key], e / 8 * moved[key]) for e in eps]
        curves.append(series(key, f"TV it causes in {title}", eps, caused, 1.0))
    return Experiment(
        "dpum/eps",
        "a score error of norm eps in one constant direction, d = 64",
        "eps",
        tuple(eps),
        tuple(curves),
        f"the mean moves {size['dpum'] / size['ddpm']:.1f} times as far in DPUM as in EI-DDPM, "
        f"{size['flow'] / size['ddpm']:.1f} times in the flow alone",
    )


def calls(d: float, target: float) -> int:
    """The fewest calls with sqrt(KL/2) <= target, over steps h = 1/(2 k sqrt(L)), k = 1, 2, ...
    sub-steps of a corrector."""
    values = tiled(d).values
    k = 1
    while True:
        found = run(1 / (k * math.sqrt(SMOOTHNESS)), values)
        distance = root_kl(found.law, d)
        if distance <= target:
            return found.calls
        k = max(k + 1, int(0.8 * k * distance / target))


def needed(full: bool = False, target: float = 0.1) -> list[Experiment]:
    dims = powers(4, 4, 6 if full else 4)
    certified = [path_steps(d, target) for d in dims]
    ddpm = [marginal_steps(d, target) for d in dims]
    ours = [calls(d, target) for d in dims]
    return [
        Experiment(
            "steps/d",
            f"calls of the score until sqrt(KL/2) = {target:g}",
            "d",
            tuple(dims),
            (
                series("certificate", "EI-DDPM by its certificate", dims, certified, 1.0),
                series("ddpm", "EI-DDPM, its output", dims, ddpm, 0.5),
                series("dpum", "DPUM, every call", dims, ours, 0.5),
            ),
            f"O(d) against O(sqrt d) is a statement about certificates: {WARNING}. DDPM itself "
            "needs no d steps here",
        )
    ]
