"""Stochastic samplers on Gaussians, where the law they produce is computed exactly, without a
single random number.

On a linear denoiser a run is a linear map of its start and of its draws of noise. Fed with unit
impulses instead of noise it returns that map; the variance it produces is the sum of the squares.
The oracles are the recursions of Pierret and Galerne and the exact law.
"""

import math

import pytest
import torch

from diffgeo.sampler import (
    DDPM,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
    GradientEstimation,
    NoiseFirst,
    PublicCode,
    Splitting,
    steps,
)
from diffgeo.schedule import OU, VE, VP, Flow
from diffgeo.schedule.spacing import Exponential, Power

# eigenvalues of the data's covariance; one of them singular
LAM = torch.tensor([0.0, 0.05, 1.0, 4.0], dtype=torch.float64)
UNIFORM = VP(to_zero=False)  # Song's (.1, 20) is their (.05, 10); t from 1 to 1e-3
LOG_OU = OU(t_min=1e-2, to_zero=False)


def gaussian(mean=0.0):
    return lambda x, sigma: mean + LAM / (LAM + sigma**2) * (x - mean)


def impulse(sampler, sigmas, start):
    """The coefficients [1+draws, 4] of the final state in the start (of standard deviation `start`)
    and in each draw of noise."""
    x = torch.zeros(len(sigmas), len(LAM), dtype=torch.float64)
    x[0] = start
    drawn = 0

    def noise():
        nonlocal drawn
        drawn += 1
        unit = torch.zeros_like(x)
        unit[drawn] = 1
        return unit

    for step in steps(sampler, gaussian(), x, sigmas, noise):
        final = step.x
    return final


def variance(sampler, sigmas, start):
    return impulse(sampler, sigmas, start).square().sum(0)


def nodes(schedule, n):
    """sigma, and Pierret and Galerne's alpha = e^-B, t, b = beta(t), q = 1/lambda^t [nodes,4]."""
    sigmas = schedule.grid(n)
    alpha = torch.rsqrt(1 + sigmas**2)
    t = schedule.t(sigmas)
    return (
        sigmas,
        alpha,
        t,
        schedule.beta(t),
        1 / (alpha[:, None] ** 2 * LAM + 1 - alpha[:, None] ** 2),
    )


# One step v -> v' of the variance of x_t, written from the paper (h step in t; a, a_ alpha before
# and after).
RECURSIONS = {
    "em": (EulerMaruyama, lambda v, h, b, q, a, a_: (1 + h * b * (1 - 2 * q)) ** 2 * v + 2 * h * b),
    "ei": (
        ExponentialIntegrator,
        lambda v, h, b, q, a, a_: (1 + (a_ / a - 1) * (1 - 2 * q)) ** 2 * v + (a_ / a) ** 2 - 1,
    ),
    "ddim": (
        lambda chart: Euler(),
        lambda v, h, b, q, a, a_: (
            (a_ * (1 - (1 - a**2) * q) / a + torch.sqrt((1 - a_**2) * (1 - a**2)) * q) ** 2 * v
        ),
    ),
    "ddpm": (
        lambda chart: DDPM(),
        lambda v, h, b, q, a, a_: (
            ((1 - (1 - (a / a_) ** 2) * q) / (a / a_)) ** 2 * v
            + (1 - (a / a_) ** 2) * (1 - a_**2) / (1 - a**2)
        ),
    ),
    "splitting": (
        lambda chart: Splitting(),
        lambda v, h, b, q, a, a_: (
            ((a_ / a) * (1 - 2 * torch.log(a_ / a) * q)) ** 2 * v + 1 - (a / a_) ** 2
        ),
    ),
}


@pytest.mark.parametrize(
    "schedule", [UNIFORM, LOG_OU, OU(), VP()], ids=["vp", "ou", "ou to 0", "vp to 0"]
)
@pytest.mark.parametrize("name", RECURSIONS)
def test_the_published_variance_recursion(name, schedule):
    make, recursion = RECURSIONS[name]
    sigmas, alpha, t, b, q = nodes(schedule, 50)
    v = torch.ones(len(LAM), dtype=torch.float64)  # "N_0": x_T ~ N(0, I)
    for k in range(50):
        v = recursion(v, t[k] - t[k + 1], b[k], q[k], alpha[k], alpha[k + 1])
    ours = variance(make(schedule), sigmas, 1 / alpha[0]) * alpha[-1] ** 2
    torch.testing.assert_close(ours, v, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "name, F", [("em", lambda h, b, a, a_: 2 * h * b), ("ei", lambda h, b, a, a_: 2 * (a_ / a - 1))]
)
def test_the_published_mean_recursion(name, F):
    make = RECURSIONS[name][0]
    mean = 3.0
    sigmas, alpha, t, b, q = nodes(UNIFORM, 50)
    m = torch.full((len(LAM),), 0.5, dtype=torch.float64)
    x = (m / alpha[0])[None]
    for step in steps(make(UNIFORM), gaussian(mean), x, sigmas, lambda: torch.zeros_like(x)):
        final = step.x[0] * alpha[-1]
    for k in range(50):
        f = F(t[k] - t[k + 1], b[k], alpha[k], alpha[k + 1])
        m = (1 + f / 2 * (1 - 2 * q[k])) * m + f * q[k] * alpha[k] * mean
    torch.testing.assert_close(final, m, rtol=1e-10, atol=0)


STOCHASTIC = [
    DDPM(),
    Splitting(),
    PublicCode(),
    NoiseFirst(),
    EulerMaruyama(LOG_OU),
    ExponentialIntegrator(LOG_OU),
    GradientEstimation(gamma=1, mu=0.5),
    GradientEstimation(gamma=1.5, mu=0.25),
]
OTHER_CHARTS = [
    (chart(path), path)
    for chart in (EulerMaruyama, ExponentialIntegrator)
    for path in (
        VP(t_min=0.05, to_zero=False),
        Flow(t_min=0.05, t_max=0.95, to_zero=False),
        VE(sigma_min=0.05, sigma_max=20, spacing=Exponential(), to_zero=False),
    )
]


@pytest.mark.parametrize(
    "sampler, schedule", [(sampler, LOG_OU) for sampler in STOCHASTIC] + OTHER_CHARTS
)
def test_weak_order_one_is_measured(sampler, schedule):
    """From the exact law at the first level, the error of the variance at the last positive one,
    relative to sigma_end^2 + lambda."""
    counts = (160, 320, 640)
    errors = []
    for n in counts:
        sigmas = schedule.grid(n)
        truth = LAM + sigmas[-1] ** 2
        errors.append(
            float((variance(sampler, sigmas, torch.sqrt(LAM + sigmas[0] ** 2)) / truth - 1).norm())
        )
    slope = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    assert sampler.order == 1 and 0.8 < slope < 1.2


@pytest.mark.parametrize(
    "sampler", STOCHASTIC + [Euler(), EulerMaruyama(VP()), Splitting(last_noise=False)]
)
@pytest.mark.parametrize("schedule", [OU(), VP(), LOG_OU], ids=["ou", "vp", "stops above 0"])
def test_terminal_noise_is_what_the_last_step_leaves(sampler, schedule):
    """Against the last step alone on a single point (the eigenvalue 0): the coefficient of its
    draw, 0 if it drew none."""
    sigmas = schedule.grid(40)
    assert sampler.terminal_noise(sigmas) == pytest.approx(
        float(impulse(sampler, sigmas[-2:], 0.0)[1, 0].abs()), rel=1e-6, abs=1e-16
    )


def test_the_noise_first_variant_leaves_almost_none():
    assert NoiseFirst().terminal_noise(OU().grid(200)) < 1e-10


def test_published_floors_of_the_last_step():
    """cem.md: mean |x_2| on the line is .0080 (exponential, t_1 = 1e-4), .050 (quadratic, 50
    steps), .34 (linear, 50 steps)."""
    power = lambda p: OU(t_min=0, spacing=Power(p))
    for sigmas, floor in (
        (OU().grid(200), 0.00798),
        (power(2).grid(50), 0.050),
        (power(1).grid(50), 0.34),
    ):
        assert Splitting().terminal_noise(sigmas) * math.sqrt(2 / math.pi) == pytest.approx(
            floor, rel=1e-2
        )


# all whose last step into 0 looks at no earlier one
@pytest.mark.parametrize("sampler", STOCHASTIC[:-1])
def test_atoms_get_their_weights(sampler):
    """A law that is no Gaussian: -1 with weight .3 and 2 with weight .7; D = sum of the softmax
    weights times the atoms."""
    atoms = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    logw = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    denoise = lambda x, sigma: (
        torch.softmax(logw - (x - atoms) ** 2 / (2 * sigma**2), -1) @ atoms
    )[:, None]
    n = 20_000
    g = torch.Generator().manual_seed(1)
    sigmas = OU().grid(200)
    noise = lambda: torch.randn(n, 1, generator=g, dtype=torch.float64)
    for step in steps(sampler, denoise, sampler.start(noise(), float(sigmas[0])), sigmas, noise):
        x = step.x
    right = x[:, 0] > 0.5
    # 4 sd, and the bias of 200 steps
    assert abs(float(right.double().mean()) - 0.7) < 4 * math.sqrt(0.21 / n) + 0.004
    spread = float((x[:, 0] - torch.where(right, 2.0, -1.0)).square().mean().sqrt())
    assert spread == pytest.approx(sampler.terminal_noise(sigmas), rel=0.03, abs=1e-5)
