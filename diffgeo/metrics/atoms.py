"""Atoms: does a cloud give each point of a discrete law its weight?

Samples are assigned to the nearest atom; with n_k of N samples at the atom k of weight w_k,

    chi2 = sum_k (n_k - N w_k)^2 / (N w_k),     k-1 +- sqrt(2(k-1)) for a true sample (Pearson).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from diffgeo.core import Data, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points


@dataclass(frozen=True)
class Atoms(Measure):
    """`atoms/chi2`, the shares `atoms/w_1 ... w_k`, and `atoms/off`, the share farther than
    `radius` (data units) from every atom."""

    radius: float = 0.05

    cheap = True

    def __post_init__(self):
        if not 0 < self.radius < math.inf:
            raise UsageError(f"metrics.atoms.radius={self.radius:g}: write a length above 0")

    def steady(self, key: str, n: int) -> bool:
        return key != "atoms/chi2"  # of wrong shares it grows with n

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if data.atoms is None:
            return {}
        x = points(run.samples).flatten(1)
        atoms = points(data.atoms).flatten(1)
        weights = points(data.weights)
        d, nearest = torch.cdist(x, atoms, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        counts = torch.bincount(nearest, minlength=len(atoms)).double()
        expected = len(x) * weights / weights.sum()
        report = {
            "atoms/chi2": float(((counts - expected) ** 2 / expected).sum()),
            "atoms/off": float((d > self.radius).double().mean()),
        }
        for k, share in enumerate(counts / len(x), 1):
            report[f"atoms/w_{k}"] = float(share)
        return report
