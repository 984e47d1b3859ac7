"""A cloud beside the cloud that another sampler makes of the same noise, and beside the law.

    coupled     (mean |student(z) - teacher(z)|^2)^(1/2)
    distance    mean distance to the support
    w2          W2 to the law: to its atoms, each as often as its weight says, or to fresh draws
    w2_counts   the same of the samples moved to the support: what is wrong with where along it
    chi2        sum_k (n_k - n w_k)^2/(n w_k) of the counts, by nearest atom, or of labelled images
                by the class of the nearest; k - 1 +- sqrt(2 (k - 1)) for a true sample (Pearson)

W2 alone misleads. A cloud that is exactly on the atoms pays for its counts, sqrt(n) noise that any
sample has; one that is blurred between them can be moved to whatever the counts ask for, and is
nearer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Data, ImageSet, Manifold, generator
from diffgeo.metrics.points import points
from diffgeo.metrics.transport import w2

PAIRS = 8  # clouds of the truth

Numbers = Mapping[str, float | None]


def apportioned(n: int, weights: Tensor) -> Tensor:
    """n split by weights [k] into whole numbers, by largest remainders, int64 [k]."""
    exact = n * weights.double() / weights.sum()
    counts = exact.floor().long()
    order = (counts - exact).argsort(stable=True)  # the largest remainder first
    counts[order[: n - int(counts.sum())]] += 1
    return counts


def reference(data: Data, n: int, seed: int) -> np.ndarray:
    """n points [n,d] that stand for the law: its atoms where it has some, else fresh draws."""
    if data.atoms is not None and data.weights is not None:
        counts = apportioned(n, data.weights)
        return points(data.atoms).flatten(1).repeat_interleave(counts, 0).numpy()
    return points(data.sample(n, generator(seed, *b"coupled"))).flatten(1).numpy()


def chi2(x: Tensor, data: Data) -> float | None:
    """Of the counts of a cloud; None where the law has neither atoms nor labelled images."""
    counts, weights = None, None
    if data.atoms is not None and data.weights is not None:
        atoms = points(data.atoms).flatten(1)
        near = torch.cdist(x.flatten(1), atoms, compute_mode="donot_use_mm_for_euclid_dist")
        counts = torch.bincount(near.argmin(1), minlength=len(atoms)).double()
        weights = points(data.weights)
    elif isinstance(data, ImageSet) and data.labels is not None:
        _, nearest = data.denoiser().nearest(x)
        weights = torch.bincount(data.labels, minlength=data.classes).double()
        counts = torch.bincount(data.label(nearest[:, 0]), minlength=data.classes).double()
        counts, weights = counts[weights > 0], weights[weights > 0]
    if counts is None or weights is None:
        return None
    expected = len(x) * weights / weights.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def beside(samples: Tensor, teacher: Tensor, data: Manifold, law: np.ndarray) -> Numbers:
    """The numbers of a cloud [n,*D]. teacher: [n,*D] of the same noise. law: `reference`."""
    x = points(samples)
    difference = (x - points(teacher)).flatten(1)
    return {"coupled": float(difference.square().sum(1).mean().sqrt())} | alone(x, data, law)


def alone(x: Tensor, data: Manifold, law: np.ndarray) -> dict[str, float | None]:
    """Those that need no teacher, of x [n,*D] float64."""
    moved = points(data.project(x)).flatten(1)
    return {
        "distance": float(points(data.distance(x)).mean()),
        "w2": w2(x.flatten(1).numpy(), law),
        "w2_counts": w2(moved.numpy(), law),
        "chi2": chi2(x, data),
    }


def truth(teacher: Tensor, data: Manifold, seed: int) -> tuple[Numbers, Numbers]:
    """The same of true samples, mean and spread over PAIRS clouds: the floor of every column. Where
    the law stands as fresh draws, each cloud has its own."""
    rows = []
    for pair in range(1, PAIRS + 1):
        x = data.sample(len(teacher), generator(seed, pair, *b"truth"))
        rows.append(beside(x, teacher, data, reference(data, len(teacher), seed - pair)))
    mean: dict[str, float | None] = {}
    spread: dict[str, float | None] = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row[key]) is not None]
        mean[key] = float(np.mean(values)) if values else None
        spread[key] = float(np.std(values, ddof=1)) if values else None
    return mean, spread
