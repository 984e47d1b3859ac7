"""The fixed points of a dynamics as curves in (x, sigma), followed through their folds.

    G(z) = D(y; sigma)/scale - a(sigma) z_x,      z = (y/scale, log sigma),

is zero on them, y counted from the origin. A branch begins at a stable fixed point at a low level,
which iterating y <- D(y)/a from points of the law finds, and goes up: a step along the null vector
of the d x (d+1) matrix G', then Gauss-Newton with the least correction back to G = 0 (Moore and
Penrose's continuation). It does not mind folds, where sigma turns back: there the null vector has
no component along log sigma, which the secant rule solves for. A fold off the origin is a
saddle-node, two fixed points that meet and vanish; one at the origin is where wells part from a
symmetric centre. Where the law is turned onto itself (a circle) G' has more null vectors, and the
branch keeps to its own direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.errors import DiffgeoError
from diffgeo.geometry.symmetry import Dynamics, Field, top_eigenvalue

FLAT = 1e-6  # a singular value of G' below it is a null direction
SOLVED = 1e-11  # |G|
NEWTON = 12
LONGEST = 0.15  # a step along a branch, in units of log sigma, and of |y| or the scale
SHORTEST = 1e-4
TURN = 0.95  # cosine between two steps, at least
MOST = 500  # steps of one branch
APART = 1e-4  # over the scale: fixed points nearer to each other are one
NEAR = 1e-2  # the same before they are solved for
SINKING = 400  # iterations of y <- D(y)/a from points of the law, at most,
SETTLED = 1e-6  # until they move by less, over the scale
DIFFERENCE = 1e-5  # of log sigma


class Fixed(NamedTuple):
    """Fixed points at one level."""

    y: Tensor  # [k,d], counted from the origin
    stable: Tensor  # [k]


class Fold(NamedTuple):
    """A saddle-node: where a branch turns back in sigma, away from a symmetric centre."""

    sigma: float
    y: Tensor  # [d]


@dataclass(frozen=True, eq=False)
class Branch:
    """One curve of fixed points, from a stable one at the lowest level.

    y: [m,d]; sigma: [m]; stable: [m], whether each is. meets_centre: whether it ends there,
        having turned back: it is born of the centre. lost: whether it ends where no next point was
        found.
    """

    y: Tensor
    sigma: Tensor
    stable: Tensor
    folds: tuple[Fold, ...] = ()
    meets_centre: bool = False
    lost: bool = False


@dataclass(frozen=True, eq=False)
class Balance:
    """G and its derivative."""

    field: Field
    dynamics: Dynamics

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y [1,d] and sigma [1] of z [d+1]."""
        return z[None, :-1] * self.field.scale, z[-1:].exp()

    def value(self, z: Tensor) -> Tensor:
        """G [n,d] at points z [n,d+1]."""
        sigma = z[:, -1].exp()
        mean = self.field.mean(z[:, :-1] * self.field.scale, sigma) / self.field.scale
        return mean - self.dynamics.gain(sigma)[:, None] * z[:, :-1]

    def derivative(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """G [d] and G' [d,d+1] at z [d+1]; along log sigma by differences."""
        around = z.repeat(3, 1)
        around[1, -1] += DIFFERENCE
        around[2, -1] -= DIFFERENCE
        value, above, below = self.value(around)
        slope = (above - below) / (2 * DIFFERENCE)
        return value, torch.cat([self.push(z), slope[:, None]], 1)

    def push(self, z: Tensor) -> Tensor:
        """dD/dx - a [d,d] at z [d+1]: a fixed point is stable where no eigenvalue is above 0."""
        y, sigma = self.split(z)
        matrix = self.field.jacobian(y, sigma)[0]
        gain = float(self.dynamics.gain(sigma))
        return matrix - gain * torch.eye(len(matrix), dtype=matrix.dtype)

    def solve(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """The solution nearest to z [d+1], and G' there; None where Newton's rule finds none."""
        for _ in range(NEWTON):
            value, matrix = self.derivative(z)
            if float(value.abs().max()) < SOLVED:
                return z, matrix
            if not bool(matrix.isfinite().all()):
                return None
            correction = torch.linalg.pinv(matrix, atol=FLAT) @ value
            if not float(correction.abs().max()) < 1:
                return None
            z = z - correction
        return None


def is_stable(push: Tensor) -> bool:
    """Of a fixed point with this dD/dx - a [d,d]."""
    return bool(top_eigenvalue(push) < FLAT)


def direction(matrix: Tensor, towards: Tensor) -> Tensor:
    """The unit null vector [d+1] of G' [d,d+1] nearest to `towards`."""
    _, singular, rows = torch.linalg.svd(matrix, full_matrices=True)
    null = rows[int((singular > FLAT).sum()) :]
    vector = null.mT @ (null @ towards)
    return vector / torch.linalg.vector_norm(vector)


def fixed_points(field: Field, dynamics: Dynamics, sigma: float, starts: Tensor) -> Fixed:
    """The fixed points at one level that y <- D(y)/a leads to from `starts` [n,d], each once: the
    wells of the potential. Solved to the last digits by Newton's rule at that level."""
    level = torch.full((len(starts),), sigma, dtype=torch.float64)
    gain = dynamics.gain(level)[:, None]
    y = starts
    for _ in range(SINKING):
        before = y
        y = field.mean(before, level) / gain
        if float((y - before).abs().max()) < SETTLED * field.scale:
            break
    balance = Balance(field, dynamics)
    found: list[Tensor] = []
    stable: list[bool] = []
    for row in apart(y[y.isfinite().all(1)] / field.scale, NEAR):
        z = at_level(balance, row, math.log(sigma))
        if z is None or any(float((z[:-1] - other).norm()) < APART for other in found):
            continue
        found.append(z[:-1])
        stable.append(is_stable(balance.push(z)))
    if not found:
        return Fixed(starts[:0], torch.zeros(0, dtype=torch.bool))
    return Fixed(torch.stack(found) * field.scale, torch.tensor(stable))


def apart(places: Tensor, distance: float) -> list[Tensor]:
    """Those of places [n,d] that are not within `distance` of an earlier one."""
    kept: list[Tensor] = []
    for place in places:
        if not any(float((place - other).norm()) < distance for other in kept):
            kept.append(place)
    return kept


def at_level(balance: Balance, place: Tensor, log_sigma: float) -> Tensor | None:
    """The solution z [d+1] at one level nearest to place [d], in units of the scale."""
    level = place.new_tensor([log_sigma])
    for _ in range(NEWTON):
        z = torch.cat([place, level])
        value = balance.value(z[None])[0]
        if float(value.abs().max()) < SOLVED:
            return z
        push = balance.push(z)
        if not bool(push.isfinite().all()):
            return None
        place = place - torch.linalg.pinv(push, atol=FLAT) @ value
    return None


def follow(
    field: Field, dynamics: Dynamics, y: Tensor, low: float, high: float, symmetric: bool
) -> Branch:
    """The branch of the fixed point y [d] at the level `low`, until it is above `high`, back at
    `low`, turns back in the origin, where that is a `symmetric` centre, or is lost. Raises
    DiffgeoError where y is no fixed point."""
    balance = Balance(field, dynamics)
    start = at_level(balance, y / field.scale, math.log(low))
    solved = None if start is None else balance.solve(start)
    if solved is None:
        raise DiffgeoError(f"there is no fixed point of {dynamics.name} near {y.tolist()} at {low}")
    z, matrix = solved
    upwards = torch.zeros_like(z)
    upwards[-1] = 1.0
    vector = direction(matrix, upwards)
    length = LONGEST / 4
    points = [z]
    stable = [is_stable(matrix[:, :-1])]
    folds = []
    through = False
    lost = False
    while len(points) < MOST and not through and not lost:
        solved = balance.solve(z + length * vector)
        turned = vector if solved is None else direction(solved[1], vector)
        if solved is None or float(turned @ vector) < TURN:
            length /= 2
            if length < SHORTEST:
                lost = True
            continue
        crosses = symmetric and float(solved[0][:-1] @ z[:-1]) <= 0
        turns_back = float(vector[-1]) * float(turned[-1]) < 0
        through = crosses and turns_back  # the rest is the mirror image
        if turns_back and not crosses:
            folds.append(fold(balance, z, vector, length, float(turned[-1])))
        z, matrix = solved
        vector = turned
        points.append(z)
        stable.append(is_stable(matrix[:, :-1]))
        if not math.log(low) <= float(z[-1]) <= math.log(high):
            break
        longest = LONGEST * max(1.0, float(z[:-1].norm()))
        length = min(longest, 1.5 * length)
    curve = torch.stack(points)
    return Branch(
        y=curve[:, :-1] * field.scale,
        sigma=curve[:, -1].exp(),
        stable=torch.tensor(stable),
        folds=tuple(folds),
        meets_centre=through,
        lost=lost or len(points) == MOST,
    )


def fold(balance: Balance, z: Tensor, vector: Tensor, length: float, end: float) -> Fold:
    """The fold between z and `length` further along `vector`, where the null vectors' components
    along log sigma are vector[-1] and `end`: by the secant rule, kept between the two (Illinois).
    sigma is stationary there, so half as many digits of the place give all of its own."""
    left, right = 0.0, length
    at_left, at_right = float(vector[-1]), end
    found = z
    for _ in range(60):
        place = (left * at_right - right * at_left) / (at_right - at_left)
        solved = balance.solve(z + place * vector)
        if solved is None:
            break
        found = solved[0]
        middle = float(direction(solved[1], vector)[-1])
        if abs(middle) < 1e-8 or right - left < 1e-12:
            break
        if middle * at_left > 0:
            left, at_left = place, middle
            at_right /= 2
        else:
            right, at_right = place, middle
            at_left /= 2
    y, sigma = balance.split(found)
    return Fold(float(sigma), y[0])
