"""The loss weight w(sigma), always stated on |D - x0|^2, so that weightings compare:

    loss = E w(sigma) |D(x; sigma) - x0|^2

    native      1/out^2
    uniform     1
    snr         1/sigma^2
    snr2        1/sigma^4
    min_snr     min(1/sigma^2, gamma)
    edm         (sigma^2 + s^2)/(sigma s)^2
    expression  a lambda(t) of the user's

snr is at once DDPM's L_simple, Song's lambda = sigma_t^2 on the score, and all three defaults of
the CEM paper, because |eps - eps_theta|^2 = |D - x0|^2/sigma^2. A lambda(t) that multiplies the
error of x0, of epsilon or of the score of x_t becomes lambda, lambda/sigma^2 or
lambda/(alpha^2 sigma^4). Only the product p(sigma) w(sigma) matters to the objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Parameterization, Schedule
from diffgeo.errors import UsageError
from diffgeo.training.expression import compile_expression


@dataclass(frozen=True)
class Native:
    """1/out^2: the plain square error of whatever the network predicts."""

    parameterization: Parameterization

    def __call__(self, sigma: Tensor) -> Tensor:
        return self.parameterization(sigma).out ** -2


@dataclass(frozen=True)
class Power:
    """sigma^-p: p = 0 uniform, p = 2 `snr`, p = 4 `snr2`."""

    p: float = 2.0

    def __call__(self, sigma: Tensor) -> Tensor:
        return sigma**-self.p


@dataclass(frozen=True)
class MinSNR:
    """min(1/sigma^2, gamma) (Hang et al. 2023, on x0)."""

    gamma: float = 5.0

    def __call__(self, sigma: Tensor) -> Tensor:
        return torch.clamp(sigma**-2, max=self.gamma)


@dataclass(frozen=True)
class EDM:
    """(sigma^2 + s^2)/(sigma s)^2 (Karras et al. 2022): the native weight of the edm
    parameterization."""

    sigma_data: float = 0.5

    def __post_init__(self):
        if not 0 < self.sigma_data < math.inf:
            raise UsageError(
                f"weighting.sigma_data={self.sigma_data:g}: write the standard deviation of the "
                "data, above 0 and finite"
            )

    def __call__(self, sigma: Tensor) -> Tensor:
        return sigma**-2 + self.sigma_data**-2


def _of_x0(schedule: Schedule, sigma: Tensor) -> Tensor:
    return torch.ones_like(sigma)


def _of_epsilon(schedule: Schedule, sigma: Tensor) -> Tensor:
    return sigma**-2


def _of_score(schedule: Schedule, sigma: Tensor) -> Tensor:
    return schedule.scale(sigma) ** -2 * sigma**-4


TARGETS: dict[str, Callable[[Schedule, Tensor], Tensor]] = {
    "x0": _of_x0,
    "epsilon": _of_epsilon,
    "score": _of_score,
}


class Expression:
    """A user's lambda(t), t in the units of `schedule`, multiplying the square error of `of`: x0,
    epsilon or the score of x_t.

    expression: arithmetic in t (and sigma, alpha), see `diffgeo.training.expression`.
    Raises UsageError when the expression is not arithmetic or names an unknown target.
    """

    def __init__(self, expression: str | float, schedule: Schedule, of: str = "x0"):
        if of not in TARGETS:
            raise UsageError(
                f"weighting.of={of} is not a target: write one of {', '.join(TARGETS)}"
            )
        self.text = str(expression)
        self.schedule = schedule
        self.target = TARGETS[of]
        self.function = compile_expression(self.text, ("t", "sigma", "alpha"))

    def __call__(self, sigma: Tensor) -> Tensor:
        t = self.schedule.t(sigma)
        alpha = self.schedule.scale(sigma)
        value = self.function(t=t, sigma=sigma, alpha=alpha).to(sigma)
        return value.expand_as(sigma) * self.target(self.schedule, sigma)


def check_positive(weighting: Callable[[Tensor], Tensor], sigma: Tensor, t: Tensor) -> None:
    """Raise UsageError unless the weight is finite and positive at every training level `sigma`
    [n], whose times are `t` [n]."""
    w = weighting(sigma)
    good = torch.isfinite(w) & (w > 0)
    if good.all():
        return
    i = int((~good).nonzero()[0])
    raise UsageError(
        f"the weighting is {float(w[i]):g} at the training time t={float(t[i]):.4g} "
        f"(sigma={float(sigma[i]):.4g}): write a lambda that is finite and positive on every "
        "training time, e.g. weighting=snr"
    )
