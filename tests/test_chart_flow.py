"""Runge-Kutta rules in a schedule's own time: against scipy, against the rules written out in t,
and against their stated orders."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45

from diffgeo.core import generator
from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DDPM,
    ChartEuler,
    ChartHeun,
    ChartRK4,
    EulerMaruyama,
    ExponentialIntegrator,
    steps,
)
from diffgeo.schedule import OU, VE, VP, Cosine, Flow
from diffgeo.schedule.spacing import Power
from diffgeo.theory.orders import slope

CHARTS = [VP(), OU(), Cosine(), Flow(), VE(sigma_max=20.0)]
RULES = [ChartEuler, ChartHeun, ChartRK4]


def drift(chart, denoise):
    """dx_t/dt = -beta x_t - g^2/2 score of x_t, from the schedule's own functions."""

    def f(t, x_t):
        t = torch.tensor(t, dtype=torch.float64)
        sigma = chart.sigma(t)
        scale = chart.scale(chart.sigma(t))
        score = (denoise(x_t / scale, sigma) - x_t / scale) / (scale * sigma**2)
        return -chart.beta(t) * x_t - chart.g2(t) / 2 * score

    return f


def written_out(rule, f, t, s, x):
    h = s - t
    if rule is ChartEuler:
        return x + h * f(t, x)
    if rule is ChartHeun:
        return x + h / 2 * (f(t, x) + f(s, x + h * f(t, x)))
    k1 = f(t, x)
    k2 = f(t + h / 2, x + h / 2 * k1)
    k3 = f(t + h / 2, x + h / 2 * k2)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(s, x + h * k3))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_the_rule_in_t(rule, chart):
    denoise = Circle().denoiser()
    t = chart.t_max * 0.5
    s = chart.t_max * 0.45
    ends = chart.sigma(torch.tensor([t, s], dtype=torch.float64))
    x_t = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    (step,) = steps(rule(chart), denoise, x_t / chart.scale(ends[0]), ends, None)
    expected = written_out(rule, drift(chart, denoise), t, s, x_t) / chart.scale(ends[1])
    torch.testing.assert_close(step.x, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(step.denoised, denoise(x_t / chart.scale(ends[0]), ends[0]))


@pytest.mark.parametrize("rule, order", [(ChartEuler, 1), (ChartHeun, 2), (ChartRK4, 4)])
def test_order_in_the_chart_of_vp(rule, order):
    """Uniform in t from 1 to .1 on the circle, against scipy's Runge-Kutta at 1e-12;
    (tests/test_orders.py measures the OU configs)."""
    chart = VP(t_min=0.1, to_zero=False, spacing=Power(1))
    denoise = Circle().denoiser()
    assert rule.order == order
    x_t = torch.randn(3, 2, generator=generator(1), dtype=torch.float64)
    f = drift(chart, denoise)
    solver = RK45(
        lambda t, y: f(float(t), torch.from_numpy(y).view(3, 2)).numpy().ravel(),
        1.0,
        x_t.numpy().ravel(),
        0.1,
        rtol=1e-12,
        atol=1e-12,
    )
    while solver.status == "running":
        solver.step()
    errors = []
    counts = (64, 128, 256)
    for n in counts:
        levels = chart.grid(n)
        for step in steps(rule(chart), denoise, x_t / chart.scale(levels[0]), levels, None):
            x = step.x
        errors.append(np.abs((x * chart.scale(levels[-1])).numpy().ravel() - solver.y).max())
    assert abs(slope(counts, errors) - order) < 0.2, errors


@pytest.mark.parametrize("rule", RULES)
def test_the_step_into_zero_is_eulers(rule):
    """One evaluation, none at sigma = 0, and the state of Euler's rule in t."""
    asked = []
    chart = VP()
    circle = Circle().denoiser()

    def denoise(x, sigma):
        asked.append(float(sigma))
        return circle(x, sigma)

    levels = torch.tensor([0.3, 0.0], dtype=torch.float64)
    x = torch.randn(4, 2, generator=generator(2), dtype=torch.float64)
    (step,) = steps(rule(chart), denoise, x, levels, None)
    assert asked == [0.3]
    t = float(chart.t(levels[0]))
    scale = chart.scale(levels[0])
    torch.testing.assert_close(
        step.x, scale * x - t * drift(chart, circle)(t, scale * x), rtol=1e-12, atol=1e-13
    )


def test_they_start_from_the_normal_law_in_the_chart():
    z = torch.randn(1000, 2, generator=generator(3), dtype=torch.float64)
    for rule in RULES:
        torch.testing.assert_close(
            rule(VP()).start(z, 100.0) * VP().scale(torch.tensor(100.0, dtype=torch.float64)), z
        )


@pytest.mark.parametrize("t", [1.0, 0.5, 1e-3, 1e-8])
def test_the_variance_of_ddpm(t):
    """The noise of both, in x_t' = x'/sqrt(1+sigma'^2), from Ho et al.: beta, and beta (1 -
    abar')/(1 - abar)."""
    chart = VP()
    sigma, last = (float(chart.sigma(torch.tensor(s, dtype=torch.float64))) for s in (t, t / 2))
    abar = 1 / (1 + sigma**2)
    before = 1 / (1 + last**2)
    beta = -math.expm1(math.log1p(last**2) - math.log1p(sigma**2))
    scale = math.sqrt(before)
    assert scale * DDPM(variance="beta").added_noise(sigma, last) == pytest.approx(
        math.sqrt(beta), rel=1e-9
    )
    posterior = math.sqrt(beta * (last**2 * before) / (sigma**2 * abar))
    assert scale * DDPM().added_noise(sigma, last) == pytest.approx(posterior, rel=1e-9)
    assert DDPM().added_noise(sigma, 0.0) == 0 and DDPM(variance="beta").added_noise(sigma, 0.0) > 0
    with pytest.raises(UsageError, match="posterior or beta"):
        DDPM(variance="large")


def test_schemes_of_a_chart_share_its_levels():
    """One table of levels for each chart, and not the table of another chart."""
    em = EulerMaruyama(VP())
    ei = ExponentialIntegrator(VP())
    assert em.level is ei.level and em.level is not EulerMaruyama(VP(beta_max=10.0)).level
