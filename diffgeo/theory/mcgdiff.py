"""The mixture problem of Cardoso, Janati El Idrissi, Le Corff and Moulines (MCGdiff, 2024), whose
posterior is known.

25 unit Gaussians at (8i, 8j), i, j = -2..2, each repeated along d coordinates, of weights
proportional to squared normals; y = A x0 + s n with A = U diag(c) V', c sorted uniform on (0, 1), U
and V from a normal matrix, and s uniform on (0, max c). Everything of a problem is drawn from its
seed, and so is the truth x0 that y is made of. The posterior is again a mixture of 25
(`law.given`), so its own draws are the reference, and two sets of them the noise floor of every
distance to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Sampler, generator
from diffgeo.data.gaussian import Mixture
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.condition import Measured
from diffgeo.inverse.operators import matrix
from diffgeo.metrics.transport import sliced_w2
from diffgeo.simulation import Simulation
from diffgeo.simulation.initial import Initial

f64 = torch.float64
WIDEST = 80  # coordinates: the covariances are held entry by entry
FLOOR = "floor"
SPACING = 8.0


class Problem(NamedTuple):
    """A law, a measurement of one truth, and the truth [d]."""

    law: Mixture
    measurement: Measurement
    truth: Tensor


@dataclass
class Found:
    """What an algorithm gave, an entry a problem; None where it diverged.

    distance: sliced W2 to the posterior. modes: total variation of the shares of the 25 modes.
    nfe: evaluations a sample, products with the Jacobian among them.
    """

    distance: list[float | None] = field(default_factory=list)
    modes: list[float | None] = field(default_factory=list)
    nfe: list[float] = field(default_factory=list)


def law_of(d: int, seed: int) -> Mixture:
    """The prior of a problem. Raises UsageError on an odd d, or one that is too large."""
    if d < 2 or d % 2 or d > WIDEST:
        raise UsageError(f"d={d}: write an even number of coordinates from 2 to {WIDEST}")
    places = SPACING * torch.arange(-2, 3, dtype=f64)
    means = torch.cartesian_prod(places, places).repeat(1, d // 2)
    weights = torch.randn(25, generator=generator(seed, *b"weights"), dtype=f64).square()
    covariances = torch.eye(d, dtype=f64).expand(25, d, d)
    return Mixture(means, covariances, weights / weights.sum())


def problem_of(d: int, d_y: int, seed: int) -> Problem:
    """The problem of a seed. Raises UsageError on more measured numbers than coordinates."""
    if not 1 <= d_y <= d:
        raise UsageError(f"d_y={d_y}: write a number of measured coordinates from 1 to d={d}")
    law = law_of(d, seed)
    draw = generator(seed, d, d_y)
    u, _, v = torch.linalg.svd(torch.randn(d_y, d, generator=draw, dtype=f64), full_matrices=False)
    values, _ = torch.rand(d_y, generator=draw, dtype=f64).sort(descending=True)
    a = u @ torch.diag(values) @ v
    sigma_n = float(torch.rand(1, generator=draw, dtype=f64) * values.max())
    truth = law.sample(1, draw)
    noise = torch.randn(d_y, generator=draw, dtype=f64)
    y = truth[0] @ a.mT + sigma_n * noise
    return Problem(law, Measurement(matrix(shape=(d,), entries=a), y, sigma_n), truth[0])


def mode_of(problem: Problem, x: Tensor) -> Tensor:
    """The share of the samples [n,d] that are nearest to each mean, [25]."""
    nearest = torch.cdist(x, problem.law.means).argmin(1)
    return torch.bincount(nearest, minlength=25) / len(x)


def compared(
    problems: Sequence[Problem],
    algorithms: Mapping[str, Algorithm],
    sampler: Sampler,
    sigmas: Tensor,
    n: int,
    seed: int = 0,
    initial: Initial | None = None,
) -> dict[str, Found]:
    """n samples of every algorithm on every problem, against n of its posterior; under `floor`,
    other n of the posterior. They start as `initial` says, None: as the sampler does."""
    found = {name: Found() for name in [FLOOR, *algorithms]}
    for number, problem in enumerate(problems):
        told = problem.measurement
        posterior = problem.law.given(told.operator, told.y, told.sigma_n)
        truth = posterior.sample(n, generator(seed, number, *b"truth"))
        again = posterior.sample(n, generator(seed, number, *b"floor"))
        note(found[FLOOR], problem, again, truth, 0.0)
        for name, algorithm in algorithms.items():
            simulation = Simulation(
                sampler,
                problem.law.denoiser(),
                sigmas,
                problem.law.shape,
                seed=seed,
                condition=Measured(problem.measurement, algorithm, problem.law, draws=n),
                initial=initial,
            )
            try:
                drawn = simulation.draw(range(n))
            except DiffgeoError:  # not finite
                note(found[name], problem, None, truth, math.nan)
            else:
                note(found[name], problem, drawn.samples, truth, drawn.nfe)
    return found


def note(found: Found, problem: Problem, x: Tensor | None, truth: Tensor, nfe: float) -> None:
    """Add the entry of a problem: of samples x [n,d] against those of the posterior."""
    if x is None:
        found.distance.append(None)
        found.modes.append(None)
        return
    found.distance.append(sliced_w2(x.numpy(), truth.numpy()))
    apart = mode_of(problem, x) - mode_of(problem, truth)
    found.modes.append(float(apart.abs().sum() / 2))
    found.nfe.append(nfe)


def mean_of(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean of the numbers that there are, and its standard error; None where there is none."""
    there = torch.tensor([value for value in values if value is not None], dtype=f64)
    if not len(there):
        return None, None
    error = float(there.std()) / math.sqrt(len(there)) if len(there) > 1 else None
    return float(there.mean()), error
