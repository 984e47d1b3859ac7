"""The sampling loop alone: microseconds of CPU a step, 512 points in the plane.

The network and the noise cost nothing here: each hands out a tensor made beforehand. So a run's
time is what loop and method add, without a difference of two large numbers. The noise of a step has
a row of its own; the peers' DDPM draws its own, torch.randn's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.config.named import names, sampler
from diffgeo.core import Sampler, Sigma
from diffgeo.sampler import steps
from diffgeo.schedule import VE
from diffgeo.simulation.noise import Streams, keys

SAMPLES = 512
STEPS = 100
SKIPPED = (
    "ddim",  # euler under another name
    "midpoint",  # dpm_solver_2 under another name
    "a_ddim",  # needs a law; its step is euler_ancestral's
    "restart",  # many sub-steps in one step
)
START = torch.randn(SAMPLES, 2)
Run = Callable[[], None]


def network(dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    answer = torch.randn(SAMPLES, 2).to(dtype)

    def denoise(x: torch.Tensor, sigma: Sigma, **cond) -> torch.Tensor:
        return answer

    return denoise


def ours(method: Sampler, sigmas: torch.Tensor) -> Run:
    denoise = network(torch.float64)
    unit = torch.randn(SAMPLES, 2, dtype=torch.float64)

    def run() -> None:
        for _ in steps(method, denoise, method.start(unit, float(sigmas[0])), sigmas, lambda: unit):
            pass

    return run


def k_diffusion(sigmas: torch.Tensor) -> dict[str, Run]:
    if not (sampling := peer("k_diffusion.sampling")):
        return {}
    model = network(torch.float32)
    x = START * sigmas[0]
    grid = sigmas.float()
    functions = {
        "euler": sampling.sample_euler,
        "ddpm": sampling.sample_euler_ancestral,
        "dpmpp_2m": sampling.sample_dpmpp_2m,
    }
    return {
        name: partial(function, model, x, grid, disable=True)
        for name, function in functions.items()
    }


def diffusers() -> dict[str, Run]:
    """Runs of diffusers' schedulers on a net that predicts epsilon at its own discrete times."""
    if not (library := peer("diffusers")):
        return {}
    model = network(torch.float32)

    def run(scheduler) -> None:
        scheduler.set_timesteps(STEPS)
        x = START
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, 1.0), t, x).prev_sample

    schedulers = {
        "euler": library.DDIMScheduler,
        "ddpm": library.DDPMScheduler,
        "dpmpp_2m": library.DPMSolverMultistepScheduler,
        "unipc": library.UniPCMultistepScheduler,
        "deis": library.DEISMultistepScheduler,
        "pndm": library.PNDMScheduler,
    }
    return {name: partial(run, scheduler()) for name, scheduler in schedulers.items()}


def noise() -> Row:
    """A step's noise alone: a stream of its own for every sample, against one generator for the
    batch."""

    def streams() -> None:
        draw = Streams(keys(0, range(SAMPLES)), (2,))
        for _ in range(STEPS + 1):
            draw()

    def plain() -> None:
        g = torch.Generator().manual_seed(0)
        for _ in range(STEPS + 1):
            torch.randn(SAMPLES, 2, dtype=torch.float64, generator=g)

    seconds = interleaved({"ours": streams, "torch.randn": plain}, rounds=9)
    micro = {name: 1e6 * total / (STEPS + 1) for name, total in seconds.items()}
    what = "noise of a step, not in the rows above"
    return Row(what, "us", micro["ours"], micro["torch.randn"], peer="torch.randn")


def row(name: str, method: Sampler, library: str, micro: dict[tuple[str, str], float]) -> Row:
    """A method's microseconds a step, against a peer's where one is named."""
    what = f"{name}, loop and method, a step"
    if library:
        return Row(what, "us", micro[name, ""], micro[name, library], peer=library)
    bar = 60 if method.memory else 30
    return Row(what, "us", micro[name, ""], math.nan, bar)


@torch.no_grad()
def rows() -> list[Row]:
    sigmas = VE().grid(STEPS)
    peers = {"k-diffusion": k_diffusion(sigmas), "diffusers": diffusers()}
    methods: dict[str, Sampler] = {}
    for name in names("sampler"):
        if name in SKIPPED:
            continue
        method = sampler(name, STEPS)
        if not method.adaptive:  # what an adaptive method spends is not the grid's to say
            methods[name] = method
    runs: dict[tuple[str, str], Run] = {}
    for name, method in methods.items():
        runs[name, ""] = ours(method, sigmas)
    for library, found in peers.items():
        for name, run in found.items():
            runs[name, library] = run
    # all take turns: one machine for all
    micro = {key: 1e6 * seconds / STEPS for key, seconds in interleaved(runs, rounds=25).items()}
    out = [row(name, methods[name], library, micro) for name, library in sorted(runs)]
    return [*out, noise()]
