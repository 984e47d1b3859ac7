"""DPUM, "diffusion predictor + underdamped modeling" (Chen, Chewi, Lee, Li, Lu, Salim 2023, "The
probability flow ODE is provably fast").

In the chart of dx_t = -x_t dt + sqrt(2) dW, from x_T ~ N(0, I), for each stage of time 1/L, the
last one ending at delta:

    predictor   x <- e^h x + (e^h - 1) s_t(x)
                the flow, with the score frozen over a step h of time
    corrector   dx = v du,   dv = (s_t(x) - gamma v) du + sqrt(2 gamma) dW
                t frozen, v ~ N(0, I), gamma = 2 sqrt(L), for a time 1/sqrt(L);
                s frozen over a sub-step h_corr, all else exact

The flow keeps every error, in W2, and may enlarge it by e in a stage; the corrector turns an error
in W2 into one in total variation (short-time regularization), which later stages do not enlarge.
Hence sqrt(d) calls where the analysis of a reverse diffusion asks for d. The law has order 1 in
h_pred and h_corr together; a fixed h_corr has a bias of its own, which more predictor steps leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import ChartMethod
from diffgeo.sampler.charts import ChartScheme
from diffgeo.sampler.corrected import PredictorCorrector
from diffgeo.sampler.correctors import Underdamped
from diffgeo.schedule.stages import MOST, SLACK, Stages


@dataclass(frozen=True)
class ExponentialFlow(ChartScheme):
    """Exponential integrator of the probability flow: s_t frozen over a step, all else exact. With
    E = scale'/scale,

        x_t' = E x_t + scale' (I - I')/2 s_t,       I(sigma) = int_0^sigma scale(s) d(s^2),

    which in VP is E x_t + (E-1) s_t. Half the pull of ExponentialIntegrator, and no noise. One
    evaluation a step.
    """

    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        now = self.level(sigma)
        then = self.level(sigma_next)
        denoised = denoise(x, sigma)
        pull = (now.integral - then.integral) / (2 * now.scale * sigma**2)
        return Step(torch.lerp(x, denoised, pull), sigma_next, denoised)


@dataclass(frozen=True)
class DPUM(ChartMethod):
    """DPUM(T, L, h_pred, h_corr, delta) down the grid of its `stages`, which say T, L, h_pred and
    delta.

    On a grid that is not of its stages the corrector acts at the first level at or below the end of
    a stage. Calls of the denoiser: one a predictor step and, for each stage, the number of
    sub-steps.

    h_corr: the longest sub-step of the corrector in its own time, of which a stage has 1/sqrt(L);
        it is cut into equal ones. None: the predictor's step on the grid that the method is put
        `on`, so that a finer grid refines both.
    Raises UsageError on a schedule without stages, and on a sub-step h_corr below 1e-6.
    """

    stages: Stages = Stages()
    h_corr: float | None = None

    @property
    def order(self) -> int:
        return 1 if self.h_corr is None else 0  # in the steps of the grid

    def __post_init__(self):
        if not isinstance(self.stages, Stages):
            raise UsageError(
                "DPUM lays its levels in stages: write sampler.schedule=stages, with "
                "sampler.schedule.L and the like"
            )
        if self.h_corr is not None and not 1 / MOST <= self.h_corr < math.inf:
            raise UsageError(
                f"sampler.h_corr={self.h_corr}: write null, or a sub-step of at least {1 / MOST:g}"
            )

    def on(self, sigmas: Tensor) -> PredictorCorrector:
        """The predictor and the corrector on the grid `sigmas`."""
        L = self.stages.L
        h = self.stages.step_of(sigmas) if self.h_corr is None else self.h_corr
        substeps = max(math.ceil(1 / (math.sqrt(L) * h) - SLACK), 1)
        return PredictorCorrector(
            predictor=ExponentialFlow(self.stages),
            corrector=Underdamped(time=1.0, steps=substeps, smoothness=L, chart=self.stages),
            stage=1 / L,
            chart=self.stages,
        )

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        """One step alone, whose grid is its own two levels."""
        method = self.on(torch.tensor([sigma, sigma_next], dtype=torch.float64))
        return method.step(denoise, x, sigma, sigma_next, history, noise)
