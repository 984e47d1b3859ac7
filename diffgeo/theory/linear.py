"""The law that a sampler makes of a Gaussian, exactly: its own step, read as a linear map, propagates the covariance.

On x0 ~ N(m, U diag(lambda) U^T) the residual of the exact denoiser is, in each eigen-direction, a number times the centred state:

    r(y; sigma) = y - D(y; sigma) = c(sigma) (y - m),      c = sigma^2/(lambda + sigma^2)      (no cancellation for small sigma).

A sampler whose step only adds and scales states, draws of noise w and denoised points is therefore a table of numbers: with the evaluations
i = 1 .. k of one step at the levels sigma_i,

    y_i = sum_s P_is z_s + sum_{j<i} P_ij r_j,      x' = sum_s Q_s z_s + sum_j Q_j r_j,        z = (x, x_past, r_past, ..., w_1, w_2, ...).

`probe` reads the table by running the step once on linear forms: the state is a row of coefficients, every draw and every residual is a
new unit vector. So there is no second copy of a scheme. `advance` replaces r_j by c_j (y_j - m): x' is then linear in z with one number
for each eigenvalue, and the joint covariance of the state and of what the sampler remembers follows without a random number. The state is
x of x = x0 + sigma eps; the law of x_t = scale x has scale^2 times its variance.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Past, Sampler
from diffgeo.errors import UsageError

SYMBOLS = 1024                      # room for the states, draws and evaluations of one step
Gain = Callable[[float], Tensor]    # sigma -> c, of the residual c (y - m): [d], or [d,d] where directions are mixed
Form = dict[int, float]             # a linear form: coefficient by symbol, without the zeros


class Tableau(NamedTuple):
    """One step as linear forms over symbols: 0 .. states-1 the state z (x, then x and r of every remembered step, the oldest first),
    then `draws` and `residuals` in the order in which the step made them."""

    states: int
    draws: tuple[int, ...]          # their symbols
    residuals: tuple[int, ...]      # their symbols
    levels: tuple[float, ...]       # sigma_i of each residual
    inputs: tuple[Form, ...]        # y_i of each residual
    outputs: tuple[Form, ...]       # the next state: x', then x and r of every step remembered then


def probe(sampler: Sampler, sigma: float, sigma_next: float, past: Sequence[float] = ()) -> Tableau:
    """The tableau of the step from sigma to sigma_next of a sampler that remembers steps from the levels `past`, the oldest first.

    Raises UsageError where a step makes more than SYMBOLS draws and evaluations.
    """
    made = 0

    def symbol() -> tuple[int, Tensor]:
        nonlocal made
        if made == SYMBOLS:
            raise UsageError(f"one step of {type(sampler).__name__} makes more than {SYMBOLS} draws and evaluations: write fewer sub-steps")
        unit = torch.zeros(1, SYMBOLS, dtype=torch.float64)
        unit[0, made] = 1
        made += 1
        return made - 1, unit

    draws, residuals, levels, inputs = [], [], [], []

    def denoise(y: Tensor, level, **cond) -> Tensor:
        number, unit = symbol()
        residuals.append(number)
        levels.append(float(level))
        inputs.append(form(y))
        return y - unit

    def noise() -> Tensor:
        number, unit = symbol()
        draws.append(number)
        return unit

    x = symbol()[1]
    remembered = [(symbol()[1], symbol()[1]) for _ in past]
    history = [Past(s, y, y - r) for s, (y, r) in zip(past, remembered, strict=True)]
    states = made
    step = sampler.step(denoise, x, sigma, sigma_next, history, noise)
    kept = x if step.corrected is None else step.corrected
    remembered = [*remembered, (kept, kept - step.denoised)][max(0, len(past) + 1 - sampler.memory):]
    outputs = [step.x, *(part for pair in remembered for part in pair)]
    return Tableau(states, tuple(draws), tuple(residuals), tuple(levels), tuple(inputs), tuple(map(form, outputs)))


def form(row: Tensor) -> Form:
    """A row of coefficients [1,SYMBOLS] as {symbol: coefficient}."""
    (where,) = row[0].nonzero(as_tuple=True)
    return dict(zip(where.tolist(), row[0, where].tolist(), strict=True))


def tableaux(sampler: Sampler, sigmas: Sequence[float] | Tensor) -> list[Tableau]:
    """The tableau of every step of `sampler` down the levels `sigmas`. Raises UsageError on a sampler that is not linear in its state."""
    levels = [float(s) for s in sigmas]
    linear(sampler, levels[0], levels[1])
    return [probe(sampler, a, b, levels[max(0, k - sampler.memory):k]) for k, (a, b) in enumerate(pairwise(levels))]


def linear(sampler: Sampler, sigma: float, sigma_next: float) -> None:
    """Raise UsageError unless a step is linear: tripled state and noise give a tripled step."""
    name = type(sampler).__name__
    if getattr(sampler, "adaptive", False):
        raise UsageError(f"{name} chooses its steps by the state, and has no law in closed form; write a sampler of fixed steps")
    x = torch.linspace(-1, 2, 5, dtype=torch.float64)[None]
    gain = torch.linspace(0, 0.9, 5, dtype=torch.float64)

    def end(factor: float) -> Tensor:
        return sampler.step(lambda y, s, **cond: gain * y, factor * x, sigma, sigma_next, [], lambda: factor * torch.ones_like(x)).x

    if not torch.allclose(end(3.0), 3 * end(1.0), rtol=1e-9, atol=1e-12):
        raise UsageError(f"a step of {name} is not linear in its state, so its law has no closed form; write another sampler")


def gain(variance: Tensor, error: float | Tensor | Callable[[float], Tensor] = 0.0) -> Gain:
    """c(sigma) = (1 + e) sigma^2/(variance + sigma^2): `variance` [d], relative score error e a number, [d], or a function of sigma.

    A level remembered: schemes that share a grid, one after the other on each step, compute it once.
    """
    held: dict[float, Tensor] = {}

    def c(sigma: float) -> Tensor:
        if sigma not in held:
            if len(held) > 7:
                held.pop(next(iter(held)))
            value = (variance + sigma**2).reciprocal_().mul_(sigma**2)
            e = error(sigma) if callable(error) else error
            held[sigma] = value if isinstance(e, float) and e == 0 else value * (1 + e)
        return held[sigma]

    return c


def responses(tableau: Tableau, c: Gain, symbols: Iterable[int], centre: int | None = None) -> list[dict[int, float | Tensor]]:
    """Of every output, its coefficients in `symbols` (states and draws) once the residuals are replaced: numbers, or one an eigenvalue [d].

    centre: also in m, under this number.
    """
    symbols = [*symbols, *([] if centre is None else [centre])]
    passed: dict[int, dict[int, Tensor]] = {}                       # residual -> its own coefficients

    def resolved(row: Form) -> dict[int, float | Tensor]:
        out: dict[int, float | Tensor] = {s: row[s] for s in symbols if s in row}
        for j in passed.keys() & row.keys():
            for s, value in passed[j].items():
                term = value if row[j] == 1 else row[j] * value
                out[s] = term if s not in out else term + out[s]
        return out

    for number, level, row in zip(tableau.residuals, tableau.levels, tableau.inputs, strict=True):
        factor, y = c(level), resolved(row)
        if centre is not None:
            y[centre] = y.get(centre, 0.0) - 1.0
        passed[number] = {s: factor if isinstance(v, float) and v == 1 else factor * v for s, v in y.items()}
    return [resolved(row) for row in tableau.outputs]


class State(NamedTuple):
    """A Gaussian law of the state z (x first, then what is remembered): covariance [n,n,*S,d] in each eigen-direction, mean [n,*S,d]."""

    covariance: Tensor
    mean: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        """Of x, [*S,d]."""
        return self.covariance[0, 0]


def start(variance: Tensor, mean: Tensor | None = None) -> State:
    """The law of x at the first level: variance [*S,d] for any number of starts S, mean likewise or None."""
    return State(variance[None, None].clone(), None if mean is None else mean[None].clone())


def advance(tableau: Tableau, c: Gain, state: State, centre: Tensor | None = None) -> State:
    """The law after one step; `centre` [d] is m, needed where the state has a mean."""
    n, middle = tableau.states, None if state.mean is None else -1
    rows = responses(tableau, c, (*range(n), *tableau.draws), middle)
    mean = None
    if state.mean is not None:
        mean = torch.stack([sum((row[s] * state.mean[s] for s in range(n) if s in row), row.get(-1, 0.0) * centre)
                            .expand_as(state.mean[0]) for row in rows])
    if len(rows) == n == 1:                                         # the hot loop: one state, v <- a^2 v + noise, in place
        (row,) = rows
        a = row.pop(0)
        added = sum(row[w] ** 2 for w in tableau.draws if w in row)
        state.covariance.mul_(a**2)
        return State(state.covariance.add_(added) if isinstance(added, Tensor) or added else state.covariance, mean)
    covariance = state.covariance.new_zeros(len(rows), len(rows), *state.covariance.shape[2:])
    for a, left in enumerate(rows):
        carried = {t: sum(left[s] * state.covariance[s, t] for s in range(n) if s in left) for t in range(n)}
        for b, right in enumerate(rows[:a + 1]):
            covariance[a, b] = sum(carried[t] * right[t] for t in range(n) if t in right)
            covariance[a, b] += sum(left[w] * right[w] for w in tableau.draws if w in left and w in right)
            covariance[b, a] = covariance[a, b]
    return State(covariance, mean)


def law(table: Iterable[Tableau], c: Gain, state: State, centre: Tensor | None = None) -> State:
    """The law at the end of a run."""
    for tableau in table:
        state = advance(tableau, c, state, centre)
    return state


def laws(tables: Sequence[Sequence[Tableau]], c: Gain, states: Sequence[State]) -> Iterator[State]:
    """The laws at the end of several runs down one grid, step by step together, so that each gain c is computed once."""
    states = list(states)
    for together in zip(*tables, strict=True):
        states = [advance(tableau, c, state) for tableau, state in zip(together, states, strict=True)]
    return iter(states)
