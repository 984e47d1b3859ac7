"""The laws behind the rates: transition kernels, underdamped Langevin, DPUM and a score error
against closed forms and sampling."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg

from diffgeo.denoiser import Counted
from diffgeo.sampler import DPUM, EulerMaruyama, ExponentialIntegrator, steps
from diffgeo.sampler.dpum import ExponentialFlow
from diffgeo.theory.convergence import dpum, langevin, mixture, perturbation, reverse
from diffgeo.theory.convergence.experiment import TILED, chart, end, sampler, tiled, uniform
from diffgeo.theory.convergence.kernel import Modes, kl, line, propagate, transport, tv
from diffgeo.theory.gaussian import Spectrum


@pytest.mark.parametrize("make", [ExponentialIntegrator, EulerMaruyama])
def test_the_kernel_of_one_component_is_the_law_by_the_sampler_s_tableau(make):
    law = Modes((1.5,), (1.0,), 0.5)
    nodes = line(9.0, 361)
    grid = propagate(law, make(chart()), uniform(40), nodes)
    exact = end(Spectrum([0.5], mean=[1.5]), make(chart()), uniform(40))
    mean = float((grid.weights * grid.q * nodes).sum())
    assert float((grid.weights * grid.q).sum()) == pytest.approx(1, abs=1e-10)
    assert mean == pytest.approx(float(exact.mean[0]), abs=1e-9)
    assert float((grid.weights * grid.q * (nodes - mean) ** 2).sum()) == pytest.approx(
        float(exact.variance[0]), rel=1e-9
    )


def test_the_transport_of_one_component_likewise():
    law = Modes((1.5,), (1.0,), 0.5)
    grid = transport(law, ExponentialFlow(chart()), uniform(40), line(9.0, 361))
    exact = end(Spectrum([0.5], mean=[1.5]), ExponentialFlow(chart()), uniform(40))
    mean = float((grid.weights * grid.q * grid.nodes).sum())
    assert mean == pytest.approx(float(exact.mean[0]), abs=1e-9)
    assert float((grid.weights * grid.q * (grid.nodes - mean) ** 2).sum()) == pytest.approx(
        float(exact.variance[0]), rel=1e-9
    )


def test_three_modes_to_the_printed_digits():
    nodes = line(mixture.HALF, mixture.NODES)
    ei = [propagate(mixture.LAW, sampler("EI"), uniform(n), nodes) for n in (25, 50, 100)]
    assert [f"{tv(mixture.LAW, g):.4f}" for g in ei] == ["0.1013", "0.0512", "0.0257"]
    assert [f"{kl(mixture.LAW, g):.3g}" for g in ei] == ["0.0331", "0.00961", "0.00266"]
    em = propagate(mixture.LAW, sampler("EM"), uniform(25), nodes)
    flow = transport(mixture.LAW, ExponentialFlow(chart()), uniform(25), line(9.0, 2001))
    assert f"{tv(mixture.LAW, em):.3f} {tv(mixture.LAW, flow):.3f}" == "0.116 0.064"


def test_the_flow_and_the_diffusion_of_a_gaussian_by_quadrature():
    """perturbation.mixture of one component against the closed form of one coordinate."""
    ode, sde = perturbation.mixture(0.1, Modes((0.0,), (1.0,), 0.25))
    now, then = (
        1 + (0.25 - 1) * math.exp(-2 * t) for t in (perturbation.TIME, perturbation.TIME - 0.1)
    )
    assert ode == pytest.approx((now**-0.5 - then**-0.5) ** 2, rel=1e-6)
    assert sde == pytest.approx(1 / then + 1 / now - 2 * math.exp(-0.1) / now, rel=1e-6)


def test_the_stationary_law_of_underdamped_langevin_by_the_matrix_exponential():
    for value, L, h in ((0.25, 4.0, 0.2), (4.0, 4.0, 0.05), (1.0, 9.0, 0.01)):
        gamma = 2 * math.sqrt(L)
        zero = np.zeros((2, 2))
        drift = np.array([[0.0, 1.0], [0.0, -gamma]])
        noise = np.diag([0.0, 2 * gamma])
        van_loan = linalg.expm(h * np.block([[-drift, noise], [zero, drift.T]]))
        flow = van_loan[2:, 2:].T
        # of a frozen score
        pull = linalg.expm(h * np.block([[drift, np.array([[0.0], [1.0]])], [np.zeros((1, 3))]]))[
            :2, 2
        ]
        step = flow + np.outer(pull, [-1 / value, 0])
        exact = linalg.solve_discrete_lyapunov(step, flow @ van_loan[:2, 2:])[0, 0]
        assert float(langevin.stationary(Spectrum([value]), L, h).variance) == pytest.approx(
            exact, rel=1e-9
        )


def test_short_time_regularization_has_the_constant_of_continuous_time():
    constant = 2 / math.e / math.sqrt(2 * math.pi)
    assert langevin.regularized(16.0, 1e-4, 2000) / 4e-4 == pytest.approx(constant, rel=1e-3)
    assert abs(langevin.regularized(16.0, 1e-4, 100) / 4e-4 / constant - 1) < 0.02


def test_the_reverse_process_finds_the_weights_that_langevin_does_not():
    assert langevin.reverse(200) == pytest.approx(0.2, abs=0.002)
    assert langevin.alone(20_000) > 0.45
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(200):  # the same by sampling
        x = (
            x
            + 0.05 * langevin.SEPARATED.score(x)
            + math.sqrt(0.1) * torch.randn(len(x), generator=g, dtype=torch.float64)
        )
    assert float((x < 0).double().mean()) == pytest.approx(
        langevin.alone(200), abs=4 * 0.5 / math.sqrt(20_000)
    )


def test_a_score_error_moves_the_mean_as_the_recursion_says():
    values = torch.tensor(TILED, dtype=torch.float64)
    times = uniform(30)
    mean = torch.zeros_like(values)
    for t, u in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        score = 1 - mean / (1 + (values - 1) * math.exp(-2 * t))
        mean = math.exp(t - u) * mean + 2 * math.expm1(t - u) * score
    torch.testing.assert_close(
        reverse.response(sampler("EI"), values, chart().sigma(times)), mean, rtol=1e-11, atol=0
    )


def test_dpum_s_calls_are_those_it_makes():
    values = torch.tensor(TILED, dtype=torch.float64)
    stages = dpum.stages(0.125)
    counted = Counted(lambda x, sigma: values / (values + float(sigma) ** 2) * x)
    for _ in steps(
        DPUM(stages=stages, h_corr=0.125),
        counted,
        torch.zeros(1, 4),
        stages.grid(),
        lambda: torch.zeros(1, 4),
    ):
        pass
    assert counted.nfe == dpum.run(0.125, values).calls


def test_steps_to_a_tenth():
    """The least ones: the certificate asks for d steps, the output of the reverse diffusion and
    DPUM for sqrt(d)."""
    n = reverse.path_steps(4.0, 0.1)
    assert (
        math.sqrt(reverse.certificate(tiled(4.0), n) / 2)
        <= 0.1
        < math.sqrt(reverse.certificate(tiled(4.0), n - 1) / 2)
    )
    # the specification: 7663, 30480, extrapolated
    assert [reverse.path_steps(d, 0.1) for d in (4.0, 16.0)] == [7610, 30448]
    assert [reverse.marginal_steps(d, 0.1) for d in (4.0, 16.0)] == [96, 192]
    assert [dpum.calls(d, 0.1) for d in (4.0, 16.0, 64.0)] == [65, 136, 232]


@pytest.mark.slow
def test_dpum_on_three_modes_is_no_better_than_the_reverse_diffusion_at_equal_calls():
    (found,) = mixture.calls()
    ours, ddpm, flow = (s.values for s in found.series)
    floor = found.series[0].noise
    assert all(d < o + floor / 2 for d, o in zip(ddpm, ours, strict=True)) and all(
        o < f for o, f in zip(ours, flow, strict=True)
    )
    assert ours[0] == pytest.approx(0.037, abs=0.006) and flow[0] == pytest.approx(0.059, abs=0.004)
