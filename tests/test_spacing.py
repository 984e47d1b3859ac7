"""Grids against their published formulas."""

import math
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import stats

from diffgeo.schedule import OU, VE, VP, Flow
from diffgeo.schedule.spacing import (
    Beta,
    Exponential,
    ExponentialDecay,
    Geometric,
    LogNormal,
    Polyexponential,
    Power,
    Rho,
)

mp.mp.dps = 50


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_exponential_grid_is_equation_41():
    steps = 200
    t1 = 1e-4
    a = math.log(10 / t1) / (steps - 1)
    assert math.exp(a) == pytest.approx(1.0596, abs=5e-5)  # the ratio that cem.md prints
    t = [t1 * math.exp(a * (k - 1)) for k in range(steps, 0, -1)] + [0]
    grid = OU().grid(steps)
    assert grid.dtype == torch.float64 and len(grid) == steps + 1
    torch.testing.assert_close(OU().t(grid), f64(*t), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "p, steps, first",
    [(2, 50, 4e-3), (1, 50, 0.2), (2, 200, 2.5e-4), (1, 200, 0.05), (5, 99, 10 / 99**5)],
)
def test_power_grids_and_their_first_times(p, steps, first):
    grid = OU(t_min=0, spacing=Power(p)).grid(steps)
    torch.testing.assert_close(
        OU().t(grid),
        f64(*(10 * (k / steps) ** p for k in range(steps, -1, -1))),
        rtol=1e-12,
        atol=0,
    )
    assert float(OU().t(grid)[-2]) == pytest.approx(first, rel=1e-12) and grid[-1] == 0


def test_karras_grid_against_the_published_one():
    # 20 Euler steps, Chen et al.'s notebook
    published = [
        80,
        60.6,
        45.3,
        33.5,
        24.4,
        17.5,
        12.4,
        8.59,
        5.84,
        3.88,
        2.52,
        1.58,
        0.965,
        0.567,
        0.318,
        0.170,
        0.0851,
        0.0395,
        0.0167,
        0.0063,
        0.002,
    ]
    # three printed digits
    torch.testing.assert_close(VE(to_zero=False).grid(20), f64(*published), rtol=6e-3, atol=0)


def test_karras_grid_has_18_positive_levels_then_zero():
    formula = [
        (80 ** (1 / 7) + k / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for k in range(18)
    ]
    grid = VE().grid(18)
    torch.testing.assert_close(grid, f64(*formula, 0), rtol=1e-12, atol=0)
    assert grid[0] == 80 and grid[17] == 0.002  # the ends are exact, not rounded through a power


def decaying(T, delta, N):
    """convergence.md, C1: N1 uniform steps on [1, T] and N2 geometric ones on [delta, 1]."""
    N1 = round(N * (T - 1) / (T - 1 + math.log(1 / delta)))
    return [T - k * (T - 1) / N1 for k in range(N1)] + [
        delta ** (k / (N - N1)) for k in range(N - N1 + 1)
    ]


@pytest.mark.parametrize(
    "T, delta, N", [(6, 1e-4, 400), (6, 1e-1, 100), (6, 1e-6, 7), (1.2, 0.5, 4), (50, 0.1, 60)]
)
def test_exponentially_decaying_grid_is_its_formula(T, delta, N):
    """On the OU process of either speed, ends exact, and with to_zero a step more."""
    spacing = ExponentialDecay()
    for path in (
        VP(t_max=T, t_min=delta, beta_min=2, beta_max=2, spacing=spacing),
        OU(t_max=T, t_min=delta, spacing=spacing),
    ):
        t = path.t(replace(path, to_zero=False).grid(N))
        torch.testing.assert_close(t, f64(*decaying(T, delta, N)), rtol=1e-12, atol=1e-13)
        assert (t == 1).any() or float((t - 1).abs().min()) < 1e-15
        assert torch.equal(
            path.grid(N + 1), torch.cat([replace(path, to_zero=False).grid(N), f64(0)])
        )
        assert float(path.grid(N)[0]) == float(path.sigma(f64(T))) and float(
            path.grid(N)[-2]
        ) == float(path.sigma(f64(delta)))


def test_exponentially_decaying_steps_are_at_most_kappa_min_1_t():
    """kappa as the whole length in the coordinate says, within the rounding of N1 and a step's own
    decay."""
    T = 6
    delta = 1e-3
    N = 300
    path = VP(
        t_max=T, t_min=delta, beta_min=2, beta_max=2, spacing=ExponentialDecay(), to_zero=False
    )
    t = path.t(path.grid(N)).numpy()
    kappa = (T - 1 + math.log(1 / delta)) / N
    ratio = (t[:-1] - t[1:]) / np.minimum(1, t[:-1])
    assert ratio.max() < 1.01 * kappa and ratio.min() > 0.95 * kappa


def test_exponentially_decaying_grid_on_one_side_of_1_and_of_few_steps():
    """Below 1 geometric, above 1 uniform; too few steps for a level at 1 are equal in the
    coordinate t, 1 + log t."""
    path = VP(beta_min=2, beta_max=2, spacing=ExponentialDecay(), to_zero=False)
    below = replace(path, t_max=0.5, t_min=0.01)
    above = replace(path, t_max=6, t_min=2)
    torch.testing.assert_close(
        path.t(below.grid(8)), f64(*(0.5 * 0.02 ** (k / 8) for k in range(9))), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        path.t(above.grid(8)), f64(*(6 - k / 2 for k in range(9))), rtol=1e-12, atol=0
    )
    # the coordinate runs from 2 to -2; N1 = round(N/4)
    single = replace(path, t_max=2, t_min=math.exp(-3))
    torch.testing.assert_close(path.t(single.grid(1)), f64(2, math.exp(-3)), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        path.t(single.grid(2)), f64(2, math.exp(-1), math.exp(-3)), rtol=1e-12, atol=0
    )


def test_training_times_of_an_exponential_decay():
    """Uniform in the coordinate: above 1 in proportion T - 1 to log 1/delta, there uniform, below
    uniform in log t."""
    path = VP(t_max=6, t_min=1e-4, beta_min=2, beta_max=2, spacing=ExponentialDecay())
    t = path.t(path.draw(40_000, torch.Generator().manual_seed(0))).numpy()
    share = 5 / (5 + math.log(1e4))
    assert (t > 1).mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 40_000))
    assert stats.kstest(t[t > 1], stats.uniform(1, 5).cdf).pvalue > 0.01
    assert (
        stats.kstest(np.log(t[t < 1]), stats.uniform(math.log(1e-4), math.log(1e4)).cdf).pvalue
        > 0.01
    )


def test_geometric_and_rho_are_laid_in_sigma_on_any_path():
    for path in (OU(t_min=1e-3), VP(), Flow()):
        lo = float(path.sigma(f64(path.t_min)))
        hi = float(path.sigma(f64(path.t_max)))
        ratio = replace(path, spacing=Geometric()).grid(30)[:-1].log().diff()
        torch.testing.assert_close(
            ratio, torch.full_like(ratio, math.log(lo / hi) / 29), rtol=1e-10, atol=0
        )
        root = (replace(path, spacing=Rho(3)).grid(30)[:-1] ** (1 / 3)).diff()
        torch.testing.assert_close(
            root, torch.full_like(root, (lo ** (1 / 3) - hi ** (1 / 3)) / 29), rtol=1e-10, atol=0
        )


@pytest.mark.parametrize("rho", [0.5, 1, 2, 7])
def test_polyexponential_is_k_diffusions(rho):
    ramp = np.linspace(1, 0, 12) ** rho
    formula = np.exp(ramp * (math.log(80) - math.log(0.002)) + math.log(0.002))
    torch.testing.assert_close(
        VE(spacing=Polyexponential(rho)).grid(12), f64(*formula, 0), rtol=1e-12, atol=0
    )
    if rho == 1:
        torch.testing.assert_close(
            VE(spacing=Polyexponential()).grid(12),
            VE(spacing=Exponential()).grid(12),
            rtol=1e-12,
            atol=0,
        )


@pytest.mark.parametrize("a, b", [(0.6, 0.6), (1, 1), (0.5, 2)])
def test_beta_spacing_lays_quantiles_of_the_beta_law(a, b):
    """In t, as the paper says; on VE t is sigma, which is what diffusers does with any schedule."""
    quantile = stats.beta.ppf(1 - np.linspace(0, 1, 15), a, b)
    torch.testing.assert_close(
        VE(spacing=Beta(a, b), to_zero=False).grid(14),
        f64(*(0.002 + quantile * (80 - 0.002))),
        rtol=1e-11,
        atol=0,
    )
    vp = VP(spacing=Beta(a, b), to_zero=False).grid(14)
    torch.testing.assert_close(VP().t(vp), f64(*(0.001 + quantile * 0.999)), rtol=1e-11, atol=0)


def test_beta_spacing_crowds_both_ends_and_one_one_is_uniform():
    step = -VP().t(VP(spacing=Beta(), to_zero=False).grid(20)).diff()
    assert step[0] < step[9] / 2 and step[-1] < step[10] / 2
    torch.testing.assert_close(VP(spacing=Beta(1, 1)).grid(20), VP().grid(20), rtol=1e-11, atol=0)


@pytest.mark.parametrize("rho", [1, 2, 7])
def test_time_uniform_is_the_published_one(rho):
    """diff-solvers: t_k = (1 + k/N (eps^(1/rho) - 1))^rho in the VP time through (eps, sigma_min)
    and (1, sigma_max); here in mpmath."""
    low = mp.log1p(mp.mpf(0.002) ** 2)
    high = mp.log1p(mp.mpf(80) ** 2)
    eps = mp.mpf(1) / 1000
    beta_d = 2 * (low / eps - high) / (eps - 1)
    beta_min = high - beta_d / 2
    t = [(1 + mp.mpf(k) / 10 * (eps ** (mp.mpf(1) / rho) - 1)) ** rho for k in range(11)]
    published = [float(mp.sqrt(mp.expm1(beta_d * u**2 / 2 + beta_min * u))) for u in t]
    path = VP.through(0.002, 80, spacing=Power(rho), to_zero=False)
    torch.testing.assert_close(path.grid(10), f64(*published), rtol=1e-9, atol=0)
    assert path.beta_min == pytest.approx(
        -0.00477, abs=1e-5
    ) and path.beta_max - path.beta_min == pytest.approx(17.538, abs=1e-3)
    torch.testing.assert_close(path.t(path.grid(10)), f64(*map(float, t)), rtol=1e-9, atol=0)


def test_a_vp_process_goes_through_its_own_two_levels():
    low = VP().sigma(f64(1e-3)).item()
    high = VP().sigma(f64(1.0)).item()
    again = VP.through(low, high)
    assert (again.beta_min, again.beta_max) == (
        pytest.approx(0.1, rel=1e-9),
        pytest.approx(20, rel=1e-9),
    )


def test_straight_paths_make_logit_normal_times_of_log_normal_levels():
    t = Flow().t(Flow(training=LogNormal(0, 1)).draw(20_000, torch.Generator().manual_seed(0)))
    assert stats.kstest(torch.logit(t).numpy(), stats.norm().cdf).pvalue > 1e-3
