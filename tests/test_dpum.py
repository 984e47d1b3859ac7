"""DPUM against convergence theory: its law on Gaussians by a second implementation and by sampling,
its stages, its rate, its calls."""

import json
import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate

from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DPUM,
    Euler,
    ExponentialFlow,
    Langevin,
    PredictorCorrector,
    Underdamped,
    steps,
)
from diffgeo.schedule import OU, VE, VP, Flow
from diffgeo.schedule.stages import Stages, gaussian_smoothness, mixture_smoothness
from diffgeo.simulation.noise import Streams
from diffgeo.theory import linear
from diffgeo.theory.orders import KARRAS, correlated_gaussian, gaussian, slope

LAM = np.array([0.25, 0.5, 2.0, 4.0])


def f64(values):
    return torch.as_tensor(values, dtype=torch.float64)


def stage_times(T, L, h_pred, delta):
    """The stages' times from the formulas: steps min(h, t/2) between the multiples of 1/L, the last
    to delta; h divides 1/L."""
    stages = []
    t = T
    while t > delta:
        end = max((math.ceil(t * L - 1e-6) - 1) / L, delta)
        times = [t]
        while t > end:
            t -= min(h_pred, t / 2)
            t = end if t < end + 1e-9 else t
            times.append(t)
        stages.append(times)
    return stages


def published(lam, T, L, h_pred, h_corr, delta, m=0.0):
    """Variance and mean of x_delta by convergence.md, C1: x <- e^h x + (e^h-1) s, then the 2x2
    recursion of (z, v); and the calls of s."""
    v = np.ones_like(lam)
    mean = np.zeros_like(lam)
    calls = [0, 0]
    # s_t(x) = -q (x - e^-t m)
    slope_at = lambda t: 1 / (math.exp(-2 * t) * lam - math.expm1(-2 * t))
    gamma = 2 * math.sqrt(L)
    n = round(1 / (math.sqrt(L) * h_corr))
    h = 1 / (math.sqrt(L) * n)
    a = math.exp(-gamma * h)
    b = (1 - a) / gamma
    c = (h - b) / gamma
    Q = np.array(
        [
            [2 / gamma * (h - 2 * b + (1 - a * a) / (2 * gamma)), (1 - a) ** 2 / gamma],
            [(1 - a) ** 2 / gamma, 1 - a * a],
        ]
    )
    for times in stage_times(T, L, h_pred, delta):
        for t, after in pairwise(times):
            q = slope_at(t)
            e = math.exp(t - after)
            v = (e - (e - 1) * q) ** 2 * v
            mean = e * mean - (e - 1) * q * (mean - math.exp(-t) * m)
            calls[0] += 1
        t = times[-1]
        for i, q in enumerate(slope_at(t)):
            M = np.array([[1 - c * q, b], [-b * q, a]])
            P = np.diag([v[i], 1.0])
            z = np.array([mean[i] - math.exp(-t) * m, 0.0])
            for _ in range(n):
                P = M @ P @ M.T + Q
                z = M @ z
            v[i] = P[0, 0]
            mean[i] = z[0] + math.exp(-t) * m
        calls[1] += n
    return v, mean, calls


def law(sampler, lam, m=0.0, steps=None):
    """Variance and mean of x_delta by the sampler's own step, from x_T ~ N(0, I)."""
    sigmas = sampler.stages.grid(steps)
    start = linear.start(
        f64(1 + float(sigmas[0]) ** 2).expand(len(lam)), torch.zeros(len(lam), dtype=torch.float64)
    )
    end = linear.law(
        linear.tableaux(sampler, sigmas),
        linear.gain(f64(lam)),
        start,
        torch.full((len(lam),), m).double(),
    )
    scale = 1 / math.hypot(1, float(sigmas[-1]))
    return (scale**2 * end.variance).numpy(), (scale * end.mean[0]).numpy()


@pytest.mark.parametrize(
    "T, L, h_pred, h_corr, delta",
    [
        (6, 4, 0.05, 0.05, 1e-4),
        (5, 4, 0.025, 0.05, 0.01),
        (2.5, 3, 1 / 12, 0.1, 1e-3),
        (4, 1, 0.25, 0.2, 0.1),
        (3, 8, 0.025, 0.02, 0.3),
        (2, 4, 0.125, 0.1, 0.25),
    ],
)
def test_law_on_gaussians_by_a_second_implementation(T, L, h_pred, h_corr, delta):
    n = round(1 / (math.sqrt(L) * h_corr))
    sampler = DPUM(Stages(t_max=T, L=L, h_pred=h_pred, t_min=delta), h_corr=1 / (math.sqrt(L) * n))
    v, mean, calls = published(LAM, T, L, h_pred, h_corr, delta, m=1.5)
    got = law(sampler, LAM, 1.5)
    np.testing.assert_allclose(got[0], v, rtol=1e-12)
    np.testing.assert_allclose(got[1], mean, rtol=1e-12)
    counted = Counted(gaussian(f64(LAM), 1.5))
    sigmas = sampler.stages.grid()
    for _ in steps(
        sampler, counted, torch.ones(1, 4), sigmas, lambda: torch.zeros(1, 4, dtype=torch.float64)
    ):
        pass
    substeps = sampler.on(sigmas).corrector.steps
    assert (
        counted.nfe == sum(calls)
        and [len(sigmas) - 1, len(sampler.stages.ends) * substeps] == calls
    )


def test_calls_of_a_run_in_numbers():
    """T = 6, L = 4, h = .05 from delta = .01: 23 stages of 5 steps and 7 in the last, 24 times 10
    sub-steps."""
    sampler = DPUM(Stages(t_max=6, L=4, h_pred=0.05, t_min=0.01))
    method = sampler.on(sampler.stages.grid())
    assert len(sampler.stages.grid()) - 1 == 23 * 5 + 7 and method.corrector == Underdamped(
        1.0, 10, 4, sampler.stages
    )
    assert (method.stage, method.predictor, len(sampler.stages.ends)) == (
        1 / 4,
        ExponentialFlow(sampler.stages),
        24,
    )


@pytest.mark.parametrize("h, flow, total", [(1 / 4, 38, 86), (1 / 8, 61, 157), (1 / 16, 108, 300)])
def test_calls_that_convergence_md_reports(h, flow, total):
    """C2, the one-dimensional mixture: 86/157/300 calls of DPUM and 38/61/108 of its flow alone; T
    = 6, L = 4, delta = 1e-5."""
    sampler = DPUM(Stages(t_max=6, L=4, h_pred=h, t_min=1e-5))
    steps_of_flow = len(sampler.stages.grid()) - 1
    assert (
        steps_of_flow,
        steps_of_flow + 24 * sampler.on(sampler.stages.grid()).corrector.steps,
    ) == (flow, total)


def test_last_stage_halves_its_steps_down_to_delta():
    times = Stages(t_max=1, L=4, h_pred=0.05, t_min=0.004).times(0.05)
    expected = [*(1 - 0.05 * k for k in range(20)), 0.025, 0.0125, 0.00625, 0.004]
    np.testing.assert_allclose(times, expected, rtol=1e-12)
    path = Stages(t_max=1, L=4, h_pred=0.05, t_min=0.004)
    np.testing.assert_allclose(path.grid(), np.sqrt(np.expm1(2 * np.array(expected))), rtol=1e-12)
    assert path.times(0.05)[-1] == 0.004 and torch.equal(
        Stages(t_max=1, t_min=0.004, to_zero=True).grid()[:-1], path.grid()
    )


@pytest.mark.parametrize(
    "h_pred, taken", [(0.05, 0.05), (0.06, 0.05), (0.3, 0.25), (0.125, 0.125), (0.1249, 0.25 / 3)]
)
def test_a_stage_is_cut_into_equal_steps_no_longer_than_h_pred(h_pred, taken):
    assert Stages(L=4, h_pred=h_pred).h() == pytest.approx(taken, rel=1e-14)


@pytest.mark.parametrize("steps", [1, 24, 50, 96, 500])
def test_a_number_of_steps_lays_about_so_many(steps):
    """A whole number in each of the 24 stages, and 5 halvings at most from h <= 1/4 to .01."""
    path = Stages()
    k = max(1, round(steps / 24))
    assert (
        path.h(steps) == pytest.approx(1 / (4 * k), rel=1e-14)
        and 24 * k <= len(path.grid(steps)) - 1 <= 24 * k + 5
    )


def test_a_first_stage_that_is_shorter():
    np.testing.assert_allclose(
        Stages(t_max=2.1, L=2, h_pred=0.25, t_min=0.5).grid(),
        np.sqrt(np.expm1(2 * np.array([2.1, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5]))),
        rtol=1e-12,
    )
    # delta is a multiple of 1/L, and once an end
    assert Stages(t_max=2.1, L=2, t_min=0.5).ends == [2.0, 1.5, 1.0, 0.5]


def test_it_starts_from_a_normal_law_in_its_chart():
    noise = torch.linspace(-2, 2, 6, dtype=torch.float64).view(3, 2)
    sampler = DPUM(Stages(t_max=1.3))
    sigma = float(sampler.stages.grid()[0])
    torch.testing.assert_close(
        sampler.start(noise, sigma) * math.exp(-1.3), noise, rtol=1e-14, atol=0
    )


def test_sampling_has_that_law():
    """2e5 draws of a Gaussian with a mean, within four standard errors in means, variances and
    covariances."""
    n = 200_000
    m = 1.5
    sampler = DPUM(Stages(t_max=1.5, L=4, h_pred=0.125, t_min=0.05), h_corr=0.1)
    variance, mean, _ = published(LAM, 1.5, 4, 0.125, 0.1, 0.05, m)
    sigmas = sampler.stages.grid()
    g = torch.Generator().manual_seed(3)
    noise = lambda: torch.randn(n, 4, generator=g, dtype=torch.float64)
    *_, last = steps(
        sampler, gaussian(f64(LAM), m), sampler.start(noise(), float(sigmas[0])), sigmas, noise
    )
    x = last.x.numpy() * math.exp(-0.05)
    assert (np.abs(x.mean(0) - mean) < 4 * np.sqrt(variance / n)).all()
    cov = np.cov(x.T)
    error = np.sqrt(np.outer(variance, variance) / n)
    assert (
        np.abs(cov - np.diag(variance)) < 4 * (error + np.diag(np.diag(error)) * (math.sqrt(2) - 1))
    ).all()


def test_rate_in_h_is_one_and_in_d_one_half():
    """sqrt(KL/2), d coordinates tiled from four, by the recursion that the first test equates with
    the sampler's law: slope .94 between h = .025 and .0125 (convergence.md, C2), and on the way to
    1; h <= 1/(5L)."""

    def error(h, copies):
        true = math.exp(-2e-4) * LAM - math.expm1(-2e-4)
        ratio = np.tile(published(LAM, 6, 4, h, h, 1e-4)[0] / true, copies)
        return math.sqrt((ratio - 1 - np.log(ratio)).sum() / 4)

    hs = [0.05, 0.025, 0.0125, 0.00625]
    errors = [error(h, 16) for h in hs]
    assert 0.92 < slope([1 / h for h in hs[1:]], errors[1:]) < 1.05
    assert (
        math.log2(errors[1] / errors[2]) == pytest.approx(0.94, abs=0.01)
        and math.log2(errors[2] / errors[3]) > 0.96
    )
    assert errors[0] / error(0.05, 4) == pytest.approx(2, rel=1e-12)
    assert DPUM().order == 1 and DPUM(h_corr=0.05).order == 0


def test_a_fixed_corrector_step_keeps_its_bias_and_a_number_of_steps_refines_both():
    """At h_corr = .1 and h_pred -> 0 the law misses by a bias that halves with h_corr, so order 0;
    with h_corr left open, order 1."""
    true = math.exp(-0.02) * LAM - math.expm1(-0.02)

    def bias(h_corr):
        coarse, fine = (
            law(DPUM(Stages(t_max=3, h_pred=h, t_min=0.01), h_corr=h_corr), LAM)[0]
            for h in (1 / 32, 1 / 64)
        )
        return float(np.abs((2 * fine - coarse) / true - 1).max())

    assert bias(0.1) > 0.015 and 1.6 < bias(0.1) / bias(0.05) < 2.4
    counts = (48, 96, 192)
    errors = [
        np.abs(law(DPUM(Stages(t_max=3, t_min=0.01)), LAM, steps=n)[0] / true - 1).max()
        for n in counts
    ]
    assert 0.85 < slope(counts, errors) < 1.05


def test_weights_of_a_mixture_of_separated_modes():
    """Means -3, 3 with weights .2, .8 and unit variance, L = 8 from N(0, I): weights, means and
    variances of the two halves.

    What DPUM itself leaves is first order in h; what is cut by the sign of x is 1.3e-3 of a mode.
    """
    means = f64([-3.0, 3.0])
    weights = f64([0.2, 0.8])

    def denoise(x, sigma):
        s2 = sigma**2
        post = torch.softmax(weights.log() - (x - means) ** 2 / (2 * (1 + s2)), -1)
        return (x + s2 * (post * means).sum(-1, keepdim=True)) / (1 + s2)

    L = mixture_smoothness(means[:, None])
    n = 20_000
    g = torch.Generator().manual_seed(1)
    assert L == 8
    sampler = DPUM(Stages(t_max=5, L=L, h_pred=0.042, t_min=0.01), h_corr=0.06)
    noise = lambda: torch.randn(n, 1, generator=g, dtype=torch.float64)
    sigmas = sampler.stages.grid()
    *_, last = steps(sampler, denoise, sampler.start(noise(), float(sigmas[0])), sigmas, noise)
    x = last.x[:, 0]
    low = x < 0
    share = float(low.double().mean())
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / n) + 0.004)
    for mode, centre, count in ((x[low], -3, 0.2 * n), (x[~low], 3, 0.8 * n)):
        assert float(mode.mean()) == pytest.approx(centre, abs=4 / math.sqrt(count) + 0.02)
        assert float(mode.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / count) + 0.05)


@pytest.mark.parametrize(
    "path", [VP(), OU(), VP(beta_min=2, beta_max=2, t_max=3), Flow(), VE(sigma_max=20)]
)
def test_exponential_flow_integrates_what_is_not_the_score(path):
    """x_t' = E x_t + s_t int_(t')^t scale'/scale(u) g^2(u)/2 du for a frozen s_t, by quadrature; in
    VP E x_t + (E-1) s_t."""
    x = f64([[2.0]])
    sigma = 5.0
    sigma_next = 3.0
    now = float(path.t(f64(sigma)))
    then = float(path.t(f64(sigma_next)))
    scale = float(path.scale(f64(sigma)))
    after = float(path.scale(f64(sigma_next)))
    rate = lambda u: float(path.g2(f64(u))) / float(path.scale(path.sigma(f64(u)))) / 2
    pull = after * integrate.quad(rate, then, now, epsabs=0, epsrel=1e-13)[0]
    s = -0.7 / (scale * sigma**2)  # D = x - .7
    step = ExponentialFlow(path).step(lambda y, level: y - 0.7, x, sigma, sigma_next, [], None)
    assert float(step.x) * after == pytest.approx(2 * after + pull * s, rel=1e-12)
    if abs(scale * math.hypot(1, sigma) - 1) < 1e-12:
        E = after / scale
        assert pull == pytest.approx(E - 1, rel=1e-12)


def test_exponential_flow_has_order_one():
    counts = (80, 160, 320)
    flow = ExponentialFlow(VP(beta_min=2, beta_max=2))
    assert (
        0.9
        < slope(counts, [correlated_gaussian().error(flow, KARRAS.grid(n)) for n in counts])
        < 1.1
        and flow.order == 1
    )


def test_on_another_grid_the_corrector_acts_at_the_first_level_past_a_stage():
    """Times 1, .6, .5, .3, .2, .1, .05, 1/L = .25, delta = .1: after the steps to .6 (past .75),
    .5, .2 (past .25) and .1 (delta)."""
    sampler = DPUM(Stages(L=4, t_min=0.1), h_corr=0.25)
    times = [1.0, 0.6, 0.5, 0.3, 0.2, 0.1, 0.05]
    counted = Counted(lambda x, s: x)
    calls = []
    for _ in steps(
        sampler,
        counted,
        torch.ones(1, 1),
        f64(np.sqrt(np.expm1(2 * np.array(times)))),
        lambda: torch.zeros(1, 1),
    ):
        calls.append(counted.nfe)
    assert np.diff([0, *calls]).tolist() == [3, 3, 1, 3, 3, 1]
    assert (
        DPUM(Stages(t_min=0.1)).step(lambda x, s: x, torch.ones(1, 1), 0.4, 0.0, [], None).sigma
        == 0
    )


def test_a_sample_depends_on_its_own_noise_alone():
    sampler = DPUM(Stages(t_max=1, h_pred=0.125, t_min=0.05))
    denoise = gaussian(f64(LAM))
    sigmas = sampler.stages.grid()
    ends = []
    for seeds in (torch.arange(9), torch.arange(4, 6)):
        source = Streams(seeds, (4,))
        x = sampler.start(source(), float(sigmas[0]))
        for step in steps(sampler, denoise, x, sigmas, source):
            x = step.x
        ends.append(x)
    assert torch.equal(ends[0][4:6], ends[1])


def test_smoothness_of_gaussians_is_the_largest_slope_over_time():
    t = np.linspace(0, 8, 4001)[:, None]
    for lam in (LAM, np.array([2.0, 4.0]), np.array([0.01])):
        slopes = 1 / (np.exp(-2 * t) * lam - np.expm1(-2 * t))
        assert gaussian_smoothness(lam) == pytest.approx(slopes.max(), abs=1e-6)
        assert gaussian_smoothness(lam, 0.5) == pytest.approx(
            slopes[t[:, 0] >= 0.5].max(), abs=1e-6
        )
    assert gaussian_smoothness([0.0, 1.0], 0.1) == pytest.approx(1 / -math.expm1(-0.2), rel=1e-14)


def test_smoothness_of_mixtures_bounds_the_hessian_and_is_attained_by_a_pair():
    """The Hessian of log p is Cov[mu | x] - 1, in one dimension; by second differences of log p at
    twenty digits."""
    x = np.linspace(-6, 6, 241)
    for means, weights in (
        ([-2.0, 2.0], [0.5, 0.5]),
        ([-4.0, 0.0, 5.0], [0.3, 0.5, 0.2]),
        ([-0.5, 0.5], [0.5, 0.5]),
    ):
        with mpmath.workdps(40):
            log_p = lambda y, means=means, weights=weights: mpmath.log(
                sum(
                    w * mpmath.exp(-((y - m) ** 2) / 2) for w, m in zip(weights, means, strict=True)
                )
            )
            eps = mpmath.mpf(10) ** -12
            hessian = [
                float((log_p(y + eps) - 2 * log_p(y) + log_p(y - eps)) / eps**2)
                for y in map(mpmath.mpf, x.tolist())
            ]
        L = mixture_smoothness([[m] for m in means])
        assert max(map(abs, hessian)) <= L * (1 + 1e-6)
        if len(means) == 2:
            assert max(map(abs, hessian)) == pytest.approx(L, rel=1e-2)
    assert (
        mixture_smoothness([[-4.0], [0.0], [5.0]]) == 4.5**2 - 1
        and mixture_smoothness([[1.0, 2.0]]) == 1
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stages(L=0),
        lambda: Stages(L=math.inf),
        lambda: Stages(h_pred=0),
        lambda: Stages(h_pred=-0.1),
        lambda: Stages(L=1e7),
        lambda: Stages(h_pred=1e-9),
        lambda: Stages(t_min=7),
        lambda: Stages().grid(0),
        lambda: Stages().grid(2_000_000),
        lambda: DPUM(VE()),
        lambda: DPUM(h_corr=0),
        lambda: DPUM(h_corr=-1),
        lambda: DPUM(h_corr=1e-9),
        lambda: gaussian_smoothness([0.0, 1.0]),
        lambda: PredictorCorrector(Euler(), Langevin(), stage=0),
        lambda: PredictorCorrector(Euler(), Langevin(), stage=-1),
        lambda: PredictorCorrector(Euler(), Langevin(), stage=math.inf),
    ],
)
def test_wrong_options_are_refused_in_one_line(make):
    with pytest.raises(UsageError, match="write") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_command_line(inside, tmp_path):
    """The line of the issue: 362 calls a sample, and the weights 1/3 of `data=mixture`, whose
    components lie apart by sign and height."""
    line = (
        "sample",
        "model=exact",
        "data=mixture",
        "sampler=dpum",
        "n=1000",
        "metrics=none",
        "figures=false",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert inside(*line).returncode == 0
    x = np.load(tmp_path / "run" / "samples.npy")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["sampling/nfe"] == 362
    nearest = (
        ((x[:, None] - np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])) ** 2).sum(-1).argmin(1)
    )
    shares = np.bincount(nearest) / len(x)
    assert np.abs(shares - 1 / 3).max() < 4 * math.sqrt(2 / 9 / len(x))
    wrong = inside(
        "sample", "model=exact", "data=mixture", "sampler=dpum", "sampler.schedule=karras"
    )
    assert wrong.returncode == 2 and "sampler.schedule=stages" in wrong.line
