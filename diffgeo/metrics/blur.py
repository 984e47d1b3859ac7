"""The blur that a network has learnt (Lu, Wang and Bal, Theorem 3.7).

Where the law has a support of lower dimension, its score is unbounded at small noise, and a bounded
network cannot have it. The score of the law convolved with N(0, s^2 I) is bounded, and its exact
denoiser is known too: with tau^2 = s^2 + sigma^2,

    D_s(x; sigma) = (s^2 x + sigma^2 D(x; tau))/tau^2 .

So "a network learns a blurred law" has a number: the s whose D_s is nearest to the network's D,

    J(s) = mean over levels and draws of |D - D_s|^2/sigma^2      (the error of epsilon),

x = x0 + sigma z at levels by a constant factor. In epsilon a level below s counts as a level below
s, however small it is: (D_s - D)/sigma is s^2/(s^2 + sigma^2) of the noise off the support. What
the blur explains of the network's error is 1 - J(s)/J(0): near 1, the network is a blurred law;
near 0, its error is another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, ImageSet, Known, Run, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points

GRID = 16  # blurs, by a constant factor, among which the best is looked for first
NARROW = 0.02  # of log s: how near golden sections lead to the best
STEP = 0.02  # of log s: then the least of a parabola through three points so far apart
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Blur(Measure):
    """`blur/s`, in units of the data, with its standard error; the rms error of epsilon per
    coordinate that is left (`blur/rms`) and that against the law itself (`blur/rms_law`), and the
    share of the squared error that the blur explains (`blur/explained`).

    n: draws at each level. levels: how many, from `lowest` to `highest` (None: the law's own
    deviation). groups: of draws, for the standard error.
    Of laws of points: {} for images, and for a cloud without a denoiser or an exact run. Raises
    UsageError on numbers that make no grid.
    """

    n: int = 100
    levels: int = 10
    lowest: float = 0.002
    highest: float | None = None
    groups: int = 8

    floors = False  # of a denoiser, not of a cloud

    def __post_init__(self):
        if not 2 <= self.groups <= self.n or self.levels < 2 or not self.lowest > 0:
            raise UsageError(
                f"metrics.blur: n={self.n} groups={self.groups} levels={self.levels} "
                f"lowest={self.lowest:g}: write 2 or more groups, as many draws, 2 or more levels "
                "above 0"
            )

    def sigmas(self, data: Data) -> Tensor:
        """The levels, increasing, [levels]. Raises UsageError."""
        highest = data.std if self.highest is None else self.highest
        if not highest > self.lowest:
            raise UsageError(
                f"metrics.blur: highest={highest:g} must be above lowest={self.lowest:g}"
            )
        ends = math.log10(self.lowest), math.log10(highest)
        return torch.logspace(*ends, self.levels, dtype=torch.float64)

    @torch.no_grad()
    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None or run.exact or isinstance(data, ImageSet):
            return {}
        if not isinstance(data, Known):
            return {}
        levels = self.sigmas(data)
        g = generator(run.seed, *b"blur")
        x0 = points(data.sample(self.n, g)).repeat(self.levels, 1)
        sigma = levels.repeat_interleave(self.n)
        x = x0 + sigma[:, None] * torch.randn(x0.shape, generator=g, dtype=torch.float64)
        device = run.simulation.device
        learned = points(run.simulation.denoise(x.to(device), sigma.to(device)))
        exact = data.denoiser()

        def errors(s: float) -> Tensor:
            """|D - D_s|^2/sigma^2 per coordinate of each draw, mean over the levels, [n]."""
            apart = (learned - blurred(exact, x, sigma, s)).square().mean(1) / sigma**2
            return apart.view(self.levels, self.n).mean(0)

        law = errors(0.0)
        s, error = fitted(errors, float(law.mean()), data.std, self.groups)
        left = errors(s) if s else law
        return {
            "blur/s": s,
            "blur/s_se": error,
            "blur/rms": float(left.mean().sqrt()),
            "blur/rms_law": float(law.mean().sqrt()),
            "blur/explained": 1 - float(left.mean() / law.mean()) if float(law.mean()) else 0.0,
        }


def blurred(denoise: Denoiser, x: Tensor, sigma: Tensor, s: float) -> Tensor:
    """D_s(x; sigma) by the denoiser of the law itself: x [B,d], sigma [B] -> [B,d]."""
    total = s**2 + sigma**2
    return x + (sigma**2 / total)[:, None] * (denoise(x, total.sqrt()) - x)


def fitted(
    errors: Callable[[float], Tensor], at_zero: float, unit: float, groups: int
) -> tuple[float, float]:
    """The s >= 0 of the least mean error and its standard error, by the jackknife over groups of
    draws: where the parabola of log s through three points has its least, and where it has it with
    each group left out. 0 and 0 where no blur is better than none."""
    s = near_best(lambda s: float(errors(s).mean()), at_zero, unit)
    if not s:
        return 0.0, 0.0
    columns = []
    for shift in (-STEP, 0.0, STEP):
        parts = errors(s * math.exp(shift)).tensor_split(groups)
        sums = torch.stack([part.sum() for part in parts])
        columns.append(torch.cat([sums.sum()[None], sums.sum() - sums]))
    below, middle, above = columns
    place = STEP / 2 * (below - above) / (below - 2 * middle + above)
    every, left_out = place[0], place[1:]
    variance = (groups - 1) / groups * (left_out - left_out.mean()).square().sum()
    s *= math.exp(float(every.clamp(-STEP, STEP)))
    return s, s * float(variance.sqrt())


def near_best(loss: Callable[[float], float], at_zero: float, unit: float) -> float:
    """The s of least loss, to `NARROW` of its logarithm: on a grid from 1e-4 to 1 of `unit`, then
    by golden sections about the best of it; 0 where none is better than none."""
    grid = torch.linspace(math.log(1e-4 * unit), math.log(unit), GRID, dtype=torch.float64)
    values = [loss(math.exp(u)) for u in grid.tolist()]
    k = min(range(GRID), key=values.__getitem__)
    if not values[k] < at_zero:
        return 0.0
    low = float(grid[max(k - 1, 0)])
    high = float(grid[min(k + 1, GRID - 1)])
    left = high - GOLDEN * (high - low)
    right = low + GOLDEN * (high - low)
    at_left = loss(math.exp(left))
    at_right = loss(math.exp(right))
    while high - low > NARROW:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(math.exp(right))
    return math.exp((low + high) / 2)
