"""The smoothed squared distance to a cloud, and the estimators of the distance side by side.

    E_sigma(x) = -sigma^2 log sum_i w_i exp(-|x - x_i|^2 / (2 sigma^2)),
    grad E_sigma = x - D(x; sigma) = sigma eps*(x, sigma),

by Tweedie's formula: with w_i = 1/k it is -sigma^2 log p_sigma up to the constant sigma^2 log (2 pi
sigma^2)^(n/2). Permenter and Yuan take w_i = 1 and call it dist^2(x, sigma), with gradient 2 sigma
eps*; that needs dist^2 = 2 E, the convention here. With d the distance,

    d^2 - 2 sigma^2 log k  <=  2 E (w_i = 1)    <=  d^2,
    d^2  <=  2 E (w_i = 1/k)  <=  d^2 + 2 sigma^2 log k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Manifold, Sigma, column, generator
from diffgeo.data import Cloud
from diffgeo.simulation import Simulation

PRODUCTS = 1 << 20  # distances held at a time
STANDING = 1 << 19  # numbers in the true samples that stand in for a law


@dataclass(frozen=True, eq=False)
class Energy:
    """E_sigma of points [k,d] under weights [k], which are taken as they are; without weights, 1/k
    each."""

    points: Tensor
    weights: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E_sigma(x), [B,*D] -> [B], differentiable."""
        x = x.flatten(1)
        points = self.points.to(x).flatten(1)
        k = len(points)
        if self.weights is None:
            log_w = x.new_full((k,), -math.log(k))
        else:
            log_w = self.weights.to(x).log()
        rows = 1 + PRODUCTS // k
        parts = zip(x.split(rows), column(sigma, x).split(rows), strict=True)
        return torch.cat([energy_at(part, level, points, log_w) for part, level in parts])

    def distance(self, x: Tensor, sigma: Sigma) -> Tensor:
        """The smoothed distance sqrt(2 E), 0 where E is negative, [B]."""
        return (2 * self(x, sigma)).clamp(min=0).sqrt()


def energy_at(x: Tensor, sigma: Tensor, points: Tensor, log_w: Tensor) -> Tensor:
    """E of states [B,d] at the levels [B], from points [k,d]: [B]."""
    # no |x|^2 - 2 x.a + |a|^2 to cancel
    square = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    return -(sigma**2) * torch.logsumexp(log_w - square / (2 * sigma[:, None] ** 2), 1)


def energy_of(law: Manifold, count: int = 2048, seed: int = 0) -> Energy:
    """The energy of a law: its own points where there are few enough to hold, else those of up to
    `count` true samples that stand in."""
    count = max(1, min(count, STANDING // math.prod(law.shape)))
    points = law.points if isinstance(law, Cloud) else law.atoms
    if points is None:
        return Energy(law.sample(count, generator(seed, *b"energy")))
    return Energy(points, law.weights)


@torch.no_grad()
def estimates(
    simulation: Simulation, law: Manifold, numbers: range, energy: Energy | None = None
) -> dict[str, Tensor]:
    """The distance of the runs of these n numbers to the support and what estimates it, [K,n] at
    the states that the K steps leave: by exact projection, smoothed sqrt(2 E), sigma |eps| = |x -
    D|, and sqrt(d) sigma, which knows the level alone. D is as the loop shows it."""
    energy = energy or energy_of(law)
    start = simulation.start(numbers)
    x = start.x
    root = math.sqrt(x[0].numel())
    found: dict[str, list[Tensor]] = {
        "exact": [],
        "smoothed": [],
        "sigma |eps|": [],
        "sqrt(n) sigma": [],
    }
    for sigma, step in zip(simulation.sigmas.tolist(), simulation.steps(start), strict=False):
        residual = (x - step.denoised).flatten(1)
        found["exact"].append(law.distance(x))
        found["smoothed"].append(energy.distance(x, sigma))
        found["sigma |eps|"].append(torch.linalg.vector_norm(residual, dim=1))
        found["sqrt(n) sigma"].append(torch.full((len(x),), root * sigma, dtype=torch.float64))
        x = step.x
    return {name: torch.stack(rows) for name, rows in found.items()}
