"""Is a denoiser an approximate projection? Permenter and Yuan's assumption, measured along
trajectories.

With p = proj(x_t) the nearest point of the support, d_t = |x_t - p| and n the dimension of the
space, all at the same state x_t,

    eta_t = |D(x_t) - p| / d_t,          nu_t = max(sigma sqrt(n)/d_t, d_t/(sigma sqrt(n))).

A DDIM step is x' = x - beta (x - D), beta = 1 - sigma'/sigma. From p and the triangle inequality,
and because dist is 1-Lipschitz,

    |x' - p| = |(1-beta)(x - p) + beta (D - p)|  =>  d' <= (1 + beta (eta_t - 1)) d,
    |x' - x| = beta |x - D|                      =>  d' >= (1 - beta (eta_t + 1)) d,

with no assumption at all: a violation is an error of the projection, of the sampler or of the
count. The theorem multiplies the two along a run with one eta < 1 for all of it. The published
generator pairs D(x_t) with the state *after* the update, which inflates eta and nu by about
sigma/sigma'; `legacy_offset` does as it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Manifold, generator
from diffgeo.errors import UsageError
from diffgeo.simulation import Simulation, ranges
from diffgeo.theory import certificate

NUMBERS = 1 << 18  # of the states held at once
ROUNDING = 64 * torch.finfo(torch.float64).eps  # of a distance, in units of |x| + |p|


def length(x: Tensor) -> Tensor:
    """|x| of every row, [N,*D] -> [N]."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


class Measured(NamedTuple):
    """What N runs over the levels sigma [K+1] showed; a row of every [K,N] is the state that a step
    leaves."""

    sigma: Tensor  # [K+1]
    distance: Tensor  # [K+1,N] to the support
    eta: Tensor  # [K,N] relative error of D as a projection
    ratio: Tensor  # [K,N] sqrt(n) sigma / distance
    norm: Tensor  # [K,N] |eps|/sqrt(n), eps = (x - D)/sigma
    violations: Tensor  # [K] runs that break the per-step inequality, beyond rounding
    ddim: bool  # every step was DDIM's, so that the inequality is owed

    @property
    def nu(self) -> Tensor:
        """max(ratio, 1/ratio), [K,N]."""
        return torch.maximum(self.ratio, 1 / self.ratio)


def check(law: Manifold, quantile: float = 1.0) -> None:
    """Raise UsageError for data without a projection, for a law that fills its space (every point
    is its own projection there), and for a quantile outside (0, 1]."""
    if not 0 < quantile <= 1:
        raise UsageError(
            f"quantile={quantile}: write a share of the trajectories above 0, at most 1"
        )
    if not hasattr(law, "project"):
        raise UsageError(
            f"data={type(law).__name__} has no nearest point: write a law with a support, such as "
            "data=curve"
        )
    if law.dim >= math.prod(law.shape):
        raise UsageError(
            f"this law fills R^{law.shape[0]}, so every distance to it is 0: write a law of lower "
            "dimension, "
            f"or data.ambient={8 * law.shape[0]}, and blur=0"
        )


def measure(
    simulation: Simulation,
    law: Manifold,
    numbers: range,
    legacy_offset: bool = False,
    batch: int | None = None,
) -> Measured:
    """Draw the samples of these numbers and measure at every state of theirs; memory holds one
    batch of states and K numbers a run.

    `legacy_offset` leaves a last step into 0 out. Raises UsageError for a law without a proper
    support.
    """
    check(law)
    batch = batch or min(2500, 1 + NUMBERS // math.prod(law.shape))
    if legacy_offset:  # the state after a step into 0 has no distance to divide by
        simulation = replace(simulation, sampler=simulation.method, sigmas=simulation.positive)
    sigmas = simulation.sigmas
    parts = [one_batch(simulation, law, piece, legacy_offset) for piece in ranges(numbers, batch)]
    along = {
        name: torch.cat([getattr(p, name) for p in parts], 1)
        for name in ("distance", "eta", "ratio", "norm")
    }
    return Measured(
        sigma=sigmas,
        violations=sum(p.violations for p in parts),
        ddim=all(p.ddim for p in parts),
        **along,
    )


@torch.no_grad()
def one_batch(
    simulation: Simulation, law: Manifold, numbers: range, legacy_offset: bool
) -> Measured:
    """`measure` for the runs of these numbers."""
    start = simulation.start(numbers)
    sigmas = simulation.sigmas
    root = math.sqrt(math.prod(law.shape))
    x = start.x
    p = law.project(x)
    distance = [length(x - p)]
    rows = []
    violations = []
    ddim = True
    for (sigma, sigma_next), step in zip(
        pairwise(sigmas.tolist()), simulation.steps(start), strict=True
    ):
        d = distance[-1]
        beta = 1 - sigma_next / sigma
        rounding = ROUNDING * (length(x) + length(p))
        error = length(step.denoised - p)
        after = law.project(step.x)
        d_next = length(step.x - after)
        kept = (d_next <= d - beta * (d - error) + rounding) & (
            d_next >= d - beta * (d + error) - rounding
        )
        violations.append((~kept).sum())
        ddim &= bool((length(step.x - torch.lerp(step.denoised, x, 1 - beta)) <= rounding).all())
        norm = length(x - step.denoised) / (sigma * root)
        if legacy_offset:
            d = d_next
            error = length(step.denoised - after)
        rows.append(torch.stack([torch.nan_to_num(error / d, nan=0.0), root * sigma / d, norm]))
        distance.append(d_next)
        x = step.x
        p = after
    eta, ratio, norm = torch.stack(rows, 1).cpu()
    return Measured(
        sigmas, torch.stack(distance).cpu(), eta, ratio, norm, torch.stack(violations).cpu(), ddim
    )


@dataclass(frozen=True)
class Verdict:
    """The theorem's assumption on measured runs, over the positive levels (no grid may step into 0:
    beta = 1 >= 1/(1+eta)).

    quantile: the share of the runs that must satisfy it at each level; 1: all of them.
    """

    measured: Measured
    quantile: float = 1.0

    @cached_property
    def sigmas(self) -> list[float]:
        """The positive levels."""
        return [s for s in self.measured.sigma.tolist() if s > 0]

    def _worst(self, values: Tensor) -> list[float]:
        return values.quantile(self.quantile, dim=1).tolist()

    @cached_property
    def eta_by_level(self) -> list[float]:
        return self._worst(self.measured.eta)

    @cached_property
    def nu_by_level(self) -> list[float]:
        return self._worst(self.measured.nu)

    @property
    def eta(self) -> float:
        return max(self.eta_by_level)

    @property
    def nu(self) -> float:
        return max(self.nu_by_level)

    @cached_property
    def nu_min(self) -> float:
        """The certificate of the positive levels at the measured eta."""
        return certificate.nu_min(self.sigmas, self.eta)

    @cached_property
    def nu_min_by_level(self) -> float:
        """The same with each level's own eta: sharper, and as true."""
        return certificate.nu_min(self.sigmas, self.eta_by_level[: len(self.sigmas) - 1])

    @property
    def fails(self) -> list[float]:
        """The levels at which eta >= 1."""
        levels = self.measured.sigma.tolist()
        return [s for s, e in zip(levels, self.eta_by_level, strict=False) if e >= 1]

    @property
    def leaves(self) -> list[float]:
        """The levels at which the band nu_min, widened by the start's own distance from it, is
        left."""
        widest = self.nu_min * self.nu_by_level[0]
        return [
            s
            for s, v in zip(self.measured.sigma.tolist(), self.nu_by_level, strict=False)
            if v > widest * (1 + 1e-12)
        ]

    @property
    def met(self) -> bool:
        return not self.fails and math.isfinite(self.nu_min) and not self.leaves

    def __str__(self) -> str:
        if self.fails:
            return (
                f"assumption not met: eta >= 1 at {len(self.fails)} of {len(self.eta_by_level)} "
                "levels, sigma from "
                f"{max(self.fails):.3g} to {min(self.fails):.3g}; worst {self.eta:.3g} at "
                f"sigma = {self._where(self.eta_by_level):.3g}"
            )
        if math.isinf(self.nu_min):
            beta = certificate.betas(self.sigmas)
            return (
                f"grid not admissible: eta = {self.eta:.3g} < 1 holds, but beta = {max(beta):.3g} "
                f"at sigma = {self._where(beta):.3g} "
                f"is not below 1/(1 + eta) = {1 / (1 + self.eta):.3g}; write more steps"
            )
        if self.leaves:
            return (
                f"assumption not met: the band nu = {self.nu_min:.3g} is left at sigma from "
                f"{max(self.leaves):.3g} "
                f"to {min(self.leaves):.3g}"
            )
        return (
            f"assumption met: eta = {self.eta:.3g} at most, at sigma = "
            f"{self._where(self.eta_by_level):.3g}; the grid is admissible "
            f"with nu = {self.nu_min:.4g} ({self.nu_min_by_level:.4g} with each level's own "
            "eta)"
        )

    def _where(self, values: Sequence[float]) -> float:
        return float(self.measured.sigma[max(range(len(values)), key=values.__getitem__)])


@torch.no_grad()
def denoiser_errors(
    denoise: Denoiser, law: Manifold, sigmas: Tensor, n: int = 1000, seed: int = 0, device="cpu"
) -> Tensor:
    """|eps(x0 + sigma eps, sigma) - eps|/sqrt(n) at fresh noised points of each positive level,
    [L,n]: 1 is what predicting 0 gives."""
    g = generator(seed, *b"denoiser error", device=device)
    rows = []
    for sigma in sigmas.tolist():
        x0 = law.sample(n, g)
        x = x0 + sigma * torch.randn(x0.shape, generator=g, dtype=x0.dtype, device=x0.device)
        rows.append(length(denoise(x, sigma) - x0) / (sigma * math.sqrt(x0[0].numel())))
    return torch.stack(rows).cpu()
