"""The weights of multistep samplers: against closed forms and mpmath, and the published ones that
are not what they are meant to be."""

import math
from functools import partial
from itertools import pairwise

import mpmath as mp
import pytest
import torch

from diffgeo.core import Past
from diffgeo.sampler import DPMpp3M, steps
from diffgeo.sampler.adams import UNIFORM, in_time, legacy
from diffgeo.sampler.weights import in_log_sigma, in_sigma, phi
from diffgeo.schedule import VE, VP
from diffgeo.theory.orders import correlated_gaussian

SAME = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def uneven_levels(n, seed=0):
    """n levels, the last of them the end of the step, with random ratios."""
    ratios = 1 + 2 * torch.rand(
        n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    levels = (30 / torch.cumprod(ratios, 0)).tolist()
    return tuple(levels[-2::-1]), levels[-1]


@pytest.mark.parametrize("z", [-40.0, -1.5, -0.99, -1e-3, 0.0, 1e-9, 0.5, 1.01, 8.0])
def test_phi_against_its_integral(z):
    for k in (1, 2, 3, 4):
        weighed = lambda u, k=k: mp.exp((1 - u) * z) * u ** (k - 1) / mp.factorial(k - 1)
        integral = mp.quad(weighed, [0, 1])
        assert phi(k, z) == pytest.approx(float(integral), rel=2e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_adams_bashforth_weights_are_exact_on_polynomials(n, seed):
    levels, end = uneven_levels(n + 1, seed)
    for k in range(n):
        mean = (end ** (k + 1) - levels[0] ** (k + 1)) / (k + 1) / (end - levels[0])
        weights = in_sigma(levels, end)
        assert sum(w * s**k for w, s in zip(weights, levels, strict=True)) == pytest.approx(
            mean, rel=1e-12, abs=1e-11 * max(levels) ** k
        )


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_in_log_sigma_are_exact_on_polynomials_of_log_sigma(n, sign):
    """eps over sigma (1): int l^k d sigma; D (-1): int l^k d(1/sigma), since x/sigma moves by -D
    d(1/sigma)."""
    levels, end = uneven_levels(n + 1)
    weights = in_log_sigma(levels, end, sign)
    for k in range(n):
        moment = lambda log, k=k: log**k * mp.exp(sign * log)
        length = sign * (end**sign - levels[0] ** sign)
        mean = mp.quad(moment, [math.log(levels[0]), math.log(end)]) / length
        assert sum(
            w * math.log(s) ** k for w, s in zip(weights, levels, strict=True)
        ) == pytest.approx(float(mean), rel=1e-11)


@pytest.mark.parametrize(
    "levels, end",
    [
        ((3.0, 10.0, 80.0), 0.7),
        ((0.2, 0.3, 0.5, 0.9), 0.1),
        ((0.0105, 0.05, 0.2), 0.0),
        ((5.0, 20.0), 0.002),
    ],
)
def test_deis_weights_are_the_integrals_of_lagrange_polynomials_in_the_time_of_vp(levels, end):
    def time(sigma):  # the root of .1 t + 19.9 t^2/2 = log(1 + sigma^2)
        return (-0.1 + mp.sqrt(0.01 + 2 * 19.9 * mp.log1p(mp.mpf(sigma) ** 2))) / 19.9

    nodes = [time(s) for s in levels]
    for j, weight in enumerate(in_time(VP(), levels, end)):
        basis = lambda s, j=j: mp.fprod(
            (time(s) - t) / (nodes[j] - t) for i, t in enumerate(nodes) if i != j
        )
        cuts = [end, *(c for c in (1e-3, 1e-2, 0.1, 1.0) if end < c < levels[0]), levels[0]]
        assert weight == pytest.approx(float(mp.quad(basis, cuts) / (levels[0] - end)), rel=1e-10)


def test_uniform_weights_are_those_of_equal_steps():
    for n, weights in enumerate(UNIFORM, 1):
        assert in_sigma(tuple(5.0 + k for k in range(n)), 4.0) == pytest.approx(weights, rel=1e-13)


# published weights that are not what they are meant to be


def test_ipndm_v_as_published_on_the_grid_of_its_paper():
    """Step 5 of the polynomial grid (rho = 7) of 10 steps from 80 to .002, to the three digits of
    samplers.md; order 4 on equal steps."""
    grid = VE(to_zero=False).grid(10).tolist()
    levels = tuple(grid[5:2:-1])
    end = grid[6]
    assert in_sigma(levels, end) == pytest.approx((1.336, -0.388, 0.052), abs=6e-4)
    assert legacy(levels, end) == pytest.approx((1.721, -0.969, 0.248), abs=6e-4)
    assert legacy((4.0, 5.0, 6.0, 7.0), 3.0) == pytest.approx([v / 24 for v in (57, -65, 43, -11)])
    for n in (1, 2):
        assert legacy(levels[:n], end) == pytest.approx(in_sigma(levels[:n], end))


def test_the_three_slips_of_legacy_ipndm_v():
    """Each weight of the oldest point by hand, as meant and as published, on random levels; and by
    how much the sum misses 1."""
    (s0, s1, s2, s3), end = levels, end = uneven_levels(5)
    h = s0 - end
    h1 = s1 - s0
    h2 = s2 - s1
    h3 = s3 - s2
    a = h / (3 * (h + h1))
    q = h * (h + h1) / (h1 * (h1 + h2))
    c = h1 * (h1 + h2) / (h2 * (h2 + h3))
    b = (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
    last = q * (h + h1 + h2) / (h1 + h2 + h3)
    assert in_sigma(levels[:3], end)[2] == pytest.approx((1 - a) * q / 2 * h1 / h2)
    assert legacy(levels[:3], end)[2] == pytest.approx((1 - a * q) / 2 * h1 / h2)
    assert in_sigma(levels, end)[3] == pytest.approx(-((1 - a) / 2 - b) * last * c * h2 / h3)
    assert legacy(levels, end)[3] == pytest.approx(-((1 - a) / 2 + b) * last * c * h1 / h2)
    assert sum(legacy(levels[:3], end)) == pytest.approx(1)
    assert sum(legacy(levels, end)) - 1 == pytest.approx(
        ((1 - a) / 2 + b) * last * c * (h2 / h3 - h1 / h2)
    )


def test_dpmpp_3m_legacy_is_the_published_formula():
    """D1 = D1_0 + r0/(r0+r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1)/(r0+r1); with 2 D2 for D2 it is the
    exact rule."""
    levels, end = uneven_levels(4)
    sigmas = [*reversed(levels), end]
    gauss = correlated_gaussian()
    history = some_history(gauss, sigmas[:3])
    (d2, d1, d0), x = (p.denoised for p in history), history[-1].x
    h_1, h_0, h = (math.log(s / t) for s, t in pairwise(sigmas))
    r0 = h_0 / h
    r1 = h_1 / h
    a = (d0 - d1) / r0
    b = (d1 - d2) / r1
    for factor, weights in ((1, "legacy"), (2, "exact")):
        tangent = a + r0 / (r0 + r1) * (a - b)
        bend = factor * (a - b) / (r0 + r1)
        phi_1 = math.expm1(-h)
        phi_2 = math.expm1(-h) / h + 1
        published = (
            sigmas[3] / sigmas[2] * x - phi_1 * d0 + phi_2 * tangent - (phi_2 / h - 0.5) * bend
        )
        *_, step = steps(
            DPMpp3M(weights),
            gauss.denoise,
            x,
            torch.tensor(sigmas[2:], dtype=torch.float64),
            None,
            history[:2],
        )
        SAME(step.x, published)


def some_history(problem, sigmas):
    """A formula holds for any states."""
    return [
        Past(s, problem.x / (1 + k), problem.denoise(problem.x / (1 + k), s))
        for k, s in enumerate(sigmas)
    ]
