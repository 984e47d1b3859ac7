"""Twisted sequential Monte Carlo (TDS; Wu, Trippe, Naesseth, Blei, Cunningham 2023).

P particles go down the levels together. With p(x' | x) the DDPM step of D, q(x' | x) that of D^ and
a twist of each level that guesses p(y | x) (`twists`), a particle's weight is

    w_0 = twist(x_0),      w <- w  p(x' | x)/q(x' | x)  twist(x')/twist(x),

and at sigma' = 0, where both steps are points, x' = D and the twist of x' is p(y | x') itself. Low
effective sample sizes are answered by systematic resampling. In the limit of many particles the
weighted end is the posterior of the N-step prior, the law of D at the end of N DDPM steps, whatever
the twist is; the mean weight is its evidence, and on average exactly so for any P. N -> infinity is
the posterior itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Denoiser, Noise, Sampler, Step
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.inverse.steps.twists import Told, Twist
from diffgeo.sampler.base import Method

NUMBERS = 1 << 18  # of particles that are looked at together: 2 MiB


@dataclass(frozen=True)
class Twisted:
    """The step of TDS; a `Guide`.

    twist: the guess of p(y | x).
    particles: of each row.
    resample: the effective sample size, a share of the particles, below which they are resampled;
        1: at every level, which on G4 leaves a third of the spread of the evidence that .5 does.
    Raises UsageError on fewer than 2 particles, and on a share outside [0, 1].
    """

    twist: Twist
    particles: int = 256
    resample: float = 1.0

    def __post_init__(self):
        if self.particles < 2:
            raise UsageError(f"algorithm.particles={self.particles}: write 2 or more")
        if not 0 <= self.resample <= 1:
            raise UsageError(f"algorithm.resample={self.resample}: write a share from 0 to 1")

    def told(self, measurement: Measurement) -> Sampler:
        """The sampler of rows with this measurement. Raises UsageError where it has no noise, or
        the twist cannot take it."""
        if measurement.sigma_n <= 0:
            raise UsageError(
                "sigma_n=0: algorithm=tds weights particles by p(y | x0), which needs noise; write "
                "sigma_n above 0, or algorithm=ddnm"
            )
        self.twist.check(measurement)
        return TwistedRows(self, measurement)


@dataclass(frozen=True, eq=False)
class TwistedRows(Method):
    """TDS of rows with their own measurements: a row is one cloud of particles, and its sample is a
    particle drawn by weight at the end; on its way it shows the first one.

    tally: log_evidence, nats, and least_ess, a share of the particles, [B] each, of the last run.
    """

    options: Twisted
    measurement: Measurement
    tally: dict[str, Tensor] = field(default_factory=dict)
    order = 1

    def on(self, sigmas):
        return Running(self)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        raise UsageError(
            "particles live longer than a step: put the method on a grid by on(sigmas)"
        )

    def account(self) -> dict[str, Tensor]:
        """The `tally`."""
        return self.tally


class Cloud:
    """The particles of one row and their weights.

    x [P,*D]; log_weight [P], since the last resampling; log_evidence, what came before it.
    """

    def __init__(self, x: Tensor):
        self.x = x
        self.log_weight = x.new_zeros(len(x))
        self.log_evidence = 0.0
        self.least_ess = 1.0

    def weighted(self, log_factor: Tensor) -> None:
        """Multiply the weights, and note how few particles they leave."""
        self.log_weight = self.log_weight + log_factor
        if not bool(self.log_weight.isfinite().any()) or bool(self.log_weight.isnan().any()):
            raise DiffgeoError(
                "algorithm=tds: the weights of the particles are not finite, the proposals "
                "diverged; write more steps, or algorithm.twist=pigdm"
            )
        self.least_ess = min(self.least_ess, self.ess())

    def shares(self) -> Tensor:
        """The weights, of sum 1."""
        return self.log_weight.softmax(0)

    def ess(self) -> float:
        """1/sum w^2 as a share of the particles."""
        return 1 / (float(self.shares().square().sum()) * len(self.x))

    def total(self) -> float:
        """log evidence so far, nats."""
        mean = self.log_weight.logsumexp(0) - math.log(len(self.x))
        return self.log_evidence + float(mean)

    def ancestors(self, u: float) -> Tensor:
        """Systematic resampling with the offset u in [0, 1): numbers of the particles kept, [P]."""
        count = len(self.x)
        places = (torch.arange(count, dtype=torch.float64, device=self.x.device) + u) / count
        return torch.searchsorted(self.shares().cumsum(0), places, right=True).clamp(max=count - 1)

    def one(self, u: float) -> int:
        """The number of a particle, drawn by weight."""
        place = torch.tensor(u, dtype=torch.float64, device=self.x.device)
        return min(
            int(torch.searchsorted(self.shares().cumsum(0), place, right=True)), len(self.x) - 1
        )


class Running(Method):
    """TDS on its way: a fresh one for every run, since it holds the particles."""

    order = 1

    def __init__(self, rows: TwistedRows):
        self.rows = rows
        self.clouds: list[Cloud] = []

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        options = self.rows.options
        if not self.clouds:
            self.begin(x, sigma, noise)
        draws = several(noise, options.particles)
        offset = uniform(noise())
        choice = uniform(noise())
        states = []
        denoised = []
        for row, told in enumerate(self.told(denoise, sigma)):
            cloud = self.clouds[row]
            cloud.weighted(told.log_twist)
            left = -told.log_twist
            if cloud.ess() < options.resample:
                kept = cloud.ancestors(float(offset[row]))
                cloud.log_evidence = cloud.total()
                cloud.log_weight = torch.zeros_like(cloud.log_weight)
                told = Told(*(part[kept] for part in told))
                cloud.x = cloud.x[kept]
                left = left[kept]
            if sigma_next == 0:
                cloud.x = told.denoised
                measurement = self.rows.measurement.of(slice(row, row + 1))
                cloud.weighted(left + log_likelihood(measurement, cloud.x))
                number = cloud.one(float(choice[row]))
            else:
                cloud.x, ratio = proposed(cloud.x, told, sigma, sigma_next, draws[row])
                cloud.log_weight = cloud.log_weight + left + ratio
                number = 0
            states.append(cloud.x[number])
            denoised.append(told.denoised[number])
        self.note()
        return Step(torch.stack(states), sigma_next, torch.stack(denoised))

    def begin(self, x: Tensor, sigma: float, noise: Noise) -> None:
        """The particles at the first level: a row's own start, and fresh ones beside it."""
        others = several(noise, self.rows.options.particles - 1) * sigma
        for row in range(len(x)):
            self.clouds.append(Cloud(torch.cat([x[row : row + 1], others[row]])))

    def told(self, denoise: Denoiser, sigma: float) -> Iterator[Told]:
        """What the particles of each row are told, as many rows at once as NUMBERS are worth."""
        options = self.rows.options
        for rows in torch.arange(len(self.clouds)).split(self.at_once()):
            x = torch.cat([self.clouds[row].x for row in rows.tolist()])
            measurement = self.rows.measurement.of(rows.repeat_interleave(options.particles))
            every = options.twist(denoise, measurement, x, sigma)
            parts = [part.split(options.particles) for part in every]
            yield from (Told(*own) for own in zip(*parts, strict=True))

    def at_once(self) -> int:
        """How many rows are looked at together."""
        return max(1, NUMBERS // self.clouds[0].x.numel())

    def note(self) -> None:
        """Leave in the tally what is known so far."""
        tally = self.rows.tally
        totals = [cloud.total() for cloud in self.clouds]
        least = [cloud.least_ess for cloud in self.clouds]
        tally["log_evidence"] = torch.tensor(totals, dtype=torch.float64)
        tally["least_ess"] = torch.tensor(least, dtype=torch.float64)


def several(noise: Callable[[], Tensor], count: int) -> Tensor:
    """`count` draws of every row, [B,count,*D]."""
    draws = []
    for _ in range(count):
        draws.append(noise())
    return torch.stack(draws, 1)


def uniform(normal: Tensor) -> Tensor:
    """A number in [0, 1) a row, of its normal draw [B,*D]."""
    return torch.special.ndtr(normal.flatten(1)[:, 0])


def proposed(
    x: Tensor, told: Told, sigma: float, sigma_next: float, z: Tensor
) -> tuple[Tensor, Tensor]:
    """x' ~ q, the DDPM step of D^, made of normal z [P,*D]; and log p(x' | x)/q(x' | x), [P]."""
    square = (sigma_next / sigma) ** 2
    deviation = sigma_next * math.sqrt(1 - square)
    apart = (1 - square) * (told.guided - told.denoised)  # between the means of q and p
    new = torch.lerp(told.guided, x, square) + deviation * z
    cross = (z * apart).flatten(1).sum(1) / deviation
    return new, -cross - apart.flatten(1).square().sum(1) / (2 * deviation**2)


def log_likelihood(measurement: Measurement, x0: Tensor) -> Tensor:
    """log p(y | x0), nats, [P]."""
    count = math.prod(measurement.operator.measured)
    variance = measurement.sigma_n**2
    return -measurement.square(x0) / (2 * variance) - count / 2 * math.log(2 * math.pi * variance)
