"""Exact total variation: against chi^2, the normal distribution function, and densities in the
plane."""

import math

import pytest
import torch
from mpmath import mp, mpf, ncdf
from scipy.stats import chi2

from diffgeo.theory.convergence.kernel import Modes, line
from diffgeo.theory.distances import Law, tv
from diffgeo.theory.variation import product_tv


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def proportional(x: float, d: float) -> float:
    """TV of N(0, r C) and N(0, C), r = 1 + x, in d dimensions: |F(u) - F(u/r)|, F of chi^2_d;
    densities cross at u = d r ln(r)/(r - 1)."""
    u = d * (1 + x) * math.log1p(x) / x
    return abs(float(chi2.cdf(u, d) - chi2.cdf(u / (1 + x), d)))


@pytest.mark.parametrize("d", [1.0, 2.0, 4.0, 64.0, 1e4, 1e6])
@pytest.mark.parametrize("r", [1e-4, 0.5, 1.01, 3.0, 1e3])
def test_proportional_variances_are_chi_squared(d, r):
    exact = proportional(r - 1, d)
    assert tv(Law(vector(r)), Law(vector(1.0)), vector(d)) == pytest.approx(
        exact, rel=1e-6 if d < 4 else 1e-9
    )
    assert tv(Law(vector(1.0)), Law(vector(r)), vector(d)) == pytest.approx(
        exact, rel=1e-6 if d < 4 else 1e-9
    )


def test_in_one_dimension_against_forty_digits():
    with mp.workdps(40):
        r = mpf(1.001)
        u = mp.sqrt(r * mp.log(r) / (r - 1))
        exact = float(2 * (ncdf(u) - ncdf(u / mp.sqrt(r))))
    assert tv(Law(vector(1.001)), Law(vector(1.0)), vector(1.0)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("m", [1e-6, 0.1, 2.0, 12.0])
def test_a_moved_mean_is_an_error_function(m):
    law = Law(vector(0.25, 3.0), vector(0.0, 0.0))
    moved = Law(vector(0.25, 3.0), vector(0.6 * m * 0.5, 0.8 * m * math.sqrt(3)))
    assert tv(law, moved, vector(3.0, 5.0)) == pytest.approx(math.erf(m / math.sqrt(8)), rel=1e-9)


def test_the_ends():
    assert tv(Law(vector(1.0, 0.0)), Law(vector(1.0, 0.0)), vector(3.0, 2.0)) == 0
    assert tv(Law(vector(1.0, 0.0)), Law(vector(1.0, 0.1)), vector(3.0, 2.0)) == 1
    assert tv(Law(vector(1.0, 0.0)), Law(vector(1.5, 0.1)), vector(3.0, 0.0)) == pytest.approx(
        proportional(0.5, 3.0), rel=1e-6
    )


def test_products_of_densities_against_the_plane_and_against_gaussians():
    nodes = line(12.0, 961)
    weights = torch.full_like(nodes, float(nodes[1] - nodes[0]))
    p = Modes((-4.0, 0.0, 5.0), (0.3, 0.5, 0.2)).density(nodes)
    q = Modes((-3.9, 0.1, 5.0), (0.25, 0.5, 0.25), 1.1).density(nodes)
    plane = float((weights[:, None] * weights * (p[:, None] * p - q[:, None] * q).abs()).sum()) / 2
    assert product_tv(p, q, weights, 2) == pytest.approx(plane, rel=2e-5)
    p = Modes((0.0,), (1.0,)).density(nodes)
    q = Modes((0.0,), (1.0,), 1.2).density(nodes)
    assert product_tv(p, q, weights, 16) == pytest.approx(proportional(1 / 1.2 - 1, 16.0), rel=1e-7)
    assert product_tv(p, q, weights, 1) == pytest.approx(proportional(1 / 1.2 - 1, 1.0), rel=1e-4)
