"""GITS: the levels that lose least to Euler's rule, by dynamic programming over a teacher's
trajectory (Chen et al. 2024).

On a fine grid sigma_0 > .. > sigma_(L-1) a teacher runs N samples x_i; trajectories of a model look
alike, so a few hundred stand for all.

    cost[i,j] = mean |x_i + (sigma_j - sigma_i) eps_i - x_j|,       eps_i = (x_i - D_i)/sigma_i,

one Euler jump from the teacher's state, and of the k jumps from j to the end

    V_1[j] = cost[j,L-1],       V_k[j] = min_i cost[j,i] + coeff V_(k-1)[i],

so a plan's cost is sum_k coeff^k cost of its k-th jump: coeff = 1 adds the local errors, coeff > 1
says that what is lost at the low levels is not made good (1.15 in the paper; 1.2 for Stable
Diffusion). One run of the teacher plans every number of steps.

The cost adds local errors as if the flow neither shrank nor stretched them: where it contracts them
all, as on a circle, nothing is won.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Trajectory
from diffgeo.errors import UsageError
from diffgeo.simulation import Simulation

NORMS = {"l2": 2, "l1": 1}


class Plan(NamedTuple):
    cost: float
    path: tuple[int, ...]  # indices of the chosen levels, from 0 to L-1


def costs(teacher: Trajectory, norm: str = "l2") -> Tensor:
    """cost[i,j] [L,L] of one Euler jump from the teacher's state at level i to level j > i, its
    norm averaged over samples; else inf.

    The norm is of the whole difference of a sample, not a mean over its coordinates. Raises
    UsageError on a norm that is not l2 or l1.
    """
    if norm not in NORMS:
        raise UsageError(f"norm={norm}: write one of {', '.join(NORMS)}")
    x = teacher.x.flatten(2)
    sigma = teacher.sigma.tolist()
    cost = torch.full((len(sigma), len(sigma)), torch.inf, dtype=torch.float64)
    for i, denoised in enumerate(teacher.denoised.flatten(2)):
        eps = (x[i] - denoised) / sigma[i]
        for j in range(i + 1, len(sigma)):
            deviation = torch.add(x[i], eps, alpha=sigma[j] - sigma[i]) - x[j]
            cost[i, j] = torch.linalg.vector_norm(deviation, NORMS[norm], dim=1).mean()
    return cost


def plan(cost: Tensor, steps: int, coeff: float = 1.15) -> dict[int, Plan]:
    """The cheapest way from level 0 to level L-1 in k jumps, for every k = 1 .. steps; cost [L,L]
    is inf where there is no jump.

    Raises UsageError for more steps than the grid has, or a coeff that is not positive.
    """
    last = len(cost) - 1
    if not 1 <= steps <= last:
        raise UsageError(
            f"steps={steps}: a teacher with {last} steps has plans for 1 to {last}; write fewer "
            "steps or a finer grid"
        )
    if coeff <= 0:
        raise UsageError(
            f"coeff={coeff}: write a positive number (1 adds the local errors, 1.15 is the paper's)"
        )
    value = cost[:, last]  # V_k
    jumps: list[list[int]] = []  # where to jump from each level with k, k-1, .., 2 jumps to go
    plans = {}
    for k in range(1, steps + 1):
        if k > 1:
            value, best = (cost + coeff * value).min(1)
            jumps.insert(0, best.tolist())
        path = [0]
        for jump in jumps:
            path.append(jump[path[-1]])
        plans[k] = Plan(float(value[0]), (*path, last))
    return plans


def fit(
    simulation: Simulation,
    numbers: range,
    steps: int = 20,
    coeff: float = 1.15,
    norm: str = "l2",
    law: str = "",
) -> dict:
    """Plan the levels for 1 .. steps steps of a denoiser, from the runs of these numbers of the
    teacher's simulation, down a fine grid [L].

    Returns what levels.Planned reads, for files.write_json: levels and cost of every step count,
    and what they were fitted to.
    """
    teacher = simulation.trajectory(numbers)
    grid = simulation.sigmas
    plans = plan(costs(teacher, norm), steps, coeff)
    return {
        "levels": {str(k): grid[list(found.path)].tolist() for k, found in plans.items()},
        "cost": {str(k): found.cost for k, found in plans.items()},
        "teacher": repr(simulation.sampler),
        "grid": grid.tolist(),
        "nfe": teacher.nfe,
        "law": law,
        "n": len(numbers),
        "seed": simulation.seed,
        "coeff": coeff,
        "norm": norm,
    }
