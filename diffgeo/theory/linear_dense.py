"""theory.linear where directions are mixed: the residual is a matrix times the centred state, r =
C(sigma) (y - m).

With a relative error E [d,d] of the score that does not commute with the covariance,

    C(sigma) = sigma^2 (Sigma + sigma^2)^-1 (I + E),

every coefficient of a step is a matrix, and the full covariance is propagated:

    K' = M K M^T + sum_w W W^T.

For d in the hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.theory.tableau import Plan, Tableau, f64


@dataclass(frozen=True, eq=False)
class Gain:
    """C: `covariance` Sigma [d,d], relative score `error` E, a matrix [d,d] or a function of sigma
    that returns one."""

    covariance: Tensor
    error: Tensor | Callable[[float], Tensor] | None = None

    @cached_property
    def unit(self) -> Tensor:
        return torch.eye(len(self.covariance), dtype=f64)

    @property
    def shape(self) -> torch.Size:
        return self.covariance.shape

    def __call__(self, sigma: float, value: Tensor | None = None) -> Tensor:
        error = self.error(sigma) if callable(self.error) else self.error
        wrong = self.unit + (0.0 if error is None else error)
        c = sigma**2 * torch.linalg.solve(self.covariance + sigma**2 * self.unit, wrong)
        return c if value is None else c @ value


class State(NamedTuple):
    """Means [n,d] and covariances [n,n,d,d] of x and of what a sampler remembers."""

    means: Tensor
    covariances: Tensor

    @property
    def mean(self) -> Tensor:
        """Of x, [d]."""
        return self.means[0]

    @property
    def covariance(self) -> Tensor:
        """Of x, [d,d]."""
        return self.covariances[0, 0]


def advance(tableau: Tableau, c: Gain, state: State, centre: Tensor) -> State:
    """The law after one step; `centre` [d] is m."""
    plan = Plan(tableau)
    rows = plan.responses(c)
    moved = rows[:, : plan.states]  # M [n',n,d,d]
    drawn = rows[:, plan.states :]  # of the draws, [n',draws,d,d]
    fixed = plan.forced(c, [-c(sigma)[None] for sigma in plan.levels])[:, 0]  # of m, [n',d,d]
    means = torch.einsum("asij,sj->ai", moved, state.means) + fixed @ centre
    carried = torch.einsum("asij,stjk,btlk->abil", moved, state.covariances, moved)
    heard = torch.einsum("asij,bskj->abik", drawn, drawn)
    covariances = carried + heard
    if plan.fresh is not None:
        covariances = covariances + plan.fresh[..., None] * c.unit
    return State(means, covariances)


def law(
    table: Iterable[Tableau], c: Gain, mean: Tensor, covariance: Tensor, centre: Tensor
) -> State:
    """The law at the end of a run from N(mean [d], covariance [d,d]) at the first level."""
    state = State(mean[None], covariance[None, None])
    for tableau in table:
        state = advance(tableau, c, state, centre)
    return state
