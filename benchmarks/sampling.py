"""The sampling loop beyond the bare denoiser: microseconds of CPU a step, 512 points in the plane, an exact Gaussian denoiser."""
from __future__ import annotations

import math

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.core import Sigma
from diffgeo.noise import Streams
from diffgeo.sample import keys
from diffgeo.sampler import (
    DDPM,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
    GradientEstimation,
    Heun,
    NoiseFirst,
    PublicCode,
    Splitting,
    steps,
)
from diffgeo.schedule import VE

SAMPLES, STEPS = 512, 100
SAMPLERS = (Euler(), Heun(), DDPM(), EulerMaruyama(), ExponentialIntegrator(), Splitting(), PublicCode(), NoiseFirst(),
            GradientEstimation(), DPMpp2M())


class Counting:
    """D of N(0, I), x/(1 + sigma^2), and how often it was asked."""

    calls = 0

    def __call__(self, x: torch.Tensor, sigma: Sigma, **cond) -> torch.Tensor:
        self.calls += 1
        return x / (1 + sigma * sigma)


def sampler_run(sampler, sigmas: torch.Tensor, denoise: Counting):
    def run() -> None:
        noise = Streams(keys(0, SAMPLES), (2,))
        for _ in steps(sampler, denoise, sampler.start(noise(), float(sigmas[0])), sigmas, noise):
            pass
    return run


def noise() -> Row:
    """A step's noise alone: a stream of its own for every sample, against one generator for the batch."""
    def streams() -> None:
        draw = Streams(keys(0, SAMPLES), (2,))
        for _ in range(STEPS + 1):
            draw()

    def randn() -> None:
        g = torch.Generator().manual_seed(0)
        for _ in range(STEPS + 1):
            torch.randn(SAMPLES, 2, dtype=torch.float64, generator=g)

    seconds = interleaved({"ours": streams, "torch.randn": randn}, rounds=9)
    return Row("noise of a step, inside the stochastic rows", "us", *(1e6 * v / (STEPS + 1) for v in seconds.values()), peer="torch.randn")


def peers(sigmas: torch.Tensor, denoise: Counting) -> dict:
    found = {}
    if sampling := peer("k_diffusion.sampling"):
        x = torch.randn(SAMPLES, 2) * sigmas[0]
        model, grid = lambda x, sigma: denoise(x, sigma[:, None]), sigmas.float()
        for name, function in {"Euler": "sample_euler", "DDPM": "sample_euler_ancestral", "DPMpp2M": "sample_dpmpp_2m"}.items():
            found[name] = lambda f=getattr(sampling, function): f(model, x, grid, disable=True)
    return found


@torch.no_grad()
def rows() -> list[Row]:
    sigmas, denoise = VE().grid(STEPS), Counting()
    x = torch.randn(SAMPLES, 2, dtype=torch.float64)
    others = peers(sigmas, denoise)
    out = []
    for sampler in SAMPLERS:
        name = type(sampler).__name__
        variants = {"ours": sampler_run(sampler, sigmas, denoise)} | ({"peer": others[name]} if name in others else {})
        beyond = {}
        for who, run in variants.items():
            denoise.calls = 0
            run()
            calls = denoise.calls
            seconds = interleaved({"loop": run, "bare": lambda calls=calls: [denoise(x, 0.5) for _ in range(calls)]}, rounds=9)
            beyond[who] = 1e6 * (seconds["loop"] - seconds["bare"]) / STEPS
        out.append(Row(f"{name}, overhead a step", "us", beyond["ours"], math.nan, 60 if sampler.memory else 30))
        if "peer" in beyond:
            out.append(Row(f"{name}, overhead a step", "us", beyond["ours"], beyond["peer"], peer="k-diffusion"))
    return [*out, noise()]
