"""Exact denoisers on plane curves against 30-digit quadrature, and their projections against brute
force.

The truth shares nothing with the code: mpmath finds the minima of E(u) on a grid, walks away from
each until exp(-E) is e^-100 of its peak, and integrates panel by panel. Every error is stated in
units of sigma; the bar of the project is 1e-6.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp
import numpy as np
import pytest
import torch

from diffgeo.data import Curve, Moons, Parabola, Spiral, Swissroll
from diffgeo.data.law import Law

mp.mp.dps = 30


class Piece(NamedTuple):
    point: Callable
    first: mp.mpf
    last: mp.mpf
    energy: Callable = lambda u: mp.mpf(0)


def rule(n: int) -> list:
    """Gauss-Legendre nodes and weights to 30 digits: numpy's, polished by two Newton steps."""
    out = []
    for x in map(mp.mpf, np.polynomial.legendre.leggauss(n)[0].tolist()):
        for _ in range(3):
            p = mp.mpf(1)
            q = x
            for k in range(2, n + 1):
                p, q = q, ((2 * k - 1) * x * q - (k - 1) * p) / k
            slope = n * (x * q - p) / (x * x - 1)
            x -= q / slope
        out.append((x, 2 / ((1 - x * x) * slope**2)))
    return out


RULE = rule(18)


def truth(pieces: list[Piece], x: tuple, sigma: float, grid: int = 150) -> tuple:
    """E[x0|x] for the law that has equal mass on the pieces."""
    px = mp.mpf(x[0])
    py = mp.mpf(x[1])
    s = mp.mpf(sigma)
    found = []  # (energy, piece, u) of every local minimum
    for piece in pieces:

        def energy(u, piece=piece):
            gx, gy = piece.point(u)
            return ((px - gx) ** 2 + (py - gy) ** 2) / (2 * s * s) + piece.energy(u)

        us = [piece.first + (piece.last - piece.first) * k / grid for k in range(grid + 1)]
        es = [energy(u) for u in us]
        for k in range(grid + 1):
            if (k == 0 or es[k] <= es[k - 1]) and (k == grid or es[k] <= es[k + 1]):
                lo = us[max(k - 1, 0)]
                hi = us[min(k + 1, grid)]
                golden = (mp.sqrt(5) - 1) / 2
                c = hi - golden * (hi - lo)
                d = lo + golden * (hi - lo)
                ec = energy(c)
                ed = energy(d)
                for _ in range(60):
                    if ec < ed:
                        hi = d
                        d = c
                        ed = ec
                        c = hi - golden * (hi - lo)
                        ec = energy(c)
                    else:
                        lo = c
                        c = d
                        ec = ed
                        d = lo + golden * (hi - lo)
                        ed = energy(d)
                u = (
                    min([piece.first, piece.last, (lo + hi) / 2], key=lambda v, e=energy: e(v))
                    if k in (0, grid)
                    else (lo + hi) / 2
                )
                found.append((energy(u), piece, u, energy))
    least = min(e for e, *_ in found)
    total = mp.mpf(0)
    mean_x = mp.mpf(0)
    mean_y = mp.mpf(0)
    for piece in pieces:
        cuts = {piece.first, piece.last}
        for e, owner, u, energy in found:
            if owner is piece and e - least < 100:
                for sign in (1, -1):
                    reach = mp.mpf(10) ** -12
                    while (
                        piece.first < u + sign * reach < piece.last
                        and energy(u + sign * reach) - least < 100
                    ):
                        reach *= mp.mpf("1.3")
                    cuts |= {
                        v
                        for k in range(31)
                        if piece.first < (v := u + sign * reach * k / 30) < piece.last
                    }
        energy = next(f for _, owner, _, f in found if owner is piece)
        cuts = sorted(cuts)
        for a, b in zip(cuts, cuts[1:], strict=False):
            if min(energy(a), energy(b), energy((a + b) / 2)) - least > 90:
                continue
            for node, weight in RULE:
                u = (a + b) / 2 + (b - a) / 2 * node
                mass, (gx, gy) = mp.exp(least - energy(u)) * weight * (b - a), piece.point(u)
                total = total + mass
                mean_x = mean_x + mass * gx
                mean_y = mean_y + mass * gy
    return mean_x / total, mean_y / total


def archimedes(scale, turn=0):
    return lambda u: (scale * u * mp.cos(u + turn), scale * u * mp.sin(u + turn))


PI = mp.pi
CASES = {
    "curve": (Curve(), [Piece(archimedes(1), mp.mpf(1), mp.mpf(13))]),
    "swissroll": (
        Swissroll(),
        [Piece(archimedes(1 / mp.mpf(5 * math.pi)), mp.mpf(math.pi / 2), mp.mpf(5 * math.pi))],
    ),
    "spiral": (
        Spiral(),
        [
            Piece(archimedes(1 / mp.mpf(3 * math.pi), t), mp.mpf(0), mp.mpf(3 * math.pi))
            for t in (0, PI)
        ],
    ),
    "moons": (
        Moons(),
        [
            Piece(lambda u: (mp.cos(u), mp.sin(u)), mp.mpf(0), PI),
            Piece(lambda u: (1 - mp.cos(u), mp.mpf("0.5") - mp.sin(u)), mp.mpf(0), PI),
        ],
    ),
    "parabola": (
        Parabola(),
        [Piece(lambda u: (u, u * u), mp.mpf(-100), mp.mpf(100), lambda u: u * u / 2)],
    ),
}
POINTS = [  # (x, sigma): near, off an end, at and by the medial axis, far, coarse
    ((0.62, 0.31), 1e-3),
    ((300.0, 400.0), 1e-3),
    ((-300.0, -400.0), 1e-1),
    ((0.001, 0.5), 1e-2),
    ((0.5, 0.25), 0.05),
    ((-1.0, 0.7), 0.3),
    ((0.0, 7.5), 1e-3),
    ((12.0, 6.0), 1.0),
    ((3.0, -2.0), 10.0),
    ((2000.0, -700.0), 1e3),
]


@pytest.mark.parametrize("name", CASES)
def test_denoiser_against_quadrature(name):
    law, pieces = CASES[name]
    grid = 1500 if name == "parabola" else 150
    for x, sigma in POINTS:
        expected = truth(pieces, x, sigma, grid)
        actual = law.denoiser()(torch.tensor([x], dtype=torch.float64), sigma)[0]
        error = (
            max(abs(mp.mpf(float(a)) - e) for a, e in zip(actual, expected, strict=True)) / sigma
        )
        assert error < 1e-6, f"{name} at {x}, sigma {sigma}: {float(error):.1e} sigma"


def batch(law: Law, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    sigma = torch.exp(
        torch.empty(n, dtype=torch.float64).uniform_(math.log(1e-3), math.log(1e3), generator=g)
    )
    return law.sample(n, g) + sigma[:, None] * torch.randn(
        n, 2, generator=g, dtype=torch.float64
    ), sigma


@pytest.mark.parametrize("name", CASES)
def test_rows_do_not_see_each_other(name):
    law, _ = CASES[name]
    x, sigma = batch(law, 300)
    together = law.denoiser()(x, sigma)
    alone = torch.cat([law.denoiser()(x[i : i + 1], float(sigma[i])) for i in range(0, 300, 10)])
    assert ((together[::10] - alone).abs().amax(1) / sigma[::10]).max() < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_projection_is_the_nearest_point(name):
    law, _ = CASES[name]
    x, _ = batch(law, 400)
    # centres of the moons
    x = torch.cat([x, torch.zeros(1, 2, dtype=x.dtype), torch.tensor([[1.0, 0.5]], dtype=x.dtype)])
    p = law.project(x)
    q = torch.linspace(0, 1, 20001, dtype=torch.float64)[1:-1]
    if name == "parabola":
        q = torch.special.ndtr(torch.linspace(-8, 8, 20001, dtype=torch.float64))
        x, p = x[x.norm(dim=1) < 50], p[x.norm(dim=1) < 50]
    curve = torch.stack(law.arc.point(law.arc.quantile(q)), 1)
    brute = torch.cdist(x, curve, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    exact = law.distance(x)
    step = (curve[1:] - curve[:-1]).norm(dim=1).max()
    # never farther than the best of 20 000 points
    assert (exact <= brute + 1e-12 * (1 + brute)).all()
    assert (brute <= exact + step).all()
    assert torch.allclose(law.project(p), p, atol=1e-13 * max(1, float(p.abs().max())))
    residual = ((x - p)[:, None] @ law.tangent(p))[:, 0, 0].abs()  # perpendicular, except at an end
    inner = (
        law.coordinate(p) - law.quantile(torch.tensor([0.0, 0.5, 1.0]).to(p))[:, None]
    ).abs().amin(0) > 1e-6
    assert (
        residual[inner] <= 1e-9 * (1 + x.norm(dim=1))[inner]
    ).all() and inner.float().mean() > 0.3


def test_arc_lengths():
    one = torch.ones(1, dtype=torch.float64)
    assert abs(float(Curve().quantile(one)) - 85.2316) < 5e-5  # cem.md A6
    for law, (_, pieces) in zip((c[0] for c in CASES.values()), CASES.values(), strict=True):
        if pieces[0].energy(mp.mpf(1)) == 0:
            total = sum(
                mp.quad(
                    lambda u, p=p: mp.sqrt(
                        sum(mp.diff(lambda v, k=k: p.point(v)[k], u) ** 2 for k in (0, 1))
                    ),
                    mp.linspace(p.first, p.last, 4),
                    maxdegree=3,
                )
                for p in pieces
            )
            assert abs(float(law.quantile(one)) - float(total)) < 1e-6 * float(total)
    u = mp.mpf("1.3")
    length = mp.quad(lambda v: mp.sqrt(1 + 4 * v * v), [0, u])
    assert (
        abs(
            float(Parabola().coordinate(torch.tensor([[1.3, 1.69]], dtype=torch.float64)))
            - float(length)
        )
        < 1e-12
    )
