"""The sampling loop alone: microseconds of CPU a step, 512 points in the plane, an exact Gaussian denoiser.

What is subtracted from the time of a run is what no loop can avoid: every evaluation it made (two a step for Heun) and every draw of noise
it asked for, the initial one included, both repeated bare. The noise has a row of its own.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.commands.theory_orders import names, sampler
from diffgeo.core import Sigma
from diffgeo.noise import Streams
from diffgeo.sample import keys
from diffgeo.sampler import steps
from diffgeo.schedule import VE

SAMPLES, STEPS = 512, 100
SKIPPED = ("ddim", "midpoint",          # euler and dpm_solver_2 under another name
           "a_ddim",                    # needs a law; its step is euler_ancestral's
           "restart")                   # many sub-steps in one step


class Counting:
    """D of N(0, I), x/(1 + sigma^2), and how often it was asked."""

    calls = 0

    def __call__(self, x: torch.Tensor, sigma: Sigma, **cond) -> torch.Tensor:
        self.calls += 1
        return x / (1 + sigma * sigma)


def sampler_run(sampler, sigmas: torch.Tensor, denoise: Counting):
    """A whole run, which returns how many draws of noise it made."""
    def run() -> int:
        noise = Streams(keys(0, SAMPLES), (2,))
        for _ in steps(sampler, denoise, sampler.start(noise(), float(sigmas[0])), sigmas, noise):
            pass
        return noise.drawn
    return run


def streams(draws: int) -> None:
    draw = Streams(keys(0, SAMPLES), (2,))
    for _ in range(draws):
        draw()


def randn(draws: int) -> None:
    for _ in range(draws):
        torch.randn(SAMPLES, 2)


def noise() -> Row:
    """A step's noise alone: a stream of its own for every sample, against one generator for the batch."""
    def plain() -> None:
        g = torch.Generator().manual_seed(0)
        for _ in range(STEPS + 1):
            torch.randn(SAMPLES, 2, dtype=torch.float64, generator=g)

    seconds = interleaved({"ours": lambda: streams(STEPS + 1), "torch.randn": plain}, rounds=9)
    return Row("noise of a step, not in the rows above", "us", *(1e6 * v / (STEPS + 1) for v in seconds.values()), peer="torch.randn")


def k_diffusion(sigmas: torch.Tensor, denoise: Counting) -> dict[str, Callable[[], int]]:
    """Runs of k-diffusion; they too return their draws, which are torch.randn's in float32 (none into sigma = 0)."""
    def counted(function: str, draws: int) -> Callable[[], int]:
        def run() -> int:
            getattr(sampling, function)(model, x, grid, disable=True)
            return draws
        return run

    if not (sampling := peer("k_diffusion.sampling")):
        return {}
    x = torch.randn(SAMPLES, 2) * sigmas[0]
    model, grid = lambda x, sigma: denoise(x, sigma[:, None]), sigmas.float()
    return {"euler": counted("sample_euler", 0), "ddpm": counted("sample_euler_ancestral", STEPS - 1),
            "dpmpp_2m": counted("sample_dpmpp_2m", 0)}


def diffusers(denoise: Counting) -> dict[str, Callable[[], int]]:
    """Runs of diffusers' schedulers on a net that predicts epsilon at its own discrete times."""
    def counted(scheduler) -> Callable[[], int]:
        def run() -> int:
            scheduler.set_timesteps(STEPS)
            state = x
            for t in scheduler.timesteps:
                state = scheduler.step(denoise(state, 1.0), t, state).prev_sample
            return STEPS - 1 if "DDPM" in type(scheduler).__name__ else 0
        return run

    if not (library := peer("diffusers")):
        return {}
    x = torch.randn(SAMPLES, 2)
    kinds = {"euler": "DDIM", "ddpm": "DDPM", "dpmpp_2m": "DPMSolverMultistep", "unipc": "UniPCMultistep", "deis": "DEISMultistep",
             "pndm": "PNDM"}
    return {name: counted(getattr(library, f"{kind}Scheduler")()) for name, kind in kinds.items()}


def beyond(run: Callable[[], int], draw: Callable[[int], None], x: torch.Tensor, denoise: Counting) -> float:
    """CPU microseconds a step of `run` beyond its evaluations and its draws of noise."""
    denoise.calls = 0
    draws, calls = run(), denoise.calls
    seconds = interleaved({"loop": run, "network": lambda: [denoise(x, 0.5) for _ in range(calls)], "noise": lambda: draw(draws)}, rounds=9)
    return 1e6 * (seconds["loop"] - seconds["network"] - seconds["noise"]) / STEPS


@torch.no_grad()
def rows() -> list[Row]:
    sigmas, denoise = VE().grid(STEPS), Counting()
    x = torch.randn(SAMPLES, 2, dtype=torch.float64)
    others = {"k-diffusion": k_diffusion(sigmas, denoise), "diffusers": diffusers(denoise)}
    out = []
    for name in names():
        method = sampler(name, STEPS)
        if name in SKIPPED or getattr(method, "adaptive", False):
            continue
        title = f"{name}, loop beyond network and noise, a step"
        ours = beyond(sampler_run(method, sigmas, denoise), streams, x, denoise)
        out.append(Row(title, "us", ours, math.nan, 60 if method.memory else 30))
        for library, runs in others.items():
            if name in runs:
                out.append(Row(title, "us", ours, beyond(runs[name], randn, x.float(), denoise), peer=library))
    return [*out, noise()]
