"""Our samplers against diffusers' schedulers on the same time steps, to the accuracy of their
float32 tables.

Both see the exact denoiser of two Gaussians N(+-1, v), D = (v x + sigma^2 tanh(x/(v + sigma^2)))/(v
+ sigma^2). A scheduler keeps x_t = x/sqrt(1+sigma^2) and asks for eps = (x - D)/sigma; its levels
are sigma = sqrt((1-abar)/abar) at the integer times of a table.
"""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from diffgeo.sampler import DDPM, DEIS, IPNDM, PNDM, DPMpp2M, DPMpp3M, Euler, Heun, UniPC, steps

diffusers = pytest.importorskip("diffusers", reason="the extra is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
V = 0.1


def denoise(x, sigma):
    return (V * x + sigma**2 * torch.tanh(x / (V + sigma**2))) / (V + sigma**2)


def eps(x, sigma):
    return (x - denoise(x, sigma)) / sigma


def sigma_at(scheduler, t):
    """The level of a time step of the table; beyond its end, 0."""
    if t < 0:
        return 0.0
    abar = float(scheduler.alphas_cumprod[int(t)])
    return math.sqrt((1 - abar) / abar)


def start(sigma):
    return sigma * torch.randn(
        64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def theirs(scheduler, **options):
    """A run of a scheduler that keeps x_t; returns x at every level."""
    sigma = sigma_at(scheduler, scheduler.timesteps[0])
    x_t = start(sigma) / math.hypot(1, sigma)
    for t in scheduler.timesteps:
        sigma = sigma_at(scheduler, t)
        x_t = scheduler.step(
            eps(math.hypot(1, sigma) * x_t, sigma), t, x_t, **options
        ).prev_sample.double()
        yield x_t


def ours(sampler, sigmas, noise=None, **options):
    for step in steps(
        sampler,
        denoise,
        start(sigmas[0]),
        torch.tensor(sigmas, dtype=torch.float64),
        noise,
        **options,
    ):
        yield step.x / math.hypot(1, step.sigma)


def agree(run, other):
    """At every level of the way down, in norm."""
    for one, two in zip(run, other, strict=True):
        assert float((one - two).norm() / two.norm()) < 1e-4


def levels(scheduler, last):
    return [*(sigma_at(scheduler, t) for t in scheduler.timesteps), last]


def test_ddim():
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    agree(ours(Euler(), levels(scheduler, 0.0)), theirs(scheduler))


def test_ddpm_with_the_same_noise():
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    noise = partial(
        torch.randn, 64, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )
    agree(
        ours(DDPM(), levels(scheduler, 0.0), noise),
        theirs(scheduler, generator=torch.Generator().manual_seed(7)),
    )


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("order, sampler", [(1, Euler()), (2, DPMpp2M()), (3, DPMpp3M("legacy"))])
def test_dpmpp(order, sampler, n):
    """Below 15 steps the scheduler lowers its order at the end."""
    scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=order)
    scheduler.set_timesteps(n)
    agree(ours(sampler, levels(scheduler, 0.0), lower_order_final=n < 15), theirs(scheduler))


@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc(points, variant):
    scheduler = diffusers.UniPCMultistepScheduler(
        solver_order=points,
        solver_type=variant,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(12)
    agree(
        ours(UniPC(points, variant), levels(scheduler, sigma_at(scheduler, 0))), theirs(scheduler)
    )


@pytest.mark.parametrize("points", [1, 2, 3])
def test_deis_is_ours_in_log_rho(points):
    scheduler = diffusers.DEISMultistepScheduler(solver_order=points, lower_order_final=False)
    scheduler.set_timesteps(12)
    agree(
        ours(DEIS(points, "log_rho"), levels(scheduler, sigma_at(scheduler, 0))), theirs(scheduler)
    )


def test_heun():
    """This one keeps x itself, at two time steps an interval."""
    scheduler = diffusers.HeunDiscreteScheduler(timestep_spacing="leading")
    scheduler.set_timesteps(12)
    times = [t for t, _ in itertools.groupby(scheduler.timesteps.tolist())]
    sigmas = [*(sigma_at(scheduler, t) for t in times), 0.0]
    x = start(sigmas[0])
    for t in scheduler.timesteps:
        x = scheduler.step(eps(x, sigma_at(scheduler, t)), t, x).prev_sample
    agree(list(ours(Heun(), sigmas))[-1:], [x])


def test_ipndm():
    """This one lays its levels by `betas`, sigma_t themselves, and asks for v = alpha eps - sigma_t
    D; its rule is of four points."""
    sigmas = [*np.geomspace(80, 0.02, 12).tolist(), 0.0]
    scheduler = diffusers.IPNDMScheduler(trained_betas=[s / math.hypot(1, s) for s in sigmas])
    scheduler.set_timesteps(12)

    def run():
        x_t = start(sigmas[0]) / math.hypot(1, sigmas[0])
        for s, t in zip(sigmas, scheduler.timesteps, strict=False):
            alpha = 1 / math.hypot(1, s)
            x = x_t / alpha
            x_t = scheduler.step(alpha * eps(x, s) - alpha * s * denoise(x, s), t, x_t).prev_sample
            yield x_t

    agree(ours(IPNDM(4), sigmas), run())


class Table:
    """The time of a scheduler's table, log sigma linear between integers."""

    def __init__(self, scheduler):
        self.logs = np.log([sigma_at(scheduler, t) for t in range(len(scheduler.alphas_cumprod))])

    def sigma(self, t):
        return torch.as_tensor(np.exp(np.interp(t.numpy(), np.arange(len(self.logs)), self.logs)))

    def t(self, sigma):
        return torch.as_tensor(
            np.interp(np.log(sigma.numpy()), self.logs, np.arange(len(self.logs)))
        )


def test_pndm():
    """Twelve evaluations for the three Runge-Kutta steps, then one a step."""
    scheduler = diffusers.PNDMScheduler(set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    sigmas = [*(sigma_at(scheduler, t) for t in range(900, -1, -100)), 0.0]
    states = list(theirs(scheduler))
    assert len(states) == 10 + 9
    agree(ours(PNDM(chart=Table(scheduler)), sigmas), states[3:12:4] + states[12:])
