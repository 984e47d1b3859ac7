"""What every schedule has: levels in a range, laid and drawn; and two charts that several share.

A path gives sigma(t) and its inverse t(sigma), its ends t_min and t_max, and a chart x_t =
scale(sigma) x. Levels are laid by a spacing (for grid) and drawn by a training rule (for draw): see
spacing.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.spacing import Continuous, Exponential, Spacing, Training, ends


def check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps={steps}: write a whole number of steps, 1 or more")


@dataclass(frozen=True, kw_only=True)
class Path(ABC):
    """Levels between t_min and t_max, laid by `spacing`, drawn by `training`.

    A subclass gives the ends t_min and t_max, as fields, and sigma(t), t(sigma), scale(sigma).

    to_zero: the grid's last step goes from the lowest positive level t_min to 0 (True), or the grid
        stops at t_min (False). With t_min = 0 the spacing itself reaches 0.
    Raises UsageError on an empty or infinite range of levels.
    """

    spacing: Spacing = Exponential()
    training: Training = Continuous()
    to_zero: bool = True

    @property
    @abstractmethod
    def t_min(self) -> float: ...

    @property
    @abstractmethod
    def t_max(self) -> float: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def t(self, sigma: Tensor) -> Tensor: ...

    @abstractmethod
    def scale(self, sigma: Tensor) -> Tensor: ...

    def __post_init__(self):
        if not 0 <= self.t_min < self.t_max:
            raise UsageError(
                f"levels from {self.t_min} to {self.t_max}: write 0 <= minimum < maximum (t_min, "
                "t_max; sigma_min, sigma_max)"
            )
        highest = self.sigma(torch.tensor(self.t_max, dtype=torch.float64))
        if not math.isfinite(highest):
            raise UsageError(
                f"t_max={self.t_max}: sigma is not finite there; write a smaller t_max"
            )
        ends(self, self.spacing)

    def level(self, u: Tensor, spacing: Spacing | None = None) -> Tensor:
        """The time t at the fraction u of the way from t_max (u = 0) to t_min (u = 1) in the
        spacing's coordinate."""
        spacing = self.spacing if spacing is None else spacing
        first, last = ends(self, spacing)
        return spacing.time(self, first + (last - first) * u)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Training noise levels sigma [n], float64, on the generator's device."""
        return self.training(self, n, generator)

    def grid(self, steps: int) -> Tensor:
        """Sampling noise levels sigma [steps+1], float64, decreasing; the last is 0, or
        sigma(t_min) without to_zero."""
        check_steps(steps)
        jump = self.to_zero and self.t_min > 0  # a last step to 0, which no spacing lays
        positive = steps if jump else steps + 1
        t = self.level(self.spacing.fractions(self, positive))
        # the ends exactly, not rounded through the coordinate
        t[0] = self.t_max
        if positive > 1:
            t[-1] = self.t_min
        sigma = self.sigma(t)
        return torch.cat([sigma, sigma.new_zeros(1)]) if jump else sigma

    def below(self, sigma: float) -> Path:
        """The same path, its highest level sigma."""
        top = float(self.t(torch.tensor(sigma, dtype=torch.float64)))
        return Below(
            path=self,
            top=top,
            highest=sigma,
            spacing=self.spacing,
            training=self.training,
            to_zero=self.to_zero,
        )


@dataclass(frozen=True, kw_only=True)
class Below(Path):
    """`path` from the time `top` down, where its level is `highest`: its spacing lays the levels
    between there and the lowest one."""

    path: Path
    top: float
    highest: float

    @property
    def t_min(self) -> float:
        return self.path.t_min

    @property
    def t_max(self) -> float:
        return self.top

    def sigma(self, t: Tensor) -> Tensor:
        return self.path.sigma(t)

    def t(self, sigma: Tensor) -> Tensor:
        return self.path.t(sigma)

    def scale(self, sigma: Tensor) -> Tensor:
        return self.path.scale(sigma)

    def grid(self, steps: int) -> Tensor:
        """As every path's; the first level is `highest` itself, not rounded through its time."""
        sigma = super().grid(steps)
        sigma[0] = self.highest
        return sigma


class VariancePreserving(ABC):
    """The chart scale^2 (1 + sigma^2) = 1, hence beta = g^2/2."""

    @abstractmethod
    def g2(self, t: Tensor) -> Tensor:
        """scale^2 d(sigma^2)/dt."""

    def beta(self, t: Tensor) -> Tensor:
        """-d log(scale)/dt."""
        return self.g2(t) / 2

    def scale(self, sigma: Tensor) -> Tensor:
        return torch.rsqrt(1 + sigma**2)

    def scale_integral(self, sigma: Tensor) -> Tensor:
        """int_0^sigma scale(s) d(s^2) = 2 (sqrt(1+sigma^2) - 1), without cancellation."""
        return 2 * sigma**2 / (1 + torch.sqrt(1 + sigma**2))


class VarianceExploding:
    """The chart scale = 1 in the time t = sigma."""

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t(self, sigma: Tensor) -> Tensor:
        return sigma

    def g2(self, t: Tensor) -> Tensor:
        return 2 * t

    def beta(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def scale(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def scale_integral(self, sigma: Tensor) -> Tensor:
        return sigma**2
