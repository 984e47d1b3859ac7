"""SA-Solver: stochastic Adams methods, predictor and corrector (Xue et al. 2023, Algorithm 1), data
prediction.

With eta = tau^2 and z = (1 + tau^2) h in exponential_sde.py, the weights exact integrals of
Lagrange's basis against the kernel,

    predictor    x'   = e^-z x + sum_j b_j D_j + sigma' sqrt(1 - e^(-2 tau^2 h)) w
                        from p values: D at sigma and before
    corrector    x'_c = e^-z x + sum_j c_j D_j + the same noise
                        from c values: D at sigma' (of x'), sigma, before

The corrector of a step acts at the start of the next one, when D at x' is known (PEC: it is not
evaluated anew at x'_c). All it needs is x + e^z noise, the state with the step's noise put in
beforehand; that is what Step.corrected holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.exponential_sde import ExponentialSDE
from diffgeo.sampler.weights import exact


@dataclass(frozen=True)
class SASolver(ExponentialSDE):
    """Stochastic Adams predictor-corrector. One evaluation a step; x' = D in the step to 0.

    The pair is of order min(c, p + 1) on the flow, and of weak order 2 at most with noise; with c =
    1 of order 1 whatever p. The first steps use what the history has.

    predictor: p of 1 to 3.
    corrector: c of 1 to 3, or 0 for none.
    tau: noise; 0 is the flow, 1 the reverse diffusion.
    tau_min, tau_max: noise is added in steps from levels tau_min < sigma <= tau_max alone (the
        paper, on CIFAR-10: .05 and 1).
    Raises UsageError on values outside these ranges.
    """

    predictor: int = 3
    corrector: int = 3
    tau: float = 1.0
    tau_min: float = 0.0
    tau_max: float = math.inf

    def __post_init__(self):
        if self.predictor not in (1, 2, 3) or self.corrector not in (0, 1, 2, 3):
            raise UsageError(
                f"sampler.predictor={self.predictor}, sampler.corrector={self.corrector}: write 1, "
                "2 or 3, and 0, 1, 2 or 3"
            )
        if self.tau < 0 or not 0 <= self.tau_min <= self.tau_max:
            raise UsageError(
                f"sampler.tau={self.tau}, sampler.tau_min={self.tau_min}, "
                f"sampler.tau_max={self.tau_max}: write 0 <= tau and 0 <= tau_min <= tau_max"
            )

    @property
    def memory(self) -> int:
        corrected = 1 if self.corrector else 0  # the step that a corrector takes once more
        return max(self.predictor - 1, self.corrector - 1, corrected)

    @property
    def order(self) -> int:
        order = self.predictor
        if self.corrector:
            order = min(self.corrector, self.predictor + 1)
        return min(order, 2) if self.tau else order

    def rate(self, sigma):
        return self.tau**2 if self.tau_min < sigma <= self.tau_max else 0.0

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        past = history[::-1]
        if sigma_next == 0:
            return Step(denoised, sigma_next, denoised)
        levels = [p.sigma for p in past]
        terms = [p.denoised for p in past]
        if self.corrector and past:  # the last step once more, D at its end being known
            earlier = self.corrector - 1
            points = (*levels[:earlier], sigma)
            values = [*terms[:earlier], denoised]
            x = self.leap(past[0].x, past[0].sigma, sigma, exact, points, values)
        x = self.kicked(x, sigma, sigma_next, noise)
        earlier = self.predictor - 1
        points = (sigma, *levels[:earlier])
        values = [denoised, *terms[:earlier]]
        predicted = self.leap(x, sigma, sigma_next, exact, points, values)
        return Step(predicted, sigma_next, denoised, corrected=x if self.corrector else None)
