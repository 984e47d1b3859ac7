"""What a restoration algorithm is wrong by on a Gaussian prior, without Monte Carlo.

The law of its samples is N(m', C') (theory.affine), the posterior N(m, V) of `Gaussian.given`, and

    W2^2 = |m' - m|^2 + tr(C' + V - 2 (V^1/2 C' V^1/2)^1/2),    spread = tr C'/tr V.

A run whose explicit step is unstable ends at numbers that say so: it is `Gap(inf, inf, inf)` where
they are too large for float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Sampler
from diffgeo.data.gaussian import Gaussian
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.condition import Measured
from diffgeo.theory import affine
from diffgeo.theory.distances import bures


class Gap(NamedTuple):
    """How far a law of samples is from the posterior."""

    w2: float  # in data units
    mean_error: float  # |m' - m|, in data units
    spread: float  # tr C'/tr V: 1 is right; nan where the posterior is one point


def restored(
    prior: Gaussian,
    measurement: Measurement,
    algorithm: Algorithm,
    sampler: Sampler,
    sigmas: Tensor,
    start: affine.Moments | None = None,
) -> affine.Moments:
    """The law of the restorations of one y that all rows share, by the exact denoiser of the prior.

    sampler: of an algorithm that has no step of its own. start: of the state at the first level;
    None: as the method has it. Raises UsageError on what is not affine.
    """
    told = Measured(measurement, algorithm, prior)
    one = range(1)
    denoise = told.around(prior.denoiser(), one)
    method = told.steered(sampler.on(sigmas), one)
    return affine.law(method, denoise, sigmas, prior.shape, start)


def gap(law: affine.Moments, mean: Tensor, covariance: Tensor) -> Gap:
    """From a law of samples to the posterior N(mean [d], covariance [d,d])."""
    if not bool(law.mean.isfinite().all() and law.covariance.isfinite().all()):
        return Gap(math.inf, math.inf, math.inf)
    total = float(covariance.trace())
    return Gap(
        w2=bures(law.mean, law.covariance, mean, covariance),
        mean_error=float((law.mean - mean).norm()),
        spread=float(law.covariance.trace()) / total if total > 0 else math.nan,
    )
