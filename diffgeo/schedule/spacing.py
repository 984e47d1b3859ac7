"""Where the noise levels of a path lie: spacings lay the levels of a grid, training rules draw
them.

A spacing is the coordinate y(t) in which the levels of a grid are equally spaced:

    Power(p)       y = t^(1/p)          Exponential    y = log t            in the path's own time
    Rho(rho)       y = sigma^(1/rho)    Geometric      y = log sigma        in sigma

    Polyexponential(rho)    y = u^(1/rho),   u the fraction of the way up in log sigma
    Beta(a, b)              y = I_u(a, b),   u the fraction of the way up in t
    ExponentialDecay        y = t above 1,   1 + log t below

(Equal steps in the logit of t are, on straight paths with sigma = t/(1-t), equal steps in log
sigma: Geometric.)

A training rule maps (path, n, generator) to sigma [n], float64, on the generator's device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from diffgeo.core import Schedule
from diffgeo.errors import UsageError


class Timed(Protocol):
    """What a spacing asks of a path: its time, and where that begins and ends."""

    @property
    def t_min(self) -> float: ...

    @property
    def t_max(self) -> float: ...

    def sigma(self, t: Tensor) -> Tensor: ...
    def t(self, sigma: Tensor) -> Tensor: ...
    def __hash__(self) -> int: ...  # a path is a value: its ends are remembered


class Spacing(ABC):
    """A coordinate y(t), increasing in t, and its inverse t(y)."""

    @abstractmethod
    def coordinate(self, path: Timed, t: Tensor) -> Tensor: ...

    @abstractmethod
    def time(self, path: Timed, y: Tensor) -> Tensor: ...

    def fractions(self, path: Timed, points: int) -> Tensor:
        """Where a grid of so many positive levels has them, as fractions of the way from t_max to
        t_min in the coordinate."""
        return torch.linspace(0, 1, points, dtype=torch.float64)


@dataclass(frozen=True)
class Power(Spacing):
    """Equal steps in t^(1/p); from t_min = 0 these are t_k = T (k/N)^p: linear (p = 1), quadratic
    (p = 2), ..."""

    p: float = 1.0

    def __post_init__(self):
        if self.p <= 0:
            raise UsageError(f"spacing.p={self.p}: write a positive power")

    def coordinate(self, path, t):
        return t ** (1 / self.p)

    def time(self, path, y):
        return y**self.p


@dataclass(frozen=True)
class Exponential(Spacing):
    """Equal steps in log t: t_k = t_1 exp(a (k-1)), a = log(T/t_1)/(N-1); minimises max (t_k -
    t_(k-1))/t_k (CEM paper, eq. 41)."""

    def coordinate(self, path, t):
        return torch.log(t)

    def time(self, path, y):
        return torch.exp(y)


@dataclass(frozen=True)
class Rho(Spacing):
    """Equal steps in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""

    rho: float = 7.0

    def __post_init__(self):
        if self.rho <= 0:
            raise UsageError(f"spacing.rho={self.rho}: write a positive rho")

    def coordinate(self, path, t):
        return path.sigma(t) ** (1 / self.rho)

    def time(self, path, y):
        return path.t(y**self.rho)


@dataclass(frozen=True)
class Geometric(Spacing):
    """Equal steps in log sigma, that is in log-SNR (Song and Ermon 2019; Lu et al. 2022)."""

    def coordinate(self, path, t):
        return torch.log(path.sigma(t))

    def time(self, path, y):
        return path.t(torch.exp(y))


@dataclass(frozen=True)
class Polyexponential(Spacing):
    """log sigma = log sigma_min + (1 - k/N)^rho log(sigma_max/sigma_min) (k-diffusion); rho = 1 is
    Geometric, more crowds low levels."""

    rho: float = 1.0

    def __post_init__(self):
        if self.rho <= 0:
            raise UsageError(f"spacing.rho={self.rho}: write a positive rho")

    def coordinate(self, path, t):
        high, low = ends(path, Geometric())
        u = (torch.log(path.sigma(t)) - low) / (high - low)
        return u ** (1 / self.rho)

    def time(self, path, y):
        high, low = ends(path, Geometric())
        return path.t(torch.exp(low + (high - low) * y**self.rho))


@dataclass(frozen=True)
class Beta(Spacing):
    """Quantiles of a Beta(alpha, beta) law over [t_min, t_max]: at .6, .6 both ends are crowded
    ("Beta Sampling is All You Need", 2024).

    In the path's own time, as in the paper; where t = sigma (VE) these are diffusers' levels, which
    it lays in sigma.
    """

    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self):
        if min(self.alpha, self.beta) <= 0:
            raise UsageError(
                f"spacing.alpha={self.alpha}, spacing.beta={self.beta}: write two positive numbers"
            )

    def coordinate(self, path, t):
        from scipy.special import betainc

        u = (t - path.t_min) / (path.t_max - path.t_min)
        return torch.as_tensor(betainc(self.alpha, self.beta, u.cpu().numpy())).to(t)

    def time(self, path, y):
        from scipy.special import betaincinv

        u = torch.as_tensor(betaincinv(self.alpha, self.beta, y.cpu().numpy())).to(y)
        return path.t_min + (path.t_max - path.t_min) * u


@dataclass(frozen=True)
class ExponentialDecay(Spacing):
    """Steps h <= kappa min(1, t) for one kappa: uniform on [1, T], geometric on [delta, 1] (H.
    Chen, Lee, Lu 2023), in the path's own time.

    A grid of N steps from T = t_max to delta = t_min has a level at t = 1 where it reaches over it:

        N1 uniform steps,           N1 = round(N (T-1)/(T-1 + log 1/delta))
        N - N1 geometric ones       of ratio delta^(1/(N-N1))

    unless one of the two numbers is 0.
    """

    def coordinate(self, path, t):
        return torch.where(t > 1, t, 1 + torch.log(t))

    def time(self, path, y):
        return torch.where(y > 1, y, torch.exp(y - 1))

    def fractions(self, path, points):
        first, last = ends(path, self)
        # the fraction of the way that lies above t = 1
        above = (first - 1) / (first - last)
        steps = points - 1
        uniform = round(steps * above)
        if not 0 < uniform < steps:
            return super().fractions(path, points)
        high = torch.linspace(0, above, uniform + 1, dtype=torch.float64)
        low = torch.linspace(above, 1, steps - uniform + 1, dtype=torch.float64)
        return torch.cat([high[:-1], low])


Training = Callable[[Schedule, int, torch.Generator], Tensor]


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)


@dataclass(frozen=True)
class Continuous:
    """The path's spacing (or another one) at a uniform quantile: uniform in log t, in log sigma, in
    t, ... over [t_min, t_max]."""

    spacing: Spacing | None = None

    def __call__(self, path, n, generator):
        return path.sigma(path.level(_uniform(n, generator), self.spacing))


@lru_cache(maxsize=256)
def ends(path: Timed, spacing: Spacing) -> tuple[float, float]:
    """The coordinates of t_max and of t_min. Raises UsageError when one of them is infinite."""
    times = torch.tensor([path.t_max, path.t_min], dtype=torch.float64)
    first, last = spacing.coordinate(path, times).tolist()
    if not math.isfinite(last):
        raise UsageError(
            f"t_min={path.t_min}: a {type(spacing).__name__} spacing never reaches 0; write a "
            "positive minimum"
        )
    return first, last


@lru_cache(maxsize=16)
def _positive_levels(path: Schedule, steps: int, device: torch.device) -> Tensor:
    """The positive levels of path.grid(steps), kept on the device: draw() is called at every
    training step."""
    sigma = path.grid(steps)
    return sigma[sigma > 0].to(device)


@dataclass(frozen=True)
class OnGrid:
    """A uniform choice among the positive levels of the sampling grid with `steps` steps: no level
    is ever extrapolated to."""

    steps: int = 200

    def __call__(self, path, n, generator):
        levels = _positive_levels(path, self.steps, generator.device)
        k = torch.randint(len(levels), (n,), generator=generator, device=generator.device)
        return levels[k]


@dataclass(frozen=True)
class UniformTimes:
    """A uniform choice of t among T k/(n-1), k = 1..n-1: the CEM paper's training times. With n =
    200 and T = 10, t >= .0503."""

    n: int = 200

    def __post_init__(self):
        if self.n < 2:
            raise UsageError(f"training.n={self.n}: write at least 2 times")

    def __call__(self, path, n, generator):
        k = torch.randint(1, self.n, (n,), generator=generator, device=generator.device)
        return path.sigma(path.t_max * k.to(torch.float64) / (self.n - 1))


@dataclass(frozen=True)
class LogNormal:
    """log sigma ~ N(mean, std^2), not cut to the path's range (Karras et al. 2022, Table 1).

    On straight paths this is the logit-normal law of t, t = sigmoid(N(mean, std^2)) (Esser et al.
    2024).
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self):
        if self.std <= 0:
            raise UsageError(f"training.std={self.std}: write a positive standard deviation")

    def __call__(self, path, n, generator):
        device = generator.device
        z = torch.randn(n, generator=generator, device=device, dtype=torch.float64)
        return torch.exp(self.mean + self.std * z)
