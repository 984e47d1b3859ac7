"""The Gaussian problems of the specification of inverse problems, and what their tests share."""

import math

import torch

from diffgeo.analytic import normal
from diffgeo.analytic.measurement import Measurement
from diffgeo.data import Gaussian
from diffgeo.inverse.operators.matrices import Matrix
from diffgeo.inverse.steps import DAPS
from diffgeo.theory import affine, restoration

f64 = torch.float64
G4 = Gaussian(
    [0.5, -1, 0, 2],
    [[2, 0.5, 0, 0], [0.5, 1, 0.3, 0], [0, 0.3, 0.5, 0.1], [0, 0, 0.1, 0.2]],
)
LINE = Gaussian([0.0], [[1.0]])  # N(0, 1)


def measured(rows, y, sigma_n: float) -> Measurement:
    """y of a matrix given by its rows."""
    matrix = torch.tensor(rows, dtype=f64)
    return Measurement(Matrix(matrix, (matrix.shape[1],)), torch.tensor(y, dtype=f64), sigma_n)


FOUR = measured([[1, 0, 1, 0], [0, 2, 0, -1]], [1.5, -3], 0.3)  # of G4
ONE = measured([[1]], [1], 0.5)  # of LINE: kappa = 4, posterior N(.8, .2)


def w2(algorithm, sampler, sigmas, prior=G4, measurement=FOUR) -> float:
    """From the law of the restorations to the posterior."""
    law = restoration.restored(prior, measurement, algorithm, sampler, sigmas)
    posterior = prior.given(measurement.operator, measurement.y, measurement.sigma_n)
    return restoration.gap(law, posterior.mean, posterior.covariance).w2


def geometric(steps: int, highest: float, lowest: float = 1e-4) -> torch.Tensor:
    """Levels of one ratio, then 0: the errors of many steps are then a series in 1/steps."""
    levels = torch.logspace(math.log10(highest), math.log10(lowest), steps, dtype=f64)
    return torch.cat([levels, torch.zeros(1, dtype=f64)])


def limit(value, first: int, terms: int = 3) -> torch.Tensor:
    """Of value(N) = value + a/N + b/N^2 + ..., at N = first, 2 first, 4 first ... (Richardson)."""
    values = [value(first * 2**k) for k in range(terms)]
    for power in range(1, terms):
        finer = zip(values[1:], values, strict=False)
        values = [(2**power * fine - coarse) / (2**power - 1) for fine, coarse in finer]
    return values[-1]


def flow_map(prior: Gaussian):
    """Where the exact probability flow ends, for a denoiser."""

    def end(x, sigma, **cond):
        levels = torch.full((len(x),), float(sigma), dtype=f64)
        return normal.flow(x, levels, 0 * levels, prior.mean, prior.basis, prior.variance)

    return end


def daps_by_flow(prior: Gaussian, measurement, sigmas) -> affine.Moments:
    """DAPS whose x^ is the exact flow map."""
    return affine.law(DAPS().told(measurement), flow_map(prior), sigmas, prior.shape)
