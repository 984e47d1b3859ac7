"""Deterministic samplers against the exact flow of a correlated Gaussian: measured orders,
equivalences, evaluation counts.

For x0 ~ N(0, C) the flow moves each eigendirection by sqrt((lambda + sigma^2)/(lambda +
sigma_0^2)).
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import DDPM, DPMpp2M, Euler, GradientEstimation, Heun, steps
from diffgeo.schedule import OU, VE
from diffgeo.schedule.spacing import Exponential, Power
from diffgeo.simulation.noise import Streams

EIGENVALUES = torch.tensor([4.0, 1.0, 0.05], dtype=torch.float64)
BASIS = torch.linalg.qr(
    torch.tensor([[1.0, 2, -1], [0.5, -1, 3], [2, 1, 1]], dtype=torch.float64)
).Q
EXACT_TO_ROUNDING = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def shrink(x, gain):
    return (x @ BASIS * gain) @ BASIS.T


def denoise(x, sigma):
    return shrink(x, EIGENVALUES / (EIGENVALUES + sigma**2))


def exact_flow(x, sigma, sigma_next):
    return shrink(x, torch.sqrt((EIGENVALUES + sigma_next**2) / (EIGENVALUES + sigma**2)))


def start(sampler, sigmas, seed=0, n=50):
    noise = Streams(torch.arange(n) + (seed << 32), (3,))
    return sampler.start(noise(), float(sigmas[0])), noise


def run(sampler, sigmas, denoise=denoise):
    x, noise = start(sampler, sigmas)
    for step in steps(sampler, denoise, x, sigmas, noise):
        x = step.x
    return x


def slope(sampler, schedule, counts=(64, 128, 256, 640)):
    """Least-squares slope of log error against log steps, at the last positive level."""
    errors = []
    for n in counts:
        sigmas = schedule.grid(n)
        x, _ = start(sampler, sigmas)
        truth = exact_flow(x, float(sigmas[0]), float(sigmas[-1]))
        errors.append(float((run(sampler, sigmas) - truth).norm() / truth.norm()))
    u = torch.tensor(counts, dtype=torch.float64).log()
    v = torch.tensor(errors, dtype=torch.float64).log()
    u = u - u.mean()
    v = v - v.mean()
    return float(-(u @ v) / (u @ u))


LOG = VE(sigma_min=0.02, sigma_max=20, spacing=Exponential(), to_zero=False)
KARRAS = VE(sigma_min=0.02, sigma_max=20, to_zero=False)
# equal steps in sigma, smooth at both ends
LINEAR = VE(sigma_min=0.5, sigma_max=10, spacing=Power(1), to_zero=False)
CHART = OU(t_min=1e-3, t_max=6, to_zero=False)


@pytest.mark.parametrize(
    "schedule", [LOG, KARRAS, LINEAR, CHART], ids=["log", "karras", "linear", "ou"]
)
@pytest.mark.parametrize(
    "sampler", [Euler(), Heun(), DPMpp2M(), *(GradientEstimation(gamma) for gamma in (1, 1.5, 2))]
)
def test_declared_order_is_measured(sampler, schedule):
    assert sampler.order - 0.2 < slope(sampler, schedule) < sampler.order + 0.2


class Uneven:
    """Steps in log sigma that alternate between h and 2h: no refinement makes neighbours alike."""

    def grid(self, n):
        lengths = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(n // 2)
        return 20 * torch.exp(
            -math.log(1000) * torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
        )


@pytest.mark.parametrize(
    "sampler, order", [(DPMpp2M(), 2), (Heun(), 2), (GradientEstimation(gamma=1.5), 1)]
)
def test_on_an_uneven_grid_only_true_variable_step_rules_keep_order_two(sampler, order):
    assert order - 0.2 < slope(sampler, Uneven()) < order + 0.2


@pytest.mark.parametrize("sampler", [Heun(), DPMpp2M()])
def test_order_on_a_nonlinear_flow(sampler):
    """Two points +-1: D = tanh(x/sigma^2); the exact flow conserves log p's characteristic, taken
    from scipy's DOP853 at 1e-13."""
    nonlinear = lambda x, sigma: torch.tanh(x / sigma**2)
    x = torch.linspace(-12, 12, 9, dtype=torch.float64)[:, None]
    truth = solve_ivp(
        lambda s, y: (y - np.tanh(y / s**2)) / s,
        (5, 0.3),
        x[:, 0].numpy(),
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
    ).y[:, -1]
    grids = [VE(sigma_min=0.3, sigma_max=5, to_zero=False).grid(n) for n in (40, 400)]
    coarse, fine = (
        float((last(sampler, nonlinear, x, g)[:, 0] - torch.from_numpy(truth)).norm())
        for g in grids
    )
    assert 1.8 < math.log10(coarse / fine) < 2.3


def last(sampler, denoise, x, sigmas):
    for step in steps(sampler, denoise, x, sigmas, noise=None):
        x = step.x
    return x


def test_ddim_euler_and_gamma_one_are_one_method():
    """DDIM as published: x_t' = alpha' D + (sigma_t'/sigma_t) (x_t - alpha D), in the VP chart."""
    sigmas = CHART.grid(30)
    x, _ = start(Euler(), sigmas)
    alpha = torch.rsqrt(1 + sigmas**2)
    x_t = alpha[0] * x
    for a, b, s, s_next in zip(
        alpha, alpha[1:], sigmas.tolist(), sigmas[1:].tolist(), strict=False
    ):
        f = denoise(x_t / a, s)
        x_t = b * f + (b * s_next) / (a * s) * (x_t - a * f)
    EXACT_TO_ROUNDING(run(Euler(), sigmas), x_t / alpha[-1])
    EXACT_TO_ROUNDING(run(GradientEstimation(gamma=1), sigmas), x_t / alpha[-1])


def test_mu_one_half_is_ddpm_with_the_same_noise():
    for schedule in (LOG, VE()):
        EXACT_TO_ROUNDING(
            run(GradientEstimation(gamma=1, mu=0.5), schedule.grid(25)),
            run(DDPM(), schedule.grid(25)),
        )


def test_gamma_three_halves_is_ab2():
    sigmas = LINEAR.grid(20)
    x, _ = start(Euler(), sigmas)
    slopes = []
    for s, s_next in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        slopes.append((x - denoise(x, s)) / s)
        x = x + (s_next - s) * (
            slopes[0] if len(slopes) == 1 else 1.5 * slopes[-1] - 0.5 * slopes[-2]
        )
    EXACT_TO_ROUNDING(run(GradientEstimation(gamma=1.5), sigmas), x)


@pytest.mark.parametrize("schedule", [KARRAS, VE()], ids=["karras", "to zero"])
def test_heun_as_published(schedule):
    """Karras et al. 2022, Algorithm 1: x' = x + (t' - t)(d + d')/2, d = (x - D)/t and d' at the
    Euler point; Euler into 0."""
    sigmas = schedule.grid(20)
    x, _ = start(Euler(), sigmas)
    for t, t_next in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        d = (x - denoise(x, t)) / t
        euler = x + (t_next - t) * d
        x = (
            euler
            if t_next == 0
            else x + (t_next - t) * (d + (euler - denoise(euler, t_next)) / t_next) / 2
        )
    torch.testing.assert_close(run(Heun(), sigmas), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma, mu", [(2.0, 0.0), (1.4, 0.3)])
def test_gradient_estimation_as_published(gamma, mu):
    sigmas = VE().grid(12)
    x, noise = start(Euler(), sigmas)
    past = None
    for s, s_next in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        eps = (x - denoise(x, s)) / s
        average = eps if past is None else gamma * eps + (1 - gamma) * past
        down = (s_next / s**mu) ** (1 / (1 - mu))
        x = x + (down - s) * average
        past = eps
        if mu > 0 and s_next > 0:
            assert s**mu * down ** (1 - mu) == pytest.approx(s_next)
            x = x + math.sqrt(s_next**2 - down**2) * noise()
    EXACT_TO_ROUNDING(run(GradientEstimation(gamma, mu), sigmas), x)


def test_dpmpp_2m_as_published():
    """(t'/t) x - (e^-h - 1)(r + (r - r_prev)/(2 r_h)), r_h = h_prev/h, lambda = -log t; Euler on
    the first step and into 0."""
    sigmas = VE(spacing=Exponential()).grid(9).tolist()
    sigmas[4] *= 1.3  # an uneven grid, so that r_h matters
    x, _ = start(Euler(), torch.tensor(sigmas))
    x = start_state = x.double()
    past = h_past = None
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        r = denoise(x, s)
        h = math.log(s / s_next) if s_next > 0 else math.inf
        guess = r if past is None or s_next == 0 else r + (r - past) / (2 * h_past / h)
        x = (s_next / s) * x - math.expm1(-h) * guess
        past = r
        h_past = h
    EXACT_TO_ROUNDING(
        last(DPMpp2M(), denoise, start_state, torch.tensor(sigmas, dtype=torch.float64)), x
    )
    first = torch.tensor(sigmas[:2], dtype=torch.float64)
    assert torch.equal(
        last(DPMpp2M(), denoise, start_state, first), last(Euler(), denoise, start_state, first)
    )


@pytest.mark.parametrize(
    "sampler, evaluations",
    [(Euler(), 18), (Heun(), 35), (DPMpp2M(), 18), (GradientEstimation(), 18), (DDPM(), 18)],
)
def test_evaluations_on_18_karras_steps(sampler, evaluations):
    counted = Counted(denoise)
    run(sampler, VE().grid(18), counted)
    assert counted.nfe == evaluations


@pytest.mark.parametrize("sampler", [Euler(), Heun(), DPMpp2M(), DDPM()])
def test_the_last_step_into_zero_returns_the_denoised_point(sampler):
    x, noise = start(sampler, VE().grid(5))
    *_, final = steps(sampler, denoise, x, VE().grid(5), noise)
    assert final.sigma == 0 and torch.equal(final.x, final.denoised)


def test_the_loop_hands_over_bounded_memory_and_float64_state():
    seen = []

    class Spy(GradientEstimation):
        def step(self, denoise, x, sigma, sigma_next, history, noise):
            seen.append([(past.sigma, past.x) for past in history])
            assert x.dtype == torch.float64
            return super().step(denoise, x, sigma, sigma_next, history, noise)

    sigmas = VE().grid(4)
    x = torch.ones(2, 3, dtype=torch.float32)
    yielded = list(steps(Spy(), denoise, x, sigmas, None))
    assert [len(history) for history in seen] == [0, 1, 1, 1] and [
        h[0][0] for h in seen[1:]
    ] == sigmas[:3].tolist()
    assert seen[2][0][1] is yielded[0].x and [step.sigma for step in yielded] == sigmas[1:].tolist()


@pytest.mark.parametrize("mu", [-0.1, 1.0])
def test_mu_outside_its_range_is_refused(mu):
    with pytest.raises(UsageError, match="mu="):
        GradientEstimation(mu=mu)
