"""Adams methods: eps = (x - D)/sigma, the slope of the flow in sigma, extrapolated from the last
few levels and integrated over the step.

    x' = x + (sigma' - sigma) sum_j w_j eps_j,      sum_j w_j = 1

    LMS       eps a polynomial in sigma: Adams-Bashforth on uneven steps
    IPNDMv    meant to be LMS, as DEIS in rho is
    IPNDM     the weights of equal steps, whatever the steps are
    DEIS      eps a polynomial in the time t of a path (tAB), in rho = sigma (rhoAB) or in log rho
    PNDM      as iPNDM, its first three steps by a Runge-Kutta rule

Each uses as many points as it is shown, so that a run starts with Euler's step, the next takes two
points, and so on. That start costs the order: one Euler step leaves O(h^2) whatever follows. It
costs little in practice, since eps hardly changes at large sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from diffgeo.core import Schedule, Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.weights import Levels, combine, in_log_sigma, in_sigma
from diffgeo.schedule import VP

# in_sigma's on equal steps
UNIFORM = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class Adams(Method):
    """x' = x + (sigma' - sigma) sum_j w_j eps_j with weights that a subclass chooses.

    points: how many slopes are interpolated, 1 (Euler, DDIM) to 4.
    """

    points: int = 4

    def __post_init__(self):
        if self.points not in (1, 2, 3, 4):
            raise UsageError(f"sampler.points={self.points}: write 1, 2, 3 or 4")

    @property
    def order(self) -> int:
        return self.points

    @property
    def memory(self) -> int:
        return self.points - 1

    def weigh(self, levels: Levels, end: float) -> tuple[float, ...]:
        """The weights of eps at `levels`, the present level first, in the step from there to
        `end`."""
        raise NotImplementedError

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        past = history[::-1]
        h = sigma_next - sigma
        weights = self.weigh((sigma, *[p.sigma for p in past]), sigma_next)
        x_next = torch.lerp(x, denoised, -h / sigma * weights[0])
        # fewer weights than points: the rule lowered its order
        for p, weight in zip(past, weights[1:], strict=False):
            x_next.add_(p.eps, alpha=h * weight)
        return Step(x_next, sigma_next, denoised)


@dataclass(frozen=True)
class LMS(Adams):
    """The linear multistep method of k-diffusion: eps a polynomial of degree points - 1 in sigma,
    integrated exactly on any grid."""

    def weigh(self, levels, end):
        return in_sigma(levels, end)


@dataclass(frozen=True)
class IPNDM(Adams):
    """Improved PNDM (Zhang and Chen 2023): 1 | (3, -1)/2 | (23, -16, 5)/12 | (55, -59, 37, -9)/24
    on every grid.

    Of order `points` on equal steps in sigma; of order 2 at most on others whose neighbouring steps
    grow alike, of order 1 on uneven ones.
    """

    @property
    def order(self) -> int:
        return min(self.points, 2)

    def weigh(self, levels, end):
        return UNIFORM[len(levels) - 1]


@lru_cache(maxsize=4096)
def legacy(levels: Levels, end: float) -> tuple[float, ...]:
    """The weights of the published iPNDM_v, in Newton's form w = N_0 + t_1 N_1 + t_2 N_2 + t_3 N_3:
    N_k holds the coefficients of the k-th divided difference, scaled so that its first is 1. With
    the step h ahead, h1, h2, h3 behind, and

        a = h/(3(h+h1)),                b = (1 - h/(2(h+h1))) h/(6(h+h1+h2)),
        q = h(h+h1)/(h1(h1+h2)),        c = h1(h1+h2)/(h2(h2+h3))

    it departs from Adams-Bashforth in three places:

        t_2 = (1 - a q)/2           for (1-a) q/2
        t_3 = ((1-a)/2 + b) ...     for ((1-a)/2 - b) q (h+h1+h2)/(h1+h2+h3)
        N_3 ends in -c h1/h2        for -c h2/h3

    By the last its weights do not even add up to 1, unless h1/h2 = h2/h3.
    """
    n = len(levels)
    h = levels[0] - end
    behind = [earlier - later for later, earlier in pairwise(levels)]
    # where fewer steps were taken: a step not taken enters no weight that is returned
    h1, h2, h3 = behind + (4 - n) * [h]
    a = h / (3 * (h + h1))
    q = h * (h + h1) / (h1 * (h1 + h2))
    c = h1 * (h1 + h2) / (h2 * (h2 + h3))
    b = (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
    t_3 = ((1 - a) / 2 + b) * q * (h + h1 + h2) / (h1 + h2 + h3)
    t = (1, h / (2 * h1), (1 - a * q) / 2, t_3)
    N = (
        (1, 0, 0, 0),
        (1, -1, 0, 0),
        (1, -1 - h1 / h2, h1 / h2, 0),
        (1, -1 - h1 / h2 - c, h1 / h2 + c * (1 + h2 / h3), -c * h1 / h2),
    )
    return tuple(sum(t[k] * N[k][j] for k in range(n)) for j in range(n))


@dataclass(frozen=True)
class IPNDMv(LMS):
    """iPNDM_v (Zhou et al. 2024, diff-solvers): Adams-Bashforth on uneven steps, which is LMS.

    weights: `exact`, or `legacy`, what the published code computes (and ComfyUI after it) when it
        takes three points or four. On grids whose neighbouring steps grow alike three of them keep
        order 3 and four fall to order 2; where steps alternate three are of order 2 and four do not
        converge at all.
    """

    weights: str = "exact"
    WEIGHTS: ClassVar[dict[str, Callable[[Levels, float], tuple[float, ...]]]] = {
        "exact": in_sigma,
        "legacy": legacy,
    }

    def __post_init__(self):
        super().__post_init__()
        if self.weights not in self.WEIGHTS:
            raise UsageError(f"sampler.weights={self.weights}: write {' or '.join(self.WEIGHTS)}")

    @property
    def order(self) -> int:
        return 2 if (self.weights, self.points) == ("legacy", 4) else self.points

    def weigh(self, levels, end):
        return self.WEIGHTS[self.weights](levels, end)


NODE, WEIGHT = np.polynomial.legendre.leggauss(32)


def lagrange(points: np.ndarray, k: int, t: np.ndarray) -> np.ndarray:
    """The polynomial that is 1 at points[k] and 0 at the others, at the times t."""
    factors = [(t - other) / (points[k] - other) for other in points if other != points[k]]
    return np.prod(factors, axis=0) if factors else np.ones_like(t)


def in_time(chart: Schedule, levels: Levels, end: float) -> tuple[float, ...]:
    """The mean over sigma in [end, levels_0] of each Lagrange polynomial through `levels` in the
    time t of `chart`.

    Gauss-Legendre in sigma^(1/7), whose nodes crowd towards 0, where t(sigma) bends. `end` may be
    0.
    """
    first = levels[0] ** (1 / 7)
    last = end ** (1 / 7)
    root = (first + last + (first - last) * NODE) / 2
    weight = 3.5 * (first - last) / (levels[0] - end) * root**6 * WEIGHT
    times = chart.t(torch.from_numpy(np.concatenate([levels, root**7]))).numpy()
    points = times[: len(levels)]
    t = times[len(levels) :]
    return tuple(float(weight @ lagrange(points, k, t)) for k in range(len(points)))


def in_rho(chart: Schedule, levels: Levels, end: float) -> tuple[float, ...]:
    return in_sigma(levels, end)


def in_log_rho(chart: Schedule, levels: Levels, end: float) -> tuple[float, ...]:
    return in_log_sigma(levels, end, 1) if end > 0 else (1.0,)


@dataclass(frozen=True)
class DEIS(Adams):
    """Diffusion exponential integrator (Zhang and Chen 2023): eps a polynomial of degree points - 1
    in some coordinate.

    interpolation: `t`, the time of `chart` (tAB, by quadrature); `rho` = sigma (rhoAB, which is
        LMS); `log_rho` (diffusers' DEISMultistepScheduler; multistep DPM-Solver in eps), whose step
        into sigma' = 0 is Euler's, log rho being infinite there.
    chart: the schedule whose time t is; the paper's is VP.
    """

    points: int = 3
    interpolation: str = "t"
    chart: Schedule = VP()
    RULES: ClassVar[dict[str, Callable[[Schedule, Levels, float], tuple[float, ...]]]] = {
        "t": in_time,
        "rho": in_rho,
        "log_rho": in_log_rho,
    }

    def __post_init__(self):
        super().__post_init__()
        if self.interpolation not in self.RULES:
            raise UsageError(
                f"sampler.interpolation={self.interpolation}: write {', '.join(self.RULES)}"
            )

    @cached_property
    def weigh(self) -> Callable[[Levels, float], tuple[float, ...]]:
        """The weights, remembered: the levels of a grid come back with every batch."""
        return lru_cache(maxsize=4096)(partial(self.RULES[self.interpolation], self.chart))


@dataclass(frozen=True)
class PNDM(IPNDM):
    """Pseudo numerical method (Liu et al. 2022): iPNDM with four points, its first three steps by
    the classical Runge-Kutta rule in eps.

        e_1 = eps(x, s)
        e_2 = eps(x + (m - s) e_1, m)
        e_3 = eps(x + (m - s) e_2, m)
        e_4 = eps(x + (s' - s) e_3, s')
        x' = x + (s' - s) (e_1 + 2 e_2 + 2 e_3 + e_4)/6

    with m halfway in the time t of `chart`; it is `pseudo`, of order 2, because that is not halfway
    in sigma. The start costs nine evaluations more: N + 9 in N steps. A starting step into sigma' =
    0, where there is no e_4, is iPNDM's. Not for lower_order_final, which hides the history, so
    that the method would start once more at the end.
    """

    points: int = field(default=4, init=False)
    chart: Schedule = VP()

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        if len(history) == self.memory or sigma_next == 0:
            return super().step(denoise, x, sigma, sigma_next, history, noise)
        denoised = denoise(x, sigma)
        middle = halfway(self.chart, sigma, sigma_next)
        h = sigma_next - sigma
        eps = [(x - denoised) / sigma]
        for s in (middle, middle, sigma_next):
            y = torch.add(x, eps[-1], alpha=s - sigma)
            eps.append((y - denoise(y, s)) / s)
        mean = combine((1 / 6, 1 / 3, 1 / 3, 1 / 6), eps)
        return Step(torch.add(x, mean, alpha=h), sigma_next, denoised)


def halfway(chart: Schedule, sigma: float, sigma_next: float) -> float:
    """The level halfway in the time of `chart`."""
    t = chart.t(torch.tensor([sigma, sigma_next], dtype=torch.float64))
    return float(chart.sigma(t.mean()))
