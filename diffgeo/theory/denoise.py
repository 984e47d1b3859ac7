"""What denoising learns: the score, by whatever loss, and how fast the score may turn.

With y = x0 + sigma xi, p_sigma the law of y, r* = E[x0 | y] (Vincent 2011; Lee's talk):

    Tweedie     r*(y) = y + sigma^2 grad log p_sigma(y),
    DAE         L(r) = E|r(y) - x0|^2 = E tr Cov[x0 | y] + E|r - r*|^2,
    noise       E|g(y) - sigma xi|^2 = L(r) for g = y - r,
    score       E|s(y) + xi/sigma|^2 = L(r)/sigma^4 for s = (r - y)/sigma^2, so that
                E|r - r*|^2 = sigma^4 E|s - grad log p_sigma|^2:

one functional in three names. Its least value among affine r is sum l sigma^2/(l + sigma^2), l the
eigenvalues of the covariance of the law.

In the process x_t = a x0 + s z, a = e^-t, s^2 = 1 - e^-2t (sigma = s/a), the score turns by

    H = grad^2 log p_t = -1/s^2 + (a/s^2)^2 Cov[x0 | x_t],       E H = -E[score score'],

so that the trace of -E H is the Fisher information J. If |x0 - m| <= R then |H| <= max(1/s^2, (a
R/s^2)^2 - 1/s^2), about R^2/4t^2 at small t, at a point between modes; at a point drawn from p_t it
is smaller by far: c = inf{c : E exp(|H|_F/c) <= 2}, the psi_1 norm of the Frobenius norm, is of
size d/t at most (Chen, Lee and Lu 2023), and sqrt(d)/2t for a law of small dimension in R^d.

In R^1 every expectation over y is a Gauss-Legendre sum; else a mean over draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import Data, Denoiser, ImageSet, generator
from diffgeo.simulation import ranges
from diffgeo.theory.lowdegree import panels

FULL = 64  # coordinates up to which Cov[x0 | x] is taken whole
PROBES = 16  # directions v of |H|_F^2 = E|H v|^2 in more coordinates
NUMBERS = 1 << 18  # of the points that are looked at at once
PAIRS = 500  # whose midpoints the largest |H| is looked for at
FAR = 12.0  # deviations beyond which the line is cut off
FINE = 1 / 32  # of the width in which D turns: a panel, for |H| has kinks where H is 0
MOST_PANELS = 1 << 14
STEP = 1e-2  # of sigma: the differences that Tweedie's formula is held against


@dataclass(frozen=True)
class Cloud:
    """Points x = x0 + sigma z with weights [n] of sum 1: draws, or the nodes of an integral.

    x0: what the draws came from; None of nodes, whose means have no error.
    """

    x: Tensor  # [n,*D], float64
    weights: Tensor
    x0: Tensor | None = None

    def mean(self, values: Tensor) -> tuple[float, float]:
        """The mean of values [n] and its standard error, 0 for an integral."""
        mean = float(self.weights @ values)
        if self.x0 is None:
            return mean, 0.0
        return mean, float(values.std()) / math.sqrt(len(values))


def draws(law: Data, sigma: float, n: int, seed: int, level: int, device="cpu") -> Cloud:
    """n draws at a level."""
    g = generator(seed, *b"denoise", level, device=device)
    x0 = law.sample(n, g).double()
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64, device=device)
    weights = torch.full((n,), 1 / n, dtype=torch.float64, device=device)
    return Cloud(x0 + sigma * noise, weights, x0)


def nodes(law: Data, exact: Density, sigma: float) -> Cloud | None:
    """The nodes of integrals against p_sigma of a law on the line; None of another law, and where
    the nodes do not hold its mass to 1e-9."""
    if tuple(law.shape) != (1,):
        return None
    seen = law.sample(1000, generator(0, *b"ends")).double()
    if law.atoms is not None:
        seen = torch.cat([seen, law.atoms])
    spread = 0.0 if law.atoms is not None else law.std
    away = FAR * math.hypot(sigma, spread)
    low = float(seen.min()) - away
    high = float(seen.max()) + away
    width = FINE * min(sigma, sigma**2 / max(law.std, 1e-300))
    count = min(MOST_PANELS, math.ceil((high - low) / width))
    x, steps = panels(low, high, count)
    weights = steps * exact.log_density(x[:, None], sigma).exp()
    mass = float(weights.sum())
    if abs(mass - 1) > 1e-9:
        return None
    return Cloud(x[:, None], weights / mass)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The product of every row, [n,*D] -> [n]."""
    return (a * b).flatten(1).sum(1)


def batched(call, x: Tensor) -> Tensor:
    """call(x) of x [n,*D] in pieces."""
    size = max(1, NUMBERS // x[0].numel())
    parts = [call(x[piece.start : piece.stop]) for piece in ranges(range(len(x)), size)]
    return torch.cat(parts)


# one functional


@dataclass(frozen=True)
class Loss:
    """What r has at one sigma; every number with its standard error, 0 where it is an integral.

    loss: L(r) on draws. least: E tr Cov[x0 | y]. excess: E|r - r*|^2. rest: L(r) - least - excess,
    which has mean 0, taken draw by draw. score: sigma^4 E|s - grad log p_sigma|^2 with the gradient
    of log p_sigma by differences, in one random direction v, |v|^2 = d on average.
    """

    sigma: float
    loss: tuple[float, float]
    least: tuple[float, float]
    excess: tuple[float, float]
    rest: tuple[float, float]
    score: tuple[float, float]


@torch.no_grad()
def loss(
    model: Denoiser,
    exact: Density,
    law: Data,
    sigma: float,
    n: int,
    seed: int = 0,
    level: int = 0,
    device: torch.device | str = "cpu",
) -> Loss:
    """L(r) and its parts for r = model at one sigma, from n draws; x0, xi of a level depend on
    (seed, level) alone."""
    seen = draws(law, sigma, n, seed, level, device)
    r = batched(lambda x: model(x, sigma), seen.x).double()
    best = batched(lambda x: exact(x, sigma), seen.x)
    trace = sigma**2 * batched(lambda x: exact.trace(x, sigma), seen.x)
    assert seen.x0 is not None
    total = inner(r - seen.x0, r - seen.x0)
    off = inner(r - best, r - best)
    g = generator(seed, *b"directions", level, device=device)
    v = torch.randn(seen.x.shape, generator=g, dtype=torch.float64, device=device)
    slope = difference(exact, seen.x, v, sigma)
    error = inner(r - seen.x, v) - sigma**2 * slope
    least = seen.mean(trace)
    excess = seen.mean(off)
    line = nodes(law, exact, sigma)
    if line is not None:
        least = line.mean(sigma**2 * exact.trace(line.x, sigma))
        wrong = batched(lambda x: model(x, sigma), line.x).double() - exact(line.x, sigma)
        excess = line.mean(inner(wrong, wrong))
    return Loss(
        sigma=sigma,
        loss=seen.mean(total),
        least=least,
        excess=excess,
        rest=seen.mean(total - trace - off),
        score=seen.mean(error.square()),
    )


def difference(exact: Density, x: Tensor, v: Tensor, sigma: float) -> Tensor:
    """v . grad log p_sigma(x) by central differences of log p_sigma, of fourth order, [n]."""
    h = STEP * sigma / math.sqrt(x[0].numel())

    def slope(h: float) -> Tensor:
        ahead = batched(lambda y: exact.log_density(y, sigma), x + h * v)
        behind = batched(lambda y: exact.log_density(y, sigma), x - h * v)
        return (ahead - behind) / (2 * h)

    return (4 * slope(h / 2) - slope(h)) / 3


def least_affine(variance: Tensor, sigma: float) -> float:
    """The least L(r) among affine r: sum l sigma^2/(l + sigma^2) over the eigenvalues l [d] of the
    law's covariance."""
    return float((variance * sigma**2 / (variance + sigma**2)).sum())


# how the score turns


@dataclass(frozen=True)
class Turning:
    """H = grad^2 log p_t at one time t, and the score beside it.

    largest: the largest |H| that was seen, in operator norm, at points of p_t and midway between
    pairs of the law; None in more than 64 coordinates, where H is not taken whole.
    bound: on it, by the radius; None of a law without one.
    psi: the psi_1 norm of |H|_F and its standard error. root: (E|H|_F^2)^(1/2).
    by_trace, by_score: the Fisher information J = -E tr H = E|score|^2; apart: their difference,
    taken point by point; each with its standard error.
    integral: whether the means are integrals.
    """

    t: float
    largest: float | None
    bound: float | None
    psi: tuple[float, float]
    root: float
    by_trace: tuple[float, float]
    by_score: tuple[float, float]
    apart: tuple[float, float]
    integral: bool


@torch.no_grad()
def turning(
    exact: Density,
    law: Data,
    t: float,
    n: int,
    seed: int = 0,
    level: int = 0,
    device: torch.device | str = "cpu",
) -> Turning:
    """H at one time of the Ornstein-Uhlenbeck process, by the law's exact denoiser."""
    a = math.exp(-t)
    s2 = -math.expm1(-2 * t)
    sigma = math.sqrt(s2) / a
    cloud = nodes(law, exact, sigma)
    integral = cloud is not None
    if cloud is None:
        cloud = draws(law, sigma, n, seed, level, device)
    d = cloud.x[0].numel()
    size, norm = norms(exact, cloud.x, sigma, a, s2, seed)
    largest = None
    if norm is not None:
        _, between = norms(exact, midpoints(law, seed, device), sigma, a, s2, seed)
        assert between is not None
        largest = max(float(norm.max()), float(between.max()))
    score = a / s2 * (batched(lambda x: exact(x, sigma), cloud.x) - cloud.x)
    square = inner(score, score)
    # tr Cov = sigma^2 tr dD/dx
    trace = (a / s2) ** 2 * sigma**2 * batched(lambda x: exact.trace(x, sigma), cloud.x) - d / s2
    radius = radius_of(law)
    bound = None if radius is None else max(1 / s2, (a * radius / s2) ** 2 - 1 / s2)
    return Turning(
        t=t,
        largest=largest,
        bound=bound,
        psi=psi_norm(cloud, size),
        root=math.sqrt(cloud.mean(size.square())[0]),
        by_trace=cloud.mean(-trace),
        by_score=cloud.mean(square),
        apart=cloud.mean(-trace - square),
        integral=integral,
    )


def norms(
    exact: Density, x: Tensor, sigma: float, a: float, s2: float, seed: int
) -> tuple[Tensor, Tensor | None]:
    """|H|_F and |H| at points x [n,*D], [n] each; the second is None where H is not taken whole."""
    d = x[0].numel()
    scale = (a / s2) ** 2
    if d <= FULL:
        axes = torch.eye(d, dtype=torch.float64, device=x.device).view(d, *x.shape[1:])
        columns = []
        for axis in axes:
            v = axis.expand_as(x)
            columns.append(products(exact, x, sigma, v).flatten(1))
        covariance = torch.stack(columns, 2)
        values = scale * torch.linalg.eigvalsh((covariance + covariance.mT) / 2) - 1 / s2
        return torch.linalg.vector_norm(values, dim=1), values.abs().amax(1)
    g = generator(seed, *b"probes", device=x.device)
    square = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for _ in range(PROBES):
        v = torch.randn(x.shape, generator=g, dtype=torch.float64, device=x.device)
        along = scale * products(exact, x, sigma, v) - v / s2
        square += inner(along, along) / PROBES
    return square.sqrt(), None


def products(exact: Density, x: Tensor, sigma: float, v: Tensor) -> Tensor:
    """Cov[x0 | x] v of every row, in pieces."""
    size = max(1, NUMBERS // x[0].numel())
    parts = []
    for piece in ranges(range(len(x)), size):
        rows = slice(piece.start, piece.stop)
        parts.append(exact.covariance_product(x[rows], sigma, v[rows]))
    return torch.cat(parts)


def midpoints(law: Data, seed: int, device: torch.device | str) -> Tensor:
    """Midway between pairs of the law, where modes part: all pairs of a few atoms, else of
    draws."""
    if law.atoms is not None and len(law.atoms) ** 2 <= 2 * PAIRS:
        atoms = law.atoms.double().to(device)
        return (atoms[:, None] + atoms).flatten(0, 1) / 2
    g = generator(seed, *b"pairs", device=device)
    return (law.sample(PAIRS, g).double() + law.sample(PAIRS, g).double()) / 2


def radius_of(law: Data) -> float | None:
    """The largest |x0 - mean| of a finite law; None of another."""
    if isinstance(law, ImageSet):
        mean = law.mean.flatten()
        largest = 0.0
        for piece in ranges(range(len(law)), max(1, NUMBERS // len(mean))):
            rows = torch.arange(piece.start, piece.stop)
            images = law.finish(law.rows(rows), None).double().flatten(1)
            largest = max(largest, float((images - mean).norm(dim=1).max()))
        return largest
    if law.atoms is None:
        return None
    return float((law.atoms - law.mean).norm(dim=1).max())


def psi_norm(cloud: Cloud, values: Tensor) -> tuple[float, float]:
    """inf{c : E exp(v/c) <= 2} of values [n] >= 0, and its standard error: by bisection in c, of
    which the mean is decreasing."""
    kept = cloud.weights > 0
    logs = cloud.weights[kept].log()
    v = values[kept]
    low = float(v.max()) / 700  # exp(700) is finite still
    high = float(v.max()) / math.log(2)  # here E exp is 2 at most
    for _ in range(100):
        middle = (low + high) / 2
        above = float(torch.logsumexp(logs + v / middle, 0)) > math.log(2)
        low, high = (middle, high) if above else (low, middle)
    raised = (v / high).exp()
    if cloud.x0 is None:
        return high, 0.0
    slope = float(cloud.weights[kept] @ (raised * v)) / high**2
    return high, float(raised.std()) / math.sqrt(len(v)) / slope
