"""Distances of Gaussians: against torch.distributions, quadrature, mpmath, Monte Carlo and the
characteristic function."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.stats import chi2, norm
from torch.distributions import Normal, kl_divergence

from diffgeo.core import generator
from diffgeo.theory.distances import Law, bures, excess, frechet, kl, tv, w2


def law(variance, mean=None):
    return Law(
        torch.tensor(variance, dtype=torch.float64),
        None if mean is None else torch.tensor(mean, dtype=torch.float64),
    )


A = law([2.0, 0.5, 0.1], [1.0, 0.0, -2.0])
B = law([1.5, 0.6, 0.1], [0.5, 0.0, -1.8])
COUNTS = torch.tensor([1.0, 3.0, 2.0]).double()


def test_kl_against_torch_distributions():
    """Each eigenspace of multiplicity n: one coordinate that carries the mean and n - 1 centred
    ones."""
    total = 0.0
    for v, m, u, k, n in zip(A.variance, A.mean, B.variance, B.mean, COUNTS, strict=True):
        total += float(kl_divergence(Normal(m, v.sqrt()), Normal(k, u.sqrt())))
        total += float((n - 1) * kl_divergence(Normal(0.0, v.sqrt()), Normal(0.0, u.sqrt())))
    assert kl(A, B, COUNTS) == pytest.approx(total, rel=1e-12) and kl(A, A, COUNTS) == 0
    assert (
        kl(law([1.0]), law([0.0]), COUNTS[:1]) == math.inf == kl(law([0.0]), law([1.0]), COUNTS[:1])
    )
    assert (
        kl(law([0.0, 1.0]), law([0.0, 1.0]), COUNTS[:2]) == 0
        and kl(law([0.0], [1.0]), law([0.0], [0.0]), COUNTS[:1]) == math.inf
    )


@pytest.mark.parametrize(
    "x", [-1 + 1e-12, -0.9, -0.25, -0.1, -1e-5, 1e-12, 1e-6, 0.1, 0.2499, 0.25, 3.0, 1e9]
)
def test_the_excess_of_a_ratio_does_not_cancel(x):
    with mp.workdps(50):
        true = mp.mpf(x) - mp.log1p(mp.mpf(x))
    assert abs(float(excess(torch.tensor(x, dtype=torch.float64))) / true - 1) < 1e-13


def test_w2_and_frechet_against_matrices():
    mixed = torch.linalg.qr(torch.randn(6, 6, generator=generator(0), dtype=torch.float64)).Q
    repeat = lambda v: torch.repeat_interleave(v, COUNTS.long())
    first = torch.tensor([0, 1, 4])  # the coordinate of an eigenspace that has the mean
    place = lambda m: mixed @ torch.zeros(6, dtype=torch.float64).index_copy(0, first, m)
    full = lambda v: mixed @ torch.diag(repeat(v)) @ mixed.mT
    assert bures(place(A.mean), full(A.variance), place(B.mean), full(B.variance)) == pytest.approx(
        w2(A, B, COUNTS), rel=1e-9
    )
    assert (
        frechet(A, B, COUNTS) == pytest.approx(w2(A, B, COUNTS) ** 2, rel=1e-12)
        and w2(A, A, COUNTS) == 0
    )
    other = torch.randn(6, 6, generator=generator(1), dtype=torch.float64)
    c = full(A.variance).numpy()
    d = (other @ other.mT).numpy()
    root = sqrtm(c)
    expected = np.trace(c + d - 2 * sqrtm(root @ d @ root).real)
    assert bures(
        torch.zeros(6).double(), torch.from_numpy(c), torch.zeros(6).double(), torch.from_numpy(d)
    ) ** 2 == pytest.approx(expected)


def test_w2_of_neighbours_does_not_cancel():
    """sqrt(v (1 + 1e-9)) - sqrt v with the digits that v (1 + 1e-9) has; an infinite variance is
    infinitely far, also from another."""
    v = torch.logspace(-9, 3, 13, dtype=torch.float64)
    u = v * (1 + 1e-9)
    with mp.workdps(50):
        true = mp.sqrt(
            sum(
                (mp.sqrt(mp.mpf(a)) - mp.sqrt(mp.mpf(b))) ** 2
                for a, b in zip(v.tolist(), u.tolist(), strict=True)
            )
        )
    assert abs(w2(Law(v), Law(u), torch.ones_like(v)) / true - 1) < 1e-14
    for other in (1.0, 0.0, math.inf):
        assert w2(law([math.inf]), law([other]), COUNTS[:1]) == math.inf


def crossing(v, m, u, k):
    """TV in one dimension, from scipy's densities."""
    f = lambda x: abs(norm.pdf(x, m, math.sqrt(v)) - norm.pdf(x, k, math.sqrt(u))) / 2
    low = min(m, k) - 12 * math.sqrt(max(u, v))
    high = max(m, k) + 12 * math.sqrt(max(u, v))
    return quad(f, low, high, limit=500, points=np.linspace(low, high, 60)[1:-1])[0]


@pytest.mark.parametrize(
    "v, m, u, k",
    [(1.0, 0.0, 2.0, 0.0), (1.0, 0.0, 1.0, 0.7), (0.2, 1.0, 3.0, -1.0), (1.0, 0.0, 1.05, 0.01)],
)
def test_tv_in_one_dimension_against_quadrature(v, m, u, k):
    assert tv(law([v], [m]), law([u], [k]), COUNTS[:1]) == pytest.approx(
        crossing(v, m, u, k), abs=1e-6
    )


def imhof(weights, counts, shifts, x):
    """P(sum w_i chi^2_{n_i}(shift_i^2) > x) by inversion of the characteristic function (Imhof
    1961)."""

    def f(s):
        a = weights * s
        theta = (counts * np.arctan(a) + shifts**2 * a / (1 + a**2)).sum() / 2 - x * s / 2
        rho = np.exp((counts * np.log1p(a**2) / 4 + shifts**2 * a**2 / (1 + a**2) / 2).sum())
        return np.sin(theta) / (s * rho)

    return (
        0.5
        + sum(
            quad(f, lo, hi, limit=400)[0] for lo, hi in ((1e-12, 0.5), (0.5, 5), (5, 60), (60, 600))
        )
        / math.pi
    )


def test_tv_of_any_two_laws_against_their_characteristic_function():
    """TV = P_p(l > 0) - P_q(l > 0): l = ln p/q is a weighted sum of non-central chi^2 variables
    under either law."""
    # without the eigenspace where only the means differ
    r = (A.variance[:2] / B.variance[:2]).numpy()
    z = ((A.mean - B.mean)[:2] / B.variance[:2].sqrt()).numpy()
    n = COUNTS[:2].numpy()
    centre = z / (r - 1)  # sum (y^2 - (y - z)^2/r - n ln r) = sum (r-1)/r (y + centre)^2 + ...
    level = (n * np.log(r)).sum() + (z**2 / r).sum() + ((r - 1) / r * centre**2).sum()
    under_p = imhof(r - 1, n, (z + centre) / np.sqrt(r), level)
    under_q = imhof((r - 1) / r, n, centre, level)
    found = tv(Law(A.variance[:2], A.mean[:2]), Law(B.variance[:2], B.mean[:2]), COUNTS[:2])
    assert found == pytest.approx(under_p - under_q, abs=1e-6)


def drawn(a, b, counts, n):
    """TV = 1/2 (E_a |tanh(l/2)| + E_b |tanh(l/2)|), l = ln a/b, from n draws of each; standard
    error below .5/sqrt(n)."""
    repeat = lambda v: torch.repeat_interleave(v, counts.long())
    # the coordinate of an eigenspace that has the mean
    place = torch.cumsum(counts.long(), 0) - counts.long()
    each = [
        Normal(
            torch.zeros(int(counts.sum())).double().index_copy(0, place, p.mean),
            repeat(p.variance).sqrt(),
        )
        for p in (a, b)
    ]
    total = 0.0
    for seed, p in enumerate(each):
        x = p.mean + p.stddev * torch.randn(
            n, len(p.mean), generator=generator(seed), dtype=torch.float64
        )
        total += (
            float(torch.tanh((each[0].log_prob(x) - each[1].log_prob(x)).sum(1).abs() / 2).mean())
            / 2
        )
    return total


def test_tv_of_any_two_laws_against_draws():
    """Few dimensions, and 4 100 eigenspaces in which nothing agrees, taken in two blocks."""
    k = 4100
    g = generator(5)
    v = torch.rand(k, generator=g, dtype=torch.float64) + 0.5
    wide = Law(v, torch.randn(k, generator=g, dtype=torch.float64))
    moved = Law(v * (1 + 0.02 * torch.randn(k, generator=g, dtype=torch.float64)), wide.mean + 0.01)
    for a, b, counts, n in (
        (A, B, COUNTS, 200_000),
        (wide, moved, torch.ones(k, dtype=torch.float64), 4000),
    ):
        true = drawn(a, b, counts, n)
        found = tv(a, b, counts)
        assert (
            0.1 < true < 0.9
            and abs(found - true) < 4 * 0.5 / n**0.5
            and found == pytest.approx(tv(b, a, counts))
        )


def test_tv_does_not_lose_a_wide_direction_among_many_narrow_ones():
    """One direction whose log ratio spreads a thousand times as much as the others': their M falls
    late on its scale."""
    a = law([1.0, 1.0])
    b = law([1e4, 1.02])
    counts = torch.tensor([1.0, 400.0]).double()

    def under(wide, narrow):
        """P(ln a/b > 0) where the variances are these:

        2 ln a/b = ln 1e4 + 400 ln 1.02 - (1 - 1/1e4) x_1^2 - (1 - 1/1.02) |x_2|^2
        """

        def f(t):
            left = math.log(1e4) + 400 * math.log(1.02) - (1 - 1 / 1e4) * wide * t**2
            return norm.pdf(t) * chi2.cdf(left / (1 - 1 / 1.02) / narrow, 400)

        edge = math.sqrt((math.log(1e4) + 400 * math.log(1.02)) / wide)
        return 2 * quad(f, 0, edge, limit=2000, points=np.linspace(0, edge, 60)[1:-1])[0]

    assert tv(a, b, counts) == pytest.approx(under(1.0, 1.0) - under(1e4, 1.02), abs=1e-6)


def test_tv_at_its_ends():
    one = COUNTS[:1]
    assert tv(A, A, COUNTS) == 0 and tv(law([0.0]), law([0.0]), one) == 0
    assert (
        tv(law([0.0]), law([1.0]), one)
        == tv(law([1.0]), law([0.0]), one)
        == tv(law([math.inf]), law([1.0]), one)
        == 1
    )
    assert tv(law([1.0], [0.0]), law([1.0], [50.0]), one) == pytest.approx(1, abs=1e-12)
