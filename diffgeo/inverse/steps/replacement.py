"""Steps that put the measured part of y, noised to the level, in the place of what is there.

After a DDPM step z at sigma',

    x' = z + A^+ (y + sigma' eps - A z).

RePaint does each step r times: x' is noised back, x = x' + sqrt(v - v') eps, and stepped again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement, prox
from diffgeo.core import Noise, Sampler, Step
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import linear, matching, measured_noise, name_of, not_tall
from diffgeo.sampler.base import Method
from diffgeo.sampler.stochastic import DDPM


def replaceable(measurement: Measurement, what: str) -> Linear:
    """The operator, if what it measures can be replaced. Raises UsageError; `what` is who asks."""
    not_tall(measurement, what)
    return linear(measurement, what)


def replaced(operator: Linear, y: Tensor, z: Tensor, sigma: float, noise: Noise) -> Tensor:
    """z + A^+ (y + sigma eps - A z), [B,*D]."""
    target = y.to(z)
    if sigma > 0:
        target = target + sigma * measured_noise(noise, operator, z)
    return prox(operator, z, target, 0.0)


def check_masks(operator: Linear, what: str) -> None:
    """Raise UsageError unless A'A keeps some coordinates and drops the others: inpainting."""
    size = math.prod(operator.shape)
    # no two coordinates alike, so that no sum of several is one of them
    probe = torch.arange(1, size + 1, dtype=torch.float64).sqrt().view(1, *operator.shape)
    kept = operator.adjoint(operator(probe))
    wrong = torch.minimum(kept.abs(), (kept - probe).abs())
    if float((wrong / probe).max()) > 1e-9:
        raise UsageError(
            f"algorithm={what} is for inpainting, where some coordinates are measured as they are; "
            f"{name_of(operator)} is another operator: write algorithm=projection"
        )


@dataclass(frozen=True)
class Replacement:
    """The replacement method (Song et al. 2021, appendix I; projection): for sigma_n = 0, of which
    it takes no notice otherwise.

    repeats: steps at each level. 1: `projection`. More: RePaint (Lugmayr et al. 2022), for
        inpainting, as many evaluations more.
    Does not sample the posterior: z is drawn without a look at y. Of two coordinates of correlation
    r, one of them measured, the other's mean is y (1 - sqrt(1 - r^2))/r, not r y, and its variance
    (1 - r^2) atanh(r)/r is too wide; many repeats repair both (tests/test_restoration_limits.py).
    Raises UsageError on repeats below 1, on more rows than columns, and on RePaint where A is no
    mask.
    """

    repeats: int = 1

    def __post_init__(self):
        if self.repeats < 1:
            raise UsageError(f"algorithm.repeats={self.repeats}: write 1 or more")

    def told(self, measurement: Measurement) -> Sampler:
        name = "projection" if self.repeats == 1 else "repaint"
        operator = replaceable(measurement, name)
        if self.repeats > 1:
            check_masks(operator, name)
        return ReplacementStep(self.repeats, operator, measurement)


@dataclass(frozen=True, eq=False)
class ReplacementStep(Method):
    """A step of `Replacement` for rows with this measurement."""

    repeats: int
    operator: Linear
    measurement: Measurement
    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.measurement, x)
        ancestral = DDPM()
        for again in range(self.repeats):
            if again:
                up = math.sqrt(sigma**2 - sigma_next**2)
                x = torch.add(x, noise(), alpha=up)
            moved = ancestral.step(denoise, x, sigma, sigma_next, [], noise)
            x = replaced(self.operator, self.measurement.y, moved.x, sigma_next, noise)
        return Step(x, sigma_next, moved.denoised)
