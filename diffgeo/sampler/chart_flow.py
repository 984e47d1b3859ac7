"""Explicit Runge-Kutta rules for the probability flow in a schedule's own time and chart x_t =
scale x.

Going down in t, with the score s_t = -(x - D)/(scale sigma^2) of x_t,

    -dx_t/dt = f(x_t, t) = beta x_t + g^2/2 s_t = scale (beta x - g^2/(2 scale^2 sigma^2) (x - D)),

a step h = t - t' is                                                            nodes | matrix
                                                                                ------+--------
    k_i = f(x_t + h sum_(j<i) a_ij k_j, t - c_i h),                               c_i |  a_ij
    x_t' = x_t + h sum_i b_i k_i                                                      |   b_i      (Butcher's tableau)

    ChartEuler 1    ChartHeun 2    ChartRK4 4       stages, and the order in h

In VP with Song's rate halved, the Euler and Heun rows of Pierret and Galerne. A rule in t differs
from the same rule in sigma: it is not exact on a point, and it is stiff at the data, where
g^2/sigma^2 grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from diffgeo.core import Schedule, Step
from diffgeo.sampler.base import ChartMethod
from diffgeo.sampler.stochastic import levels_of
from diffgeo.schedule import OU


class Butcher(NamedTuple):
    """An explicit rule: nodes c [s], the strictly lower rows of a, weights b [s]."""

    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


EULER = Butcher((0.0,), ((),), (1.0,))


@dataclass(frozen=True)
class ChartRungeKutta(ChartMethod):
    """One explicit rule in the time of `chart`; it starts from N(0, I) there.

    at_end: the rule takes the slope at t' as well. At sigma' = 0, where no denoiser is defined, its
    step is Euler's; a law in closed form may take the slope there all the same, in the limit sigma'
    -> 0 (theory.gaussian).
    """

    chart: Schedule = OU()
    rule: ClassVar[Butcher] = EULER
    at_end = property(lambda self: self.rule.nodes[-1] == 1)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        level = levels_of(self.chart)
        now = level(sigma)
        then = level(sigma_next)
        h = now.t - then.t
        rule = self.rule if sigma_next > 0 else EULER
        slopes = []
        denoised = None
        for c, row in zip(rule.nodes, rule.matrix, strict=True):
            s = (
                sigma
                if c == 0
                else sigma_next
                if c == 1
                else float(self.chart.sigma(torch.tensor(now.t - c * h, dtype=torch.float64)))
            )
            here = level(s)
            y = self.moved(x, now.scale, here.scale, h, row, slopes)
            d = denoise(y, s)
            denoised = d if denoised is None else denoised
            pull = here.g2 / (2 * here.scale**2 * s**2)
            slopes.append(torch.add(here.beta * here.scale * y, y - d, alpha=-pull * here.scale))
        return Step(
            self.moved(x, now.scale, then.scale, h, rule.weights, slopes), sigma_next, denoised
        )

    @staticmethod
    def moved(x, scale, scale_next, h, weights, slopes):
        """(scale x + h sum_i weights_i slopes_i)/scale', a state again."""
        x = x * (scale / scale_next)
        for weight, slope in zip(weights, slopes, strict=True):
            x = torch.add(x, slope, alpha=h * weight / scale_next) if weight else x
        return x


@dataclass(frozen=True)
class ChartEuler(ChartRungeKutta):
    """Euler's rule in t. One evaluation a step."""

    order = 1


@dataclass(frozen=True)
class ChartHeun(ChartRungeKutta):
    """Heun's rule in t: the mean of the slopes at both ends. Two evaluations a step."""

    order = 2
    rule = Butcher((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2))


@dataclass(frozen=True)
class ChartRK4(ChartRungeKutta):
    """The classical Runge-Kutta rule in t. Four evaluations a step."""

    order = 4
    rule = Butcher(
        (0.0, 1 / 2, 1 / 2, 1.0),
        ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )
