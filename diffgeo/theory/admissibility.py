"""Is a denoiser an approximate projection? Permenter and Yuan's assumption, measured along
trajectories.

With p = proj(x_t) the nearest point of the support, d_t = |x_t - p| and n the dimension of the
space, all at the same state x_t,

    eta_t = |D(x_t) - p| / d_t,          nu_t = max(sigma sqrt(n)/d_t, d_t/(sigma sqrt(n))).

A DDIM step is x' = x - beta (x - D), beta = 1 - sigma'/sigma. From p and the triangle inequality,
and because dist is 1-Lipschitz,

    |x' - p| = |(1-beta)(x - p) + beta (D - p)|  =>  d' <= (1 + beta (eta_t - 1)) d,
    |x' - x| = beta |x - D|                      =>  d' >= (1 - beta (eta_t + 1)) d,

with no assumption at all: a violation is an error of the projection, of the sampler or of the
count. What the theorem makes of eta and nu: theory/verdict.py.

The published generator pairs D(x_t) with the state *after* the update, which inflates eta and nu by
about sigma/sigma'; `legacy_offset` does as it does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Manifold, generator
from diffgeo.errors import UsageError
from diffgeo.simulation import Simulation, ranges

NUMBERS = 1 << 18  # of the states held at once
LARGEST = 2500  # states of a batch
ROUNDING = 64 * torch.finfo(torch.float64).eps  # of a distance, in units of |x| + |p|


def length(x: Tensor) -> Tensor:
    """|x| of every row, [N,*D] -> [N]."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


class Measured(NamedTuple):
    """What N runs over the levels sigma [K+1] showed; a row of every [K,N] is the state that a step
    leaves."""

    sigma: Tensor  # [K+1]
    distance: Tensor  # [K+1,N] to the support
    eta: Tensor  # [K,N] relative error of D as a projection
    ratio: Tensor  # [K,N] sqrt(n) sigma / distance
    norm: Tensor  # [K,N] |eps|/sqrt(n), eps = (x - D)/sigma
    violations: Tensor  # [K] runs that break the per-step inequality, beyond rounding
    ddim: bool  # every step was DDIM's, so that the inequality is owed

    @property
    def nu(self) -> Tensor:
        """max(ratio, 1/ratio), [K,N]."""
        return torch.maximum(self.ratio, 1 / self.ratio)


def check(law: Data, quantile: float = 1.0) -> None:
    """Raise UsageError for data without a projection, for a law that fills its space (every point
    is its own projection there), and for a quantile outside (0, 1]."""
    if not 0 < quantile <= 1:
        raise UsageError(
            f"quantile={quantile}: write a share of the trajectories above 0, at most 1"
        )
    if not isinstance(law, Manifold):
        raise UsageError(
            f"data={type(law).__name__} has no nearest point: write a law with a support, such as "
            "data=curve"
        )
    if law.dim >= math.prod(law.shape):
        raise UsageError(
            f"this law fills R^{law.shape[0]}, so every distance to it is 0: write a law of lower "
            f"dimension, or data.ambient={8 * law.shape[0]}, and blur=0"
        )


def measure(
    simulation: Simulation,
    law: Manifold,
    numbers: range,
    legacy_offset: bool = False,
    batch: int | None = None,
) -> Measured:
    """Draw the samples of these numbers and measure at every state of theirs; memory holds one
    batch of states and K numbers a run.

    `legacy_offset` leaves a last step into 0 out. Raises UsageError for a law without a proper
    support.
    """
    check(law)
    if batch is None:
        batch = min(LARGEST, 1 + NUMBERS // math.prod(law.shape))
    if legacy_offset:  # the state after a step into 0 has no distance to divide by
        simulation = replace(simulation, sampler=simulation.method, sigmas=simulation.positive)
    parts = [one_batch(simulation, law, piece, legacy_offset) for piece in ranges(numbers, batch)]
    return Measured(
        sigma=simulation.sigmas,
        distance=torch.cat([part.distance for part in parts], 1),
        eta=torch.cat([part.eta for part in parts], 1),
        ratio=torch.cat([part.ratio for part in parts], 1),
        norm=torch.cat([part.norm for part in parts], 1),
        violations=sum(part.violations for part in parts),
        ddim=all(part.ddim for part in parts),
    )


@torch.no_grad()
def one_batch(
    simulation: Simulation, law: Manifold, numbers: range, legacy_offset: bool
) -> Measured:
    """`measure` for the runs of these numbers."""
    start = simulation.start(numbers)
    sigmas = simulation.sigmas
    root = math.sqrt(math.prod(law.shape))
    x = start.x
    p = law.project(x)
    d = length(x - p)
    distance = [d]
    rows = []
    violations = []
    ddim = True
    pairs = pairwise(sigmas.tolist())
    for (sigma, sigma_next), step in zip(pairs, simulation.steps(start), strict=True):
        beta = 1 - sigma_next / sigma
        rounding = ROUNDING * (length(x) + length(p))
        error = length(step.denoised - p)
        p_next = law.project(step.x)
        d_next = length(step.x - p_next)

        below = d_next <= d - beta * (d - error) + rounding
        above = d_next >= d - beta * (d + error) - rounding
        violations.append((~(below & above)).sum())

        euler = torch.lerp(step.denoised, x, 1 - beta)
        ddim &= bool((length(step.x - euler) <= rounding).all())

        norm = length(x - step.denoised) / (sigma * root)
        if legacy_offset:
            d = d_next
            error = length(step.denoised - p_next)
        eta = torch.nan_to_num(error / d, nan=0.0)
        rows.append(torch.stack([eta, root * sigma / d, norm]))
        distance.append(d_next)
        x = step.x
        p = p_next
        d = d_next
    eta, ratio, norm = torch.stack(rows, 1).cpu()
    return Measured(
        sigma=sigmas,
        distance=torch.stack(distance).cpu(),
        eta=eta,
        ratio=ratio,
        norm=norm,
        violations=torch.stack(violations).cpu(),
        ddim=ddim,
    )


@torch.no_grad()
def denoiser_errors(
    denoise: Denoiser, law: Manifold, sigmas: Tensor, n: int = 1000, seed: int = 0, device="cpu"
) -> Tensor:
    """|eps(x0 + sigma eps, sigma) - eps|/sqrt(n) at fresh noised points of each positive level,
    [L,n]: 1 is what predicting 0 gives."""
    g = generator(seed, *b"denoiser error", device=device)
    rows = []
    for sigma in sigmas.tolist():
        x0 = law.sample(n, g)
        x = x0 + sigma * torch.randn(x0.shape, generator=g, dtype=x0.dtype, device=x0.device)
        rows.append(length(denoise(x, sigma) - x0) / (sigma * math.sqrt(x0[0].numel())))
    return torch.stack(rows).cpu()


def inequality(measured: Measured) -> str:
    """In how many steps the per-step inequality with the measured eta was broken, in words."""
    count = int(measured.violations.sum())
    states = measured.eta.numel()
    text = (
        f"per-step inequality with the measured eta: {count} violations in {states} steps of "
        f"{measured.eta.shape[1]} trajectories"
    )
    return text if measured.ddim else f"{text}; it is DDIM's, and this sampler takes other steps"
