"""Samplers, and the only sampling loop of the package.

A sampler takes one step: from (x, sigma) to (x', sigma'), calling the denoiser as often as it likes. `steps` runs it down a grid and
yields each Step; what to record is the caller's choice.

    for x, sigma, denoised in steps(Heun(), denoise, x, schedule.grid(18), noise): ...
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Noise, Past, Sampler, Step
from diffgeo.sampler.deterministic import Euler, Heun
from diffgeo.sampler.multistep import DPMpp2M, GradientEstimation
from diffgeo.sampler.splitting import NoiseFirst, PublicCode, Splitting
from diffgeo.sampler.stochastic import DDPM, EulerMaruyama, ExponentialIntegrator

__all__ = ["steps", "Euler", "Heun", "GradientEstimation", "DPMpp2M", "DDPM", "EulerMaruyama", "ExponentialIntegrator",
           "Splitting", "PublicCode", "NoiseFirst"]


def steps(sampler: Sampler, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Run `sampler` from the state x [B,*D] at sigmas[0] down to sigmas[-1]; sigmas [K+1] decreasing, only the last may be 0.

    The state is float64 and the levels are Python floats. `history` holds the last `sampler.memory` steps, the newest last.
    """
    x = x.to(torch.float64)
    history: list[Past] = []
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        step = sampler.step(denoise, x, sigma, sigma_next, history, noise)
        if sampler.memory:
            history.append(Past(sigma, x, step.denoised))
            del history[:-sampler.memory]
        x = step.x
        yield step
