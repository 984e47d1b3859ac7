"""Predictor-corrector and Restart on Gaussians, where the law they make is computed without a
random number, and their building blocks."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy.linalg import expm

from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DDPM,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    Underdamped,
    steps,
)
from diffgeo.sampler.correctors import tanh_deficit, underdamped
from diffgeo.schedule import OU, VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation.noise import Streams
from diffgeo.theory.orders import gaussian, impulse_response, slope, weak_errors

LAM = torch.tensor([0.0, 0.05, 1.0, 4.0], dtype=torch.float64)
LOG = VE(sigma_min=0.02, sigma_max=20, spacing=Geometric(), to_zero=False)


def law(act, sigma, variance):
    """The variance [4] that `act(denoise, x, noise)` makes of N(0, variance) at a level, on the
    Gaussian with eigenvalues LAM."""

    class Act(Euler):
        def step(self, denoise, x, s, s_next, history, noise):
            return (
                super()
                .step(denoise, x, s, s_next, history, noise)
                ._replace(x=act(denoise, x, noise))
            )

    levels = torch.tensor([sigma, sigma / 2], dtype=torch.float64)
    return (
        impulse_response(
            Act(), gaussian(LAM), levels, torch.zeros(4, dtype=torch.float64), variance.sqrt()
        )[1]
        .square()
        .sum(0)
    )


@pytest.mark.parametrize("u", [1e-6, 1e-3, 0.03, 0.5, 2.0, 20.0])
def test_underdamped_step_against_the_matrix_exponential(u):
    """Van Loan 1978: dz = A z dt + B dW; expm of [[-A, B B'], [0, A']] gives e^(Ah) and the
    covariance; 40 digits."""
    gamma = 1.7
    h = u / 1.7
    a, b, c, l, m, n = underdamped(gamma, h)
    with mpmath.workdps(40):
        van_loan = mpmath.matrix(
            [[0, -1, 0, 0], [0, gamma, 0, 2 * mpmath.mpf(gamma)], [0, 0, 0, 0], [0, 0, 1, -gamma]]
        ) * mpmath.mpf(h)
        whole = mpmath.expm(van_loan, method="taylor")
        flow = whole[2:4, 2:4].T
        cov = flow * whole[0:2, 2:4]
        # s constant
        drive = mpmath.expm(
            mpmath.matrix([[0, 1, 0], [0, -gamma, 1], [0, 0, 0]]) * mpmath.mpf(h), method="taylor"
        )
        pairs = [
            (a, flow[1, 1]),
            (b, flow[0, 1]),
            (c, drive[0, 2]),
            (b, drive[1, 2]),
            (l * l + m * m, cov[0, 0]),
            (l * n, cov[0, 1]),
            (n * n, cov[1, 1]),
        ]
        assert all(abs(mine / exact - 1) < 1e-12 for mine, exact in pairs)
    if u >= 0.03:
        block = expm(
            h * np.array([[0, -1, 0, 0], [0, gamma, 0, 2 * gamma], [0, 0, 0, 0], [0, 0, 1, -gamma]])
        )
        np.testing.assert_allclose(
            block[2:, 2:].T @ block[:2, 2:], [[l * l + m * m, l * n], [l * n, n * n]], rtol=1e-7
        )


def test_tanh_deficit_against_mpmath():
    for y in (1e-8, 1e-3, 0.1, 1.0, 5.0, 40.0):
        with mpmath.workdps(50):
            assert abs(tanh_deficit(y) / (mpmath.mpf(y) - mpmath.tanh(y)) - 1) < 1e-14


@pytest.mark.parametrize("delta", [0.05, 0.2, 1.0])
def test_langevin_keeps_its_own_law_and_that_is_p_up_to_delta(delta):
    """With p = lambda + sigma^2 and r = delta sigma^2/p its invariant variance is p/(1 - r/2); from
    p itself one step adds r^2 p."""
    sigma = 0.7
    p = LAM + sigma**2
    r = delta * sigma**2 / p
    apply = lambda n: lambda denoise, x, noise: Langevin(delta, n)(denoise, x, sigma, noise)
    for n in (1, 3):
        torch.testing.assert_close(
            law(apply(n), sigma, p / (1 - r / 2)), p / (1 - r / 2), rtol=1e-12, atol=0
        )
    torch.testing.assert_close(law(apply(1), sigma, p), p * (1 + r**2), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        law(apply(400), sigma, 5 * p)[:2], (p / (1 - r / 2))[:2], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("smoothness", [1.0, 3.0])
def test_underdamped_against_its_two_by_two_recursion(smoothness):
    """convergence.md's step, its covariance written out, on each eigenvalue: P <- M P M' + Q for
    (x, v), v ~ N(0, 1) at the start."""
    sigma = 0.7
    n = 4
    time = 1.3
    root = math.sqrt(smoothness) / sigma
    gamma = 2 * root
    h = time / root / n
    a = math.exp(-gamma * h)
    b = (1 - a) / gamma
    c = (h - b) / gamma
    cov = (1 - a) ** 2 / gamma
    Q = np.array([[2 / gamma * (h - 2 * b + (1 - a * a) / (2 * gamma)), cov], [cov, 1 - a * a]])
    start = LAM + 2 * sigma**2
    expected = []
    for lam, v0 in zip(LAM.tolist(), start.tolist(), strict=True):
        q = 1 / (lam + sigma**2)  # s = -q x
        M = np.array([[1 - c * q, b], [-b * q, a]])
        P = np.diag([v0, 1.0])
        for _ in range(n):
            P = M @ P @ M.T + Q
        expected.append(P[0, 0])
    corrector = Underdamped(time, n, smoothness)
    got = law(lambda denoise, x, noise: corrector(denoise, x, sigma, noise), sigma, start)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_underdamped_bias_is_of_first_order_in_its_substep():
    """The law it leaves invariant, reached in 60 units of time, misses p by an amount that falls
    like the sub-step."""
    sigma = 0.7
    counts = (120, 240, 480)
    p = (LAM + sigma**2)[:3]
    left = lambda n: law(
        lambda denoise, x, noise: Underdamped(60.0, n)(denoise, x, sigma, noise),
        sigma,
        LAM + sigma**2,
    )[:3]
    bias = [float((left(n) / p - 1).norm()) for n in counts]
    assert 0.8 < slope(counts, bias) < 1.2


# Orders. Alone in the number of steps, a corrector's step keeps its bias; refined with the grid,
# the composition converges.

COUNTS = (40, 80, 160)
REFINED = {
    "euler + langevin": (lambda n: PredictorCorrector(Euler(), Langevin(delta=8 / n)), 1),
    "heun + langevin": (lambda n: PredictorCorrector(Heun(), Langevin(delta=8 / n)), 1),
    "ddpm + langevin": (lambda n: PredictorCorrector(DDPM(), Langevin(delta=8 / n)), 1),
    "heun + underdamped": (
        lambda n: PredictorCorrector(Heun(), Underdamped(time=1.0, steps=n // 20)),
        1,
    ),
    "restart of euler": (lambda n: Restart(Euler(), times=2, substeps=n // 5), 1),
    "restart of heun": (lambda n: Restart(Heun(), times=2, substeps=n // 10), 2),
}


@pytest.mark.parametrize("name", REFINED)
def test_refined_with_the_grid_the_law_converges(name):
    make, order = REFINED[name]
    errors = [weak_errors(make(n), LOG.grid(n))[1] for n in COUNTS]
    assert make(40).order == 0 and order - 0.2 < slope(COUNTS, errors) < order + 0.3


@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(Heun(), Langevin(0.2)),
        PredictorCorrector(Heun(), Underdamped(steps=2)),
        Restart(Heun(), substeps=2),
    ],
)
def test_order_zero_in_the_steps_alone_is_measured(sampler):
    counts = (160, 320, 640)
    errors = [weak_errors(sampler, LOG.grid(n))[1] for n in counts]
    assert sampler.order == 0 and abs(slope(counts, errors)) < 0.2 and errors[-1] > 0.005


def test_on_a_fine_grid_the_corrector_sets_the_law():
    """Each step of a fine grid shifts the law less than a corrector pulls it back, so the singular
    direction has Langevin's variance."""
    delta = 0.2
    sigmas = LOG.grid(2000)
    sampler = PredictorCorrector(Heun(), Langevin(delta))
    centre = torch.zeros(1, dtype=torch.float64)
    _, response = impulse_response(sampler, gaussian(LAM[:1]), sigmas, centre, sigmas[:1])
    assert float(response.square().sum()) / float(sigmas[-1]) ** 2 == pytest.approx(
        1 / (1 - delta / 2), rel=1e-3
    )


@pytest.mark.parametrize("levels", [[1.0, 0.04, 0.02], [1.0, 0.05, 0.0]])
def test_restart_as_published(levels):
    """Xu et al. 2023, Algorithm 1, written out: the step to the level, then K times noise and a
    Karras grid (their eq. of EDM, rho = 7)."""
    sampler = Restart(Heun(), t_min=0.05, t_max=0.6, times=3, substeps=5)
    shape = (6, 2)
    denoise = gaussian(torch.tensor([0.05, 1.0], dtype=torch.float64), 0.5)
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).view(shape)
    noise = Streams(torch.arange(6), (2,))

    def heun(x, s, t):
        slope_here = (x - denoise(x, s)) / s
        y = x + (t - s) * slope_here
        return y if t == 0 else x + (t - s) * (slope_here + (y - denoise(y, t)) / t) / 2

    ours = x
    for step in steps(
        sampler,
        denoise,
        ours,
        torch.tensor(levels, dtype=torch.float64),
        Streams(torch.arange(6), (2,)),
    ):
        ours = step.x
    for s, t in pairwise(levels):
        x = heun(x, s, t)
        if s > 0.05 >= t > 0:
            grid = [
                (0.6 ** (1 / 7) + k / 5 * (t ** (1 / 7) - 0.6 ** (1 / 7))) ** 7 for k in range(6)
            ]
            for _ in range(3):
                x = x + math.sqrt(0.6**2 - t**2) * noise()
                for high, low in pairwise(grid):
                    x = heun(x, high, low)
    torch.testing.assert_close(ours, x, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "sampler, evaluations",
    [
        (PredictorCorrector(Euler(), Langevin(steps=2)), 10 + 2 * 9),
        (PredictorCorrector(Heun(), Underdamped(steps=3)), 19 + 3 * 9),
        (Restart(Heun(), t_min=0.1, t_max=1, times=2, substeps=4), 19 + 2 * 4 * 2),
        (Restart(Euler(), t_min=0.1, t_max=1), 10 + 4),
    ],
)
def test_evaluations(sampler, evaluations):
    counted = Counted(gaussian(LAM))
    x = torch.ones(3, 4, dtype=torch.float64)
    *_, last = steps(sampler, counted, x, VE().grid(10), Streams(torch.arange(3), (4,)))
    assert counted.nfe == evaluations and last.sigma == 0 and torch.equal(last.x, last.denoised)


@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(Euler(), Langevin(0.3, 2)),
        PredictorCorrector(DDPM(), Underdamped(1.0, 3)),
        PredictorCorrector(EulerMaruyama(OU()), Langevin(0.3)),
        Restart(Heun(), times=2),
        Restart(DDPM()),
    ],
)
@pytest.mark.parametrize(
    "sigmas", [[0.08, 0.04], [0.04, 0.02], [0.02, 0.0]], ids=["across t_min", "below", "to zero"]
)
def test_added_noise_is_what_the_step_leaves_on_a_point(sampler, sigmas):
    """By Monte Carlo on a law that is one point, from there: 40 000 draws, four standard errors."""
    n = 40_000
    g = torch.Generator().manual_seed(1)
    step = sampler.step(
        lambda x, s: torch.zeros_like(x),
        torch.zeros(n, 1, dtype=torch.float64),
        *sigmas,
        [],
        lambda: torch.randn(n, 1, generator=g, dtype=torch.float64),
    )
    expected = sampler.terminal_noise(torch.tensor(sigmas, dtype=torch.float64))
    assert float(step.x.square().mean().sqrt()) == pytest.approx(
        expected, rel=4 / math.sqrt(2 * n), abs=1e-15
    )


def test_added_noise_in_closed_form():
    """Langevin: sigma'^2 (1 - (1-delta)^(2n))/(1 - delta/2). Restart of a flow, exact on a point:
    t_max -> sigma' scales by their ratio."""
    delta = 0.3
    n = 2
    low = 0.04
    top = 0.3
    variance = low**2 * (1 - (1 - delta) ** (2 * n)) / (1 - delta / 2)
    assert PredictorCorrector(Heun(), Langevin(delta, n)).added_noise(0.08, low) == pytest.approx(
        math.sqrt(variance), rel=1e-12
    )
    kept = (low / top) ** 2
    fresh = top**2 - low**2
    assert Restart(Heun(), 0.05, top, 2, 4).added_noise(0.08, low) == pytest.approx(
        math.sqrt(kept * (kept * fresh + fresh)), rel=1e-10
    )


def test_it_starts_as_its_base_does_and_depends_on_its_own_noise_alone():
    noise = torch.ones(2, 1, dtype=torch.float64)
    for sampler in (PredictorCorrector(EulerMaruyama(OU())), Restart(EulerMaruyama(OU()))):
        assert torch.equal(sampler.start(noise, 3.0), math.sqrt(10) * noise)
    sigmas = VE(sigma_min=0.02, sigma_max=20).grid(12)
    denoise = gaussian(LAM)
    for sampler in (
        PredictorCorrector(Euler(), Langevin()),
        PredictorCorrector(Heun(), Underdamped()),
        Restart(),
    ):
        ends = []
        for seeds in (torch.arange(9), torch.arange(4, 6)):
            source = Streams(seeds, (4,))
            x = sampler.start(source(), 20.0)
            for step in steps(sampler, denoise, x, sigmas, source):
                x = step.x
            ends.append(x)
        assert torch.equal(ends[0][4:6], ends[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Langevin(delta=2.0),
        lambda: Langevin(steps=0),
        lambda: Underdamped(time=0),
        lambda: Underdamped(steps=0),
        lambda: PredictorCorrector(DPMpp2M()),
        lambda: Restart(DPMpp2M()),
        lambda: Restart(t_min=1, t_max=0.5),
        lambda: Restart(times=0),
        lambda: Restart(t_min=0.05).step(
            gaussian(LAM), torch.ones(1, 4, dtype=torch.float64), 0.2, 0.0, [], None
        ),
    ],
)
def test_wrong_options_are_refused_in_one_line(make):
    with pytest.raises(UsageError, match="write") as caught:
        make()
    assert "\n" not in str(caught.value)
