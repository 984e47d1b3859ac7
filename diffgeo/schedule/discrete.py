"""The training grid of discrete-time networks as a schedule: T noise levels, and published ways to
choose sampling steps among them.

A network trained on betas beta_0 .. beta_(T-1) knows the levels

    abar_t = prod_(s<=t) (1 - beta_s),     sigma(t) = sqrt((1 - abar_t)/abar_t),

in the variance-preserving chart, scale = sqrt(abar_t).

The time is the index t in [0, T-1]. Between two trained levels log sigma is interpolated linearly
(k-diffusion, diffusers); below the first, sigma itself, so that sigma = 0 lies at t = -1, the index
diffusers gives it. A level that is not trained is rounded `up`, to the t with sigma(t-1) <= sigma <
sigma(t) (Permenter and Yuan's sigma_to_t), to the `nearest` in log sigma, or to `none`.

Levels are computed in float64 from log abar. The published timestep tables, made in float32, come
out of it digit for digit; one look-up differs, that of sigma = .01: it ties with sigma(0) =
.0100005 in float32 and is rounded to 1, where it belongs to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.below import First, Starting
from diffgeo.schedule.path import Path, VariancePreserving, check_steps
from diffgeo.schedule.rounding import ROUNDINGS, check_rounding

MOST = 1_000_000  # trained levels


class Betas(Protocol):
    """The variances beta [T], float64, of T trained levels. A value: its levels are remembered."""

    @property
    def T(self) -> int: ...

    def __call__(self) -> Tensor: ...
    def __hash__(self) -> int: ...


def _check_count(T: int) -> None:
    if not isinstance(T, int) or not 2 <= T <= MOST:
        raise UsageError(f"betas.T={T}: write a whole number of trained levels, 2 to {MOST}")


@dataclass(frozen=True, kw_only=True)
class LinearBetas:
    """Equal steps from `first` to `last`: DDPM (Ho et al. 2020)."""

    T: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self):
        _check_count(self.T)
        if not 0 < self.first <= self.last < 1:
            raise UsageError(
                f"betas.first={self.first}, betas.last={self.last}: write 0 < first <= last < 1"
            )

    def __call__(self) -> Tensor:
        return torch.linspace(self.first, self.last, self.T, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class ScaledLinearBetas(LinearBetas):
    """Equal steps in sqrt(beta): latent diffusion and Stable Diffusion (Rombach et al. 2022)."""

    first: float = 0.00085
    last: float = 0.012

    def __call__(self) -> Tensor:
        first = math.sqrt(self.first)
        last = math.sqrt(self.last)
        return torch.linspace(first, last, self.T, dtype=torch.float64) ** 2


@dataclass(frozen=True, kw_only=True)
class SigmoidBetas(LinearBetas):
    """first + (last - first) sigmoid(y), y in equal steps from -6 to 6: GeoDiff (Xu et al. 2022),
    smalldiffusion."""

    def __call__(self) -> Tensor:
        y = torch.linspace(-6, 6, self.T, dtype=torch.float64)
        return self.first + (self.last - self.first) * torch.sigmoid(y)


@dataclass(frozen=True, kw_only=True)
class CosineBetas:
    """beta_t = min(1 - f(t+1)/f(t), max_beta), f(t) = cos^2(pi/2 (t/T + offset)/(1 + offset))
    (Nichol and Dhariwal 2021, eq. 17)."""

    T: int = 1000
    max_beta: float = 0.999
    offset: float = 0.008

    def __post_init__(self):
        _check_count(self.T)
        if not (0 < self.max_beta < 1 and self.offset >= 0):
            raise UsageError(
                f"betas.max_beta={self.max_beta}, betas.offset={self.offset}: "
                "write 0 < max_beta < 1 and offset >= 0"
            )

    def __call__(self) -> Tensor:
        t = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        f = torch.cos(math.pi / 2 * (t + self.offset) / (1 + self.offset)) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=self.max_beta)


@lru_cache(maxsize=64)
def _log_levels(betas: Betas, device: torch.device, dtype: torch.dtype) -> Tensor:
    """log sigma of the trained levels [T], increasing; sigma^2 = 1/abar - 1, without
    cancellation.

    A last beta of 1, noise without signal, has abar = 2^-48 instead of 0: sigma is then 2^24, not
    infinite, and x_t is the noise to float32's last digit.
    """
    log_abar = torch.cumsum(torch.log1p(-betas()), 0)
    if log_abar[-1] == -math.inf:
        log_abar[-1] = min(-48 * math.log(2), float(log_abar[-2]) - math.log(2))
    variance = torch.expm1(-log_abar)
    return (variance.log() / 2).to(device, dtype)


# Timesteps: each maps (schedule, steps) to steps + 1 times, decreasing.


@dataclass(frozen=True)
class EvenTimesteps:
    """t_k = trunc(t_0 (N-k)/N), t_0 that of the level `start`, or the highest one: DDIM's linear
    choice (Song, Meng, Ermon 2021).

    From start = 40 instead it is Permenter and Yuan's "DDIM offset".
    """

    start: float | None = None

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        first: float | Tensor = schedule.t_max
        if self.start is not None:
            first = schedule.timestep(torch.tensor(self.start, dtype=torch.float64))
        left = torch.arange(steps, -1, -1, dtype=torch.float64)
        # the product is exact, so its floor is too
        return torch.floor(first * left / steps)

    def below(self, sigma: float) -> EvenTimesteps:
        start = None if self.start is None else min(self.start, sigma)
        return replace(self, start=start)


@dataclass(frozen=True)
class Trailing:
    """t_k = round(T (1 - k/N)) - 1 for k < N, then 0 (Lin et al. 2024, Table 2; smalldiffusion).
    Halves are rounded to even.

    From N = 2T/3 on that list reaches 0 before its end. There the lowest times are N - k instead,
    one trained level a step, so that T - 1 steps visit every level.
    """

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        k = torch.arange(steps, dtype=torch.float64)
        t = torch.round(schedule.T * (1 - k / steps)) - 1
        t = torch.maximum(t, steps - k).clamp(max=schedule.t_max)
        return torch.cat([t, t.new_zeros(1)])


@dataclass(frozen=True)
class Laid:
    """The levels that a continuous schedule lays, each taken to a trained one; its own 0, if it
    ends there, to t = 0."""

    path: Path

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        return schedule.timestep(self.path.grid(steps))

    def below(self, sigma: float) -> Laid:
        """Its path begins at a time of its own, and may lie below sigma as it is."""
        highest = float(self.path.sigma(torch.tensor(self.path.t_max, dtype=torch.float64)))
        return self if highest <= sigma else replace(self, path=self.path.below(sigma))


@dataclass(frozen=True)
class LogLinear:
    """Permenter and Yuan's schedule: N levels equally spaced in log sigma from `start` to an end
    that depends on N, then t = 0.

        sigma_end = sigma(0)^factor sigma(T//N)^(1-factor)

    factor 1/2 is their CIFAR-10 and CelebA runs; 0, with start 8.35, Stable Diffusion.
    """

    start: float = 40.0
    factor: float = 0.5

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        times = [0.0, min(schedule.T // steps, schedule.t_max)]
        low, last = schedule.sigma(torch.tensor(times, dtype=torch.float64)).tolist()
        end = low**self.factor * last ** (1 - self.factor)
        ends = torch.tensor([self.start, end], dtype=torch.float64)
        log_first, log_end = torch.log(ends).tolist()
        sigma = torch.exp(torch.linspace(log_first, log_end, steps, dtype=torch.float64))
        return torch.cat([schedule.timestep(sigma), sigma.new_zeros(1)])

    def below(self, sigma: float) -> LogLinear:
        return replace(self, start=min(self.start, sigma))


Timesteps = Callable[["Discrete", int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Discrete(VariancePreserving):
    """The T levels of `betas`; a sampling grid chosen by `timesteps`, with levels that are not
    trained rounded by `rounding`.

    to_zero: False, as published: the grid ends at t = 0, a positive level, and the state there is
        the sample. True: one of the steps goes on to 0.
    A level that repeats, because two were rounded to the same one, stands once in the grid, which
    is then shorter than `steps` + 1: a step of no length would cost an evaluation and move nothing.
    Raises UsageError on levels that do not decrease, and on more steps than there are trained
    levels to go down.
    """

    betas: Betas = LinearBetas()
    timesteps: Timesteps = Trailing()
    rounding: str = "up"
    to_zero: bool = False

    def __post_init__(self):
        check_rounding(self.rounding)

    @property
    def T(self) -> int:
        """The number of trained levels."""
        return self.betas.T

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return self.T - 1.0

    @property
    def starts_in_chart(self) -> bool:
        """Whether samples start from x_t ~ N(0, I), which is x ~ N(0, (1 + sigma^2) I), as every
        published code of such levels does; else from N(0, sigma^2 I)."""
        return True

    @property
    def levels(self) -> Tensor:
        """The trained levels sigma(0) .. sigma(T-1), [T] float64."""
        return torch.exp(_log_levels(self.betas, torch.device("cpu"), torch.float64))

    def sigma(self, t: Tensor) -> Tensor:
        logs = _log_levels(self.betas, t.device, t.dtype)
        i = t.floor().clamp(0, self.T - 2).long()
        below = (t + 1) * torch.exp(logs[0])
        between = torch.exp(torch.lerp(logs[i], logs[i + 1], t - i))
        return torch.where(t < 0, below, between)

    def t(self, sigma: Tensor) -> Tensor:
        logs = _log_levels(self.betas, sigma.device, sigma.dtype)
        y = torch.log(sigma)
        i = (torch.searchsorted(logs, y) - 1).clamp(0, self.T - 2)
        below = sigma / torch.exp(logs[0]) - 1
        between = i + (y - logs[i]) / (logs[i + 1] - logs[i])
        return torch.where(y < logs[0], below, between)

    def g2(self, t: Tensor) -> Tensor:
        """2 sigma (dsigma/dt)/(1 + sigma^2), constant slopes of log sigma between the levels; at a
        level the one above it."""
        logs = _log_levels(self.betas, t.device, t.dtype)
        i = t.floor().clamp(0, self.T - 2).long()
        sigma = self.sigma(t)
        slope = torch.where(t < 0, torch.exp(logs[0]), sigma * (logs[i + 1] - logs[i]))
        return 2 * sigma * slope / (1 + sigma**2)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The time in [0, T-1] that stands for the level sigma in a sampling grid."""
        return ROUNDINGS[self.rounding](self.t(sigma)).clamp(0, self.t_max)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Training noise levels sigma [n]: a uniform choice among the T, float64, on the
        generator's device."""
        logs = _log_levels(self.betas, generator.device, torch.float64)
        k = torch.randint(self.T, (n,), generator=generator, device=generator.device)
        return torch.exp(logs[k])

    def below(self, sigma: float) -> Discrete:
        """The same levels from the one nearest to sigma down. Raises UsageError where there is none
        below that."""
        top = int(self.t(torch.tensor(sigma, dtype=torch.float64)).round().clamp(0, self.t_max))
        if top < 1:
            raise UsageError(
                f"at={sigma:g} is the lowest trained level, {float(self.levels[0]):.4g}: write a "
                "higher one"
            )
        timesteps = self.timesteps
        if isinstance(timesteps, Starting):
            timesteps = timesteps.below(sigma)
        return replace(self, betas=First(self.betas, top + 1), timesteps=timesteps)

    def times(self, steps: int) -> Tensor:
        """The published list: steps + 1 times, repeats and all."""
        check_steps(steps)
        return self.timesteps(self, steps)

    def grid(self, steps: int) -> Tensor:
        """Sampling noise levels sigma, float64, decreasing; the last is sigma(0), or 0 with
        to_zero."""
        check_steps(steps)
        down = steps - 1 if self.to_zero else steps  # steps between trained levels
        times = self.times(max(down, 1))[: down + 1]
        t = torch.unique_consecutive(times)
        if len(t) < len(times) and times[0] - times[-1] < down:
            self._refuse(steps, times)
        decreasing = bool((t.diff() < 0).all())  # what is not a number is not below, either
        if not decreasing or len(t) + self.to_zero < 2:
            raise UsageError(
                f"steps={steps}: the levels do not decrease to the lowest trained one, "
                f"{float(self.levels[0]):.4g}; write a higher start, or other steps"
            )
        sigma = self.sigma(t)
        return torch.cat([sigma, sigma.new_zeros(1)]) if self.to_zero else sigma

    def _refuse(self, steps: int, times: Tensor) -> None:
        """Raise UsageError: from times[0] to times[-1] there are fewer trained levels than
        steps."""
        first = int(times[0])
        most = first - int(times[-1]) + self.to_zero
        if most < 1:
            return  # levels that do not decrease at all: `grid` says so
        ends = self.to_zero or times[-1] < 0
        more = "" if ends else ", or to_zero=true for one more step, from the lowest to 0"
        raise UsageError(
            f"steps={steps}: the {first + 1} trained levels from sigma={self.levels[first]:.4g} "
            f"down make {most} steps; write at most steps={most}{more}"
        )
