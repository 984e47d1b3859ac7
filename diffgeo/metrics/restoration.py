"""What a restoration is worth: against the truth, the measurement, and the exact posterior.

Of draws x_1 .. x_L of one image, whose truth is x0 and whose measurement is y = A x0 + s n:

    psnr      10 log10(R^2 / mean (x - x0)^2), R = high - low; x clipped to [low, high], not rounded
    ssim      mean of (2 m m' + c1)(2 s_xy + c2) / ((m^2 + m'^2 + c1)(s_x^2 + s_y^2 + c2)) over all
              windows that lie inside: 11 x 11, Gaussian weights of deviation 1.5,
              c = (.01 R)^2, (.03 R)^2; x clipped (Wang, Bovik, Sheikh, Simoncelli 2004)
    misfit    |y - A x|^2 / (s^2 m), m the numbers of y. A draw of the posterior has expectation
              exactly 1 over (x0, y), as the truth has; the posterior mean has less. So misfit is
              held against 1: lower is not better.

Against L' draws of the exact posterior p(x0 | y), mean mu and covariance V:

    w2, sliced_w2    as in metrics.transport
    mmd              the maximum mean discrepancy of the kernel -|x - y|: the energy distance
                     (Sejdinovic, Sriperumbudur, Gretton, Fukumizu 2013)
    w2_moments       W2 of the Gaussians with the draws' moments and with mu, V, of a Gaussian law
    mean_error       |mean of the draws - mu|
    spread_ratio     tr Cov(draws) / tr V

Each of these has a floor: the same number of as many draws of the posterior itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Data
from diffgeo.metrics.frechet import frechet
from diffgeo.metrics.transport import energy, sliced_w2, w2

WINDOW = 11  # pixels of a side of SSIM's window
DEVIATION = 1.5  # of its weights, in pixels
MOST = 2000  # draws that an exact W2 is taken of
PAIRS = 8  # of clouds of the posterior, that a floor is the mean of

Values = dict[str, float]


# against the truth


def psnr(x: Tensor, truth: Tensor, low: float, high: float) -> Tensor:
    """Peak signal-to-noise ratio in decibels, [B]: x and truth [B,C,H,W], x clipped, unrounded; inf
    where they are equal."""
    error = x.double().clamp(low, high) - truth.double()
    mean = error.square().flatten(1).mean(1)
    return 10 * torch.log10((high - low) ** 2 / mean)


def window() -> Tensor:
    """The weights of SSIM's window along one axis, [11], of sum 1."""
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weight = torch.exp(-0.5 * (offset / DEVIATION) ** 2)
    return weight / weight.sum()


def averaged(x: Tensor) -> Tensor:
    """The weighted mean over every window that lies inside, [B,C,H,W] -> [B,C,H-10,W-10]."""
    weight = window().to(x.device)
    batch, channels, height, width = x.shape
    flat = x.reshape(batch * channels, 1, height, width)
    down = conv2d(flat, weight.view(1, 1, -1, 1))
    across = conv2d(down, weight.view(1, 1, 1, -1))
    return across.view(batch, channels, *across.shape[2:])


def ssim(x: Tensor, truth: Tensor, low: float, high: float) -> Tensor | None:
    """Structural similarity, [B], the mean over channels: x and truth [B,C,H,W], x clipped. None
    of images smaller than a window."""
    if min(x.shape[2:]) < WINDOW:
        return None
    a = x.double().clamp(low, high)
    b = truth.double()
    c1 = (0.01 * (high - low)) ** 2
    c2 = (0.03 * (high - low)) ** 2
    mean_a = averaged(a)
    mean_b = averaged(b)
    # variances of the weights, not of a sample: no n/(n - 1)
    var_a = averaged(a * a) - mean_a**2
    var_b = averaged(b * b) - mean_b**2
    both = averaged(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * both + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(1)


def rms_error(x: Tensor, truth: Tensor) -> Tensor:
    """The root mean square of x - truth over coordinates, [B]."""
    return (x.double() - truth.double()).square().flatten(1).mean(1).sqrt()


# against the measurement


def misfit(measurement: Measurement, x: Tensor) -> Tensor | None:
    """|y - A x|^2/(s^2 m), [B]; None where s = 0."""
    if measurement.sigma_n == 0:
        return None
    count = math.prod(measurement.operator.measured)
    return measurement.square(x) / (measurement.sigma_n**2 * count)


# against the exact posterior


@runtime_checkable
class Covariant(Protocol):
    """A law with the covariance matrix of a Gaussian, [d,d]."""

    @property
    def covariance(self) -> Tensor: ...


def flat(x: Tensor) -> np.ndarray:
    """[L,*D] -> float64 [L,d]."""
    return x.detach().double().flatten(1).cpu().numpy()


def total_variance(draws: Tensor) -> float:
    """tr Cov of draws [L,*D], with L - 1."""
    return float(draws.double().flatten(1).var(0).sum())


def against(draws: Tensor, posterior: Data, fresh: Tensor) -> Values:
    """The distances of draws [L,*D] from a law, of which `fresh` [L,*D] are draws: {} of one."""
    if len(draws) < 2:
        return {}
    x = flat(draws)
    y = flat(fresh)
    mean = posterior.mean.double().flatten()
    off = torch.from_numpy(x).mean(0) - mean.cpu()
    values = {
        "w2": w2(x[:MOST], y[:MOST]),
        "sliced_w2": sliced_w2(x, y),
        "mmd": energy(x[:MOST], y[:MOST]),
        "mean_error": float(off.norm()),
    }
    if isinstance(posterior, Covariant):
        covariance = torch.from_numpy(np.cov(x, rowvar=False).reshape(len(mean), len(mean)))
        square = frechet(off, covariance, torch.zeros_like(off), posterior.covariance.cpu())
        values["w2_moments"] = math.sqrt(max(square, 0.0))  # nan stays nan
    trace = posterior.std**2 * x.shape[1]
    # of a law that is one point to rounding there is no spread to compare with
    if trace > 1e-12 * max(1.0, float(mean.square().sum())):
        values["spread_ratio"] = total_variance(draws) / trace
    return values


def floors(posterior: Data, count: int, generator: torch.Generator, pairs: int) -> list[Values]:
    """`against` of `pairs` clouds of `count` draws of the law itself."""
    found = []
    for _ in range(pairs):
        cloud = posterior.sample(count, generator)
        other = posterior.sample(count, generator)
        found.append(against(cloud, posterior, other))
    return found


# several images


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and its standard error; None of one value."""
    some = torch.tensor(values, dtype=torch.float64)
    if len(some) < 2:
        return float(some.mean()), None
    return float(some.mean()), float(some.std()) / math.sqrt(len(some))


def summary(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of every column over the images that have it, and `_se` beside it where there are
    several; None where one of them has no such number."""
    found: dict[str, float | None] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if len(known) < len(values):
            found[key] = None
            continue
        mean, error = mean_and_error(known)
        found[key] = mean
        if error is not None:
            found[f"{key}_se"] = error
    return found
