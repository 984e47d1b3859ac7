"""Samplers, and the only sampling loop of the package.

A sampler takes one step: from (x, sigma) to (x', sigma'), calling the denoiser as often as it
likes. `steps` runs it down a grid and yields each Step; what to record is the caller's choice.

    for x, sigma, denoised in steps(Heun(), denoise, x, schedule.grid(18), noise): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Noise, Past, Sampler, Step
from diffgeo.errors import DiffgeoError
from diffgeo.sampler.adams import DEIS, IPNDM, LMS, PNDM, IPNDMv
from diffgeo.sampler.adaptive import RK45, DPMAdaptive
from diffgeo.sampler.analytic_variance import AnalyticVariance, posterior_variance
from diffgeo.sampler.chart_flow import ChartEuler, ChartHeun, ChartRK4
from diffgeo.sampler.corrected import PredictorCorrector, Restart
from diffgeo.sampler.correctors import Langevin, Uncorrected, Underdamped
from diffgeo.sampler.deterministic import Euler, Heun
from diffgeo.sampler.dpum import DPUM, ExponentialFlow
from diffgeo.sampler.exponential_sde import DPMpp2MSDE, DPMpp3MSDE, DPMppSDE
from diffgeo.sampler.multistep import DPMpp2M, DPMpp3M, GradientEstimation
from diffgeo.sampler.plms import PLMS
from diffgeo.sampler.sa_solver import SASolver
from diffgeo.sampler.singlestep import RK4, DPMpp2S, DPMSolver2, DPMSolver3
from diffgeo.sampler.splitting import NoiseFirst, PublicCode, Splitting
from diffgeo.sampler.stochastic import (
    DDPM,
    EDMChurn,
    EulerAncestral,
    EulerMaruyama,
    ExponentialIntegrator,
)
from diffgeo.sampler.unipc import UniPC

__all__ = [
    "steps",
    "Euler",
    "Heun",
    "GradientEstimation",
    "DPMpp2M",
    "DPMpp3M",
    "UniPC",
    "LMS",
    "IPNDM",
    "IPNDMv",
    "DEIS",
    "PNDM",
    "PLMS",
    "DDPM",
    "EulerMaruyama",
    "ExponentialIntegrator",
    "EulerAncestral",
    "EDMChurn",
    "DPMppSDE",
    "DPMpp2MSDE",
    "DPMpp3MSDE",
    "SASolver",
    "AnalyticVariance",
    "posterior_variance",
    "DPMSolver2",
    "DPMSolver3",
    "DPMpp2S",
    "RK4",
    "RK45",
    "DPMAdaptive",
    "ChartEuler",
    "ChartHeun",
    "ChartRK4",
    "PredictorCorrector",
    "Langevin",
    "Underdamped",
    "Uncorrected",
    "Restart",
    "DPUM",
    "ExponentialFlow",
    "Splitting",
    "PublicCode",
    "NoiseFirst",
]


def steps(
    sampler: Sampler,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    history: Sequence[Past] = (),
    lower_order_final: bool = False,
) -> Iterator[Step]:
    """Run `sampler` from the state x [B,*D] at sigmas[0] down to sigmas[-1]; sigmas [K+1]
    decreasing, only the last may be 0.

    The state is float64 and the levels are Python floats. The sampler is shown its last
    `sampler.memory` steps, the newest last.

    history: steps already taken above sigmas[0], for a multistep method that shall not start plain.
    lower_order_final: a method that has k steps to go is shown k - 1 earlier steps at most, so that
        its order falls to 1 in the last.

    Raises DiffgeoError where a step is no `Step`.
    """
    x = x.to(torch.float64)
    sampler = sampler.on(sigmas)
    memory = sampler.memory
    past = list(history)[-memory:] if memory else []
    to_go = len(sigmas) - 1
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        shown = past
        if lower_order_final and to_go <= len(past):
            shown = past[len(past) - (to_go - 1) :]
        step = sampler.step(denoise, x, sigma, sigma_next, shown, noise)
        if not isinstance(step, Step):
            raise DiffgeoError(
                f"{type(sampler).__name__}.step returns a {type(step).__name__}: return "
                "Step(x, sigma_next, denoised) of diffgeo.core"
            )
        if memory:
            left = x if step.corrected is None else step.corrected
            past.append(Past(sigma, left, step.denoised))
            del past[:-memory]
        x = step.x
        to_go -= 1
        yield step
