"""One step of a sampler as a table of numbers, read by running it once on linear forms.

A sampler whose step only adds and scales states, draws of noise w and denoised points is, with the
evaluations i = 1 .. k of one step at the levels sigma_i and their residuals
r_i = y_i - D(y_i; sigma_i), the table P, Q of

    y_i = sum_s P_is z_s + sum_{j<i} P_ij r_j,
    x'  = sum_s Q_s  z_s + sum_j Q_j r_j,            z = (x, x_past, r_past, ..., w_1, w_2, ...).

`probe` hands the step a state that is a row of coefficients, and a new unit vector for every draw
and every residual. So there is no second copy of a scheme. What a denoiser makes of its residual,
r_i = c(sigma_i) (y_i - m), is left open (a number for each eigenvalue in theory.linear, a matrix in
theory.linear_dense): a `Plan` puts it in by forward substitution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from operator import mul
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffgeo.core import Past, Sampler, Sigma
from diffgeo.errors import UsageError

SYMBOLS = 1024  # the most states, draws and evaluations of one step
Form = dict[int, float]  # a linear form: coefficient by symbol, without the zeros
f64 = torch.float64


class Tableau(NamedTuple):
    """One step as linear forms over symbols: 0 .. states-1 the state z (x, then x and r of every
    remembered step, the oldest first), then `draws` and `residuals` in the order in which the step
    made them."""

    states: int
    draws: tuple[int, ...]  # their symbols
    residuals: tuple[int, ...]  # their symbols
    levels: tuple[float, ...]  # sigma_i of each residual
    inputs: tuple[Form, ...]  # y_i of each residual
    outputs: tuple[Form, ...]  # the next state: x', then x and r of every step remembered then

    @property
    def symbols(self) -> int:
        return self.states + len(self.draws) + len(self.residuals)


@cache
def units(room: int) -> tuple[Tensor, ...]:
    """The unit rows [1,room]."""
    return torch.eye(room, dtype=f64).split(1)


def probe(
    sampler: Sampler, sigma: float, sigma_next: float, past: Sequence[float] = (), room: int = 8
) -> Tableau:
    """The tableau of the step from sigma to sigma_next of a sampler that remembers steps from the
    levels `past`, the oldest first.

    room: symbols that are expected; a step that makes more is probed again with twice the room.
    Raises UsageError above SYMBOLS.
    """
    made = 0
    basis = units(room)

    def symbol() -> tuple[int, Tensor]:
        nonlocal made
        made += 1
        return made - 1, basis[min(made, room) - 1]

    draws = []
    residuals = []
    levels = []
    inputs = []

    def denoise(x: Tensor, sigma: Sigma, **cond) -> Tensor:
        number, unit = symbol()
        residuals.append(number)
        levels.append(float(sigma))
        inputs.append(form(x))
        return x - unit

    def noise() -> Tensor:
        number, unit = symbol()
        draws.append(number)
        return unit.clone()  # a step may write into what it is given

    x = symbol()[1].clone()
    remembered = [(symbol()[1].clone(), symbol()[1].clone()) for _ in past]
    history = [Past(s, y, y - r) for s, (y, r) in zip(past, remembered, strict=True)]
    states = made
    step = sampler.step(denoise, x, sigma, sigma_next, history, noise)
    if made > SYMBOLS:
        raise UsageError(
            f"one step of {type(sampler).__name__} makes more than {SYMBOLS} draws and "
            "evaluations: write fewer sub-steps"
        )
    if made > room:
        return probe(sampler, sigma, sigma_next, past, max(made, 2 * room))
    left = x if step.corrected is None else step.corrected
    remembered.append((left, left - step.denoised))
    forgotten = max(0, len(remembered) - sampler.memory)
    outputs = [step.x]
    for y, r in remembered[forgotten:]:
        outputs += [y, r]
    return Tableau(
        states=states,
        draws=tuple(draws),
        residuals=tuple(residuals),
        levels=tuple(levels),
        inputs=tuple(inputs),
        outputs=tuple(map(form, outputs)),
    )


def form(row: Tensor) -> Form:
    """A row of coefficients [1,room] as {symbol: coefficient}."""
    return {symbol: value for symbol, value in enumerate(row.tolist()[0]) if value}


def tableaux(sampler: Sampler, sigmas: Sequence[float] | Tensor) -> list[Tableau]:
    """The tableau of every step of `sampler` down the levels `sigmas`. Raises UsageError on a
    sampler that is not linear in its state."""
    sampler = sampler.on(torch.as_tensor(sigmas, dtype=f64))
    levels = [float(s) for s in sigmas]
    table = []
    room = 8
    linear(sampler, levels[0], levels[1])
    for k, (a, b) in enumerate(pairwise(levels)):
        table.append(probe(sampler, a, b, levels[max(0, k - sampler.memory) : k], room))
        room = max(room, table[-1].symbols)
    return table


def linear(sampler: Sampler, sigma: float, sigma_next: float) -> None:
    """Raise UsageError unless a step is linear: tripled state and noise give a tripled step."""
    name = type(sampler).__name__
    if sampler.adaptive:
        raise UsageError(
            f"{name} chooses its steps by the state, and has no law in closed form; write a "
            "sampler of fixed steps"
        )
    x = torch.linspace(-1, 2, 5, dtype=f64)[None]
    gain = torch.linspace(0, 0.9, 5, dtype=f64)

    def denoise(x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return gain * x

    def end(factor: float) -> Tensor:
        def noise() -> Tensor:
            return factor * torch.ones_like(x)

        return sampler.step(denoise, factor * x, sigma, sigma_next, [], noise).x

    if not torch.allclose(end(3.0), 3 * end(1.0), rtol=1e-9, atol=1e-12):
        raise UsageError(
            f"a step of {name} is not linear in its state, so its law has no closed form; write "
            "another sampler"
        )


class Residual(Protocol):
    """The linear part of what a denoiser makes of its residual: a number in each direction, or a
    matrix."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # [d], or [d,d]
    @property
    def unit(self) -> Tensor: ...  # the number 1 as such a thing: [1], or the identity [d,d]
    # c(sigma), or c(sigma) value, value [*,*shape]
    def __call__(self, sigma: float, value: Tensor | None = None) -> Tensor: ...


def coefficients(rows: Sequence[Form], symbols: Sequence[int]) -> list[list[float]]:
    """Those of some symbols in each linear form, a row a form."""
    return [[row.get(symbol, 0.0) for symbol in symbols] for row in rows]


def products(rows: Sequence[Sequence[float]]) -> Tensor:
    """The inner products of all pairs of rows, [n,n,1]: their covariance, as weights of the same
    independent draws."""
    n = len(rows)
    pairs = [sum(map(mul, a, b)) for a in rows for b in rows]
    return torch.tensor(pairs, dtype=f64).view(n, n, 1)


class Plan:
    """A tableau as matrices, over its states and the draws that pass through an evaluation; read
    once, used for every block of eigenvalues.

        y = Z z + P r,  P strictly lower triangular,        x' = W z + Q r.

    direct: the rows of Z, then of W. passing: of P, then of Q.
    fresh: the covariance [n',n',1] of the draws that no evaluation hears, or None.
    """

    def __init__(self, tableau: Tableau):
        heard = [w for w in tableau.draws if any(w in row for row in tableau.inputs)]
        others = [w for w in tableau.draws if w not in heard]
        rows = (*tableau.inputs, *tableau.outputs)
        self.states = tableau.states
        self.levels = tableau.levels
        self.direct = coefficients(rows, (*range(tableau.states), *heard))
        self.passing = coefficients(rows, tableau.residuals)
        self.fresh = products(coefficients(tableau.outputs, others)) if others else None
        # one state in, one out, and no draw that is heard: the step is one number
        self.one_number = tableau.states + len(heard) == len(tableau.outputs) == 1

    def factor(self, c: Residual) -> Tensor:
        """The coefficient [d] of the one output in the one source of a plan of one number."""
        (end,) = self.substitute(c, [z for (z,) in self.direct])
        return torch.as_tensor(end, dtype=f64).expand(c.shape)

    def responses(self, c: Residual) -> Tensor:
        """The coefficients [n',S,*shape] of every output in the states, then in the draws."""
        direct = torch.tensor(self.direct, dtype=f64)
        ones = (1,) * c.unit.ndim
        return self.stacked(c, direct.view(*direct.shape, *ones) * c.unit)

    def forced(self, c: Residual, enters: Sequence[Tensor]) -> Tensor:
        """What residuals with a source of their own, enters[i] [S,*shape], leave in every output,
        [n',S,*shape]."""
        nothing = torch.zeros(len(self.direct), *enters[0].shape, dtype=f64)
        return self.stacked(c, nothing, enters)

    def stacked(
        self, c: Residual, direct: Tensor, enters: Sequence[Tensor] | None = None
    ) -> Tensor:
        ends = self.substitute(c, direct, enters)
        return torch.stack([end.expand(direct.shape[1], *c.shape) for end in ends])

    def substitute(
        self, c: Residual, direct: Sequence[float | Tensor], enters: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """W + Q (1 - c P)^-1 (c Z + enters), forward through the triangle; `direct`: Z, then W."""
        passed: list[Tensor] = []  # the residuals so far

        def combined(row: int) -> float | Tensor:
            out = direct[row]
            for r, weight in zip(passed, self.passing[row], strict=False):
                if weight:
                    if not torch.is_tensor(out):
                        out = torch.scalar_tensor(out, dtype=f64)
                    out = torch.add(out, r, alpha=weight)
            return out

        for i, level in enumerate(self.levels):
            y = combined(i)
            plain = not torch.is_tensor(y) and y == 1
            r = c(level) if plain else c(level, y)
            passed.append(r if enters is None else r + enters[i])
        return [combined(row) for row in range(len(self.levels), len(direct))]
