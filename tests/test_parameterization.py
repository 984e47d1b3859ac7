"""Parameterizations and weightings against what their names promise: targets, losses, chart
factors."""

import math

import pytest
import torch

from diffgeo import parameterization as P
from diffgeo.core import generator
from diffgeo.denoiser import Network, covariance, epsilon, score
from diffgeo.errors import UsageError
from diffgeo.schedule import OU, VE
from diffgeo.training import weighting as W
from diffgeo.training.loss import batch

SIGMA = torch.logspace(-3, 3, 25, dtype=torch.float64)
OU_CHART = OU()


def drawn(n=25):
    g = generator(5)
    x0 = torch.randn(n, 3, generator=g, dtype=torch.float64)
    return x0, torch.randn(n, 3, generator=g, dtype=torch.float64)


# What the network is asked for, in the papers' own words (x_t = alpha x0 + sigma_t eps).
TARGETS = [
    (P.Epsilon(), lambda x0, eps, s: eps),
    (P.CEM(), lambda x0, eps, s: x0),
    (P.Score(), lambda x0, eps, s: -eps / s),
    # -eps/sigma_t: the score of x_t
    (P.Score(chart=OU_CHART), lambda x0, eps, s: -eps / (s / (1 + s**2).sqrt())),
    (P.V(), lambda x0, eps, s: (eps - s * x0) / (1 + s**2).sqrt()),  # alpha eps - sigma_t x0
    (P.Velocity(), lambda x0, eps, s: eps - x0),
    (
        P.EDM(0.7),
        lambda x0, eps, s: (
            (s**2 + 0.49).sqrt() / (s * 0.7) * (x0 - 0.49 / (s**2 + 0.49) * (x0 + s * eps))
        ),
    ),
]


@pytest.mark.parametrize("parameterization, target", TARGETS, ids=lambda v: type(v).__name__)
def test_target_is_what_the_paper_asks_for(parameterization, target):
    x0, eps = drawn()
    _, _, got, weight = batch(parameterization, W.Power(0), x0, SIGMA, eps)
    torch.testing.assert_close(got, target(x0, eps, SIGMA[:, None]), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(weight, parameterization(SIGMA).out ** 2)


@pytest.mark.parametrize(
    "parameterization", [p for p, _ in TARGETS], ids=lambda v: type(v).__name__
)
def test_perfect_network_gives_x0_back(parameterization):
    x0, eps = drawn()
    _, _, target, _ = batch(parameterization, W.Power(0), x0, SIGMA, eps)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x, noise):
            return target

    x = x0 + SIGMA[:, None] * eps
    torch.testing.assert_close(Network(Oracle(), parameterization)(x, SIGMA), x0, rtol=0, atol=1e-9)


def test_scaled_is_the_same_denoiser_in_other_units():
    """edm under Scaled(s) is edm with sigma_data = s; cem gets out = s, inp = 1/sqrt(s^2+sigma^2);
    epsilon keeps out = -sigma."""
    for got, want in zip(P.Scaled(P.EDM(1.0), 0.7)(SIGMA)[:3], P.EDM(0.7)(SIGMA)[:3], strict=True):
        torch.testing.assert_close(got, want)
    skip, out, inp, _ = P.Scaled(P.CEM(), 5.0)(SIGMA)
    torch.testing.assert_close(
        torch.stack([skip, out, inp]),
        torch.stack([0 * SIGMA, 5 + 0 * SIGMA, (25 + SIGMA**2).rsqrt()]),
    )
    torch.testing.assert_close(P.Scaled(P.Epsilon(), 5.0)(SIGMA).out, -SIGMA)


def test_edm_target_has_unit_variance():
    g = generator(1)
    x0 = 0.7 * torch.randn(200_000, 1, generator=g, dtype=torch.float64)
    for s in (0.01, 0.7, 50.0):
        sigma = torch.full((len(x0),), s, dtype=torch.float64)
        x, _, target, _ = batch(
            P.EDM(0.7),
            W.Power(0),
            x0,
            sigma,
            torch.randn(x0.shape, generator=g, dtype=torch.float64),
        )
        assert abs(float(target.var()) - 1) < 0.02 and abs(float(x.var()) - 1) < 0.02


def test_the_three_default_losses_of_the_cem_paper_are_one():
    """lambda_SGM = 1-e^-t, lambda_DDPM = 1, lambda_CEM = 1/(e^t-1) all weigh |D-x0|^2 by 1/sigma^2
    (cem.md A3)."""
    t = torch.linspace(0.05, 10, 50, dtype=torch.float64)
    sigma = OU_CHART.sigma(t)
    for text, of in (("1-exp(-t)", "score"), ("1", "epsilon"), ("1/(exp(t)-1)", "x0")):
        torch.testing.assert_close(
            W.Expression(text, OU_CHART, of)(sigma), W.Power(2)(sigma), rtol=1e-12, atol=0
        )


def test_native_weight_is_the_plain_square_loss():
    x0, eps = drawn()
    for parameterization in (P.Epsilon(), P.V(), P.EDM(0.7)):
        _, _, target, weight = batch(parameterization, W.Native(parameterization), x0, SIGMA, eps)
        torch.testing.assert_close(weight, torch.ones_like(weight))
    torch.testing.assert_close(W.EDM(0.7)(SIGMA), W.Native(P.EDM(0.7))(SIGMA))
    torch.testing.assert_close(W.Native(P.V())(SIGMA), 1 + SIGMA**-2)
    torch.testing.assert_close(W.Native(P.Velocity())(SIGMA), (1 + 1 / SIGMA) ** 2)


def test_only_density_times_weight_matters():
    """E_p w = E_q w p/q: a loss under log-uniform levels equals the reweighted one under uniform
    levels (closed-form integrand)."""
    a = 0.1
    b = 3.0
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    error = lambda s: s**2 / (1 + s**2)  # E|D-x0|^2 of a unit normal
    log_uniform = a * (b / a) ** u
    uniform = a + (b - a) * u
    left = (W.Power(2)(log_uniform) * error(log_uniform)).mean()
    right = (W.Power(2)(uniform) * error(uniform) * (b - a) / (uniform * math.log(b / a))).mean()
    assert abs(float(left / right) - 1) < 1e-8


def test_min_snr():
    torch.testing.assert_close(W.MinSNR(5.0)(torch.tensor([0.1, 1.0])), torch.tensor([5.0, 1.0]))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "t.real",
        "lambda: t",
        "t if t else 1",
        "[t]",
        "exp(t",
        "u",
        "True",
        "exp(t, t)",
        "t == 1",
        "",
        "1e400",
    ],
)
def test_expressions_are_arithmetic_only(text):
    with pytest.raises(UsageError, match="write arithmetic"):
        W.Expression(text, OU_CHART)


def test_expression_values():
    t = torch.linspace(0.1, 2, 7, dtype=torch.float64)
    sigma = OU_CHART.sigma(t)
    for text, value in (
        ("2^t - -t", 2**t + t),
        ("max(t, sigma) * pi", torch.maximum(t, sigma) * math.pi),
        ("alpha**2", torch.exp(-t)),
    ):
        torch.testing.assert_close(W.Expression(text, OU_CHART)(sigma), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("text", ["1/(t-t)", "log(t-100)", "-1", "0"])
def test_a_weight_must_be_finite_and_positive(text):
    t = torch.linspace(0.1, 10, 9, dtype=torch.float64)
    sigma = OU_CHART.sigma(t)
    with pytest.raises(UsageError, match="training time"):
        W.check_positive(W.Expression(text, OU_CHART), sigma, t)


def test_views_of_a_denoiser():
    """Normal N(0, s^2): D = s^2 x/(s^2+sigma^2), score = -x/(s^2+sigma^2), Cov = s^2
    sigma^2/(s^2+sigma^2)."""
    x = torch.randn(6, 2, generator=generator(2), dtype=torch.float64)
    sigma = torch.linspace(0.1, 3, 6, dtype=torch.float64)
    denoise = lambda x, sigma: 4 * x / (4 + torch.as_tensor(sigma).reshape(-1, 1) ** 2)
    s = sigma[:, None]
    torch.testing.assert_close(score(denoise, x, sigma), -x / (4 + s**2))
    torch.testing.assert_close(epsilon(denoise, x, sigma), x * s / (4 + s**2))
    torch.testing.assert_close(
        covariance(denoise, x, sigma),
        (4 * s**2 / (4 + s**2))[..., None] * torch.eye(2, dtype=torch.float64),
    )


def test_ve_chart_leaves_the_score_alone():
    torch.testing.assert_close(P.Score(chart=VE())(SIGMA).out, P.Score()(SIGMA).out)
