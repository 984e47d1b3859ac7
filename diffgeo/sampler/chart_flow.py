"""Explicit Runge-Kutta rules for the probability flow in a schedule's own time and chart x_t =
scale x.

Going down in t, with the score s_t = -(x - D)/(scale sigma^2) of x_t,

    -dx_t/dt = f(x_t, t) = beta x_t + g^2/2 s_t = scale (beta x - g^2/(2 scale^2 sigma^2) (x - D)),

a step h = t - t' is, with the matrix a, the weights b and the nodes c of Butcher's tableau,

    k_i  = f(x_t + h sum_(j<i) a_ij k_j, t - c_i h),                c_i |  a_ij
    x_t' = x_t + h sum_i b_i k_i                                    ----+-------
                                                                        |  b_j

    ChartEuler 1    ChartHeun 2    ChartRK4 4       stages, and the order in h

In VP with Song's rate halved, the Euler and Heun rows of Pierret and Galerne. A rule in t differs
from the same rule in sigma: it is not exact on a point, and it is stiff at the data, where
g^2/sigma^2 grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Step
from diffgeo.sampler.charts import ChartScheme


class Butcher(NamedTuple):
    """An explicit rule: nodes c [s], the strictly lower rows of a, weights b [s]."""

    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


EULER = Butcher((0.0,), ((),), (1.0,))


@dataclass(frozen=True)
class ChartRungeKutta(ChartScheme):
    """One explicit rule in the time of `chart`; it starts from N(0, I) there.

    Where the rule takes the slope at t' as well (`at_end`), its step into sigma' = 0, where no
    denoiser is defined, is Euler's; a law in closed form may take the slope there all the same, in
    the limit sigma' -> 0 (theory.gaussian).
    """

    rule: ClassVar[Butcher] = EULER

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        now = self.level(sigma)
        then = self.level(sigma_next)
        h = now.t - then.t
        rule = self.rule if sigma_next > 0 else EULER
        slopes: list[Tensor] = []
        estimates: list[Tensor] = []
        for node, row in zip(rule.nodes, rule.matrix, strict=True):
            s = self.between(sigma, sigma_next, node)
            here = self.level(s)
            y = moved(x, now.scale, here.scale, h, row, slopes)
            denoised = denoise(y, s)
            pull = here.g2 / (2 * here.scale**2 * s**2)
            drift = here.beta * here.scale * y
            slopes.append(torch.add(drift, y - denoised, alpha=-pull * here.scale))
            estimates.append(denoised)
        x = moved(x, now.scale, then.scale, h, rule.weights, slopes)
        return Step(x, sigma_next, estimates[0])

    def between(self, sigma: float, sigma_next: float, node: float) -> float:
        """The level at the fraction `node` of a step, in time."""
        if node == 0:
            return sigma
        if node == 1:
            return sigma_next
        now = self.level(sigma)
        h = now.t - self.level(sigma_next).t
        return float(self.chart.sigma(torch.tensor(now.t - node * h, dtype=torch.float64)))


def moved(
    x: Tensor,
    scale: float,
    scale_next: float,
    h: float,
    weights: tuple[float, ...],
    slopes: list[Tensor],
) -> Tensor:
    """(scale x + h sum_i weights_i slopes_i)/scale', a state again."""
    x = x * (scale / scale_next)
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=h * weight / scale_next)
    return x


@dataclass(frozen=True)
class ChartEuler(ChartRungeKutta):
    """Euler's rule in t. One evaluation a step."""

    order = 1


@dataclass(frozen=True)
class ChartHeun(ChartRungeKutta):
    """Heun's rule in t: the mean of the slopes at both ends. Two evaluations a step."""

    order = 2
    at_end = True
    rule = Butcher((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2))


@dataclass(frozen=True)
class ChartRK4(ChartRungeKutta):
    """The classical Runge-Kutta rule in t. Four evaluations a step."""

    order = 4
    at_end = True
    rule = Butcher(
        (0.0, 1 / 2, 1 / 2, 1.0),
        ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )
