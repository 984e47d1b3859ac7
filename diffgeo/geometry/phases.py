"""When a diffusion decides: by noise level, how many points and how many classes a noised point
x_s = x0 + s eps can still come from.

With the posterior weights u_i(x_s) of the atoms a_i of a finite law, and its classes c,

    H = -sum_i u_i log u_i          sum_i u_i^2, that two draws from the posterior are one atom,
    phi(s) = E sum_c p(c|x_s)^2     p(c|x) = sum of u_i over the class.

The exact reverse process from x_s ends at atom i with probability u_i(x_s), and x0 itself was drawn
so: phi is exactly the probability that after noise up to s and back the class is what it was (a
U-turn), and E sum u^2 that the very point is (Sclocchi, Favero, Wyart 2025). Nothing is integrated.

Predicted from the covariance's eigenvalues l_1 >= l_2 >= ... alone (Biroli et al. 2024):

    speciation   s = sqrt(l_1), in OU time ln(l_1)/2: the classes begin to part
    collapse     (1/2) sum_i log(1 + l_i/s^2) = log n: as many points as the noise can tell apart;
                 a Gaussian has the largest entropy, so an upper estimate

Measured: where E sum u^2 = 1/2, and where phi is midway between its ends, phi(0) and sum_c p(c)^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import brentq
from torch import Tensor

from diffgeo.analytic.exact import Density, Finite
from diffgeo.core import Data, ImageSet, Known, Streamed, generator
from diffgeo.data.gaussian import Mixture
from diffgeo.data.moments import eigenvalues, moments
from diffgeo.data.reference import gaussian_classes
from diffgeo.errors import UsageError
from diffgeo.simulation import fitting, ranges
from diffgeo.simulation.noise import Streams, keys

LEVELS = 14
SERIES = ("entropy", "collision", "phi", "trace")
CLEAN = 1e-3  # of the law's deviation: the level that stands for 0


class Draws(NamedTuple):
    """Points of a law, and the classes that they have: [n,*D], and int64 [n] or None."""

    x0: Tensor
    labels: Tensor | None


class Spread(NamedTuple):
    """A mean, and its standard error; None of one draw."""

    mean: float
    se: float | None


class Crossing(NamedTuple):
    """A level at which a mean reaches a height, and what the mean's standard error makes of it."""

    sigma: float
    se: float | None


@dataclass(frozen=True, eq=False)
class Phases:
    """What was measured of n draws at L levels.

    sigma: [L], increasing. values: of each of SERIES that the law has, [L,n].
    variance: of the law's principal directions, decreasing. atoms: how many points the law is as
    good as, None of a continuous one. ends: of phi, at no noise and at all of it; None without
    classes.
    """

    sigma: Tensor
    values: dict[str, Tensor]
    variance: Tensor
    atoms: float | None
    ends: tuple[float, float] | None

    def mean(self, series: str) -> list[Spread]:
        """Of each level."""
        found = []
        for row in self.values[series]:
            se = float(row.std()) / math.sqrt(len(row)) if len(row) > 1 else None
            found.append(Spread(float(row.mean()), se))
        return found

    def crossing(self, series: str, height: float) -> Crossing | None:
        """Where the mean first falls below `height`, between two levels by a line in log sigma;
        None where no two levels are about it."""
        means = self.mean(series)
        for k in range(len(means) - 1):
            above, below = means[k], means[k + 1]
            if above.mean >= height > below.mean:
                share = (above.mean - height) / (above.mean - below.mean)
                log_step = math.log(self.sigma[k + 1] / self.sigma[k])
                sigma = float(self.sigma[k]) * math.exp(share * log_step)
                if above.se is None or below.se is None:
                    return Crossing(sigma, None)
                error = max(above.se, below.se) / (above.mean - below.mean)
                return Crossing(sigma, sigma * error * log_step)
        return None

    @property
    def speciation(self) -> float:
        """sqrt(l_1)."""
        return float(self.variance[0].sqrt())

    @property
    def collapse(self) -> float | None:
        return None if self.atoms is None else collapse(self.variance, self.atoms)

    @property
    def collapsed(self) -> Crossing | None:
        """Where E sum u^2 = 1/2."""
        return self.crossing("collision", 0.5) if "collision" in self.values else None

    @property
    def decided(self) -> Crossing | None:
        """Where phi is midway between its ends."""
        return None if self.ends is None else self.crossing("phi", sum(self.ends) / 2)


def collapse(variance: Tensor, atoms: float) -> float:
    """The s at which (1/2) sum log(1 + l_i/s^2) = log n, 0 where nothing varies or n is 1."""
    total = float(variance.sum())
    if total <= 0 or atoms <= 1:
        return 0.0

    def excess(log_s: float) -> float:
        return float(torch.log1p(variance / math.exp(2 * log_s)).sum()) / 2 - math.log(atoms)

    # log(1 + x) <= x above; below, the largest direction alone tells n points apart
    high = 0.5 * math.log(total / math.log(atoms)) + 1
    low = 0.5 * math.log(float(variance[0])) - math.log(atoms) - 1
    return math.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def principal_variance(data: Data) -> Tensor:
    """The eigenvalues of a law's covariance, decreasing."""
    if not isinstance(data, ImageSet):
        return moments(data).variance
    n = len(data) * (2 if data.flip else 1)
    return eigenvalues(data).flip(0) * ((n - 1) / n)  # of the law, not of what it may be drawn from


def atoms_of(data: Data, denoise: Density) -> float | None:
    """How many equal atoms a finite law is as good as, exp of the entropy of its weights; None of a
    continuous law."""
    if isinstance(data, ImageSet):
        return float(len(data) * (2 if data.flip else 1))
    if data.weights is not None:
        return float(torch.special.entr(data.weights.double()).sum().exp())
    if not isinstance(denoise, Finite):
        return None
    # so much noise that the posterior is the law
    x = data.mean.double()[None]
    return float(denoise.posterior(x, 1e8 * max(data.std, 1e-8)).neighbours)


def density_of(data: Data) -> Density:
    """The exact denoiser of a law, with its further formulas. Raises UsageError where it has
    none."""
    denoise = data.denoiser() if isinstance(data, Known) else None
    if not isinstance(denoise, Density):
        raise UsageError(
            f"{type(data).__name__} has no exact denoiser that knows its posterior: write another "
            "data="
        )
    return denoise


def has_classes(data: Data) -> bool:
    if isinstance(data, Streamed):
        return data.labels is not None
    return isinstance(data, Mixture)


def draws(data: Data, n: int, seed: int) -> Draws:
    """n points of a law, with their classes where a set has labels."""
    stream = generator(seed, *b"phases")
    if isinstance(data, Streamed) and data.labels is not None:
        return Draws(*data.sample_labelled(n, stream))
    return Draws(data.sample(n, stream), None)


def default_levels(variance: Tensor, atoms: float | None) -> list[float]:
    """LEVELS levels, equal steps of log s, wide enough to see both transitions."""
    speciation = float(variance[0].sqrt())
    first = speciation
    if atoms is not None and atoms > 1:
        first = min(first, collapse(variance, atoms))
    ends = math.log(first / 4), math.log(4 * speciation)
    return torch.linspace(*ends, LEVELS, dtype=torch.float64).exp().tolist()


def posterior_numbers(data: Data, denoise: Density, x: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Those of SERIES that the law has, [B] each, at x [B,*D] of noise sigma [B]."""
    if isinstance(denoise, Finite):
        posterior = denoise.posterior(x, sigma)
        found = {
            "entropy": posterior.entropy,
            "collision": posterior.collision,
            "trace": posterior.trace,
        }
        if posterior.classes is not None:
            found["phi"] = posterior.classes.square().sum(1)
        return found
    found = {"trace": denoise.trace(x, sigma)}
    if isinstance(data, Mixture):
        shares = gaussian_classes(data).shares(x, sigma)
        found["phi"] = shares.square().sum(1)
    return found


def noised(
    drawn: Draws, levels: Tensor, seed: int, batch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """All pairs of a level and a draw, `batch` at a time: their numbers, level * n + draw, x and
    sigma. A draw has one eps, the same at every level."""
    n = len(drawn.x0)
    shape = tuple(drawn.x0.shape[1:])
    for part in ranges(range(n), max(1, batch // len(levels))):
        x0 = drawn.x0[part.start : part.stop].double()
        eps = Streams(keys(seed, part), shape)()
        place = torch.arange(part.start, part.stop)
        for few in torch.arange(len(levels)).split(max(1, batch // len(part))):
            sigma = levels[few].repeat_interleave(len(part))
            ones = [1] * len(shape)
            x = x0.repeat(len(few), *ones) + sigma.view(-1, *ones) * eps.repeat(len(few), *ones)
            yield (few[:, None] * n + place).flatten(), x, sigma


def phases(
    data: Data,
    n: int,
    levels: Sequence[float] | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Phases:
    """The phases of a law's own exact diffusion, of n noised points of it. levels: increasing, None
    for LEVELS of its own. batch: rows at once; the numbers do not depend on it. Raises UsageError
    on a law without a known posterior, on one point, and on levels that do not increase."""
    denoise = density_of(data)
    variance = principal_variance(data)
    atoms = atoms_of(data, denoise)
    if not float(variance[0]) > 0:
        raise UsageError("this law is one point, which has nothing to decide: write another data=")
    sigma = torch.tensor(levels or default_levels(variance, atoms), dtype=torch.float64)
    if not bool((sigma > 0).all()) or not bool((sigma.diff() > 0).all()):
        raise UsageError(f"levels={list(levels or [])}: write levels above 0 that increase")
    drawn = draws(data, n, seed)
    clean = sigma.new_tensor([CLEAN * data.std])
    every = torch.cat([clean, sigma]) if isinstance(data, Mixture) else sigma
    collected: dict[str, Tensor] = {}
    for numbers, x, level in noised(drawn, every, seed, batch or fitting(data.shape)):
        for name, values in posterior_numbers(data, denoise, x, level).items():
            held = collected.setdefault(name, sigma.new_empty(len(every) * n))
            held[numbers] = values.double().cpu()
    rows = {name: values.view(len(every), n) for name, values in collected.items()}
    ends = None
    if "phi" in rows:
        ends = 1.0, chance(data)
        if isinstance(data, Mixture):  # whose components may overlap
            ends = float(rows["phi"][0].mean()), chance(data)
            rows = {name: values[1:] for name, values in rows.items()}
    ordered = {name: rows[name] for name in SERIES if name in rows}
    return Phases(sigma, ordered, variance, atoms, ends)


def chance(data: Data) -> float:
    """sum_c p(c)^2: that two draws of a law are of one class."""
    if isinstance(data, Streamed) and data.labels is not None:
        share = torch.bincount(data.labels).double() / len(data.labels)
        return float(share.square().sum())
    assert isinstance(data, Mixture)
    return float(data.components.square().sum())


def pair_return(m: float, s0: float, sigma: float, nodes: int = 4001) -> float:
    """phi of two Gaussians +-m of deviation s0 and equal weight, by quadrature:

    phi = (1 + E tanh^2(m x/v))/2,    x ~ N(m, v),    v = s0^2 + sigma^2.
    """
    v = s0**2 + sigma**2
    z = torch.linspace(-12, 12, nodes, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2)
    square = torch.tanh(m * (m + math.sqrt(v) * z) / v) ** 2
    return float((1 + (weight * square).sum() / weight.sum()) / 2)
