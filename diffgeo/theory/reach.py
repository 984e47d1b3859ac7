"""Denoising approximates projection, and where (Permenter and Yuan 2024; the reach theorem).

The reach of K is the largest tau for which every point nearer to K than tau has one nearest point.
With x = x0 + sigma eps, n the dimension of the space and d that of K, the theorem says: while
reach > sigma sqrt(n), with high probability

    |proj(x) - x0|  <~  sigma sqrt(d),

for the projection sees but the d tangential directions of the noise. Federer's formula,

    reach = inf over p, q in K of |q - p|^2 / (2 dist(q - p, T_p K)),

over pairs of drawn points is an estimate from above: exact on spheres and finite sets of which
every point was drawn, infinite on what is flat. And with D the denoiser, the gap

    sqrt(E|D(x) - proj(x)|^2 / E|x - proj(x)|^2)

is small at small sigma (D is nearly the projection) and, where K is bounded, at large sigma (both
are near, as seen from x); between, where sigma is the size of what K does, it is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Manifold, generator
from diffgeo.errors import UsageError
from diffgeo.simulation import ranges
from diffgeo.theory.admissibility import check, length

NUMBERS = 1 << 20  # of what is held at once
STRAYED = 3.0  # in units of sigma sqrt(d): a projection that went farther went to another place
ROUNDING = (
    1e-9  # of a normal component, in units of the points' size: a shorter one has lost its digits
)
QUANTILE = 0.99


@dataclass(frozen=True)
class Reach:
    """What N draws at the levels sigma [L] showed; a row of every [L,N] is a level.

    reach: the estimate, inf where nothing bends. n, d: the dimensions. ratio: |proj(x) - x0|/(sigma
    sqrt(d)); of a finite set, where d = 0, |proj(x) - x0|/sigma. apart: |D - proj(x)|. distance:
    |x - proj(x)|.
    """

    reach: float
    n: int
    d: int
    sigma: Tensor
    ratio: Tensor
    apart: Tensor
    distance: Tensor

    @property
    def inside(self) -> Tensor:
        """At which levels the theorem's condition holds, reach > sigma sqrt(n); [L]."""
        return self.sigma * math.sqrt(self.n) < self.reach

    @property
    def returned(self) -> Tensor:
        """The share of draws whose projection is near their x0, [L]: within 3 sigma sqrt(d), on a
        finite set x0 itself."""
        bar = STRAYED if self.d else 1e-9
        return (self.ratio <= bar).double().mean(1)

    @property
    def gap(self) -> tuple[Tensor, Tensor]:
        """The gap at each level and its standard error, [L] each."""
        above = self.apart.square()
        below = self.distance.square()
        gap = (above.mean(1) / below.mean(1)).sqrt()
        parts = above / above.mean(1, keepdim=True) - below / below.mean(1, keepdim=True)
        error = gap / 2 * parts.std(1) / math.sqrt(parts.shape[1])
        return gap, torch.where(above.sum(1) > 0, error, 0.0)


def measure(
    denoise: Denoiser,
    law: Manifold,
    sigmas: Tensor,
    n: int = 1000,
    pairs: int = 2000,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Reach:
    """n draws of the law, the same noise at every level of sigmas [L]; the reach by the pairs of so
    many points. Raises UsageError for a law that has no projection or fills its space, and for
    fewer than two draws or points."""
    check(law)
    if n < 2 or pairs < 2:
        raise UsageError(f"n={n} pairs={pairs}: write 2 or more of each")
    g = generator(seed, *b"reach", device=device)
    x0 = law.sample(n, g).double()
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64, device=device)
    estimate = reach(law, law.sample(pairs, g).double())
    rows = []
    for sigma in sigmas.tolist():
        parts = []
        for piece in ranges(range(n), max(1, NUMBERS // x0[0].numel())):
            rows_of = slice(piece.start, piece.stop)
            parts.append(at_level(denoise, law, x0[rows_of], noise[rows_of], sigma))
        rows.append(torch.cat(parts, 1))
    ratio, apart, distance = torch.stack(rows, 1).cpu()
    return Reach(estimate, x0[0].numel(), law.dim, sigmas.cpu(), ratio, apart, distance)


@torch.no_grad()
def at_level(denoise: Denoiser, law: Manifold, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """ratio, apart and distance of some draws at one level, [3,n]."""
    x = x0 + sigma * noise
    p = law.project(x)
    moved = length(p - x0) / (sigma * math.sqrt(law.dim or 1))
    return torch.stack([moved, length(denoise(x, sigma) - p), length(x - p)])


def reach(law: Manifold, points: Tensor) -> float:
    """Federer's formula over all pairs of points [m,*D] of the support: an upper bound of its
    reach, inf where no pair bends."""
    tangent = law.tangent(points).flatten(1, -2)  # [m,n,dim]
    flat = points.flatten(1)
    size = float(length(points).max())
    least = math.inf
    for piece in ranges(range(len(flat)), max(1, NUMBERS // flat.numel())):
        rows = slice(piece.start, piece.stop)
        step = flat - flat[rows, None]  # [b,m,n], q - p
        along = torch.einsum("bmn,bnd->bmd", step, tangent[rows])
        normal = step - torch.einsum("bmd,bnd->bmn", along, tangent[rows])
        bend = torch.linalg.vector_norm(normal, dim=2)
        radius = step.square().sum(2) / (2 * bend)
        bends = bend > ROUNDING * size
        if bool(bends.any()):
            least = min(least, float(radius[bends].min()))
    return least


def columns(found: Reach) -> dict[str, Tensor]:
    """Every level's numbers by name, [L] each."""
    gap, error = found.gap
    return {
        "sigma": found.sigma,
        "sigma_sqrt_n": found.sigma * math.sqrt(found.n),
        "inside": found.inside.double(),
        "ratio_mean": found.ratio.mean(1),
        "ratio_sd": found.ratio.std(1),
        "ratio_q99": found.ratio.quantile(QUANTILE, 1),
        "returned": found.returned,
        "gap": gap,
        "gap_se": error,
    }


def numbers(found: Reach) -> dict[str, float | None]:
    """What a run ends in: the reach, the worst level inside it, the gap at both ends and where it
    is largest. None where there is none: an infinite reach, no level inside."""
    gap, error = found.gap
    inside = found.inside
    bent = math.isfinite(found.reach)
    any_inside = bool(inside.any())
    worst = int(gap.argmax())
    low = int(found.sigma.argmin())
    high = int(found.sigma.argmax())
    quantiles = found.ratio.quantile(QUANTILE, 1)
    return {
        "reach/estimate": found.reach if bent else None,
        "reach/sigma": found.reach / math.sqrt(found.n) if bent else None,
        "reach/levels_inside": int(inside.sum()),
        "reach/ratio_q99": float(quantiles[inside].max()) if any_inside else None,
        "reach/returned": float(found.returned[inside].min()) if any_inside else None,
        "reach/gap_low": float(gap[low]),
        "reach/gap_low_se": float(error[low]),
        "reach/gap_high": float(gap[high]),
        "reach/gap_high_se": float(error[high]),
        "reach/gap_worst": float(gap[worst]),
        "reach/gap_worst_se": float(error[worst]),
        "reach/gap_worst_sigma": float(found.sigma[worst]),
    }


def verdict(found: Reach) -> str:
    """The theorem and the measurement, in words."""
    ratio = "|proj(x) - x0|/(sigma sqrt(d))" if found.d else "|proj(x) - x0|/sigma (d = 0)"
    values = numbers(found)
    if not math.isfinite(found.reach):
        where = "the reach is infinite (no pair of points bends), so the theorem is for every level"
    else:
        where = (
            f"reach <= {found.reach:.4g}: the theorem is for sigma < {values['reach/sigma']:.4g}"
        )
    if values["reach/ratio_q99"] is None:
        what = "no level of these is so low"
    else:
        what = (
            f"there {QUANTILE:.0%} of the draws have {ratio} <= {values['reach/ratio_q99']:.3g}, "
            f"and {values['reach/returned']:.2%} project near their own x0"
        )
    low, high, worst = (
        f"{values[f'reach/gap_{end}']:.3g} +- {values[f'reach/gap_{end}_se']:.1g}"
        for end in ("low", "high", "worst")
    )
    agree = (
        f"|D - proj|/|x - proj|, root mean squares: {low} at the lowest level, {high} at the "
        f"highest, at worst {worst} at sigma = {values['reach/gap_worst_sigma']:.3g}"
    )
    return f"{where};\n{what}\n{agree}"
