"""The law that a sampler makes of a Gaussian, exactly: its own step, read as a linear map,
propagates the covariance.

On x0 ~ N(m, U diag(lambda) U^T) the residual of the exact denoiser is, in each eigen-direction, a
number times the centred state:

    r(y; sigma) = y - D(y; sigma) = c(sigma) (y - m),      c = sigma^2/(lambda + sigma^2)      (no cancellation for small sigma).

Put into the tableau of a step (theory.tableau), x' is linear in the state z, what is remembered of
earlier steps included, with one number for each eigenvalue. A run is then an affine map of its
start plus noise,

    z_k = R x_0 + b + N(0, A),

which `advance` composes step by step, without a random number and for every start at once. An
inexact score is another residual (`Gain`). The state is x of x = x0 + sigma eps; the law of x_t =
scale x has scale^2 times its variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.theory.interpolation import LogPieces
from diffgeo.theory.tableau import Plan, Tableau, f64, probe, tableaux

__all__ = [
    "Gain",
    "State",
    "Tableau",
    "advance",
    "gain",
    "law",
    "laws",
    "probe",
    "start",
    "tableaux",
]

BLOCK = 1 << 15  # eigenvalues that go down a grid together: few enough to stay in the cache
# a number, one an eigenvalue [d], or either as a function of sigma
Dependent = float | Tensor | Callable[[float], float | Tensor]


def at(value: Dependent, sigma: float) -> float | Tensor:
    return value(sigma) if callable(value) else value


def part(value, block: slice):
    """The eigenvalues `block` of what may be a number, a function, None or [*S,d]."""
    if callable(value):
        return lambda sigma: part(value(sigma), block)
    return value[..., block] if torch.is_tensor(value) and value.ndim else value


@dataclass(frozen=True, eq=False)
class Gain:
    """The residual of a denoiser in each eigen-direction, r = c (y - m) + bias + noise w,   c = (1 + error) sigma^2/(variance + sigma^2).

    variance: [d].      error: the relative error of the score, in every evaluation the same.
    bias, noise: of the residual, in data units; a score of x_t that is wrong by b has the bias
    -scale sigma^2 b. w is standard normal and new with every evaluation. The last few levels' c are
    remembered, so that schemes that share a grid compute it once.
    """

    variance: Tensor
    error: Dependent = 0.0
    bias: Dependent | None = None
    noise: Dependent | None = None
    held: dict[float, Tensor] = field(default_factory=dict, repr=False)

    unit = torch.ones(1, dtype=f64)
    shape = property(lambda self: self.variance.shape)

    def __call__(self, sigma: float, value: Tensor | None = None) -> Tensor:
        """c(sigma) [d], or times a value."""
        if sigma not in self.held:
            if len(self.held) > 3:
                self.held.pop(next(iter(self.held)))
            e = at(self.error, sigma)
            c = sigma**2 / (self.variance + sigma**2)
            self.held[sigma] = c if not torch.is_tensor(e) and e == 0 else c * (1 + e)
        return self.held[sigma] if value is None else self.held[sigma] * value

    @property
    def smooth(self) -> bool:
        """Whether c is one smooth function of the eigenvalue."""
        return not any(
            torch.is_tensor(v) or callable(v) for v in (self.error, self.bias, self.noise)
        )

    def part(self, block: slice) -> Gain:
        return Gain(*(part(v, block) for v in (self.variance, self.error, self.bias, self.noise)))


def gain(
    variance: Tensor,
    error: Dependent = 0.0,
    bias: Dependent | None = None,
    noise: Dependent | None = None,
) -> Gain:
    """The residual of an exact denoiser, or of an inexact one."""
    return Gain(variance, error, bias, noise)


class State(NamedTuple):
    """The law of the state z = R x_0 + b + N(0, A), x first, then what is remembered, in each
    eigen-direction and from each of S starts."""

    first: Tensor  # variance of x_0 [*S,d]
    centre: Tensor | None  # its mean [*S,d], None for a law that is not asked for its mean
    response: Tensor  # R [n,d]
    offset: Tensor | None  # b [n,d]
    added: Tensor | None  # A [n,n,d], None for 0

    @property
    def covariance(self) -> Tensor:
        """[n,n,*S,d]."""
        n, d = self.response.shape
        one = (1,) * (self.first.ndim - 1)
        r = self.response.view(n, *one, d)
        carried = r[:, None] * r * self.first
        return carried if self.added is None else carried + self.added.view(n, n, *one, d)

    @property
    def variance(self) -> Tensor:
        """Of x, [*S,d]."""
        return self.first * self.response[0] ** 2 + (
            0.0 if self.added is None else self.added[0, 0]
        )

    @property
    def mean(self) -> Tensor | None:
        """[n,*S,d]."""
        return (
            None
            if self.centre is None
            else torch.stack(
                [r * self.centre + b for r, b in zip(self.response, self.offset, strict=True)]
            )
        )

    def spread(self, first: Tensor, pieces: LogPieces) -> State:
        """Found at the nodes of `pieces`, on all eigenvalues."""
        return State(
            first,
            None,
            pieces(self.response),
            None,
            None if self.added is None else pieces(self.added),
        )

    def part(self, block: slice) -> State:
        return State(*(part(v, block) for v in self))


def start(variance: Tensor, mean: Tensor | None = None) -> State:
    """The law of x at the first level: variance [*S,d] for any number of starts S, mean likewise or
    None."""
    one = torch.ones(1, variance.shape[-1], dtype=f64)
    return State(variance, mean, one, None if mean is None else torch.zeros_like(one), None)


def advance(tableau: Tableau, c: Gain, state: State, centre: Tensor | None = None) -> State:
    """The law after one step; `centre` [d] is m, needed where the state has a mean."""
    return forward(Plan(tableau), c, state, centre)


def forward(plan: Plan, c: Gain, state: State, centre: Tensor | None = None) -> State:
    if (
        plan.sources == len(plan.direct) - len(plan.levels) == 1
        and state.offset is None
        and c.noise is None
    ):
        # the hot loop: R <- a R, A <- a^2 A + noise
        a = plan.factor(c)
        added = state.added
        if plan.fresh is not None:
            added = (
                plan.fresh.expand(1, 1, len(a))
                if added is None
                else torch.addcmul(plan.fresh, added * a, a)
            )
        elif added is not None:
            added = added * a * a
        return State(state.first, None, state.response * a, None, added)
    rows = plan.responses(c)
    # M [n',n,d], and of the draws [n',S,d]
    moved = rows[:, : plan.states]
    drawn = rows[:, plan.states :]

    def carried(z: Tensor) -> Tensor:
        """M z: [n,..,d] -> [n',..,d]."""
        one = (1,) * (z.ndim - 2)
        return sum(moved[:, s].view(len(moved), *one, -1) * z[s] for s in range(plan.states))

    if c.noise is not None:  # a draw of its own in every evaluation
        which = torch.eye(len(plan.levels), dtype=f64)[..., None]
        errors = plan.forced(
            c, [which[i] * at(c.noise, sigma) for i, sigma in enumerate(plan.levels)]
        )
        drawn = torch.cat([drawn, errors], 1)
    added = state.added
    if added is not None:
        added = carried(carried(added).transpose(0, 1))
    if plan.fresh is not None:
        added = plan.fresh.expand(-1, -1, rows.shape[-1]) if added is None else added + plan.fresh
    if drawn.shape[1]:
        heard = torch.einsum("asd,bsd->abd", drawn, drawn)
        added = heard if added is None else added + heard
    offset = state.offset
    if offset is not None:
        bias = lambda sigma: 0.0 if c.bias is None else at(c.bias, sigma)
        enters = [(bias(sigma) - c(sigma) * centre).expand(1, -1) for sigma in plan.levels]
        offset = carried(offset) + plan.forced(c, enters)[:, 0]
    return State(state.first, state.centre, carried(state.response), offset, added)


def law(table: Iterable[Tableau], c: Gain, state: State, centre: Tensor | None = None) -> State:
    """The law at the end of a run."""
    for tableau in table:
        state = advance(tableau, c, state, centre)
    return state


def laws(
    tables: Sequence[Sequence[Tableau]], c: Gain, state: State, centre: Tensor | None = None
) -> list[State]:
    """The laws at the end of several runs down one grid from one state of a single part, step by
    step together, so that each c is computed once. Many eigenvalues are interpolated from few,
    where an error in the score does not set each apart."""
    plans = [[Plan(tableau) for tableau in table] for table in tables]
    if len(c.variance) > 2000 and c.smooth and state.centre is None:
        pieces = LogPieces(c.variance)
        if 2 * len(pieces.nodes) < len(c.variance):
            ends = together(
                plans,
                replace(c, variance=pieces.nodes, held={}),
                start(torch.ones_like(pieces.nodes)),
            )
            if all(
                pieces.good(v) for end in ends for v in (end.response, end.added) if v is not None
            ):
                return [end.spread(state.first, pieces) for end in ends]
    d = len(c.variance)
    ends = []
    for low in range(0, d, BLOCK):
        block = slice(low, low + BLOCK)
        ends.append(together(plans, c.part(block), state.part(block), part(centre, block)))
    return [
        State(*(None if v[0] is None else torch.cat(v, -1) for v in zip(*run, strict=True)))
        for run in zip(*ends, strict=True)
    ]


def together(
    plans: Sequence[Sequence[Plan]], c: Gain, state: State, centre: Tensor | None = None
) -> list[State]:
    states = [state] * len(plans)
    for step in zip(*plans, strict=True):
        states = [forward(plan, c, z, centre) for plan, z in zip(step, states, strict=True)]
    return states
