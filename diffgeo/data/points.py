"""Finitely many points: the CEM paper's atoms, and any cloud the user has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from diffgeo.analytic import points as exact
from diffgeo.core import generator as stream
from diffgeo.data.law import Law
from diffgeo.errors import UsageError
from diffgeo.store.files import read_array


@dataclass(frozen=True, eq=False)
class Points(Law):
    """sum_i weights_i delta(points_i): points [k,d]; weights [k], normalized here, equal if None."""

    points: Sequence[Sequence[float]]
    weights: Sequence[float] | None = None

    def __post_init__(self):
        atoms = torch.as_tensor(self.points, dtype=torch.float64)
        if atoms.ndim != 2 or not len(atoms):
            raise UsageError(
                f"points must be a list of k points of d numbers, not of shape {list(atoms.shape)}"
            )
        weights = torch.as_tensor(
            [1.0] * len(atoms) if self.weights is None else self.weights, dtype=torch.float64
        )
        if weights.shape != (len(atoms),) or not bool((weights > 0).all()):
            raise UsageError(f"weights must be {len(atoms)} positive numbers, one a point")
        weights = weights / weights.sum()
        mean = weights @ atoms
        self.__dict__.update(
            points=atoms,
            atoms=atoms,
            weights=weights,
            shape=(atoms.shape[1],),
            dim=0,
            mean=mean,
            std=float((weights @ (atoms - mean) ** 2).mean().sqrt()),
        )

    def sample(self, n, generator):
        pick = torch.multinomial(
            self.weights.to(generator.device), n, replacement=True, generator=generator
        )
        return self.atoms.to(generator.device)[pick]

    def project(self, x):
        return self.atoms.to(x)[exact.nearest(x, self.atoms.to(x))]

    def tangent(self, p):
        return p.new_zeros(*p.shape, 0)

    def posterior(self, x, sigma):
        return exact.atoms(x, sigma, self.atoms.to(x), self.weights.to(x))

    def _identity(self, value):
        return value.tolist()


def random_points(count: int = 5, n: int = 2, seed: int = 0) -> Points:
    """`count` points, uniform in the unit cube of R^n, fixed by `seed`; equal weights (Figure 5 and
    Table 1 of the CEM paper)."""
    return Points(torch.rand(count, n, generator=stream(seed, count, n), dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Cloud(Law):
    """The empirical law of a point cloud [N,d]: `file` (.npy, .npz (its first array), .csv) or
    `points`, an array.

    float32 points are held and multiplied in float32, everything else in float64; draws, mean and
    denoised points are float64.
    """

    file: str | None = None
    points: Sequence[Sequence[float]] | None = None

    def __post_init__(self):
        if (self.file is None) == (self.points is None):
            raise UsageError("a cloud is one array: write data.file=PATH.npy (or .npz, .csv)")
        array = read_array(self.file, "data.file") if self.points is None else self.points
        points = torch.as_tensor(array, dtype=None if hasattr(array, "dtype") else torch.float64)
        points = points if points.dtype == torch.float32 else points.double()
        if points.ndim != 2 or not points.numel() or not bool(points.isfinite().all()):
            raise UsageError(
                f"a cloud is a table [N,d] of finite numbers, not {list(points.shape)}: one point "
                "a row"
            )
        mean = points.mean(0, dtype=torch.float64)
        variance = (
            sum(float((part - mean).square().sum()) for part in points.split(8192)) / points.numel()
        )
        self.__dict__.update(
            points=points, shape=(points.shape[1],), dim=0, mean=mean, std=variance**0.5
        )
        # once a device, at the first use
        self.__dict__["prepared"] = cache(lambda device: exact.cloud(points.to(device)))

    def sample(self, n, generator):
        pick = torch.randint(len(self.points), (n,), generator=generator, device=generator.device)
        return self.points[pick.to(self.points.device)].to(generator.device, torch.float64)

    def project(self, x):
        points = self.points.to(x)
        return points[exact.nearest(x, points)]

    def tangent(self, p):
        return p.new_zeros(*p.shape, 0)

    def posterior(self, x, sigma):
        return self.prepared(x.device)(x, sigma)

    @property
    def key(self) -> str:
        """By content: the same points in another file are the same law."""
        content = hashlib.sha256()
        # as float64: the dtype of the file is no part of the law
        for part in self.points.split(8192):
            content.update(part.double().cpu().contiguous().numpy().tobytes())
        return f"cloud-{'x'.join(map(str, self.points.shape))}-{content.hexdigest()[:16]}"
