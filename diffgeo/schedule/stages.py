"""The levels of DPUM: the Ornstein-Uhlenbeck process in stages of length 1/L.

    dx_t = -x_t dt + sqrt(2) dW,      sigma^2 = e^(2t) - 1,      scale = e^(-t),

with t from T down to delta.

Where the slope of the score is at most L, two states of the flow part by a constant factor in a
time 1/L: so long may a predictor run before a corrector has to forget its errors. A stage lies
between two multiples of 1/L. Its steps are h_pred; those of the last stage end at delta by halving,

    t' = t - min(h_pred, t/2):      ..., 2 h_pred, h_pred, h_pred/2, h_pred/4, ..., delta,

since along the flow E|d/dt score|^2 is of the order L^2 d (L + 1/t). Lee (2024) says "geometrically
decreasing step sizes" and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.continuous import VP
from diffgeo.schedule.path import check_steps
from diffgeo.schedule.spacing import Power, Spacing

# of a stage or a step: times that differ by less are one, since they come back through sigma
SLACK = 1e-9
MOST = 1_000_000  # levels of a grid


@dataclass(frozen=True, kw_only=True)
class Stages(VP):
    """DPUM's grid (Chen, Chewi, Lee, Li, Lu, Salim 2023): stages of time 1/L from t_max = T to
    t_min = delta.

    L: the smoothness, a bound on the slope of the score of x_t at every t.
    h_pred: the longest step of time; a stage is cut into equal ones. grid(steps) of a number takes
        instead the number of steps a stage that comes nearest to `steps` in all, not counting the
        halvings.
    to_zero: a last step from delta to 0 (published: none, the state at delta is the sample).
    Raises UsageError unless L and h_pred are positive, and on a grid of more than a million levels.
    """

    t_min: float = 1e-2
    t_max: float = 6.0
    beta_min: float = field(default=2.0, init=False)
    beta_max: float = field(default=2.0, init=False)
    spacing: Spacing = field(default=Power(), init=False)  # of training times
    to_zero: bool = False
    L: float = 4.0
    h_pred: float = 0.05

    def __post_init__(self):
        for name, value in (("L", self.L), ("h_pred", self.h_pred)):
            if not 0 < value < math.inf:
                raise UsageError(f"schedule.{name}={value}: write a positive number")
        super().__post_init__()
        if self.t_max * max(self.L, 1 / self.h_pred) > MOST:
            raise UsageError(
                f"schedule.L={self.L}, h_pred={self.h_pred}: more than {MOST} levels; write a "
                "smaller L or a larger h_pred"
            )

    def below(self, sigma: float) -> Stages:
        """The same stages from the level sigma down."""
        return replace(self, t_max=float(self.t(torch.tensor(sigma, dtype=torch.float64))))

    @property
    def ends(self) -> list[float]:
        """The time at which each stage ends, decreasing; the last is delta."""
        # in units of 1/L, so that the multiples of 1/L are whole numbers
        last = self.t_min * self.L + SLACK
        stages = math.ceil(self.t_max * self.L - SLACK)
        between = [k / self.L for k in range(stages - 1, 0, -1) if k > last]
        return [*between, self.t_min]

    def times(self, h: float) -> list[float]:
        """t_max .. t_min in steps min(h, t/2), every stage's end among them."""
        t = self.t_max
        times = [t]
        for end in self.ends:
            while t > end:
                t = t - min(h, t / 2)
                if t <= end + SLACK * h:
                    t = end
                times.append(t)
        return times

    def h(self, steps: int | None = None) -> float:
        """The step of time: at most h_pred, or that of about so many steps from t_max to 0."""
        if steps is None:
            return self.equal(math.ceil(1 / (self.L * self.h_pred) - SLACK))
        check_steps(steps)
        if steps > MOST:
            raise UsageError(f"steps={steps}: write at most {MOST}")
        return self.equal(round(steps / (self.L * self.t_max)))

    def equal(self, steps: int) -> float:
        """The step of time of a stage in so many equal steps, one at least."""
        return 1 / (self.L * max(steps, 1))

    def step_of(self, sigmas: Tensor) -> float:
        """The step of time of a grid: of a grid of these stages its longest step, of another one
        the step that a grid of these stages with as many steps would have."""
        t = self.t(sigmas[sigmas > 0])
        ends = torch.tensor(self.ends, dtype=t.dtype)
        nearest = (t[:, None] - ends).abs().amin(0)  # of its times, to every end of a stage
        if len(t) < 2 or bool((nearest > 1e-6 / self.L).any()):
            return self.h(len(sigmas) - 1)
        longest = float((t[:-1] - t[1:]).max())
        return self.equal(round(1 / (self.L * longest)))

    def grid(self, steps: int | None = None) -> Tensor:
        """Sampling noise levels sigma, float64, decreasing; the last is sigma(delta), or 0 with
        to_zero."""
        sigma = self.sigma(torch.tensor(self.times(self.h(steps)), dtype=torch.float64))
        return torch.cat([sigma, sigma.new_zeros(1)]) if self.to_zero else sigma


def gaussian_smoothness(eigenvalues: Sequence[float] | Tensor, t: float = 0.0) -> float:
    """L = max |Hessian of log p_s| over s >= t, for a Gaussian with covariance eigenvalues lambda:
    1/min(1, e^(-2t) lambda + 1 - e^(-2t)).

    Raises UsageError where it is infinite, lambda = 0 at t = 0.
    """
    smallest = float(torch.as_tensor(eigenvalues, dtype=torch.float64).min())
    least = min(1.0, math.exp(-2 * t) * smallest - math.expm1(-2 * t))
    if not least > 0:
        raise UsageError(
            "a singular law has no smooth score at t = 0: write a positive early stopping time, "
            "e.g. delta=0.01"
        )
    return 1 / least


def mixture_smoothness(means: Sequence[Sequence[float]] | Tensor) -> float:
    """L = max(1, (diam/2)^2 - 1) for a mixture of N(mu_j, I): the Hessian is Cov[mu | x] - I, and a
    law in a ball of diameter diam has covariance at most (diam/2)^2."""
    means = torch.as_tensor(means, dtype=torch.float64)
    return max(1.0, float(torch.cdist(means, means).max()) ** 2 / 4 - 1)
