"""DPS-y_t: the data are noised to each level, and the state there is moved towards them.

After a DDPM step z at sigma', with y_t = y + sigma' eps,

    explicit    x' = z + b A' (y_t - A z)
    implicit    x' = (A'A + 1/b)^-1 (A' y_t + z/b) = argmin |y_t - A x|^2 + |x - z|^2/b,

b = beta/(lambda s^2) and beta = 1 - (1 + v')/(1 + v), that of the VP step. The first diverges where
b |A|^2 > 2 (b = 8 at the published s = .05, beta = .02: its code damps it by .35); the second is a
prox, stable always.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffgeo.analytic.measurement import Linear, Measurement, prox
from diffgeo.core import Sampler, Step
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import finite, linear, matching, measured_noise, noisy
from diffgeo.sampler.base import Method
from diffgeo.sampler.stochastic import DDPM


@dataclass(frozen=True)
class MeasuredPath:
    """DPS-y_t, which moves the sampling path where DiffPIR moves the denoised one.

    lam: lambda; below 1 the data count more. implicit: the prox. damping: of the explicit step, by
        which b is multiplied; published .35.
    Does not sample the posterior: the data are counted at every level. On N(0, 1), lambda 1, the
    mean is right and the variance c/(1 + 2 kappa), for c/(1 + kappa)
    (tests/test_restoration_limits.py).
    Raises UsageError on a lambda or a damping that is not positive, on sigma_n = 0, and on an
    operator that is not linear.
    """

    lam: float = 1.0
    implicit: bool = True
    damping: float = 1.0

    def __post_init__(self):
        if not self.lam > 0:
            raise UsageError(f"algorithm.lam={self.lam}: lambda is a number above 0, such as 1")
        if not self.damping > 0:
            raise UsageError(f"algorithm.damping={self.damping}: write a number above 0, such as 1")

    def told(self, measurement: Measurement) -> Sampler:
        operator = linear(measurement, "dps_yt")
        noisy(measurement, "dps_yt", "ddnm")
        return MeasuredPathStep(self, operator, measurement)


@dataclass(frozen=True, eq=False)
class MeasuredPathStep(Method):
    """A step of `MeasuredPath` for rows with this measurement. Raises DiffgeoError where an
    explicit step has diverged."""

    options: MeasuredPath
    operator: Linear
    measurement: Measurement
    order = 1

    def strength(self, sigma: float, sigma_next: float) -> float:
        """b."""
        beta = (sigma**2 - sigma_next**2) / (1 + sigma**2)
        return self.options.damping * beta / (self.options.lam * self.measurement.sigma_n**2)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        matching(self.measurement, x)
        ancestral = DDPM().step(denoise, x, sigma, sigma_next, [], noise)
        z = ancestral.x
        target = self.measurement.y.to(z)
        if sigma_next > 0:
            target = target + sigma_next * measured_noise(noise, self.operator, z)
        b = self.strength(sigma, sigma_next)
        if self.options.implicit:
            moved = prox(self.operator, z, target, 1 / b)
        else:
            moved = finite(z + b * self.operator.adjoint(target - self.operator(z)))
        return Step(moved, sigma_next, ancestral.denoised)
