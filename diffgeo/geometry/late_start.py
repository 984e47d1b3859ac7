"""Late start on the line, exactly: what a start at sigma' that is not the law of x costs.

In one dimension the flow is the monotone map between the laws of two levels, so the samples of a
start N(m, v) at sigma' are, with F the distribution function of the law at a level and Q its
quantiles,

    T(x) = Q_0(F_sigma'(x)),      x = m + sqrt(v) z,

and truth made of the same z is Q_0(Phi(z)). Both increase with z: no other coupling is nearer, and

    W2^2 = int |T(m + sqrt(v) z) - Q_0(Phi(z))|^2 phi(z) dz.

Q_0 jumps over every gap of the law, and the integral is split there: where Phi(z) reaches the
share u* below the gap, and where F_sigma'(m + sqrt(v) z) does. Between the two lie the samples that
end on the wrong side. Without the split a rule of the same points is wrong by a factor of up to 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from diffgeo.core import Data
from diffgeo.data.gaussian import Gaussian, Mixture
from diffgeo.data.law import Blurred
from diffgeo.simulation.initial import Initial

FAR = 9.0  # deviations of z, beyond which a normal has 1e-19 of its weight
NODES = 12  # of Gauss and Legendre on a panel
HALVINGS = 46  # of the panels towards a split: the last is 1e-13 wide
BISECTIONS = 72  # of a bracket, down to 1e-21 of its width
MOST = 1000  # components of a law on the line


@dataclass(frozen=True, eq=False)
class Line:
    """sum_k weight_k N(mean_k, variance_k) on the line, each [K], by increasing mean; a variance
    may be 0."""

    weight: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def tails(self, x: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """P(X <= x) and P(X > x) at a level, [n] each: either tail to all its digits."""
        apart = x[:, None] - self.mean
        deviation = np.sqrt(self.variance + sigma**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = apart / deviation
        z = np.where(deviation > 0, z, np.where(apart >= 0, np.inf, -np.inf))
        return ndtr(z) @ self.weight, ndtr(-z) @ self.weight

    def quantile(self, below: np.ndarray, above: np.ndarray, sigma: float = 0.0) -> np.ndarray:
        """The x with P(X <= x) = below and P(X > x) = above = 1 - below at a level, [n]; the
        smaller of the two is what is met."""
        reach = 40 * np.sqrt(self.variance + sigma**2) + 1
        low = np.full(len(below), (self.mean - reach).min())
        high = np.full(len(below), (self.mean + reach).max())
        lower = below <= above
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            left, right = self.tails(middle, sigma)
            short = np.where(lower, left < below, right > above)
            low = np.where(short, middle, low)
            high = np.where(short, high, middle)
        return high

    @cached_property
    def gaps(self) -> np.ndarray:
        """The share of the law below each place between two neighbours where it is thin, [K-1]:
        where their deviations meet."""
        spread = np.sqrt(self.variance)
        both = spread[1:] + spread[:-1]
        share = np.where(both > 0, spread[:-1] / np.where(both > 0, both, 1), 0.5)
        places = self.mean[:-1] + share * np.diff(self.mean)
        return self.tails(places, 0.0)[0]

    def moved(self, z: np.ndarray, start: Affine, sigma: float) -> np.ndarray:
        """T(m + sqrt(v) z): where the exact flow takes a start from sigma, [n]."""
        return self.quantile(*self.tails(start.mean + start.deviation * z, sigma))

    def truth(self, z: np.ndarray) -> np.ndarray:
        """Q_0(Phi(z)): a draw of the law made of the normal z, [n]."""
        return self.quantile(ndtr(z), ndtr(-z))


@dataclass(frozen=True)
class Affine:
    """A start m + deviation z."""

    mean: float
    deviation: float


def line_of(data: Data) -> Line | None:
    """A law on the line whose distribution function is known: points, Gaussians, mixtures of them,
    and these blurred. None for any other law."""
    if tuple(data.shape) != (1,):
        return None
    if isinstance(data, Blurred):
        inner = line_of(data.law)
        return None if inner is None else sorted_line(*inner_of(inner, data.s**2))
    if isinstance(data, Mixture):
        parts = (data.components, data.means[:, 0], data.covariances[:, 0, 0])
    elif isinstance(data, Gaussian):
        parts = (torch.ones(1), data.mean, data.covariance[:, 0])
    elif data.atoms is not None and data.weights is not None:
        parts = (data.weights, data.atoms[:, 0], torch.zeros(len(data.atoms)))
    else:
        return None
    if len(parts[0]) > MOST:
        return None
    return sorted_line(*(part.double().numpy() for part in parts))


def inner_of(line: Line, added: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parts of a law with so much more variance."""
    return line.weight, line.mean, line.variance + added


def sorted_line(weight: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> Line:
    order = np.argsort(mean, kind="stable")
    return Line(weight[order], mean[order], variance[order])


def affine(initial: Initial, sigma: float) -> Affine:
    """What a start on the line makes of its noise at a level: m + deviation z."""
    ends = initial(torch.tensor([[0.0], [1.0]], dtype=torch.float64), sigma)
    at_zero, at_one = ends[:, 0].tolist()
    return Affine(at_zero, at_one - at_zero)


def exact_w2(line: Line, start: Affine, sigma: float) -> float:
    """W2 between the law and what the exact flow makes of a start at the level sigma."""
    z, weight = rule(splits(line, start, sigma))
    apart = line.moved(z, start, sigma) - line.truth(z)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(float((weight * density * apart**2).sum()))


def splits(line: Line, start: Affine, sigma: float) -> np.ndarray:
    """The z at which truth, and at which the moved start, cross a gap."""
    if not len(line.gaps):
        return np.empty(0)
    own = ndtri(line.gaps)
    crossing = (line.quantile(line.gaps, 1 - line.gaps, sigma) - start.mean) / start.deviation
    return np.concatenate([own, crossing])


def rule(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an integral over |z| <= FAR: panels that halve towards each split from
    both sides, of NODES points each."""
    inside = np.unique(at[np.abs(at) < FAR])
    ends = {-FAR, FAR}
    ends |= set(np.linspace(-FAR, FAR, 37).tolist())
    for split in inside:
        steps = 2.0 ** -np.arange(HALVINGS)
        ends |= {float(split), *(split - steps).tolist(), *(split + steps).tolist()}
    edges = np.array(sorted(end for end in ends if abs(end) <= FAR))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    middle = (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()


def share_below(line: Line, start: Affine, sigma: float) -> np.ndarray:
    """The share of the samples that the exact flow takes below each gap, [K-1]; of truth it is
    `line.gaps`."""
    places = line.quantile(line.gaps, 1 - line.gaps, sigma)
    return ndtr((places - start.mean) / start.deviation)


def coupled_w2(line: Line, samples: Tensor, unit: Tensor) -> tuple[float, float]:
    """The root mean square distance of samples [n,1] from truth made of the same unit noise [n,1],
    and its standard error. Of the exact flow it is `exact_w2` as n grows."""
    z = unit[:, 0].double().cpu().numpy()
    square = (samples[:, 0].double().cpu().numpy() - line.truth(z)) ** 2
    root = math.sqrt(float(square.mean()))
    error = float(square.std()) / math.sqrt(len(square))
    return root, error / (2 * root) if root else 0.0
