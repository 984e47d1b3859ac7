"""Reverse diffusions: the law of x at every level is that of the flow, the paths are noisy.

With beta = -d log(scale)/dt and g^2 = scale^2 d(sigma^2)/dt the reverse of dx_t = -beta x_t dt + g
dW is, going down in t,

    dx_t = (beta x_t + g^2 s_t) dt + g dW,

s_t = (D - x)/(scale sigma^2) being the score of x_t = scale x.

    EulerAncestral         Euler to sigma_down, noise back up to sigma'
    DDPM                   exact for a frozen D, with r = sigma'/sigma:
                           x' ~ N(D + r^2 (x - D), sigma'^2 (1 - r^2))
    EDMChurn               noise up to (1 + gamma) sigma, Heun down to sigma'
    EulerMaruyama          everything frozen at t
    ExponentialIntegrator  s_t frozen, the rest integrated exactly
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace

import torch

from diffgeo.core import Step
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.charts import ChartScheme, Level
from diffgeo.sampler.deterministic import Heun


@dataclass(frozen=True)
class EulerAncestral(Method):
    """Euler down to sigma_down, then fresh noise back up to sigma' (k-diffusion's ancestral step;
    Song, Meng, Ermon 2021, eq. 16):

        x' = D + (sigma_down/sigma) (x - D) + sigma_up w,
        sigma_up = min(sigma', eta sigma' sqrt(1 - (sigma'/sigma)^2)),
        sigma_down^2 = sigma'^2 - sigma_up^2.

    One evaluation a step.

    eta: 0 is Euler, 1 DDPM, more is more noise until sigma_down = 0.
    Raises UsageError on a negative eta.
    """

    eta: float = 1.0
    order = 1

    def __post_init__(self):
        if self.eta < 0:
            raise UsageError(
                f"sampler.eta={self.eta}: write 0 or more (0 adds no noise, 1 is the noise of DDPM)"
            )

    def split(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """(sigma_down, sigma_up)."""
        r = sigma_next / sigma
        # 1 - eta^2 (1-r^2), without cancellation at eta = 1
        down = math.sqrt(max(0.0, 1 - self.eta**2 + (self.eta * r) ** 2))
        up = min(1.0, self.eta * math.sqrt(1 - r**2))
        return sigma_next * down, sigma_next * up

    def added_noise(self, sigma, sigma_next):
        _, up = self.split(sigma, sigma_next)
        return up

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        down, _ = self.split(sigma, sigma_next)
        x = torch.lerp(denoised, x, down / sigma)
        if added := self.added_noise(sigma, sigma_next):
            x = torch.add(x, noise(), alpha=added)
        return Step(x, sigma_next, denoised)


@dataclass(frozen=True)
class DDPM(EulerAncestral):
    """The Gaussian posterior of x' given x and x0 = D (Ho, Jain, Abbeel 2020, eqs. 6-7): the
    ancestral step with eta = 1.

    variance: of the noise in x_t' = x'/sqrt(1+sigma'^2), one of the two of Ho et al., section 3.2,
        that agree to first order in the step. With beta = 1 - (1+sigma'^2)/(1+sigma^2):
        "posterior"   (sigma'/sigma)^2 beta (1+sigma^2)/(1+sigma'^2), right if the data is one
                      point; none in the step to 0
        "beta"        beta, right if the data is N(0, I)
    Raises UsageError on another word.
    """

    eta: float = field(default=1.0, init=False)
    variance: str = "posterior"

    def __post_init__(self):
        if self.variance not in ("posterior", "beta"):
            raise UsageError(f"sampler.variance={self.variance}: write posterior or beta")

    def added_noise(self, sigma, sigma_next):
        if self.variance == "posterior":
            return super().added_noise(sigma, sigma_next)
        return math.sqrt((sigma**2 - sigma_next**2) / (1 + sigma**2) * (1 + sigma_next**2))


@dataclass(frozen=True)
class EDMChurn(Heun):
    """Noise lifts x to the level s = (1 + gamma) sigma, from where Heun steps to sigma' (Karras et
    al. 2022, Algorithm 2).

        x_s = x + S_noise sqrt(s^2 - sigma^2) w,
        gamma = min(S_churn/N, sqrt(2) - 1) if S_min <= sigma <= S_max, else 0.

    The kick is exact in law, so the order is Heun's. Two evaluations a step; one in the step to 0.
    S_churn = 0 is Heun.

    s_churn: S_churn; a kick raises a level by the fraction gamma of itself.
    s_min, s_max: the levels that are kicked.
    s_noise: deviation of w; above 1 against a network's lost detail.
    n: N, the number of steps of the grid; None: of the grid that the method is put `on`.
    Raises UsageError on n < 1, on a negative s_churn or s_noise, and on s_min > s_max.
    """

    s_churn: float = 30.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    n: int | None = None

    def __post_init__(self):
        if self.n is not None and self.n < 1:
            raise UsageError(
                f"sampler.n={self.n}: write the number of steps of the grid, 1 or more"
            )
        if self.s_churn < 0 or self.s_noise < 0:
            raise UsageError(
                f"sampler.s_churn={self.s_churn}, sampler.s_noise={self.s_noise}: write 0 or more"
            )
        if not 0 <= self.s_min <= self.s_max:
            raise UsageError(
                f"sampler.s_min={self.s_min}, sampler.s_max={self.s_max}: write 0 <= s_min <= s_max"
            )

    def on(self, sigmas):
        if self.n is not None:
            return self
        return replace(self, n=len(sigmas) - 1)

    def lifted(self, sigma: float) -> float:
        """(1 + gamma) sigma."""
        if self.n is None:
            raise UsageError(
                "EDMChurn does not know how many steps its grid has: write n=, or put it on a grid "
                "by on(sigmas)"
            )
        gamma = 0.0
        if self.s_min <= sigma <= self.s_max:
            gamma = min(self.s_churn / self.n, math.sqrt(2) - 1)
        return (1 + gamma) * sigma

    def kick(self, sigma: float) -> float:
        """Deviation of the noise that lifts x from sigma."""
        return self.s_noise * math.sqrt(self.lifted(sigma) ** 2 - sigma**2)

    def added_noise(self, sigma, sigma_next):
        return sigma_next / self.lifted(sigma) * self.kick(sigma)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        if kick := self.kick(sigma):
            x = torch.add(x, noise(), alpha=kick)
        return super().step(denoise, x, self.lifted(sigma), sigma_next, history, noise)


@dataclass(frozen=True)
class ReverseSDE(ChartScheme):
    """x_t' = a x_t + b s_t + c w in the time and chart of a schedule."""

    order = 1

    @abstractmethod
    def coefficients(
        self, now: Level, then: Level, sigma: float, sigma_next: float
    ) -> tuple[float, float, float]:
        """a, b, c of the step from the level `now` to the level `then`."""

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        now = self.level(sigma)
        then = self.level(sigma_next)
        a, b, c = self.coefficients(now, then, sigma, sigma_next)
        denoised = denoise(x, sigma)
        keep = a * now.scale / then.scale  # of x
        pull = b / (now.scale * then.scale * sigma**2)  # of D - x, in s_t
        x = torch.add((keep - pull) * x, denoised, alpha=pull)
        return Step(torch.add(x, noise(), alpha=c / then.scale), sigma_next, denoised)

    def added_noise(self, sigma, sigma_next):
        now = self.level(sigma)
        then = self.level(sigma_next)
        _, _, c = self.coefficients(now, then, sigma, sigma_next)
        return c / then.scale


@dataclass(frozen=True)
class EulerMaruyama(ReverseSDE):
    """x_t' = (1 + h beta) x_t + h g^2 s_t + sqrt(h g^2) w; in VP, the EM row of Pierret and
    Galerne. Noise in the last step too."""

    def coefficients(self, now, then, sigma, sigma_next):
        h = now.t - then.t
        return 1 + h * now.beta, h * now.g2, math.sqrt(h * now.g2)


@dataclass(frozen=True)
class ExponentialIntegrator(ReverseSDE):
    """The score frozen over a step, all else exact: with E = scale'/scale and I(sigma) =
    int_0^sigma scale(s) d(s^2),

        x_t' = E x_t + scale' (I - I') s_t + scale' sqrt(sigma^2 - sigma'^2) w.

    In VP that is E x_t + 2 (E-1) s_t + sqrt(E^2-1) w, the EI row of Pierret and Galerne. Noise in
    the last step too.
    """

    def coefficients(self, now, then, sigma, sigma_next):
        keep = then.scale / now.scale
        pull = then.scale * (now.integral - then.integral)
        added = then.scale * math.sqrt(sigma**2 - sigma_next**2)
        return keep, pull, added
