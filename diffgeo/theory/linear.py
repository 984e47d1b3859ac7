"""The law that a sampler makes of a Gaussian, exactly: its own step, read as a linear map,
propagates the covariance.

On x0 ~ N(m, U diag(lambda) U^T) the residual of the exact denoiser is, in each eigen-direction, a
number times the centred state:

    r(y; sigma) = y - D(y; sigma) = c(sigma) (y - m),      c = sigma^2/(lambda + sigma^2)

(no cancellation for small sigma). Put into the tableau of a step (theory.tableau), x' is linear in
the state z, what is remembered of earlier steps included, with one number for each eigenvalue. A
run is then an affine map of its start plus noise,

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
MANY = 2000  # eigenvalues, above which it pays to interpolate
HELD = 4  # levels whose c is remembered
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
    """The residual of a denoiser in each eigen-direction,

        r = c (y - m) + bias + noise w,      c = (1 + error) sigma^2/(variance + sigma^2).

    variance: [d].
    error: the relative error of the score, in every evaluation the same.
    bias, noise: of the residual, in data units; a score of x_t that is wrong by b has the bias
        -scale sigma^2 b. w is standard normal and new with every evaluation.
    held: c at the last few levels, so that schemes that share a grid compute it once.
    """

    variance: Tensor
    error: Dependent = 0.0
    bias: Dependent | None = None
    noise: Dependent | None = None
    held: dict[float, Tensor] = field(default_factory=dict, repr=False)

    unit = torch.ones(1, dtype=f64)

    @property
    def shape(self) -> torch.Size:
        return self.variance.shape

    def __call__(self, sigma: float, value: Tensor | None = None) -> Tensor:
        """c(sigma) [d], or times a value."""
        c = self.held.get(sigma)
        if c is None:
            c = self.at_level(sigma)
            if len(self.held) == HELD:
                oldest = next(iter(self.held))
                del self.held[oldest]
            self.held[sigma] = c
        return c if value is None else c * value

    def at_level(self, sigma: float) -> Tensor:
        c = sigma**2 / (self.variance + sigma**2)
        error = at(self.error, sigma)
        exact = not torch.is_tensor(error) and error == 0
        return c if exact else c * (1 + error)

    @property
    def smooth(self) -> bool:
        """Whether c is one smooth function of the eigenvalue."""
        for value in (self.error, self.bias, self.noise):
            if torch.is_tensor(value) or callable(value):
                return False
        return True

    def part(self, block: slice) -> Gain:
        return Gain(
            variance=part(self.variance, block),
            error=part(self.error, block),
            bias=part(self.bias, block),
            noise=part(self.noise, block),
        )


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
        carried = self.first * self.response[0] ** 2
        return carried + (0.0 if self.added is None else self.added[0, 0])

    @property
    def mean(self) -> Tensor | None:
        """[n,*S,d]."""
        if self.centre is None:
            return None
        pairs = zip(self.response, self.offset, strict=True)
        return torch.stack([r * self.centre + b for r, b in pairs])

    def spread(self, first: Tensor, pieces: LogPieces) -> State:
        """Found at the nodes of `pieces`, on all eigenvalues."""
        return State(
            first=first,
            centre=None,
            response=pieces(self.response),
            offset=None,
            added=None if self.added is None else pieces(self.added),
        )

    def part(self, block: slice) -> State:
        return State(*(part(value, block) for value in self))

    @staticmethod
    def joined(blocks: Sequence[State]) -> State:
        """The laws on consecutive blocks of eigenvalues as one."""
        fields = []
        for parts in zip(*blocks, strict=True):
            fields.append(None if parts[0] is None else torch.cat(parts, -1))
        return State(*fields)


def start(variance: Tensor, mean: Tensor | None = None) -> State:
    """The law of x at the first level: variance [*S,d] for any number of starts S, mean likewise or
    None."""
    one = torch.ones(1, variance.shape[-1], dtype=f64)
    return State(
        first=variance,
        centre=mean,
        response=one,
        offset=None if mean is None else torch.zeros_like(one),
        added=None,
    )


def advance(tableau: Tableau, c: Gain, state: State, centre: Tensor | None = None) -> State:
    """The law after one step; `centre` [d] is m, needed where the state has a mean."""
    return forward(Plan(tableau), c, state, centre)


def forward(plan: Plan, c: Gain, state: State, centre: Tensor | None = None) -> State:
    if plan.one_number and state.offset is None and c.noise is None:
        return scaled(plan, c, state)
    rows = plan.responses(c)
    moved = rows[:, : plan.states]  # M [n',n,d]
    drawn = rows[:, plan.states :]  # of the draws that an evaluation hears, [n',draws,d]
    if c.noise is not None:
        drawn = torch.cat([drawn, errors_of(plan, c)], 1)
    offset = state.offset
    if offset is not None:
        offset = carried(moved, offset) + fixed(plan, c, centre)
    return State(
        first=state.first,
        centre=state.centre,
        response=carried(moved, state.response),
        offset=offset,
        added=added_by(plan, moved, drawn, state.added),
    )


def scaled(plan: Plan, c: Gain, state: State) -> State:
    """The hot loop, a step that remembers nothing: R <- a R, A <- a^2 A + noise."""
    a = plan.factor(c)
    added = state.added
    if plan.fresh is None:
        if added is not None:
            added = added * a * a
    elif added is None:
        added = plan.fresh.expand(1, 1, len(a))
    else:
        added = torch.addcmul(plan.fresh, added * a, a)
    return State(state.first, None, state.response * a, None, added)


def carried(moved: Tensor, z: Tensor) -> Tensor:
    """M z: [n',n,d], [n,..,d] -> [n',..,d]."""
    one = (1,) * (z.ndim - 2)
    return sum(moved[:, s].view(len(moved), *one, -1) * z[s] for s in range(len(z)))


def added_by(plan: Plan, moved: Tensor, drawn: Tensor, added: Tensor | None) -> Tensor | None:
    """A after the step: M A M^T, and the covariances of what the step draws."""
    if added is not None:
        added = carried(moved, carried(moved, added).transpose(0, 1))
    if plan.fresh is not None:
        d = moved.shape[-1]
        added = plan.fresh.expand(-1, -1, d) if added is None else added + plan.fresh
    if drawn.shape[1]:
        heard = torch.einsum("asd,bsd->abd", drawn, drawn)
        added = heard if added is None else added + heard
    return added


def errors_of(plan: Plan, c: Gain) -> Tensor:
    """What the score's own noise, a draw in every evaluation, leaves in each output,
    [n',evaluations,d]."""
    which = torch.eye(len(plan.levels), dtype=f64)[..., None]
    return plan.forced(c, [which[i] * at(c.noise, sigma) for i, sigma in enumerate(plan.levels)])


def fixed(plan: Plan, c: Gain, centre: Tensor) -> Tensor:
    """What the mean m and the bias of the score leave in each output, [n',d]."""
    enters = []
    for sigma in plan.levels:
        bias = 0.0 if c.bias is None else at(c.bias, sigma)
        enters.append((bias - c(sigma) * centre).expand(1, -1))
    return plan.forced(c, enters)[:, 0]


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
    if len(c.variance) > MANY and c.smooth and state.centre is None:
        found = interpolated(plans, c, state)
        if found is not None:
            return found
    by_block = []
    for low in range(0, len(c.variance), BLOCK):
        block = slice(low, low + BLOCK)
        by_block.append(together(plans, c.part(block), state.part(block), part(centre, block)))
    return [State.joined(blocks) for blocks in zip(*by_block, strict=True)]


def interpolated(plans: Sequence[Sequence[Plan]], c: Gain, state: State) -> list[State] | None:
    """The laws by interpolation in the eigenvalue; None where it saves little or does not meet its
    tests."""
    pieces = LogPieces(c.variance)
    if 2 * len(pieces.nodes) >= len(c.variance):
        return None
    at_nodes = replace(c, variance=pieces.nodes, held={})
    ends = together(plans, at_nodes, start(torch.ones_like(pieces.nodes)))
    for end in ends:
        if not pieces.good(end.response):
            return None
        if end.added is not None and not pieces.good(end.added):
            return None
    return [end.spread(state.first, pieces) for end in ends]


def together(
    plans: Sequence[Sequence[Plan]], c: Gain, state: State, centre: Tensor | None = None
) -> list[State]:
    """The laws at the end of several runs, step by step."""
    states = [state] * len(plans)
    for step in zip(*plans, strict=True):
        states = [forward(plan, c, z, centre) for plan, z in zip(step, states, strict=True)]
    return states
