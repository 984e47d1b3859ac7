"""DPM-Solver++ for the reverse SDE: its linear part and its noise solved exactly, D interpolated in
log sigma.

In lambda = -log sigma the marginal laws of the flow are kept, for every eta = tau^2 >= 0, by

    dx = (1 + eta) (D - x) dlambda + sqrt(2 eta) sigma dW       0 the flow, 1 the reverse diffusion.

Over a step of h = log(sigma/sigma') that is, with z = (1 + eta) h and D at lambda + u h along the
path,

    x'   = Dbar + e^-z (x - Dbar) + sigma' sqrt(1 - e^(-2 eta h)) w,
    Dbar = int_0^1 e^(-z (1-u)) D du / int_0^1 e^(-z (1-u)) du.

A method replaces D by a polynomial through the values it has; weights.py makes Dbar's weights, with
-z where the flow has -h. On Gaussians the noise in those values costs no weak order up to 2: what
weights of first moment 1/2 + O(h) leave out now, they add later.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffgeo.core import Noise, Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.multistep import midpoint
from diffgeo.sampler.weights import Levels, Moments, combine, exact, in_log_sigma


def legacy(n: int, z: float) -> list[float]:
    """k-diffusion's parabola: the moment of u^2 is half of what it has to be; the secant exact."""
    moments = exact(n, z)
    return moments[:2] + [moment / 2 for moment in moments[2:]]


class ExponentialSDE(Method):
    """The two halves of every step to sigma' > 0: its noise, and what it makes of x and D. A method
    says its eta at a level."""

    s_noise: float = 1.0

    @abstractmethod
    def rate(self, sigma: float) -> float:
        """eta in the step that leaves the level sigma."""

    def keep(self, sigma: float, sigma_next: float) -> float:
        """e^-z, the part of x that a step keeps. Raises UsageError where it is nothing, in floating
        point: noise is divided by it."""
        kept = (sigma_next / sigma) ** (1 + self.rate(sigma))
        if kept < 1e-300:
            raise UsageError(
                f"{type(self).__name__}: with so much noise (eta or tau^2 = {self.rate(sigma):g}) "
                f"nothing is kept in the step from sigma={sigma:.4g} to {sigma_next:.4g}; "
                "write less noise, or more steps"
            )
        return kept

    def added_noise(self, sigma, sigma_next):
        if sigma_next == 0:
            return 0.0
        fresh = -math.expm1(2 * self.rate(sigma) * math.log(sigma_next / sigma))
        return self.s_noise * sigma_next * math.sqrt(fresh)

    def kicked(self, x: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
        """x with the noise of the step put in beforehand: e^-z times it is what the step adds."""
        added = self.added_noise(sigma, sigma_next)
        if not added:
            return x
        return torch.add(x, noise(), alpha=added / self.keep(sigma, sigma_next))

    def leap(
        self,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        moments: Moments,
        levels: Levels,
        terms: Sequence[Tensor],
    ) -> Tensor:
        """Dbar + e^-z (x - Dbar) from `terms` [B,*D], D at `levels`: sigma > 0 first, where there
        is more than one."""
        mean = terms[0]
        if len(terms) > 1:
            weights = in_log_sigma(levels, sigma_next, -(1 + self.rate(sigma)), moments)
            mean = combine(weights, terms)
        return torch.lerp(mean, x, self.keep(sigma, sigma_next))


@dataclass(frozen=True)
class DPMpp(ExponentialSDE):
    """What the DPM-Solver++ SDE methods share; in the step to sigma' = 0 all of them return D.

    eta: how much noise; 0 is the flow, 1 the reverse diffusion.
    s_noise: deviation of w; 1 keeps the law.
    Raises UsageError on negative values.
    """

    eta: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self):
        if self.eta < 0 or self.s_noise < 0:
            raise UsageError(
                f"sampler.eta={self.eta}, sampler.s_noise={self.s_noise}: write 0 or more"
            )

    def rate(self, sigma):
        return self.eta


@dataclass(frozen=True)
class DPMppSDE(DPMpp):
    """SDE-DPM-Solver++(1) and (2S) (Lu et al. 2022; k-diffusion's dpmpp_sde): one and two
    evaluations a step.

        (1)   Dbar = D                       eta = 1: DDPM
        (2S)  Dbar = D + (D_s - D)/(2r)      D_s after a step of (1) to s = sigma^(1-r) sigma'^r

    The noise of (2S) is that of its two parts. k-diffusion splits eta as EulerAncestral does, which
    is the same at 0 and 1, and ties its two noises by Brownian motion in sigma.

    order: 1 or 2.
    r: where the second evaluation lies.
    Raises UsageError on other orders and on r outside (0, 1).
    """

    order: int = 2
    r: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.order not in (1, 2):
            raise UsageError(f"sampler.order={self.order}: write 1 or 2")
        if not 0 < self.r < 1:
            raise UsageError(f"sampler.r={self.r}: write a number between 0 and 1 (published: 1/2)")

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            return Step(denoised, sigma_next, denoised)
        if self.order == 1:
            x = self.kicked(x, sigma, sigma_next, noise)
            x = self.leap(x, sigma, sigma_next, exact, (sigma,), [denoised])
            return Step(x, sigma_next, denoised)
        s = sigma * (sigma_next / sigma) ** self.r
        x = self.kicked(x, sigma, s, noise)
        y = self.leap(x, sigma, s, exact, (sigma,), [denoised])
        x = self.leap(x, sigma, sigma_next, midpoint, (sigma, s), [denoised, denoise(y, s)])
        if added := self.added_noise(s, sigma_next):
            x = torch.add(x, noise(), alpha=added)
        return Step(x, sigma_next, denoised)


class Multistep(DPMpp):
    """Dbar from D here and at the `memory` last levels. The first steps are of the order that the
    history allows."""

    @property
    @abstractmethod
    def moments(self) -> Moments: ...

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        past = history[::-1]
        if sigma_next == 0:
            return Step(denoised, sigma_next, denoised)
        levels = (sigma, *(p.sigma for p in past))
        terms = [denoised, *(p.denoised for p in past)]
        x = self.kicked(x, sigma, sigma_next, noise)
        x = self.leap(x, sigma, sigma_next, self.moments, levels, terms)
        return Step(x, sigma_next, denoised)


@dataclass(frozen=True)
class DPMpp2MSDE(Multistep):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022; k-diffusion's dpmpp_2m_sde): a secant through D and
    D_prev. One evaluation a step.

    solver: `midpoint`, Dbar = D + (h/(2 h_prev)) (D - D_prev) as in DPMpp2M, or `heun`, its exact
        integral.
    """

    solver: str = "midpoint"
    order = 2
    memory = 1
    SOLVERS: ClassVar[dict[str, Moments]] = {"midpoint": midpoint, "heun": exact}

    def __post_init__(self):
        super().__post_init__()
        if self.solver not in self.SOLVERS:
            raise UsageError(f"sampler.solver={self.solver}: write {' or '.join(self.SOLVERS)}")

    @property
    def moments(self) -> Moments:
        return self.SOLVERS[self.solver]


@dataclass(frozen=True)
class DPMpp3MSDE(Multistep):
    """k-diffusion's dpmpp_3m_sde: a parabola through the last three D. One evaluation a step.

    weights: `exact` (the predictor of SA-Solver), or `legacy`, the published ones, which lack the 2
        of D''/2 as those of DPMpp3M do.
    """

    weights: str = "exact"
    memory = 2
    MOMENTS: ClassVar[dict[str, Moments]] = {"exact": exact, "legacy": legacy}

    def __post_init__(self):
        super().__post_init__()
        if self.weights not in self.MOMENTS:
            raise UsageError(f"sampler.weights={self.weights}: write {' or '.join(self.MOMENTS)}")

    @property
    def order(self) -> int:
        return 3 if self.eta == 0 and self.weights == "exact" else 2

    @property
    def moments(self) -> Moments:
        return self.MOMENTS[self.weights]
