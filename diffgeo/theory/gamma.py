"""The best gamma of gradient estimation, as a function of the steps and of the law.

On equal steps h in log sigma, r = e^(-h), GE(gamma) errs in a step by ((gamma-1)/r - 1/2) (1-r)^2
sigma^2 eps', primes being d/dsigma along the flow. At AB2's gamma = 1 + r/2 this vanishes, and
there remains AB2's own (5/12) h^3 sigma^3 eps''; the plain first step adds -h^2/2 sigma_0^2 eps'_0.
Carried to the end by the flow's derivative Phi and summed, all three are O(h^2) for gamma - AB2 = a
h:

    error/h^2 = a A + (5/12) B + F,     A = int Phi sigma eps' dsigma,
                                        B = int Phi sigma^2 eps'' dsigma,
                                        F = -Phi_0 sigma_0^2 eps'_0 / 2

so the best is not AB2 but gamma* = 3/2 + (a - 1/2) h + O(h^2), a = -<A, 5/12 B + F>/<A, A> over the
points. On N(0, lambda), with u = sigma^2/(lambda + sigma^2) at the first and the last level,

    a = 5/8 (u_0 + u_1) + u_0 (1 - u_0)/(u_0 - u_1)  ->  5/8,

so gamma* = 3/2 + h/8 for every Gaussian well inside the range at once, where GE(gamma*) is thus of
order 3. The first step, the last term, counts only for levels that
begin near the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Past
from diffgeo.data import Circle
from diffgeo.sampler import RK4, GradientEstimation
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Exponential
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow, silence
from diffgeo.theory.selection import Truth, run

# of the search for the best gamma
MIDDLE = 1.9
WIDTH = 0.9
FINE = 2e-4
TRIED = 13  # values a round


def log_grid(truth: Truth, n: int) -> Tensor:
    path = VE(sigma_min=truth.low, sigma_max=truth.high, spacing=Exponential(), to_zero=False)
    return path.grid(n)


class Gamma(NamedTuple):
    """The best gamma of n log-linear steps of size h, and the errors there and at four given
    values."""

    n: int
    h: float
    best: float
    error: float
    error_ab2: float  # gamma = 1 + e^(-h)/2
    error_half: float  # 3/2
    error_eighth: float  # 3/2 + h/8
    error_two: float  # 2, the published choice


def gamma_errors(
    truth: Truth, n: int, gammas: Sequence[float], history: bool = False
) -> list[float]:
    """The error at truth.low of n log-linear steps with each gamma, all in one batch: gamma
    [rows,1] weighs row by row."""
    count = len(gammas)
    sigmas = log_grid(truth, n)
    past = []
    if history:
        before = float(sigmas[0] ** 2 / sigmas[1])
        x = flow(truth.denoise, truth.x, truth.high, before, 20).repeat(count, 1)
        past = [Past(before, x, truth.denoise(x, before))]
    gamma = torch.tensor(gammas, dtype=torch.float64).repeat_interleave(truth.points)[:, None]
    method = GradientEstimation(gamma)
    end = run(method, truth.denoise, truth.x.repeat(count, 1), sigmas, silence, past)
    return truth.rms(end - truth.end.repeat(count, 1), count).tolist()


@torch.no_grad()
def best_gamma(truth: Truth, n: int, history: bool = False) -> Gamma:
    """The gamma in [1, 2.8] of least error; with `history` the first step has an exact earlier one
    and is not plain."""
    middle = MIDDLE
    width = WIDTH
    while width > FINE:  # each round spans the two neighbours of the best so far
        tried = torch.linspace(middle - width, middle + width, TRIED, dtype=torch.float64)
        gammas = tried.tolist()
        errors = gamma_errors(truth, n, gammas, history)
        error = min(errors)
        middle = gammas[errors.index(error)]
        width = width / (TRIED // 2)
    h = math.log(truth.high / truth.low) / n
    ab2, half, eighth, two = gamma_errors(
        truth, n, [1 + math.exp(-h) / 2, 1.5, 1.5 + h / 8, 2.0], history
    )
    return Gamma(
        n=n,
        h=h,
        best=middle,
        error=error,
        error_ab2=ab2,
        error_half=half,
        error_eighth=eighth,
        error_two=two,
    )


def gaussian_coefficient(variance: float, high: float, low: float, history: bool = False) -> float:
    """a of N(0, variance) in closed form."""
    first = high**2 / (variance + high**2)
    last = low**2 / (variance + low**2)
    plain_start = 0 if history else first * (1 - first) / (first - last)
    return 5 / 8 * (first + last) + plain_start


@torch.no_grad()
def coefficient(truth: Truth, history: bool = False) -> float:
    """a of any law: the flow and, along it, its linearisation with the two sources of A and of 5/12
    B + F, by quadrature. In l = log sigma, with e = eps,

        dv/dl = v - (dD/dx) v + sigma (e_l,  5/12 (e_ll - e_l)),    v = (0, -F) at the first level.
    """
    grid = log_grid(truth, truth.count)
    teacher = Simulation(RK4(), truth.denoise, grid, truth.law.shape, noise=truth.unit)
    path = teacher.trajectory(range(truth.points))
    levels = grid[:-1].tolist()
    dl = float(torch.log(grid[1] / grid[0]))
    eps = (path.x[:-1] - path.denoised) / grid[:-1].view(-1, 1, 1)
    slope = torch.gradient(eps, spacing=dl, dim=0, edge_order=2)[0]
    bend = torch.gradient(slope, spacing=dl, dim=0, edge_order=2)[0] - slope

    def rate(k: int, v: Tensor) -> Tensor:
        """dv/dl of the two tangent vectors v [2,n,d] at level k; dD/dx by central differences of a
        thousandth of sigma."""
        length = v.flatten(2).norm(dim=2)[..., None].clamp_min(1e-300)
        shift = 1e-3 * levels[k] * v / length
        around = torch.cat([*(path.x[k] + shift), *(path.x[k] - shift)])
        up, down = truth.denoise(around, levels[k]).view(2, *v.shape)
        derivative = (up - down) * length / (2e-3 * levels[k])
        sources = torch.stack([slope[k], 5 / 12 * bend[k]])
        return v - derivative + levels[k] * sources

    plain_start = (0 if history else 0.5) * levels[0] * slope[0]
    v = torch.stack([torch.zeros_like(truth.x), plain_start])
    for k in range(len(levels) - 1):  # Heun's rule on the levels of the path
        here = rate(k, v)
        v = v + dl / 2 * (here + rate(k + 1, v + dl * here))
    a, rest = v.flatten(1)
    return -float(a @ rest / (a @ a))


class Radius(NamedTuple):
    """a on a circle whose radius is `ratio` times the first level: measured, by quadrature, and of
    the Gaussian with the circle's deviation."""

    ratio: float
    measured: float
    quadrature: float
    gaussian: float


def by_radius(
    ratios: Sequence[float], n: int, high: float, low: float, points: int, seed: int = 0
) -> list[Radius]:
    """`Radius` of each ratio; measured on n steps from `high` to `low`, over so many points."""
    found = []
    for ratio in ratios:
        radius = ratio * high
        truth = Truth(Circle(radius), high, low, points, seed=seed)
        best = best_gamma(truth, n)
        found.append(
            Radius(
                ratio=ratio,
                measured=0.5 + (best.best - 1.5) / best.h,
                quadrature=coefficient(truth),
                gaussian=gaussian_coefficient(radius**2 / 2, high, low),
            )
        )
    return found
