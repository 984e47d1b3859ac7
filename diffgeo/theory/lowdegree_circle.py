"""The manifold corollary of Gatmiry, Kelner and Lee on a circle of radius R under N(0, s^2 I).

    f(y) = E[mu | y] = R I_1(R r/s^2)/I_0(R r/s^2) e_r,        r = |(y_1, y_2)|.

K balls of radius s cover the circle as soon as R sin(pi/K) <= s; the Voronoi cells of their centres
are K equal sectors, and in each of them a polynomial of low degree is enough. How many balls it
takes is a matter of the circle; the space R^n in which it lies plays no part: the other n - 2
coordinates of y are independent of mu and of these two, and averaging a polynomial over them leaves
one of the same degree in y_1, y_2. So every number here is the same for every n.

All sectors are alike: one is integrated, by Gauss-Legendre in radius and angle; the whole plane by
equal angles, which a polynomial of low degree needs few of.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.theory.lowdegree import AWAY, left_over, panels, powers_of

RADII = 25  # panels of the radius
ANGLES = 4  # panels of the angle of a sector
AROUND = 64  # equal angles of the whole plane
MOST = 12  # the highest degree
LARGEST = 1000.0  # R/s: a sector is then 1/3000 of the plane


def covering(radius: float, sigma: float = 1.0) -> int:
    """The least number of balls of radius sigma that cover a circle: ceil(pi/asin(sigma/R)), 1
    where one covers it all. R = 2: 6, which pi/asin(1/2) is but for rounding."""
    if radius <= sigma:
        return 1
    return math.ceil(math.pi / math.asin(sigma / radius) * (1 - 1e-12))


def sector_errors(radius: float, sigma: float, count: int, degree: int) -> Tensor:
    """The L2 error, under the law of y, of the best polynomial (two components) of each total
    degree 0 .. degree in each of `count` equal sectors, [degree+1]. Raises UsageError on a radius
    that is not within 1000 sigma, or a degree above 12."""
    if not 0 < radius <= LARGEST * sigma:
        raise UsageError(
            f"radius={radius:g} with sigma={sigma:g}: write a radius above 0, up to {LARGEST:g} "
            "sigma"
        )
    if not 0 <= degree <= MOST:
        raise UsageError(f"circle_degrees={degree}: write degrees from 0 to {MOST}")
    r, step = panels(max(0.0, radius - AWAY * sigma), radius + AWAY * sigma, RADII)
    if count == 1:
        angle = torch.arange(AROUND, dtype=torch.float64) * (2 * math.pi / AROUND)
        share = torch.full_like(angle, 1 / AROUND)
    else:
        half = math.pi / count
        angle, share = panels(-half, half, ANGLES)
        share = share / (2 * half)  # all sectors together
    kappa = radius * r / sigma**2
    bessel = torch.special.i0e(kappa)
    density = step * r / sigma**2 * (-((r - radius) ** 2) / (2 * sigma**2)).exp() * bessel
    pull = radius * torch.special.i1e(kappa) / bessel
    weights = torch.outer(density, share).flatten()
    e_r = torch.stack([angle.cos(), angle.sin()], 1)
    y = (r[:, None, None] * e_r).flatten(0, 1)
    f = (pull[:, None, None] * e_r).flatten(0, 1)
    # centred in the sector, and of about the law's size there
    middle = radius if count > 1 else 0.0
    size = sigma if count > 1 else math.hypot(radius, sigma)
    across = powers_of((y[:, 0] - middle) / size, degree)
    upwards = powers_of(y[:, 1] / size, degree)
    columns = []
    last = []
    for total in range(degree + 1):
        for i in range(total + 1):
            columns.append(across[:, i] * upwards[:, total - i])
        last.append(len(columns) - 1)
    return left_over(torch.stack(columns, 1), f, weights)[last].sqrt()
