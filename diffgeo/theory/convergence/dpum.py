"""DPUM (the flow, corrected by underdamped Langevin) on Gaussians, every call of the score counted;
the calls that a dimension costs.

    dpum     TV ~ sqrt(d) h, and a score error eps costs TV ~ sqrt(L) T eps
    steps    calls until sqrt(KL/2) = .1:  ~ d by the certificate of the reverse diffusion,  ~ sqrt(d) for its output and for DPUM's

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
    law: Law
    calls: int


def stages(h: float) -> Stages:
    return Stages(L=SMOOTHNESS, h_pred=h, t_min=STOP)


def run(h: float, values: torch.Tensor, method: Sampler | None = None) -> Run:
    """DPUM with h_corr = h_pred = h (a stage is cut in equal steps), or a `method` on its grid,
    from N(0, I), in the chart at t = STOP."""
    grid = stages(h).grid()
    table = linear.tableaux(method or DPUM(stages=stages(h), h_corr=h), grid)
    first, last = (float(stages(h).scale(s)) for s in (grid[0], grid[-1]))
    state = linear.law(table, linear.gain(values), linear.start(torch.full_like(values, first**-2)))
    return Run(Law(last**2 * state.variance), sum(len(t.residuals) for t in table))


def dpum(full: bool = False) -> list[Experiment]:
    h = powers(0.05, 0.5, 4 if full else 3)
    dims = powers(4, 4, 5)
    values = tiled(64.0)
    runs = [run(x, values.values) for x in h]
    true = Law(values.values)
    middle = runs[1].law
    return [
        Experiment(
            "dpum/h",
            "DPUM against its step h_pred = h_corr = h, d = 64",
            "h",
            tuple(h),
            (
                series("tv", "TV", h, [tv(true, r.law, values.counts) for r in runs], 1.0, last=2),
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
                series("tv", "TV", dims, [tv(true, middle, tiled(d).counts) for d in dims], 0.5),
                series(
                    "root_kl",
                    "sqrt(KL/2)",
                    dims,
                    [math.sqrt(kl(true, middle, tiled(d).counts) / 2) for d in dims],
                    0.5,
                ),
            ),
        ),
        bias(full),
    ]


def bias(full: bool = False) -> Experiment:
    """A constant score error of norm eps: what it moves in DPUM, in its predictor alone, and in the
    reverse diffusion."""
    s = tiled(64.0)
    eps = powers(0.01, 2, 6 if full else 5)
    h = 0.05
    levels = stages(h).grid()
    times = uniform(400)
    ddpm = response(sampler("EI"), s.values, stages(h).sigma(times)), end(s, sampler("EI"), times)
    ours = response(DPUM(stages=stages(h), h_corr=h), s.values, levels), run(h, s.values).law
    alone = ExponentialFlow(stages(h))
    flow = response(alone, s.values, levels), run(h, s.values, alone).law
    size = [float(s.counts @ r.square()) ** 0.5 for r, _ in (ddpm, ours, flow)]
    named = zip(
        (("ddpm", "EI-DDPM"), ("dpum", "DPUM"), ("flow", "DPUM's predictor alone")),
        (ddpm, ours, flow),
        strict=True,
    )
    return Experiment(
        "dpum/eps",
        "a score error of norm eps in one constant direction, d = 64",
        "eps",
        tuple(eps),
        tuple(
            series(
                key,
                f"TV it causes in {title}",
                eps,
                [shift_tv(s, law, e / 8 * r) for e in eps],
                1.0,
            )
            for (key, title), (r, law) in named
        ),
        f"the mean moves {size[1] / size[0]:.1f} times as far in DPUM as in EI-DDPM, "
        f"{size[2] / size[0]:.1f} times in the flow alone",
    )


def calls(d: float, target: float) -> int:
    """The fewest calls with sqrt(KL/2) <= target, over steps h = 1/(2 k sqrt(L)), k = 1, 2, ...
    sub-steps of a corrector."""
    s = tiled(d)
    k = 1
    while True:
        found = run(1 / (k * math.sqrt(SMOOTHNESS)), s.values)
        distance = math.sqrt(kl(Law(s.values), found.law, s.counts) / 2)
        if distance <= target:
            return found.calls
        k = max(k + 1, int(0.8 * k * distance / target))


def needed(full: bool = False, target: float = 0.1) -> list[Experiment]:
    dims = powers(4, 4, 6 if full else 4)
    path, own, ours = ([f(d, target) for d in dims] for f in (path_steps, marginal_steps, calls))
    return [
        Experiment(
            "steps/d",
            f"calls of the score until sqrt(KL/2) = {target:g}",
            "d",
            tuple(dims),
            (
                series("certificate", "EI-DDPM by its certificate", dims, path, 1.0),
                series("ddpm", "EI-DDPM, its output", dims, own, 0.5),
                series("dpum", "DPUM, every call", dims, ours, 0.5),
            ),
            f"O(d) against O(sqrt d) is a statement about certificates: {WARNING}. DDPM itself "
            "needs "
            "no d steps here",
        )
    ]
