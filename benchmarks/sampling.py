"""The sampling loop alone: microseconds of CPU a step, 512 points in the plane, an exact Gaussian denoiser.

What is subtracted from the time of a run is what no loop can avoid: every evaluation it made (two a step for Heun) and every draw of noise
it asked for, the initial one included, both repeated bare. The noise has a row of its own.
"""
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


def peers(sigmas: torch.Tensor, denoise: Counting) -> dict:
    """Runs of k-diffusion; they too return their draws, which are torch.randn's in float32 (none into sigma = 0)."""
    def counted(function, draws: int):
        def run() -> int:
            function(model, x, grid, disable=True)
            return draws
        return run

    found = {}
    if sampling := peer("k_diffusion.sampling"):
        x = torch.randn(SAMPLES, 2) * sigmas[0]
        model, grid = lambda x, sigma: denoise(x, sigma[:, None]), sigmas.float()
        for name, function, draws in (("Euler", "sample_euler", 0), ("DDPM", "sample_euler_ancestral", STEPS - 1),
                                      ("DPMpp2M", "sample_dpmpp_2m", 0)):
            found[name] = counted(getattr(sampling, function), draws)
    return found


@torch.no_grad()
def rows() -> list[Row]:
    sigmas, denoise = VE().grid(STEPS), Counting()
    x = torch.randn(SAMPLES, 2, dtype=torch.float64)
    others = peers(sigmas, denoise)
    out = []
    for sampler in SAMPLERS:
        name = type(sampler).__name__
        variants = {"ours": (sampler_run(sampler, sigmas, denoise), streams)} | ({"peer": (others[name], randn)} if name in others else {})
        beyond = {}
        for who, (run, draw) in variants.items():
            denoise.calls = 0
            draws, calls = run(), denoise.calls
            seconds = interleaved({"loop": run, "network": lambda calls=calls: [denoise(x, 0.5) for _ in range(calls)],
                                   "noise": lambda draw=draw, draws=draws: draw(draws)}, rounds=9)
            beyond[who] = 1e6 * (seconds["loop"] - seconds["network"] - seconds["noise"]) / STEPS
        out.append(Row(f"{name}, loop beyond network and noise, a step", "us", beyond["ours"], math.nan, 60 if sampler.memory else 30))
        if "peer" in beyond:
            out.append(Row(f"{name}, loop beyond network and noise, a step", "us", beyond["ours"], beyond["peer"], peer="k-diffusion"))
    return [*out, noise()]
