"""Stochastic samplers as published: each paper's or k-diffusion's update written a second time, on
the same noise; and diffusers."""

import math
from dataclasses import dataclass

import pytest
import torch
from gaussian_runs import KARRAS, LOG, SAME, denoise, published, run
from scipy.integrate import quad

from diffgeo.sampler import (
    DPMpp2MSDE,
    DPMpp3MSDE,
    DPMppSDE,
    EDMChurn,
    EulerAncestral,
    SASolver,
    steps,
)
from diffgeo.sampler.exponential_sde import legacy
from diffgeo.schedule import VE
from diffgeo.simulation.noise import Streams
from diffgeo.theory.orders import slope, weak_errors

COUNTS = (64, 128, 256)


# published updates


@pytest.mark.parametrize("eta", [0.4, 1.0, 1.5])
def test_euler_ancestral_as_published(eta):
    def update(x, past, s, s_next, noise):
        up = min(s_next, eta * math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2))
        return x + (x - past[-1][1]) / s * (math.sqrt(s_next**2 - up**2) - s) + up * noise()

    for schedule in (LOG, VE()):
        SAME(run(EulerAncestral(eta=eta), schedule.grid(12)), published(update, schedule.grid(12)))


@pytest.mark.parametrize(
    "s_churn, s_min, s_max, s_noise", [(40, 0.05, 50, 1.003), (3, 0, math.inf, 1)]
)
def test_edm_algorithm_2(s_churn, s_min, s_max, s_noise):
    def update(x, past, s, s_next, noise):  # `past` holds D at the state before its kick: not used
        gamma = min(s_churn / 18, math.sqrt(2) - 1) if s_min <= s <= s_max else 0
        s_hat = s + gamma * s
        if gamma > 0:
            x = x + math.sqrt(s_hat**2 - s**2) * s_noise * noise()
        d = (x - denoise(x, s_hat)) / s_hat
        euler = x + (s_next - s_hat) * d
        return x + (s_next - s_hat) * (d + (euler - denoise(euler, s_next)) / s_next) / 2

    sampler = EDMChurn(s_churn, s_min, s_max, s_noise)
    grid = VE(sigma_min=0.002, sigma_max=80, to_zero=False).grid(18)
    SAME(run(sampler, grid), published(update, grid))


@pytest.mark.parametrize("eta", [0, 1])
def test_dpmpp_sde_as_published(eta):
    """k-diffusion, r = 1/2; with eta = 1 the SDE's noises to the middle and to the end have the
    correlation (1 + e^h)^(-1/2)."""

    def ancestral(s, s_next):
        up = eta * s_next * math.sqrt(1 - (s_next / s) ** 2)
        return math.sqrt(s_next**2 - up**2), up

    def update(x, past, s, s_next, noise):
        r = 0.5
        fac = 1.0
        D = past[-1][1]
        h = math.log(s / s_next)
        middle = s * math.exp(-r * h)
        down, up = ancestral(s, middle)
        w = noise() if eta else 0
        y = down / s * x - math.expm1(-math.log(s / down)) * D + up * w
        down, up = ancestral(s, s_next)
        rho = (1 + math.exp(h)) ** -0.5
        x = down / s * x - math.expm1(-math.log(s / down)) * (
            (1 - fac) * D + fac * denoise(y, middle)
        )
        return x + up * (rho * w + math.sqrt(1 - rho**2) * noise()) if eta else x

    for schedule in (KARRAS, VE()):
        SAME(run(DPMppSDE(eta=eta), schedule.grid(12)), published(update, schedule.grid(12)))


def multistep_sde(order, eta, s_noise, solver="heun", halve=True):
    """k-diffusion's dpmpp_2m_sde and dpmpp_3m_sde; halve: the second difference as published, else
    with its factor 2."""

    def update(x, past, s, s_next, noise):
        h = math.log(s / s_next)
        z = h * (eta + 1)
        D = past[-1][1]
        out = math.exp(-z) * x - math.expm1(-z) * D
        phi_2 = math.expm1(-z) / z + 1
        phi_3 = phi_2 / z - 0.5
        r = (
            [math.log(a / b) / h for (a, _), (b, _) in zip(past[-3:], past[-2:], strict=False)][
                ::-1
            ]
            if len(past) > 1
            else []
        )
        if order == 3 and len(past) > 2:
            r = [math.log(past[-2][0] / s) / h, math.log(past[-3][0] / past[-2][0]) / h]
            d0 = (D - past[-2][1]) / r[0]
            d1 = (past[-2][1] - past[-3][1]) / r[1]
            out = (
                out
                + phi_2 * (d0 + (d0 - d1) * r[0] / (r[0] + r[1]))
                - (1 if halve else 2) * phi_3 * (d0 - d1) / (r[0] + r[1])
            )
        elif len(past) > 1:
            slope = (D - past[-2][1]) / (math.log(past[-2][0] / s) / h)
            out = out + (phi_2 if solver == "heun" else -0.5 * math.expm1(-z)) * slope
        return (
            out + noise() * s_next * math.sqrt(-math.expm1(-2 * h * eta)) * s_noise if eta else out
        )

    return update


@pytest.mark.parametrize("eta, s_noise", [(0, 1), (0.3, 1), (1, 1), (1, 0.9)])
def test_multistep_sde_as_published(eta, s_noise):
    for sigmas in (KARRAS.grid(12), VE().grid(15)):
        for solver in ("midpoint", "heun"):
            SAME(
                run(DPMpp2MSDE(eta, s_noise, solver), sigmas),
                published(multistep_sde(2, eta, s_noise, solver), sigmas),
            )
        for weights in ("exact", "legacy"):
            update = multistep_sde(3, eta, s_noise, halve=weights == "legacy")
            SAME(run(DPMpp3MSDE(eta, s_noise, weights), sigmas), published(update, sigmas))


def adams(tau, levels, s, s_next):
    """b_j = sigma' e^(-tau^2 lambda') int_lambda^lambda' e^((1+tau^2) l) (1+tau^2) L_j(l) dl, by
    quadrature (Xue et al. 2023)."""
    nodes = [-math.log(v) for v in levels]
    start = -math.log(s)
    end = -math.log(s_next)
    basis = lambda j, at: math.prod(
        (at - v) / (nodes[j] - v) for i, v in enumerate(nodes) if i != j
    )
    # the e^(-tau^2 lambda') sigma' taken inside
    kernel = lambda at: (1 + tau**2) * math.exp((1 + tau**2) * (at - end))
    return [
        quad(lambda at, j=j: kernel(at) * basis(j, at), start, end, epsabs=1e-13, epsrel=1e-13)[0]
        for j in range(len(levels))
    ]


@pytest.mark.parametrize("lower_final", [False, True])
@pytest.mark.parametrize(
    "p, c, tau", [(3, 3, 1.0), (2, 1, 0.5), (1, 2, 1.0), (3, 2, 0.0), (1, 3, 0.7), (3, 1, 1.0)]
)
def test_sa_solver_as_published(p, c, tau, lower_final):
    """Algorithm 1: predict, evaluate, correct with the noise of the prediction; the buffer keeps D
    of the predicted states."""
    sigmas = KARRAS.grid(8).tolist()
    # (sigma, D), the newest first
    noise = Streams(torch.arange(30), (4,))
    buffer = []
    x = sigmas[0] * noise()
    before = None
    for k, (s, s_next) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        shown = min(k, len(sigmas) - 2 - k) if lower_final else k
        buffer.insert(0, (s, denoise(x, s)))
        if before is not None and shown:
            kept, s_before, kick = before
            used = buffer[: min(c, 1 + shown)]
            x = (
                kept
                + sum(
                    b * D
                    for b, (_, D) in zip(
                        adams(tau, [v for v, _ in used], s_before, s), used, strict=True
                    )
                )
                + kick
            )
        h = math.log(s / s_next)
        kick = s_next * math.sqrt(-math.expm1(-2 * tau**2 * h)) * noise() if tau else 0.0
        before = (math.exp(-(1 + tau**2) * h) * x, s, kick)
        used = buffer[: min(p, 1 + shown)]
        x = (
            before[0]
            + sum(
                b * D
                for b, (_, D) in zip(adams(tau, [v for v, _ in used], s, s_next), used, strict=True)
            )
            + kick
        )
    SAME(
        run(
            SASolver(p, c, tau),
            torch.tensor(sigmas, dtype=torch.float64),
            lower_order_final=lower_final,
        ),
        x,
        rtol=1e-9,
    )


def test_sa_solver_adds_noise_in_its_interval_alone():
    sigmas = KARRAS.grid(20)
    drawn = []
    # levels of the grid: the upper one is inside, the lower not
    low = sigmas[14].item()
    high = sigmas[9].item()
    sampler = SASolver(tau_min=low, tau_max=high)
    for step in steps(
        sampler, denoise, torch.ones(1, 4), sigmas, lambda: drawn.append(1) or torch.zeros(1, 4)
    ):
        assert step.sigma > 0
    inside = sigmas[9:14].tolist()
    assert len(drawn) == 5
    assert all(
        (sampler.added_noise(s, t) > 0) == (s in inside)
        for s, t in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False)
    )


# diffusers


def diffusers_run(scheduler, sigmas, scale, last):
    """Its run on D given as `sample`, in x_t = scale x, with torch's generator 0 for the start and
    the noise; the first `last` states x."""
    g = torch.Generator().manual_seed(0)
    x = float(sigmas[0]) * scale[0] * torch.randn(8, 4, generator=g)
    states = []
    for k, t in enumerate(scheduler.timesteps[:last]):
        x = scheduler.step(
            denoise(x.double() / scale[k], float(sigmas[k])).float() * 1.0,
            t,
            x.float(),
            generator=g,
        ).prev_sample
        states.append(x.double() / scale[k + 1])
    return torch.stack(states)


def our_run(sampler, sigmas, last):
    g = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(8, 4, generator=g).double()
    return torch.stack(
        [
            step.x
            for step in steps(
                sampler, denoise, float(sigmas[0]) * noise(), sigmas[: last + 1], noise
            )
        ]
    )


@dataclass(frozen=True)
class DiffusersThird(DPMpp3MSDE):
    """Its third-order sde-dpmsolver++ has -1/2 where the formula (k-diffusion's, and its own for
    the flow) has +1/2 beside D2."""

    weights: str = "legacy"

    @staticmethod
    def moments(n, z):
        m = legacy(n, z)
        return [*m[:2], *(v + 1 / math.expm1(z) for v in m[2:])]


@pytest.mark.parametrize(
    "options, sampler",
    [
        ({"solver_order": 1}, DPMppSDE(order=1)),
        ({"solver_order": 2}, DPMpp2MSDE()),
        ({"solver_order": 2, "solver_type": "heun"}, DPMpp2MSDE(solver="heun")),
        ({"solver_order": 3, "solver_type": "heun"}, DiffusersThird()),
    ],
)
def test_diffusers_dpm_solver_sde(options, sampler):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++",
        prediction_type="sample",
        lower_order_final=False,
        **options,
    )
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas.double()
    theirs = diffusers_run(scheduler, sigmas, torch.rsqrt(1 + sigmas**2), 20)
    torch.testing.assert_close(our_run(sampler, sigmas, 20), theirs, rtol=1e-4, atol=1e-4)


def test_the_third_order_of_diffusers_is_first_order():
    errors = [weak_errors(DiffusersThird(), LOG.grid(n))[1] for n in COUNTS]
    assert (
        slope(COUNTS, errors) < 1.2
        and errors[-1] > 50 * weak_errors(DPMpp3MSDE(weights="legacy"), LOG.grid(COUNTS[-1]))[1]
    )


def test_diffusers_euler_ancestral():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerAncestralDiscreteScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas.double()
    g = torch.Generator().manual_seed(0)
    x = float(sigmas[0]) * torch.randn(8, 4, generator=g)
    states = []
    for k, t in enumerate(scheduler.timesteps):
        scheduler.is_scale_input_called = True
        eps = (x.double() - denoise(x.double(), float(sigmas[k]))) / sigmas[k]
        x = scheduler.step(eps.float(), t, x, generator=g).prev_sample
        states.append(x.double())
    torch.testing.assert_close(
        our_run(EulerAncestral(), sigmas, 20), torch.stack(states), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_diffusers_sa_solver(tau):
    """Its runs where it adds no O(h^3) term of its own (order 1 with corrector 1), and its weights
    of every order."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.SASolverScheduler(
        prediction_type="sample",
        predictor_order=1,
        corrector_order=1,
        lower_order_final=False,
        tau_func=lambda t: torch.tensor(tau, dtype=torch.float64),
    )
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas.double()
    theirs = diffusers_run(scheduler, sigmas, torch.rsqrt(1 + sigmas**2), 19)
    torch.testing.assert_close(
        our_run(SASolver(1, 1, tau), sigmas, 19), theirs, rtol=1e-4, atol=1e-4
    )

    levels = [0.9, 1.4, 2.5]
    for n in (1, 2, 3):
        lam = -torch.tensor([*levels[:n], 0.6], dtype=torch.float64).log()
        rate = torch.tensor(tau, dtype=torch.float64)
        b = [
            float(v * (1 + tau**2) * torch.exp(-(1 + tau**2) * lam[-1]))
            for v in scheduler.get_coefficients_fn(n, lam[0], lam[-1], list(lam[:-1]), rate)
        ]
        assert b == pytest.approx(adams(tau, levels[:n], 0.9, 0.6), rel=1e-9)
