"""How far the score moves in a step h: along the flow of the law by O(h), along its diffusion by
O(sqrt h).

    E|s_t(x_t) - s_{t-h}(x_{t-h})|^2  ~  h^2 d      along the probability flow
                                      ~  h d        along the diffusion

This is what freezing the score costs a path. Along the diffusion it is J_{t-h} - (2 e^-h - 1) J_t
for every law, J the Fisher information (see girsanov.py). Along the flow a Gaussian coordinate is
x_{t-h} = x_t sqrt(lambda^{t-h}/lambda^t), and on the line the flow is the map between equal
quantiles. Both are exact; directions add, hence d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffgeo.theory.convergence.experiment import Experiment, powers, series, tiled
from diffgeo.theory.convergence.kernel import Modes, line

TIME = 0.5
LAW = Modes((-4.0, 0.0, 5.0), (0.3, 0.5, 0.2))


def gaussian(h: float, d: float) -> tuple[float, float]:
    """(along the flow, along the diffusion), from t = TIME, for the tiled Gaussian."""
    s = tiled(d)
    now, then = (1 / (1 + (s.values - 1) * math.exp(-2 * t)) for t in (TIME, TIME - h))
    flow = s.counts @ (now.sqrt() - then.sqrt()) ** 2
    diffusion = s.counts @ (then - (2 * math.exp(-h) - 1) * now)
    return float(flow), float(diffusion)


def quantiles(law: Modes, t: float, x: Tensor, start: float, bound: float = 12.0) -> Tensor:
    """Where the flow takes the states x from time `start` to time t: equal distribution functions,
    by bisection."""
    level = law.cdf(x, start)
    low = torch.full_like(x, -bound)
    high = torch.full_like(x, bound)
    for _ in range(60):
        middle = (low + high) / 2
        below = law.cdf(middle, t) < level
        low = torch.where(below, middle, low)
        high = torch.where(below, high, middle)
    return (low + high) / 2


def mixture(h: float, law: Modes = LAW) -> tuple[float, float]:
    """The same for the mixture on the line."""
    nodes = line(9.0, 1801)
    p = law.density(nodes, TIME)
    dx = float(nodes[1] - nodes[0])
    moved = law.score(nodes, TIME) - law.score(quantiles(law, TIME - h, nodes, TIME), TIME - h)
    flow = float((p * moved**2).sum() * dx)
    now = law.fisher(TIME, nodes)
    then = law.fisher(TIME - h, nodes)
    return flow, then - (2 * math.exp(-h) - 1) * now


def perturbation(full: bool = False) -> list[Experiment]:
    h = powers(0.1, 0.5, 8 if full else 5)
    dims = powers(4, 4, 5)
    ode, sde = zip(*(gaussian(step, 64.0) for step in h), strict=True)
    ode1, sde1 = zip(*(mixture(step) for step in h), strict=True)
    by_d = [gaussian(0.025, d) for d in dims]
    return [
        Experiment(
            "perturbation/h",
            f"E|change of the score|^2 in a step h from t = {TIME}",
            "h",
            tuple(h),
            (
                series("ode_gaussian", "along the flow, Gaussian d = 64", h, ode, 2.0),
                series("sde_gaussian", "along the diffusion, Gaussian d = 64", h, sde, 1.0),
                series("ode_mixture", "along the flow, three modes", h, ode1, 2.0),
                series("sde_mixture", "along the diffusion, three modes", h, sde1, 1.0),
            ),
        ),
        Experiment(
            "perturbation/d",
            "the same in one step h = .025, Gaussian",
            "d",
            tuple(dims),
            (
                series("ode", "along the flow", dims, [a for a, _ in by_d], 1.0),
                series("sde", "along the diffusion", dims, [b for _, b in by_d], 1.0),
            ),
        ),
    ]
