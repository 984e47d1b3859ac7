"""Schedules against 50-digit arithmetic, draws against their laws. Published grids are in
test_spacing.py and test_discrete.py."""

import math
from dataclasses import replace

import mpmath as mp
import pytest
import torch
from scipy import stats

from diffgeo.errors import UsageError
from diffgeo.schedule import OU, VE, VP, Cosine, Flow
from diffgeo.schedule.spacing import (
    Beta,
    Continuous,
    Exponential,
    Geometric,
    LogNormal,
    OnGrid,
    Polyexponential,
    Power,
    Rho,
    UniformTimes,
)

mp.mp.dps = 50


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def cosine_alpha(t):
    angle = lambda u: mp.pi / 2 * (u + mp.mpf(0.008)) / (1 + mp.mpf(0.008))
    return mp.cos(angle(t)) / mp.cos(angle(0))


# Each map, written a second time from its paper: alpha(t) and sigma_t of x_t = alpha x0 + sigma_t
# eps.
PATHS = {
    "ou": (OU(), lambda t: mp.exp(-t / 2), lambda t: mp.sqrt(1 - mp.exp(-t))),
    "vp": (
        VP(),
        lambda t: mp.exp(-(t**2) * (20 - mp.mpf(0.1)) / 4 - t * mp.mpf(0.1) / 2),
        lambda t: mp.sqrt(1 - mp.exp(-(t**2) * (20 - mp.mpf(0.1)) / 2 - t * mp.mpf(0.1))),
    ),
    "cosine": (Cosine(), cosine_alpha, lambda t: mp.sqrt(1 - cosine_alpha(t) ** 2)),
    "flow": (Flow(), lambda t: 1 - t, lambda t: t),
    "ve": (VE(), lambda t: mp.mpf(1), lambda t: t),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("fraction", [1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0])
def test_map_chart_and_rates_against_mpmath(name, fraction):
    path, alpha, sigma_t = PATHS[name]
    t = path.t_max * fraction
    exact = sigma_t(mp.mpf(t)) / alpha(mp.mpf(t))
    sigma = path.sigma(f64(t))
    # relative accuracy 1e-14, times the conditioning t sigma'/sigma of the map (large only at the
    # noise end of cosine and flow)
    condition = max(1.0, float(mp.diff(lambda u: sigma_t(u) / alpha(u), mp.mpf(t)) * t / exact))
    assert abs(float(mp.mpf(float(sigma)) / exact - 1)) < 1e-14 * condition
    assert float(path.t(sigma)) == pytest.approx(t, rel=3e-15)
    assert float(path.scale(sigma)) == pytest.approx(float(alpha(mp.mpf(t))), rel=1e-14 * condition)
    beta = float(-mp.diff(lambda u: mp.log(alpha(u)), mp.mpf(t)))
    g2 = float(alpha(mp.mpf(t)) ** 2 * mp.diff(lambda u: (sigma_t(u) / alpha(u)) ** 2, mp.mpf(t)))
    assert float(path.beta(f64(t))) == pytest.approx(beta, rel=1e-13 * condition, abs=1e-30)
    assert float(path.g2(f64(t))) == pytest.approx(g2, rel=1e-13 * condition)


@pytest.mark.parametrize("name", PATHS)
def test_zero_is_zero(name):
    path = PATHS[name][0]
    assert [float(f(f64(0.0))) for f in (path.sigma, path.t, path.scale, path.scale_integral)] == [
        0,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("sigma", [0.05, 1.0, 100.0])
def test_scale_integral_against_quadrature(name, sigma):
    path, alpha, _ = PATHS[name]
    scale = {"flow": lambda s: 1 / (1 + s), "ve": lambda s: mp.mpf(1)}.get(
        name, lambda s: 1 / mp.sqrt(1 + s**2)
    )
    exact = mp.quad(lambda s: scale(s) * 2 * s, [0, sigma / 10, sigma])
    assert float(path.scale_integral(f64(sigma))) == pytest.approx(float(exact), rel=1e-12)


def test_ou_constants_of_the_cem_paper():
    assert float(OU().sigma(f64(10.0))) == pytest.approx(148.4, abs=0.05)
    assert math.exp(-5) == pytest.approx(float(OU().scale(OU().sigma(f64(10.0)))), rel=1e-14)


@pytest.mark.parametrize(
    "path",
    [
        OU(),
        VP(),
        Cosine(),
        Flow(),
        VE(),
        VE(spacing=Exponential()),
        OU(t_min=0, spacing=Power(3)),
        VE(spacing=Polyexponential(2)),
        VP(spacing=Beta()),
        VP.through(0.002, 80, spacing=Power(2)),
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 7, 500])
def test_every_grid_decreases_from_t_max_and_says_where_it_ends(path, steps):
    grid = path.grid(steps)
    assert len(grid) == steps + 1 and bool((grid.diff() < 0).all())
    assert grid[0] == path.sigma(f64(path.t_max))[0] and grid[-1] == 0
    if steps > 1 and path.t_min > 0:
        assert grid[-2] == path.sigma(f64(path.t_min))[0]
    stopped = replace(path, to_zero=False).grid(steps)
    assert (
        len(stopped) == steps + 1
        and stopped[-1] == path.sigma(f64(path.t_min))[0]
        and bool((stopped.diff() < 0).all())
    )


def draws(path, n=20_000, seed=0):
    sigma = path.draw(n, torch.Generator().manual_seed(seed))
    assert sigma.dtype == torch.float64 and sigma.shape == (n,)
    return sigma


@pytest.mark.parametrize(
    "path, coordinate, law",
    [
        (
            OU(),
            lambda s: torch.log(torch.log1p(s**2)),
            stats.uniform(math.log(1e-4), math.log(1e5)),
        ),
        (
            VE(training=Continuous(Geometric())),
            torch.log,
            stats.uniform(math.log(0.002), math.log(40_000)),
        ),
        (
            VE(training=Continuous()),
            lambda s: s ** (1 / 7),
            stats.uniform(0.002 ** (1 / 7), 80 ** (1 / 7) - 0.002 ** (1 / 7)),
        ),
        (Flow(), lambda s: s / (1 + s), stats.uniform(0.001, 0.998)),
        (VE(training=LogNormal(-1.2, 1.2)), torch.log, stats.norm(-1.2, 1.2)),
        (
            Flow(training=Continuous(Beta(2, 3))),
            lambda s: (s / (1 + s) - 0.001) / 0.998,
            stats.beta(2, 3),
        ),
    ],
)
def test_continuous_draws_follow_their_law(path, coordinate, law):
    assert stats.kstest(coordinate(draws(path)).numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "path, levels",
    [
        (
            OU(training=UniformTimes(200)),
            f64(*(10 * k / 199 for k in range(1, 200))).expm1().sqrt(),
        ),
        (OU(training=OnGrid(50)), OU().grid(50)[:-1].flip(0)),
        (
            OU(t_min=0, spacing=Power(2), training=OnGrid(40)),
            OU(t_min=0, spacing=Power(2)).grid(40)[:-1].flip(0),
        ),
    ],
)
def test_discrete_draws_take_every_level_equally_often(path, levels):
    values, counts = draws(path).unique(return_counts=True)
    torch.testing.assert_close(values, levels, rtol=1e-14, atol=0)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_papers_training_times_stop_at_0503():
    assert float(torch.log1p(draws(OU(training=UniformTimes(200))).min() ** 2)) == pytest.approx(
        0.0503, abs=5e-5
    )


def test_draws_repeat_with_the_generator():
    for path in (OU(), OU(training=OnGrid(9)), VE(training=LogNormal())):
        assert torch.equal(draws(path, 50, 3), draws(path, 50, 3)) and not torch.equal(
            draws(path, 50, 3), draws(path, 50, 4)
        )


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: OU().grid(0), "steps=0"),
        (lambda: OU().grid(2.5), "steps=2.5"),
        (lambda: OU(t_min=11), "minimum < maximum"),
        (lambda: VE(sigma_min=-1), "sigma_min"),
        (lambda: OU(t_min=0), "never reaches 0"),
        (lambda: draws(VE(sigma_min=0)), "never reaches 0"),
        (lambda: OU(t_max=800), "not finite"),
        (lambda: Flow(t_max=1), "t_max below 1"),
        (lambda: Cosine(t_max=1.0), "t_max below 1"),
        (lambda: VP(beta_min=-0.1), "beta_min"),
        (lambda: Rho(0), "rho"),
        (lambda: Power(-1), "power"),
        (lambda: UniformTimes(1), "training.n=1"),
        (lambda: LogNormal(std=0), "training.std"),
        (lambda: Polyexponential(0), "rho=0"),
        (lambda: VE(sigma_min=0, spacing=Polyexponential()), "never reaches 0"),
        (lambda: Beta(0, 1), "spacing.alpha=0"),
        (lambda: VP.through(1, 1), "sigma_min < sigma_max"),
        (lambda: VP.through(0.1, 1, t_min=1), "0 < t_min < 1"),
        (lambda: VP(beta_min=-0.1, t_min=1e-3), "0 < beta_min"),
    ],
)
def test_bad_options_say_what_to_write(make, says):
    with pytest.raises(UsageError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value) and "write" in str(caught.value)
