"""The CEM paper's scheme against a literal transcription of its formulas in x_t and t, with the
same noise, on an exact point cloud."""

import math

import numpy as np
import pytest
import torch

from diffgeo.sampler import NoiseFirst, PublicCode, Splitting, steps
from diffgeo.schedule import OU, VP
from diffgeo.schedule.spacing import Power

POINTS = np.array([[0.0, 2.0], [0.0, -2.0], [1.2, 1.6], [-2.0, 0.0], [2.0, 0.5]])


def f_cloud(x_t, t):
    """Eq. (64): w_k ~ exp(-|x_t - e^(-t/2) y_k|^2 / (2 (1 - e^(-t)))), f = sum w_k y_k / sum w_k,
    in numpy."""
    logw = -((x_t[:, None] - np.exp(-t / 2) * POINTS) ** 2).sum(-1) / (2 * -np.expm1(-t))
    w = np.exp(logw - logw.max(1, keepdims=True))
    return (w @ POINTS) / w.sum(1, keepdims=True)


def denoise(x, sigma):
    t = math.log1p(sigma**2)
    return torch.from_numpy(f_cloud(x.numpy() * math.exp(-t / 2), t))


def paper(x, t, D, xi):
    abar = np.exp(-t)
    return (
        np.exp(D / 2) * (x - D * (x - np.sqrt(abar) * f_cloud(x, t)) / (1 - abar))
        + np.sqrt(1 - np.exp(-D)) * xi
    )


def paper_sgm(x, t, D, xi):
    # eq. (32), then eq. (23)
    S = x / (1 - np.exp(-t)) - np.exp(-t / 2) / (1 - np.exp(-t)) * f_cloud(x, t)
    return np.exp(D / 2) * (x - D * S) + np.sqrt(1 - np.exp(-D)) * xi


def paper_ddpm(x, t, D, xi):
    eps = (x - np.exp(-t / 2) * f_cloud(x, t)) / np.sqrt(1 - np.exp(-t))
    return np.exp(D / 2) * (x - D * eps / np.sqrt(1 - np.exp(-t))) + np.sqrt(1 - np.exp(-D)) * xi


def public_code(x, t, D, xi):
    abar = np.exp(-t)
    return (
        np.exp(-D / 2) * (x - D * (abar * x - np.sqrt(abar) * f_cloud(x, t)) / (1 - abar))
        + np.sqrt(1 - np.exp(-D)) * xi
    )


def noise_first(x, t, D, xi):
    x = x + np.sqrt(D) * xi
    S = (x - np.exp(-t / 2) * f_cloud(x, t)) / (1 - np.exp(-t))
    return x - D * (-x / 2 + S)


def transcription(rule, times, noises, last_noise):
    x = noises[0]
    for i, xi in zip(range(len(times) - 1, 0, -1), noises[1:], strict=True):
        x = rule(x, times[i], times[i] - times[i - 1], xi if i > 1 or last_noise else 0 * xi)
    return x


def exponential(N, t1=1e-4, T=10.0):
    a = np.log(T / t1) / (N - 1)
    return np.array([0.0] + [t1 * np.exp(a * (k - 1)) for k in range(1, N + 1)])


CASES = [
    (Splitting(), paper),
    (Splitting(), paper_sgm),
    (Splitting(), paper_ddpm),
    (PublicCode(), public_code),
    (NoiseFirst(), noise_first),
]


@pytest.mark.parametrize("sampler, rule", CASES, ids=[rule.__name__ for _, rule in CASES])
@pytest.mark.parametrize(
    "schedule, times",
    [
        (OU(), exponential(200)),
        (OU(t_min=0, spacing=Power(2)), 10 * (np.arange(51) / 50) ** 2),
        (OU(t_min=0, spacing=Power(1)), 10 * np.arange(51) / 50),
        (OU(t_min=0.01, to_zero=False), np.geomspace(0.01, 10, 31)),
    ],
    ids=["exponential", "quadratic", "linear", "stops at .01"],
)
def test_the_transcription_with_the_same_noise(sampler, rule, schedule, times):
    noises = np.random.default_rng(3).standard_normal((len(times), 60, 2))
    source = iter(torch.from_numpy(noises))
    noise = lambda: next(source)
    sigmas = schedule.grid(len(times) - 1)
    x = sampler.start(noise(), float(sigmas[0]))
    for step in steps(sampler, denoise, x, sigmas, noise):
        x = step.x
    expected = transcription(rule, times, noises, last_noise=True) * math.exp(times[0] / 2)
    # Near t = 0 a step may amplify rounding in t by 1/t times; with these grids 1e-10 is far above
    # it and far below any wrong term.
    np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-10)


def test_without_the_last_noise_the_paper_ends_on_f():
    """1 - e^(-t_1) = t_1 + O(t_1^2): the last drift alone lands on the nearest atom to within t_1
    times its size."""
    times = exponential(200)
    noises = np.random.default_rng(4).standard_normal((201, 60, 2))
    source = iter(torch.from_numpy(noises))
    sampler = Splitting(last_noise=False)
    sigmas = OU().grid(200)
    x = sampler.start(next(source), float(sigmas[0]))
    for step in steps(sampler, denoise, x, sigmas, lambda: next(source)):
        x = step.x
    np.testing.assert_allclose(
        x.numpy(), transcription(paper, times, noises, last_noise=False), rtol=0, atol=1e-10
    )
    nearest = np.sqrt(((x.numpy()[:, None] - POINTS) ** 2).sum(-1)).min(1)
    assert nearest.max() < 2e-4 and sampler.terminal_noise(sigmas) == 0


def test_the_scheme_steps_in_ou_time_on_any_grid():
    """On VP's levels the paper's formulas hold with t = -log abar."""
    sigmas = VP().grid(40)
    times = np.log1p(sigmas.numpy()[::-1] ** 2)
    noises = np.random.default_rng(5).standard_normal((41, 20, 2))
    source = iter(torch.from_numpy(noises))
    x = Splitting().start(next(source), float(sigmas[0]))
    for step in steps(Splitting(), denoise, x, sigmas, lambda: next(source)):
        x = step.x
    np.testing.assert_allclose(
        x.numpy(), transcription(paper, times, noises, last_noise=True), rtol=0, atol=1e-10
    )


def test_line_cloud_sits_on_the_floor_of_its_last_noise():
    """cem.md: with the exact denoiser of the line, mean |x_2| = .01 sqrt(2/pi) = .00798, and x_1 is
    N(0, 1)."""
    n = 10_000
    g = torch.Generator().manual_seed(0)
    sigmas = OU().grid(200)
    noise = lambda: torch.randn(n, 2, generator=g, dtype=torch.float64)
    line = lambda x, sigma: x * torch.tensor([1 / (1 + sigma**2), 0.0], dtype=torch.float64)
    for step in steps(
        Splitting(), line, Splitting().start(noise(), float(sigmas[0])), sigmas, noise
    ):
        x = step.x
    assert float(x[:, 1].abs().mean()) == pytest.approx(0.00798, abs=4 * 0.00603 / math.sqrt(n))
    # 4 sd, and the bias of 200 steps
    assert float(x[:, 0].var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n) + 0.03)
