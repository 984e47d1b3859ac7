"""How many steps of an algorithm so many evaluations are.

Steps of different algorithms cost differently: one evaluation for a prox, one more for a product
with the Jacobian, several for a flow to the clean estimate. So algorithms are compared at equal
evaluations, and those of a run are counted on a prior that costs nothing, N(0, I) of the same
shape: no algorithm of a fixed cost looks at what the denoiser says to know how often to ask it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement, Operator
from diffgeo.core import Denoiser, Sigma, expand
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.condition import Measured
from diffgeo.simulation import Simulation


@dataclass(frozen=True)
class Free:
    """The denoiser of N(0, I), whatever the shape: D = x/(1 + sigma^2). A posterior of it is taken
    for itself: what is counted is calls."""

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return x / expand(1 + sigma**2, x)

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        """Cov[x0 | x] v."""
        return v * expand(sigma**2 / (1 + sigma**2), v)


class FreeLaw:
    """N(0, I) of a shape, as far as a rule that is told the law looks at it."""

    classes = 0
    coordinate = None
    quantile = None
    period = None
    atoms = None
    weights = None
    std = 1.0
    key = "free"
    log_evidence = None
    ess = None

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.mean = torch.zeros(shape, dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, *self.shape, generator=generator, dtype=torch.float64)

    def store(self, x: Tensor):
        return x.numpy()

    def restore(self, array):
        return torch.from_numpy(array)

    def denoiser(self) -> Denoiser:
        return Free()

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> FreeLaw:
        return self


def evaluations(
    simulation: Simulation, algorithm: Algorithm, operator: Operator, sigma_n: float
) -> float:
    """What a draw takes, products with the Jacobian counted as evaluations."""
    y = torch.zeros(operator.measured, dtype=torch.float64)
    law = FreeLaw(simulation.shape)
    condition = Measured(Measurement(operator, y, sigma_n), algorithm, law)
    counting = replace(
        simulation, denoise=Free(), condition=condition, noise=None, first=0, device="cpu"
    )
    start = counting.start(range(1))
    for _ in counting.steps(start):
        pass
    return float(start.counted.rows)


def affordable(
    simulation: Simulation,
    algorithm: Algorithm,
    operator: Operator,
    sigma_n: float,
    grid: Callable[[int], Tensor],
    most: int,
) -> Simulation:
    """The simulation of the most steps that take at most `most` evaluations a draw. Raises
    UsageError where one step takes more."""

    def on(steps: int) -> Simulation:
        return replace(simulation, sigmas=grid(steps))

    def taken(steps: int) -> float:
        return evaluations(on(steps), algorithm, operator, sigma_n)

    if taken(1) > most:
        raise UsageError(f"evaluations={most}: one step of this algorithm takes more; write more")
    low = 1  # affordable
    high = most + 1  # not: a step takes one evaluation or more
    while high - low > 1:
        middle = (low + high) // 2
        if taken(middle) <= most:
            low = middle
        else:
            high = middle
    return on(low)
