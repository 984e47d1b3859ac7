"""The grids of discrete-time networks: levels against 50 digits, timesteps against the published
tables, digit for digit."""

import math
from itertools import pairwise

import mpmath as mp
import pytest
import torch
from scipy import stats

from diffgeo.errors import UsageError
from diffgeo.sampler import Euler, ExponentialIntegrator, Heun, steps
from diffgeo.schedule import VE
from diffgeo.schedule.discrete import (
    CosineBetas,
    Discrete,
    EvenTimesteps,
    Laid,
    LinearBetas,
    LogLinear,
    ScaledLinearBetas,
    SigmoidBetas,
    Trailing,
)
from diffgeo.schedule.spacing import OnGrid, Rho
from diffgeo.schedule.trained import OnTrainedLevels, trained
from diffgeo.theory.orders import weak_errors

mp.mp.dps = 50
KARRAS = VE(spacing=Rho(7), to_zero=False)
DDIM, OFFSET, EDM, LOGLINEAR = (
    Discrete(timesteps=rule)
    for rule in (EvenTimesteps(157.0), EvenTimesteps(40.0), Laid(KARRAS), LogLinear())
)
STABLE = Discrete(betas=ScaledLinearBetas(), timesteps=LogLinear(start=8.35, factor=0.0))


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def cosine(i):
    f = lambda t: mp.cos(mp.pi / 2 * (mp.mpf(t) / 1000 + mp.mpf(0.008)) / (1 + mp.mpf(0.008))) ** 2
    return min(1 - f(i + 1) / f(i), mp.mpf(0.999))


def line(first, last, i):
    return mp.mpf(first) + (mp.mpf(last) - mp.mpf(first)) * i / 999


BETAS = {  # each written a second time, from its paper
    LinearBetas(): lambda i: line(1e-4, 0.02, i),
    ScaledLinearBetas(): lambda i: line(mp.sqrt(mp.mpf(0.00085)), mp.sqrt(mp.mpf(0.012)), i) ** 2,
    SigmoidBetas(): lambda i: (
        mp.mpf(1e-4) + (mp.mpf(0.02) - mp.mpf(1e-4)) / (1 + mp.exp(-line(-6, 6, i)))
    ),
    CosineBetas(): cosine,
}


@pytest.mark.parametrize("betas", BETAS, ids=lambda betas: type(betas).__name__)
def test_levels_against_mpmath(betas):
    levels = Discrete(betas=betas).levels
    abar = mp.mpf(1)
    assert levels.shape == (1000,)
    for t in range(1000):
        abar *= 1 - BETAS[betas](t)
        if t in (0, 1, 10, 500, 998, 999):
            assert float(levels[t]) == pytest.approx(float(mp.sqrt((1 - abar) / abar)), rel=1e-12)


def test_published_levels():
    torch.testing.assert_close(
        Discrete().levels[[0, 1, 998, 999]],
        f64(0.010000, 0.01483, 155.825, 157.407),
        rtol=1e-4,
        atol=0,
    )
    torch.testing.assert_close(STABLE.levels[[0, 999]], f64(0.02917, 14.61), rtol=4e-4, atol=0)


def test_published_look_ups_of_sigma_to_t():
    """All but .01, which float32 ties with sigma(0) = .0100005 and so rounds to 1."""
    assert DDIM.timestep(f64(157, 120, 100, 80, 40, 0.01, 0.002)).tolist() == [
        999,
        972,
        954,
        930,
        853,
        0,
        0,
    ]
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float32), 0)
    assert (
        1000
        - int(
            torch.searchsorted(abar.flip(0), torch.tensor(1 / (0.01**2 + 1), dtype=torch.float32))
        )
        == 1
    )


TABLES = [
    (
        DDIM,
        10,
        [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0],
        [157.4, 60.27, 25.53, 11.94, 6.135, 3.424, 2.031, 1.234, 0.719, 0.339, 0.01],
    ),
    (
        OFFSET,
        10,
        [853, 767, 682, 597, 511, 426, 341, 255, 170, 85, 0],
        [40.09, 19.81, 10.59, 6.06, 3.66, 2.33, 1.52, 0.98, 0.60, 0.29, 0.01],
    ),
    (
        EDM,
        10,
        [930, 868, 794, 705, 591, 441, 252, 93, 22, 2, 0],
        [80.3, 45.7, 24.5, 12.5, 5.84, 2.52, 0.97, 0.32, 0.086, 0.019, 0.01],
    ),
    (EDM, 5, [930, 794, 591, 252, 22, 0], [80.3, 24.5, 5.84, 0.97, 0.086, 0.01]),
    (LOGLINEAR, 5, [853, 652, 380, 116, 22, 0], [40.09, 8.63, 1.85, 0.398, 0.0858, 0.01]),
    (
        LOGLINEAR,
        10,
        [853, 765, 665, 549, 415, 271, 149, 73, 33, 14, 0],
        [40.09, 19.50, 9.42, 4.54, 2.20, 1.07, 0.518, 0.251, 0.121, 0.060, 0.01],
    ),
    (
        LOGLINEAR,
        20,
        [
            853,
            810,
            765,
            717,
            666,
            611,
            551,
            487,
            418,
            345,
            274,
            207,
            151,
            107,
            75,
            51,
            34,
            23,
            15,
            9,
            0,
        ],
        None,
    ),
    (STABLE, 10, [901, 830, 751, 663, 566, 461, 353, 252, 166, 101, 0], None),
]


@pytest.mark.parametrize("schedule, n, times, sigmas", TABLES)
def test_published_timesteps_digit_for_digit(schedule, n, times, sigmas):
    assert schedule.times(n).tolist() == times
    grid = schedule.grid(n)
    assert grid.dtype == torch.float64 and torch.equal(grid, schedule.levels[times])
    for ours, printed in zip(grid.tolist(), sigmas or [], strict=False):
        digits = len(repr(printed).partition(".")[2])
        assert abs(ours - printed) <= 0.5001 * 10**-digits
    of_50 = LOGLINEAR.times(50).tolist()
    assert of_50[:5] == [853, 836, 818, 800, 782] and of_50[-6:] == [12, 10, 8, 6, 5, 0]


@pytest.mark.parametrize(
    "n, end, beta",
    [(5, 0.0851, 0.785), (10, 0.0585, 0.516), (20, 0.0420, 0.303), (50, 0.0282, 0.138)],
)
def test_published_end_rule(n, end, beta):
    """sigma_end = sqrt(sigma(0) sigma(T//N)): T//N, and not the 199 / 99 / 49 / 19 of
    trunc(linspace(999, 0, N+1)), gives the tables."""
    free = Discrete(timesteps=LogLinear(), rounding="none").grid(n)
    assert float(free[-2]) == pytest.approx(end, abs=5e-5)
    torch.testing.assert_close(
        1 - free[1:-1] / free[:-2],
        torch.full((n - 1,), beta, dtype=torch.float64),
        rtol=0,
        atol=6e-4,
    )


@pytest.mark.parametrize("n", [1, 3, 7, 16, 54, 81, 250, 999])
def test_even_and_trailing_timesteps_in_whole_numbers(n):
    assert Discrete(timesteps=EvenTimesteps()).times(n).int().tolist() == [
        999 * (n - k) // n for k in range(n + 1)
    ]
    # Python's round, to even at halves, as numpy's; from N = 2T/3 on a level a step at the end
    nearest = [round(1000 * (1 - k / n)) - 1 for k in range(n)]
    lowest = [max(t, n - k) for k, t in enumerate(nearest)]
    assert lowest == nearest or n >= 667
    assert Discrete(timesteps=Trailing()).times(n).int().tolist() == [*lowest, 0]


def test_the_time_is_the_index_and_log_sigma_linear_between():
    schedule = Discrete()
    t = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(schedule.sigma(t), schedule.levels)
    torch.testing.assert_close(schedule.t(schedule.levels), t, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        schedule.sigma(t[:-1] + 0.25) ** 4,
        schedule.levels[:-1] ** 3 * schedule.levels[1:],
        rtol=1e-12,
        atol=0,
    )
    for time in (-1.0, -0.5, 0.3, 77.7, 998.9):
        assert float(schedule.t(schedule.sigma(f64(time)))) == pytest.approx(time, abs=1e-10)
    assert (
        float(schedule.sigma(f64(-1.0))) == 0
        and float(schedule.t(f64(0.0))) == -1
        and schedule.t_max == 999
    )


@pytest.mark.parametrize("betas", BETAS, ids=lambda betas: type(betas).__name__)
@pytest.mark.parametrize("t", [-0.5, 0.5, 250.25, 998.5])
def test_rates_are_the_derivatives_of_the_chart(betas, t):
    schedule = Discrete(betas=betas)
    h = 1e-5
    low = schedule.sigma(f64(t - h))
    high = schedule.sigma(f64(t + h))
    beta = (schedule.scale(low).log() - schedule.scale(high).log()) / (2 * h)
    torch.testing.assert_close(schedule.beta(f64(t)), beta, rtol=1e-5, atol=1e-12)
    g2 = schedule.scale(schedule.sigma(f64(t))) ** 2 * (high**2 - low**2) / (2 * h)
    torch.testing.assert_close(schedule.g2(f64(t)), g2, rtol=1e-7, atol=0)


def test_draws_take_every_trained_level_equally_often():
    schedule = Discrete(betas=LinearBetas(T=40, last=0.3))
    sigma = schedule.draw(20_000, torch.Generator().manual_seed(0))
    values, counts = sigma.unique(return_counts=True)
    assert torch.equal(values, schedule.levels) and stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert torch.isin(
        OnGrid(10)(schedule, 500, torch.Generator().manual_seed(0)), schedule.grid(10)
    ).all()


def test_roundings_are_what_they_say():
    schedule = Discrete()
    levels = schedule.levels.tolist()
    sigmas = torch.exp(
        torch.empty(300, dtype=torch.float64).uniform_(
            -4.6, 5.05, generator=torch.Generator().manual_seed(1)
        )
    )
    up = [next(t for t in range(1000) if s < levels[t]) for s in sigmas.tolist()]
    near = [
        min(range(1000), key=lambda t, s=s: abs(math.log(s / levels[t]))) for s in sigmas.tolist()
    ]
    assert Discrete(rounding="up").timestep(sigmas).tolist() == up
    assert Discrete(rounding="nearest").timestep(sigmas).tolist() == near
    torch.testing.assert_close(
        schedule.sigma(Discrete(rounding="none").timestep(sigmas)), sigmas, rtol=1e-12, atol=0
    )
    # half-open, as published
    assert Discrete(rounding="up").timestep(schedule.levels[[0, 100, 999]]).tolist() == [
        1,
        101,
        999,
    ]
    assert {
        Discrete(rounding=r).timestep(f64(s)).item()
        for r in ("up", "nearest", "none")
        for s in (0.0, 1e-5)
    } == {0}
    assert {
        Discrete(rounding=r).timestep(f64(500.0)).item() for r in ("up", "nearest", "none")
    } == {999}


class Recorder:
    """The denoiser of one point, 0, and the levels it was asked at."""

    def __init__(self):
        self.levels = []

    def __call__(self, x, sigma):
        self.levels += torch.as_tensor(sigma, dtype=torch.float64).flatten().tolist()
        return torch.zeros_like(x)


@pytest.mark.parametrize("rounding", ["up", "nearest", "none"])
def test_a_network_on_trained_levels_is_asked_at_those_alone(rounding):
    schedule = Discrete()
    net = Recorder()
    x = torch.ones(2, 3)
    wrapped = OnTrainedLevels(net, schedule, rounding)
    levels = schedule.levels
    for sigma in levels.tolist():  # a trained level is its own rounding, always
        wrapped(x, sigma)
    torch.testing.assert_close(f64(*net.levels), levels, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        trained(schedule, rounding, levels.float()), levels.float(), rtol=1e-6, atol=0
    )
    # just above the middle: nearest is the upper one, too
    between = torch.sqrt(levels[[10, 600]] * levels[[11, 601]]) * 1.0001
    expected = between if rounding == "none" else levels[[11, 601]]
    net.levels.clear()
    # one level a row, then one for the whole batch
    wrapped(x, between), [wrapped(x, level) for level in between.tolist()]
    torch.testing.assert_close(
        f64(*net.levels), torch.cat([expected, expected]), rtol=1e-12, atol=0
    )
    net.levels.clear()
    wrapped(x, 1e-3), wrapped(x, 1e3)  # never outside what was trained
    torch.testing.assert_close(f64(*net.levels), levels[[0, 999]], rtol=1e-12, atol=0)


def test_on_trained_levels_every_published_grid_is_left_as_it_is():
    for schedule in (DDIM, OFFSET, EDM, LOGLINEAR):
        grid = schedule.grid(10)
        net = Recorder()
        list(steps(Heun(), OnTrainedLevels(net, schedule), torch.ones(1, 2), grid, None))
        assert {min(abs(s / g - 1) for g in grid.tolist()) < 1e-12 for s in net.levels} == {
            True
        } and len(net.levels) == 20


def test_to_zero_spends_one_of_the_steps():
    for n in (1, 2, 10):
        grid = Discrete(to_zero=True, timesteps=EvenTimesteps()).grid(n)
        expected = Discrete(timesteps=EvenTimesteps()).grid(max(n - 1, 1))[:n]
        assert len(grid) == n + 1 and grid[-1] == 0 and torch.equal(grid[:-1], expected)


def test_a_level_that_repeats_stands_once():
    times = EDM.times(20).int().tolist()
    assert times[-4:] == [8, 2, 0, 0]  # .0063 and .002 both lie below sigma(0)
    assert torch.equal(EDM.grid(20), EDM.levels[times[:-1]])


@pytest.mark.parametrize("to_zero", [False, True])
@pytest.mark.parametrize("rule", [Trailing(), EvenTimesteps()], ids=lambda r: type(r).__name__)
def test_as_many_steps_as_were_asked_for_down_to_every_level_there_is(rule, to_zero):
    """T levels make T - 1 steps, or T with the last one to 0, and no more: the repeats that a list
    of timesteps has are no steps."""
    schedule = Discrete(timesteps=rule, to_zero=to_zero)
    most = 1000 if to_zero else 999
    for n in (1, 2, 3, 18, 50, 500, 666, 667, 668, 853, 998, 999, most):
        assert len(schedule.grid(n)) == n + 1
    everything = [*schedule.levels.flip(0).tolist(), *[0.0] * to_zero]
    assert schedule.grid(most).tolist() == everything
    for n in (most + 1, 2000):
        with pytest.raises(UsageError, match=f"down make {most} steps; write at most steps={most}"):
            schedule.grid(n)


def test_the_steps_from_a_lower_level_are_those_below_it():
    """sigma = 40 is taken to t = 853, and sigma = 80 to 930."""
    assert len(OFFSET.grid(853)) == 854
    with pytest.raises(UsageError, match="854 trained levels from sigma=40.09 down make 853 steps"):
        OFFSET.grid(854)
    with pytest.raises(UsageError, match="make 930 steps"):
        EDM.grid(1000)


def test_a_chart_scheme_steps_in_the_time_of_the_index():
    """The exponential integrator keeps every mean exactly, and its variance comes right as the
    steps grow more (order 1 in law)."""
    found = [
        weak_errors(ExponentialIntegrator(Discrete()), Discrete(timesteps=EvenTimesteps()).grid(n))
        for n in (250, 999)
    ]
    assert max(mean for mean, _ in found) < 1e-12 and found[1][1] < found[0][1] / 4


def test_euler_on_the_ddim_grid_is_the_product_of_its_factors():
    """With D = 0 Euler scales by sigma'/sigma: down to sigma(0), and no further."""
    *_, last = steps(Euler(), Recorder(), torch.full((1, 1), 3.0), DDIM.grid(10), None)
    assert float(last.x) == pytest.approx(3 * float(DDIM.levels[0] / DDIM.levels[999]), rel=1e-12)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Discrete(rounding="down"), "rounding=down"),
        (lambda: OnTrainedLevels(Recorder(), Discrete(), "off"), "rounding=off"),
        (lambda: Discrete().grid(0), "steps=0"),
        (lambda: LinearBetas(T=1), "betas.T=1"),
        (lambda: LinearBetas(first=0), "betas.first=0"),
        (lambda: CosineBetas(max_beta=1), "max_beta=1"),
        (lambda: CosineBetas(T=2.5), "betas.T=2.5"),
        (lambda: Discrete(timesteps=LogLinear(start=0.02)).grid(5), "do not decrease"),
        (lambda: Discrete(timesteps=LogLinear(start=-1.0)).grid(5), "do not decrease"),
        (lambda: Discrete(timesteps=EvenTimesteps(start=1e-4)).grid(5), "do not decrease"),
        (lambda: Discrete(timesteps=EvenTimesteps(start=-1.0)).grid(5), "do not decrease"),
    ],
)
def test_bad_options_say_what_to_write(make, says):
    with pytest.raises(UsageError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value) and "write" in str(caught.value)


@pytest.mark.slow
def test_levels_and_timesteps_against_diffusers():
    diffusers = pytest.importorskip("diffusers")
    for betas, name, ends in [
        (LinearBetas(), "linear", (1e-4, 0.02)),
        (ScaledLinearBetas(), "scaled_linear", (0.00085, 0.012)),
        (SigmoidBetas(), "sigmoid", (1e-4, 0.02)),
        (CosineBetas(), "squaredcos_cap_v2", (1e-4, 0.02)),
    ]:
        theirs = diffusers.DDPMScheduler(
            beta_schedule=name, beta_start=ends[0], beta_end=ends[1], timestep_spacing="trailing"
        )
        ours = Discrete(betas=betas)
        torch.testing.assert_close(
            1 / (1 + ours.levels**2), theirs.alphas_cumprod.double(), rtol=1e-4, atol=0
        )
        for n in (5, 10, 50):
            theirs.set_timesteps(n)
            assert ours.times(n)[:-1].tolist() == theirs.timesteps.tolist()


def test_grids_decrease_on_every_training_grid():
    for betas in BETAS:
        for rule in (EvenTimesteps(), Trailing(), Laid(KARRAS), LogLinear(start=10.0)):
            for n in (1, 2, 7, 100, 600):
                grid = Discrete(betas=betas, timesteps=rule).grid(n)
                assert (
                    all(a > b for a, b in pairwise(grid.tolist()))
                    and grid[-1] == Discrete(betas=betas).levels[0]
                )
