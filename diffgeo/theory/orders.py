"""The order of a sampler, measured.

    flow      |x_K - x(sigma_K)| ~ N^(-p) along the probability flow dx/d log(sigma) = x - D, whose
              exact states are integrated by DOP853 (Hairer, Norsett, Wanner) at 1e-13; multistep
              methods start from exact history.
    law       |E x_K - E x(sigma_K)| and |Var x_K - Var x(sigma_K)| ~ N^(-p) on Gaussians
              N(m, lambda): on an affine denoiser a run is affine in its start and in its draws of
              noise; fed with unit impulses instead of noise it returns that map, and the variance
              is the sum of the squares: no random number, no Monte Carlo.

The error is taken at the last positive level: a final jump to 0 leaves O(sigma_min^2) whatever the
method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Denoiser, Fitted, Past, Sampler, Schedule, Sigma, expand, generator
from diffgeo.data import Circle, Gaussian
from diffgeo.denoiser import Counted
from diffgeo.sampler import steps
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Exponential

COUNTS = (64, 128, 256, 640)  # steps of a measurement


def exact_flow(denoise: Denoiser, x: Tensor, levels: Sequence[float]) -> Tensor:
    """The exact states [L,B,d] of the probability flow from x [B,d] at levels[0] to every one of
    the positive `levels` [L]."""
    from scipy.integrate import solve_ivp

    def slope(log_sigma: float, y: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(y).view_as(x)
        return (state - denoise(state, float(np.exp(log_sigma)))).flatten().numpy()

    states = [x.double()]
    for span in pairwise(np.log(levels)):
        start = states[-1].flatten().numpy()
        solved = solve_ivp(slope, span, start, method="DOP853", rtol=1e-13, atol=1e-13)
        states.append(torch.from_numpy(solved.y[:, -1].copy()).view_as(x))
    return torch.stack(states)


@dataclass(frozen=True)
class Problem:
    """Points x [B,d] at the level `first`, to be brought down the flow of `denoise` to the positive
    level `last`."""

    denoise: Denoiser
    x: Tensor
    first: float = 20.0
    last: float = 0.02

    @cached_property
    def end(self) -> Tensor:
        return exact_flow(self.denoise, self.x, [self.first, self.last])[-1]

    def error(self, sampler: Sampler, sigmas: Tensor) -> float:
        """|x_K - truth|/|truth| of one run down `sigmas` [K+1], first to last, from as much exact
        history as the sampler looks at."""
        m = min(sampler.memory, len(sigmas) - 2)
        states = exact_flow(self.denoise, self.x, sigmas[: m + 1].tolist())
        history = []
        for sigma, state in zip(sigmas[:m].tolist(), states[:-1], strict=True):
            history.append(Past(sigma, state, self.denoise(state, sigma)))
        x = states[-1]
        for step in steps(sampler, self.denoise, x, sigmas[m:], None, history):
            x = step.x
        return self.miss(x)

    def miss(self, x: Tensor) -> float:
        """|x - truth|/|truth| of states at the level `last`."""
        return float((x - self.end).norm() / self.end.norm())


def starts(d: int) -> Tensor:
    """Twenty points at the level 20, [20,d]."""
    return 20 * torch.randn(20, d, generator=generator(0, *b"orders"), dtype=torch.float64)


@cache
def correlated_gaussian() -> Problem:
    """N(0, C) in R^3, C with eigenvalues 4, 1, .05 in a turned basis."""
    columns = torch.tensor([[1.0, 2, -1], [0.5, -1, 3], [2, 1, 1]], dtype=torch.float64)
    basis = torch.linalg.qr(columns).Q
    eigenvalues = torch.tensor([4.0, 1.0, 0.05], dtype=torch.float64)

    def denoise(x: Tensor, sigma: Sigma, **cond) -> Tensor:
        gain = eigenvalues / (eigenvalues + expand(sigma, x[:, :1]) ** 2)
        return (x @ basis * gain) @ basis.T

    return Problem(denoise, starts(3))


@cache
def unit_circle() -> Problem:
    """The uniform law on the unit circle: curved, singular, and with an exact denoiser in Bessel
    functions."""
    return Problem(Circle().denoiser(), starts(2))


LOG = VE(sigma_min=0.02, sigma_max=20, spacing=Exponential(), to_zero=False)
KARRAS = VE(sigma_min=0.02, sigma_max=20, to_zero=False)
FLOWS: dict[str, tuple[Callable[[], Problem], Schedule]] = {
    "Gaussian, log": (correlated_gaussian, LOG),
    "Gaussian, Karras": (correlated_gaussian, KARRAS),
    "circle, Karras": (unit_circle, KARRAS),
}


def slope(counts: Sequence[int], errors: Sequence[float]) -> float:
    """Minus the least-squares slope of log error against log steps: the measured order."""
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


def gaussian(eigenvalues: Tensor, mean: float = 0.0) -> Denoiser:
    """D of N(mean, diag(eigenvalues))."""
    return lambda x, sigma: mean + eigenvalues / (eigenvalues + expand(sigma, x) ** 2) * (x - mean)


def impulse_response(
    sampler: Sampler, denoise: Denoiser, sigmas: Tensor, mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """The law that a run makes of x_0 ~ N(mean, diag(deviation^2)), both [d], on a denoiser affine
    and diagonal in x: its mean [d], and the coefficients [1+draws,d] of the end state in the
    start's normal variable and in every draw of noise."""
    silence = torch.zeros(1, len(mean), dtype=torch.float64)
    drawn = 0

    def silent() -> Tensor:
        nonlocal drawn
        drawn += 1
        return silence

    def end(x: Tensor, noise) -> Tensor:
        for step in steps(sampler, denoise, x, sigmas, noise):
            x = step.x
        return x

    centre = end(mean[None], silent)
    units = torch.eye(1 + drawn, dtype=torch.float64)[..., None].expand(-1, -1, len(mean))
    turn = iter(units[1:])  # draw k moves row k alone, row 0 is the start's

    def impulse() -> Tensor:
        return next(turn)

    return centre[0], end(mean + units[0] * deviation, impulse) - centre


EIGENVALUES = torch.tensor([0.0, 0.05, 1.0, 4.0], dtype=torch.float64)


def weak_errors(sampler: Sampler, sigmas: Tensor, mean: float = 3.0) -> tuple[float, float]:
    """Errors of mean and variance at the last positive level, from the exact law at the first,
    relative to the law's deviation and variance there; eigenvalues 0, .05, 1, 4 and the same mean
    in each coordinate."""
    truth = EIGENVALUES + sigmas[-1] ** 2
    deviation = torch.sqrt(EIGENVALUES + sigmas[0] ** 2)
    centre, response = impulse_response(
        sampler, gaussian(EIGENVALUES, mean), sigmas, torch.full_like(truth, mean), deviation
    )
    of_mean = ((centre - mean) / torch.sqrt(truth)).norm()
    of_variance = (response.square().sum(0) / truth - 1).norm()
    return float(of_mean), float(of_variance)


class Measured(NamedTuple):
    """What a sampler declares, its evaluations a step, and by problem the slope and the error at
    the largest step count.

    Of an adaptive method no slopes, but the errors and the evaluations a sample (mean of the
    problems) of a whole integration.
    """

    order: int
    nfe: float
    slopes: dict[str, float]
    errors: dict[str, float]


def integrate(sampler: Sampler) -> Measured:
    """An adaptive method from the first level to the last in one step: on a grid of shorter steps
    than its own it would not adapt."""
    errors = {}
    spent = []
    for name, (problem, path) in FLOWS.items():
        counted = Counted(problem().denoise)
        (step,) = steps(sampler, counted, problem().x, path.grid(1), None)
        errors[name] = problem().miss(step.x)
        spent.append(counted.rows / len(step.x))
    return Measured(sampler.order, sum(spent) / len(spent), {}, errors)


def measure(sampler: Sampler) -> Measured:
    """The order of a sampler: of the law when it draws noise, else along the flow of three
    problems.

    No slopes for an adaptive method, whose errors follow its tolerance and not the steps: see
    `integrate`.
    """
    if sampler.adaptive:
        return integrate(sampler)
    if isinstance(sampler, Fitted):
        law = Gaussian([3.0] * len(EIGENVALUES), torch.diag(EIGENVALUES))
        sampler = sampler.fit(gaussian(EIGENVALUES, 3.0), law)
    nfe, draws = spent(sampler)
    found = {}
    if draws:
        found["law, log"] = [max(weak_errors(sampler, LOG.grid(n))) for n in COUNTS]
    else:
        for name, (problem, path) in FLOWS.items():
            found[name] = [problem().error(sampler, path.grid(n)) for n in COUNTS]
    return Measured(
        order=sampler.order,
        nfe=nfe,
        slopes={name: slope(COUNTS, errors) for name, errors in found.items()},
        errors={name: errors[-1] for name, errors in found.items()},
    )


def spent(sampler: Sampler) -> tuple[float, bool]:
    """Evaluations a step, on the finest grid; and whether the sampler draws noise."""
    counted = Counted(gaussian(EIGENVALUES))
    x = torch.ones(1, len(EIGENVALUES))
    drawn = False

    def noise() -> Tensor:
        nonlocal drawn
        drawn = True
        return torch.zeros(1, len(EIGENVALUES), dtype=torch.float64)

    for _ in steps(sampler, counted, x, LOG.grid(COUNTS[-1]), noise):
        pass
    return counted.rows / COUNTS[-1], drawn
