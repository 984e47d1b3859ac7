"""Low-degree polynomials learn the score of a mixture (Gatmiry, Kelner and Lee 2024; Lee's talk).

Let y = mu + s z, mu one of a few points a_i of the line, z ~ N(0, 1). What a denoiser has to learn
is f(y) = E[mu | y], by regression of mu on y. It is smooth under N(0, s^2), so low degrees do:
with the generator of the Ornstein-Uhlenbeck process and Hermite's polynomials, orthonormal under
N(0, s^2),

    L f = -y f'/s^2 + f'',        L h_k = -(k/s^2) h_k,        |L^m f|^2 = sum (k/s^2)^2m c_k^2,
    tail_d = (sum_{k >= d} c_k^2)^(1/2)  <=  (s^2/d)^m |L^m f|        for every m,

where tail_d is what the best polynomial of degree < d leaves of f = sum c_k h_k.

The law of y is no Gaussian but a mixture, and a polynomial that is good at one of its clusters is
not at another: so a polynomial is fitted in each Voronoi cell of rough centres of the clusters.
Regression of mu on n draws loses, to first order, beside the best polynomial g of a cell,

    (1/n) sum_k E[phi_k^2 (Var[mu | y] + (f - g)^2)],    phi_k orthonormal under the law of y there.

At degree 5 three quarters of that come of draws with |y| > 7, one in a million: what makes the
theorem's change of measure delicate. A regression that has seen none of them is better than this.

Expectations over the line are Gauss-Legendre sums, panel by panel: no random number but those of
the regression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import generator
from diffgeo.data.points import Points
from diffgeo.errors import UsageError

COUNT = 4096  # Hermite coefficients of f
REACH = 16.0  # of y in units of s: beyond it N(0, s^2) has less than 1e-56
SPACING = 1 / 256  # of y in units of s, where the coefficients are summed: below pi/(2 sqrt(COUNT))
CONVERGED = 1e-6  # relative: what the second half of the coefficients may add to a norm
NODES = 16  # of a panel
AWAY = 12.0  # deviations s beyond the outermost atom at which an integral over the line ends
FINEST = 100.0  # the largest |a|/s: f turns in s^2/|a|, and a panel is as narrow


class Line:
    """What is seen of atoms on the line under N(0, s^2): y = mu + s z.

    places: the atoms, [k]. weights: [k], equal if None. sigma: s. Raises UsageError on atoms that
    are no list, on weights that are not positive, on s <= 0, and on atoms beyond 100 s from 0,
    whose f is too steep for the sums here.
    """

    def __init__(self, places: Sequence[float], weights: Sequence[float] | None, sigma: float):
        if not 0 < sigma < math.inf:
            raise UsageError(f"sigma={sigma:g}: write a deviation above 0, such as sigma=1")
        self.law = Points([[place] for place in places], weights)
        exact = self.law.denoiser()
        assert isinstance(exact, Density)  # every law of points is
        self.exact = exact
        self.sigma = sigma
        self.places = self.law.atoms[:, 0].unique()  # increasing
        self.farthest = float(self.places.abs().max())
        if not self.farthest <= FINEST * sigma:
            raise UsageError(
                f"an atom at {self.farthest:g} and sigma={sigma:g}: E[mu | y] is then nearly a "
                f"step; write atoms within {FINEST:g} sigma of 0"
            )

    def mean(self, y: Tensor) -> Tensor:
        """f(y) = E[mu | y], [n] -> [n]."""
        return self.exact(y[:, None], self.sigma)[:, 0]

    def density(self, y: Tensor) -> Tensor:
        """p(y), [n] -> [n]."""
        return self.exact.log_density(y[:, None], self.sigma).exp()

    def variance(self, y: Tensor) -> Tensor:
        """Var[mu | y], [n] -> [n]."""
        return self.sigma**2 * self.exact.trace(y[:, None], self.sigma)

    def draw(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """n draws of mu and y, [n] each."""
        mu = self.law.sample(n, g)[:, 0]
        return mu, mu + self.sigma * torch.randn(n, generator=g, dtype=torch.float64)


# the tail of a Hermite series


def hermite_coefficients(f: Callable[[Tensor], Tensor], sigma: float, count: int) -> Tensor:
    """c_k = E[f(y) h_k(y)] of y ~ N(0, sigma^2) for k = 0 .. count - 1, [count].

    Summed over a fine grid, where the trapezoidal rule is exact to rounding. h_k times the root of
    the density stays of size 1 at every k, which h_k, and a Gauss-Hermite rule of many nodes, do
    not: both overflow.
    """
    u = torch.arange(-REACH, REACH + SPACING / 2, SPACING, dtype=torch.float64)
    root = (-(u**2) / 4).exp() * (SPACING / math.sqrt(2 * math.pi)) ** 0.5
    target = f(sigma * u) * root
    before, now = root, u * root
    found = [float(before @ target), float(now @ target)]
    for k in range(2, count):
        after = (u * now - math.sqrt(k - 1) * before) / math.sqrt(k)
        before, now = now, after
        found.append(float(now @ target))
    return torch.tensor(found[:count], dtype=torch.float64)


class Tail(NamedTuple):
    """What polynomials leave of f under N(0, s^2).

    degrees: [D]. left: tail_d, [D]. bound: the least (s^2/d)^m |L^m f|, [D]. power: the m of it,
    [D]. norms: |L^m f| of m = 0, 1, ..: as many as the coefficients resolve.
    """

    degrees: list[int]
    left: list[float]
    bound: list[float]
    power: list[int]
    norms: list[float]


def tail(line: Line, degrees: Sequence[int], powers: int, count: int = COUNT) -> Tail:
    """The tails of f from each degree, and the best bound among m = 1 .. powers.

    A norm |L^m f| to which the second half of the coefficients still adds is left out, and all of
    higher m with it. Raises UsageError where not even |L f| is resolved, or a degree is no number
    from 1 to a quarter of `count`.
    """
    for degree in degrees:
        if not 1 <= degree <= count // 4:
            raise UsageError(f"tail_degrees={degree}: write degrees from 1 to {count // 4}")
    squares = hermite_coefficients(line.mean, line.sigma, count).square()
    rates = torch.arange(count, dtype=torch.float64) / line.sigma**2
    norms = [float(squares.sum()) ** 0.5]
    for m in range(1, powers + 1):
        terms = rates ** (2 * m) * squares
        total = float(terms.sum())
        if float(terms[count // 2 :].sum()) > CONVERGED * total:
            break
        norms.append(total**0.5)
    if len(norms) < 2:
        raise UsageError(
            f"the Hermite series of E[mu | y] needs more than {count} terms for |L f| with "
            f"tail_atoms up to {line.farthest:g} and sigma={line.sigma:g}: write nearer atoms or "
            "a larger sigma"
        )
    left = [float(squares[degree:].sum()) ** 0.5 for degree in degrees]
    bound = []
    power = []
    for degree in degrees:
        bounds = [(line.sigma**2 / degree) ** m * norms[m] for m in range(1, len(norms))]
        bound.append(min(bounds))
        power.append(1 + bounds.index(min(bounds)))
    return Tail(list(degrees), left, bound, power, norms)


# a polynomial in every cell


def powers_of(u: Tensor, degree: int) -> Tensor:
    """Hermite's orthonormal polynomials of u [n] up to a degree, [n,degree+1]: well conditioned
    wherever u is about normal."""
    columns = [torch.ones_like(u), u]
    for k in range(2, degree + 1):
        columns.append((u * columns[-1] - math.sqrt(k - 1) * columns[-2]) / math.sqrt(k))
    return torch.stack(columns[: degree + 1], 1)


def left_over(basis: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i |target_i - best combination|^2 of the first 1, 2, .. P columns of `basis` [n,P];
    target [n,C], weights [n] -> [P]."""
    root = weights.sqrt()[:, None]
    directions = torch.linalg.qr(basis * root).Q
    rest = target * root
    found = []
    for column in directions.T:
        rest = rest - torch.outer(column, column @ rest)
        found.append(rest.square().sum())
    return torch.stack(found)


@dataclass(frozen=True)
class Cell:
    """One interval of y, a polynomial's own. centre: where its variable is 0. y, weights: nodes and
    their weights under the law of y, [n] each. f, variance: of mu given y there, [n]."""

    line: Line
    centre: float
    y: Tensor
    weights: Tensor
    f: Tensor
    variance: Tensor

    def basis(self, y: Tensor, degree: int) -> Tensor:
        """[n] -> [n,degree+1]."""
        return powers_of((y - self.centre) / self.line.sigma, degree)

    def errors(self, degree: int) -> Tensor:
        """The squared error of the best polynomial of each degree 0 .. degree, [degree+1]."""
        return left_over(self.basis(self.y, degree), self.f[:, None], self.weights)

    def excess(self, degree: int) -> float:
        """n times what regression on n draws loses beside the best polynomial, to first order."""
        root = self.weights.sqrt()[:, None]
        directions = torch.linalg.qr(self.basis(self.y, degree) * root).Q
        rest = self.f - (directions @ (directions.T @ (self.f[:, None] * root)) / root)[:, 0]
        return float(directions.square().sum(1) @ (self.variance + rest**2))

    def distance(self, y: Tensor, mu: Tensor, degree: int) -> float:
        """The squared error of the polynomial that draws (y, mu) [n] are regressed on."""
        basis = self.basis(y, degree)
        coefficients = torch.linalg.lstsq(basis, mu[:, None], driver="gelsd").solution
        fitted = (self.basis(self.y, degree) @ coefficients)[:, 0]
        return float(self.weights @ (fitted - self.f) ** 2)


def checked_centres(places: Sequence[float]) -> Tensor:
    """Centres of cells, increasing, [k]. Raises UsageError where two are the same."""
    centres = torch.tensor(sorted(places), dtype=torch.float64)
    if len(centres.unique()) < len(centres):
        raise UsageError("two centres are the same: write each once, as centres=[-2,2]")
    return centres


def edges_of(centres: Tensor) -> Tensor:
    """Where the Voronoi cells of increasing centres [k] end, [k-1]."""
    return (centres[1:] + centres[:-1]) / 2


def cells(line: Line, centres: Tensor) -> list[Cell]:
    """The Voronoi cells of increasing centres [k] on the line."""
    inner = edges_of(centres).tolist()
    lowest = float(line.places[0]) - AWAY * line.sigma
    highest = float(line.places[-1]) + AWAY * line.sigma
    ends = [lowest, *inner, highest]
    width = line.sigma * min(1.0, line.sigma / max(line.farthest, line.sigma))
    found = []
    for centre, low, high in zip(centres.tolist(), ends[:-1], ends[1:], strict=True):
        y, steps = panels(low, high, max(1, math.ceil((high - low) / width)))
        weights = steps * line.density(y)
        kept = weights > 0  # far from every atom the density is below the smallest number
        y = y[kept]
        found.append(Cell(line, centre, y, weights[kept], line.mean(y), line.variance(y)))
    return found


def panels(low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights of [low, high] in so many equal panels, [count NODES]."""
    nodes, weights = map(torch.as_tensor, np.polynomial.legendre.leggauss(NODES))
    half = (high - low) / count / 2
    middles = low + half * (2 * torch.arange(count, dtype=torch.float64) + 1)
    return (middles[:, None] + half * nodes).flatten(), (half * weights).repeat(count)


def cell_errors(line: Line, centres: Tensor, degree: int) -> Tensor:
    """The L2 error, under the law of y, of the best polynomial of each degree in each Voronoi cell,
    [degree+1]."""
    parts = [cell.errors(degree) for cell in cells(line, centres)]
    return torch.stack(parts).sum(0).sqrt()


class Regression(NamedTuple):
    """L2 errors of polynomials regressed on n draws, [repeats]; what is expected of their mean
    square to first order, and the error of the best polynomials."""

    n: int
    errors: Tensor
    expected: float
    best: float

    @property
    def mean(self) -> float:
        return float(self.errors.mean())

    @property
    def standard_error(self) -> float:
        return float(self.errors.std()) / math.sqrt(len(self.errors))


def regression(
    line: Line, centres: Tensor, degree: int, n: int, repeats: int, seed: int
) -> Regression:
    """Regress mu on polynomials of y in each Voronoi cell, from n fresh draws, `repeats` times.
    Raises UsageError on fewer than two repeats, or than ten draws a coefficient."""
    parts = cells(line, centres)
    least = 10 * len(parts) * (degree + 1)
    if repeats < 2 or n < least:
        raise UsageError(
            f"points={n} repeats={repeats}: write 2 repeats or more, and {least} points or more "
            f"for {degree + 1} coefficients in {len(parts)} cells"
        )
    edges = edges_of(centres)
    found = []
    for repeat in range(repeats):
        mu, y = line.draw(n, generator(seed, *b"lowdegree", n, repeat))
        cell_of = torch.searchsorted(edges, y)
        square = 0.0
        for number, cell in enumerate(parts):
            own = cell_of == number
            square += cell.distance(y[own], mu[own], degree)
        found.append(math.sqrt(square))
    best = sum(float(cell.errors(degree)[-1]) for cell in parts)
    excess = sum(cell.excess(degree) for cell in parts)
    errors = torch.tensor(found, dtype=torch.float64)
    return Regression(n, errors, math.sqrt(best + excess / n), math.sqrt(best))
