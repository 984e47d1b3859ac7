"""PLMS against diffusers' PNDMScheduler without its Runge-Kutta start, its evaluations, and the
order that Heun's first step leaves; UniPC of two points against diffusers' own."""

import math

import pytest
import torch
from test_sampler_multistep import ENDS, run, slope

from diffgeo.denoiser import Counted
from diffgeo.sampler import IPNDM, PLMS, PNDM, UniPC, steps
from diffgeo.schedule import VE
from diffgeo.schedule.discrete import Discrete, ScaledLinearBetas
from diffgeo.schedule.of_diffusers import Spaced
from diffgeo.schedule.spacing import Power

V = 0.1
LDM = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def denoise(x, sigma):
    """Of .5 N(-1, V) + .5 N(1, V)."""
    return (V * x + sigma**2 * torch.tanh(x / (V + sigma**2))) / (V + sigma**2)


def unit(n=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def theirs(scheduler, n):
    """Every state of a scheduler's own run; the eps that it asks for is D's."""
    scheduler.set_timesteps(n)
    x = unit()
    states = []
    for t in scheduler.timesteps:
        abar = float(scheduler.alphas_cumprod[int(t)])
        sigma = math.sqrt((1 - abar) / abar)
        eps = (x / math.sqrt(abar) - denoise(x / math.sqrt(abar), sigma)) / sigma
        x = scheduler.step(eps, t, x).prev_sample.double()
        states.append(x)
    return states


def ours(sampler, grid):
    """Every state of a run from N(0, I) in the chart, in the chart."""
    start = unit() * (1 + grid[0] ** 2).sqrt()
    taken = steps(sampler, denoise, start, grid, None)
    return [step.x / math.hypot(1, step.sigma) for step in taken]


def apart(one, two):
    return float((one - two).abs().max() / two.abs().max())


def leading(end):
    return Discrete(betas=ScaledLinearBetas(), timesteps=Spaced("leading", 1, end))


@pytest.mark.parametrize("n", [2, 3, 4, 10, 50])
@pytest.mark.parametrize("to_zero", [False, True])
def test_plms_is_the_pndm_of_a_stable_diffusion_folder(n, to_zero):
    """Their first two calls are the two halves of our first step. Their tables are float32."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.PNDMScheduler(
        skip_prk_steps=True, steps_offset=1, set_alpha_to_one=to_zero, **LDM
    )
    expected = theirs(scheduler, n)
    assert len(expected) == n + 1
    found = ours(PLMS(), leading(-1 if to_zero else 0).grid(n))
    for one, two in zip(found, expected[1:], strict=True):
        assert apart(one, two) < 2e-5
    # another method with another result, which is what is called pndm here
    if n == 10:
        assert apart(ours(PNDM(), leading(0).grid(10))[-1], expected[-1]) > 1e-3


def test_the_first_step_is_heun_s_and_the_second_adams_and_bashforth_s_of_two_points():
    """By hand on D = x/2 at every level, where eps = x/(2 sigma)."""
    grid = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    first, second = steps(PLMS(), lambda x, sigma: x / 2, x, grid, None)
    # e_0 = 1/8; predicted 1 - 2/8 = 3/4; e_1 = 3/16; x' = 1 - 2 (1/8 + 3/16)/2 = 11/16
    assert first.x.item() == 11 / 16 and first.denoised.item() == 0.5
    # e = 11/64; x' = 11/16 - (3/2 11/64 - 1/2 1/8) = 11/16 - 25/128
    assert second.x.item() == 11 / 16 - 25 / 128


def test_one_evaluation_more_than_steps():
    for n in (2, 10):
        counted = Counted(denoise)
        for _ in steps(PLMS(), counted, unit(), leading(0).grid(n), None):
            pass
        assert counted.nfe == n + 1
    # into sigma = 0 at once there is no eps at the end: Euler's step
    counted = Counted(denoise)
    (only,) = steps(PLMS(), counted, unit(), torch.tensor([4.0, 0.0]), None)
    assert counted.nfe == 1
    torch.testing.assert_close(only.x, denoise(unit(), 4.0))


def test_the_order_that_heun_s_step_leaves():
    """On equal steps in sigma from where eps moves: 3, where iPNDM's Euler step leaves 2."""
    from test_sampler_multistep import correlated_gaussian, replace

    gauss = correlated_gaussian()
    problem = replace(gauss, x=gauss.x / 20, first=1.0, last=0.5)
    grid = VE(sigma_min=0.5, sigma_max=1, spacing=Power(1), to_zero=False).grid
    for sampler, order in ((PLMS(), 3), (IPNDM(4), 2)):
        errors = [float((run(sampler, grid(n), problem) - problem.end).norm()) for n in ENDS]
        assert order - 0.1 < slope(ENDS, errors) < order + 0.1


def test_unipc_of_two_points_is_the_default_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(timestep_spacing="linspace", **LDM)
    expected = theirs(scheduler, 10)
    grid = Discrete(
        betas=ScaledLinearBetas(), timesteps=Spaced("linspace", 0, -1, ahead=True)
    ).grid(10)
    assert apart(ours(UniPC(points=2), grid)[-1], expected[-1]) < 2e-5
    assert apart(ours(UniPC(points=3), grid)[-1], expected[-1]) > 1e-3
