"""UniPC (Zhao et al. 2023): an exponential multistep predictor in D, and a corrector that costs no
evaluation of its own.

With B = sigma'/sigma and Dbar = sum_j w_j D_j the mean of D's interpolant in log sigma over the
step (weights.py):

    UniP-p   x' = Dbar + B (x - Dbar)      through D at the present level and at p-1 earlier ones
    UniC-p   the same step taken once more, from where it began, when D at its end is known:
             that is one point more

D at the end is what the next step asks for anyway, at the predicted state; it is not asked for
again at the corrected one (PEC). The error of the prediction, O(h^(p+1)), thus enters the
correction times h, and UniPC-p is of order p + 1. The paper's B(h) cancels out of the weights of
three or more points; with two points it sets rho = 1/2, and B(h) = h (bh1) or e^h - 1 (bh2) says
what this means for m_1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.multistep import midpoint
from diffgeo.sampler.weights import Moments, exact, phi, towards_data


def bh1(n: int, z: float) -> list[float]:
    """Two points with rho B(h) = h/2: m_1 = 1/(2 phi_1(-h))."""
    return [1.0, 0.5 / phi(1, z)] if n == 2 else exact(n, z)


@dataclass(frozen=True)
class UniPC(Method):
    """UniPC-p in data prediction, one evaluation a step. Its order is p + 1; without the corrector,
    p.

    points: p in 1..3, how many estimates the predictor interpolates; fewer at the start, and
        Euler's step into sigma' = 0.
    variant: `bh1` or `bh2` (in `bh2` the two-point predictor is DPM-Solver++(2M)).
    corrector: False leaves UniP alone.
    """

    points: int = 3
    variant: str = "bh2"
    corrector: bool = True
    VARIANTS: ClassVar[dict[str, Moments]] = {"bh1": bh1, "bh2": midpoint}

    def __post_init__(self):
        if self.points not in (1, 2, 3):
            raise UsageError(f"sampler.points={self.points}: write 1, 2 or 3")
        if self.variant not in self.VARIANTS:
            raise UsageError(f"sampler.variant={self.variant}: write {' or '.join(self.VARIANTS)}")

    @property
    def order(self) -> int:
        return self.points + 1 if self.corrector else self.points

    @property
    def memory(self) -> int:
        return self.points if self.corrector else self.points - 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        moments = self.VARIANTS[self.variant]
        past = history[::-1]
        levels = tuple(p.sigma for p in past)
        terms = [p.denoised for p in past]
        if past and self.corrector:  # the last step once more, D at its end being known
            points = (levels[0], sigma, *levels[1:])
            values = [terms[0], denoised, *terms[1:]]
            x = towards_data(past[0].x, points, values, sigma, moments)
        earlier = self.points - 1
        points = (sigma, *levels[:earlier])
        values = [denoised, *terms[:earlier]]
        predicted = towards_data(x, points, values, sigma_next, moments)
        return Step(predicted, sigma_next, denoised, corrected=x)
