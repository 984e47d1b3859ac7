"""Is the score linear? Only a Gaussian's is (Pierret and Galerne 2024, Proposition 2).

Let x_t = a x_0 + s eps have the mean m_t, the covariance C_t, the score s_t and the Fisher
information J = E[s_t s_t']. With Stein's identity E[s_t (x_t - m_t)'] = -I,

    E|s_t + C_t^-1 (x_t - m_t)|^2 = tr J - tr C_t^-1  >=  0,

and it is 0 if and only if the score is linear: p_t, and so p_0, is a Gaussian. Weighed by C_t it
has no unit and no chart,

    gap = E (s_t + C_t^-1 (x_t - m_t))' C_t (...) / d = tr(C_t J)/d - 1        (in R: J Var - 1).

J is also the mean of -grad^2 log p_t (Fisher), tr J = E(d - tr dD/dx)/(scale sigma)^2.

In one dimension the means are integrals over p_t, by the trapezoidal rule, which is exact to all
digits for functions as smooth as these; elsewhere means over draws, with their standard error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import Data, Denoiser, Known, generator
from diffgeo.data.moments import Moments
from diffgeo.errors import DiffgeoError, UsageError

FINE = 40.0  # points of an integral within sigma
FAR = 12.0  # deviations beyond the draws at which an integral ends
SEEN = 10_000  # draws that say where a law is
MOST = 1 << 20  # points of an integral


class Gap(NamedTuple):
    """How far the score of x_t is from linear at one time.

    t: of the OU process dx = -x dt + sqrt 2 dW (Pierret and Galerne's with beta = 1), so that
        x_t = e^-t x_0 + sqrt(1 - e^-2t) eps; sigma: sqrt(e^2t - 1).
    excess: E|s_t + C_t^-1 (x_t - m_t)|^2; relative: the gap without a unit.
    fisher: tr J = E|s_t|^2; linear: tr C_t^-1.
    curvature: tr J by Fisher's identity; None where the denoiser does not know tr dD/dx.
    *_se: standard errors; 0 of an integral.
    """

    t: float
    sigma: float
    excess: float
    excess_se: float
    relative: float
    relative_se: float
    fisher: float
    fisher_se: float
    linear: float
    curvature: float | None
    curvature_se: float | None


class Points(NamedTuple):
    """Points x of p_sigma, float64 [n,*D], and what each weighs; None: all the same, draws."""

    x: Tensor
    weight: Tensor | None


def points_at(law: Data, sigma: float, n: int, seed: int) -> Points:
    """p_sigma by an integral in one dimension, where the law's density is known, else by n draws.

    Raises DiffgeoError where the integral of the density is not 1, UsageError on fewer than 2
    draws.
    """
    exact = density_of(law)
    if exact is not None and math.prod(law.shape) == 1:
        return integral(law, exact, sigma, seed)
    if n < 2:
        raise UsageError(f"n={n}: a spread takes 2 draws or more")
    g = generator(seed, *b"linear score")
    x0 = law.sample(n, g).double()
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64, device=x0.device)
    return Points(x0 + sigma * noise, None)


def density_of(law: Data) -> Density | None:
    """The law's exact denoiser, where it knows its density."""
    denoise = law.denoiser() if isinstance(law, Known) else None
    return denoise if isinstance(denoise, Density) else None


def integral(law: Data, exact: Density, sigma: float, seed: int) -> Points:
    """Points [n,1] across a line, and p_sigma dx at each."""
    seen = law.sample(SEEN, generator(seed, *b"line")).double().flatten()
    beyond = FAR * math.hypot(sigma, law.std)
    low = float(seen.min()) - beyond
    high = float(seen.max()) + beyond
    count = math.ceil((high - low) / sigma * FINE) + 1
    if count > MOST:
        raise UsageError(
            f"sigma = {sigma:.3g} is too fine for a law of this size: write a larger t"
        )
    x = torch.linspace(low, high, count, dtype=torch.float64)[:, None]
    weight = exact.log_density(x, sigma).exp() * (high - low) / (count - 1)
    total = float(weight.sum())
    if not abs(total - 1) < 1e-9:
        raise DiffgeoError(
            f"the density at sigma = {sigma:.3g} has the integral {total:.9g}, not 1"
        )
    return Points(x, weight)


@torch.no_grad()
def gap(
    denoise: Denoiser,
    law: Data,
    gaussian: Moments,
    t: float,
    n: int = 10_000,
    seed: int = 0,
) -> Gap:
    """The gap of `denoise` under the law at the time t > 0 of the OU process; `gaussian` has the
    moments of the law. Raises UsageError on another time."""
    if not 0 < t < math.inf:
        raise UsageError(f"t={t:g}: write a time above 0")
    sigma = math.sqrt(math.expm1(2 * t))
    scale = math.exp(-t)
    points = points_at(law, sigma, n, seed)
    # all of it in x = x_t/scale: the score of x_t is that of x, over the scale
    score = ((denoise(points.x, sigma) - points.x) / sigma**2).flatten(1).double()
    inverse = 1 / (gaussian.variance.to(score.device) + sigma**2)
    basis = gaussian.basis.to(score.device)
    centred = points.x.flatten(1) - gaussian.mean.to(score.device)
    off = score @ basis + (centred @ basis) * inverse
    excess, excess_se = mean_of(off.square().sum(1) / scale**2, points.weight)
    relative, relative_se = mean_of((off.square() / inverse).mean(1), points.weight)
    fisher, fisher_se = mean_of(score.square().sum(1) / scale**2, points.weight)
    curvature = curvature_se = None
    if isinstance(denoise, Density):
        shrunk = score.shape[1] - denoise.trace(points.x, sigma)
        curvature, curvature_se = mean_of(shrunk / (scale * sigma) ** 2, points.weight)
    return Gap(
        t=t,
        sigma=sigma,
        excess=excess,
        excess_se=excess_se,
        relative=relative,
        relative_se=relative_se,
        fisher=fisher,
        fisher_se=fisher_se,
        linear=float(inverse.sum()) / scale**2,
        curvature=curvature,
        curvature_se=curvature_se,
    )


def mean_of(values: Tensor, weight: Tensor | None) -> tuple[float, float]:
    """A mean [n] and its standard error, 0 of an integral."""
    if weight is not None:
        return float((weight * values).sum()), 0.0
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))
