"""Finitely many points: the CEM paper's atoms, and any cloud the user has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic import atoms, clouds
from diffgeo.analytic import given as posteriors
from diffgeo.analytic import points as exact
from diffgeo.analytic.exact import Posterior
from diffgeo.analytic.measurement import Operator
from diffgeo.core import Denoiser
from diffgeo.core import generator as stream
from diffgeo.data.gaussian import Mixture
from diffgeo.data.law import Law
from diffgeo.errors import UsageError
from diffgeo.store.arrays import read_array


class Points(Law):
    """sum_i weights_i delta(points_i): points [k,d]; weights [k], normalized here, equal if
    None."""

    atoms: Tensor
    weights: Tensor

    def __init__(
        self,
        points: Sequence[Sequence[float]] | Tensor,
        weights: Sequence[float] | Tensor | None = None,
    ):
        self.atoms = torch.as_tensor(points, dtype=torch.float64)
        if self.atoms.ndim != 2 or not len(self.atoms):
            raise UsageError(
                "points must be a list of k points of d numbers, not of shape "
                f"{list(self.atoms.shape)}"
            )
        k = len(self.atoms)
        shares = torch.as_tensor([1.0] * k if weights is None else weights, dtype=torch.float64)
        if shares.shape != (k,) or not bool((shares > 0).all()):
            raise UsageError(f"weights must be {k} positive numbers, one a point")
        self.weights = shares / shares.sum()
        self.shape = (self.atoms.shape[1],)
        self.dim = 0
        self.mean = self.weights @ self.atoms
        variance = self.weights @ (self.atoms - self.mean) ** 2  # of each coordinate
        self.std = float(variance.mean().sqrt())

    @property
    def points(self) -> Tensor:
        """The atoms."""
        return self.atoms

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """The same points, of weight w_i exp(-|y - A(a_i)|^2/2 sigma_n^2), whatever A is; those of
        weight 0 are left out."""
        posteriors.check(operator, y, sigma_n, self.shape)
        prior = self.weights.log()
        found = posteriors.reweighted(operator, self.atoms, prior, y[None], sigma_n)
        weights = found.log_weight[0].exp()
        held = weights > 0
        law = Points(self.atoms[held], weights[held])
        return law.known_by(float(found.log_evidence), float(found.ess))

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser:
        """The posterior mean of rows with measurements y [B,*M]."""
        prior = self.weights.log()
        found = posteriors.reweighted(operator, self.atoms, prior, y, sigma_n)
        return posteriors.RowAtoms(self.atoms, found.log_weight.exp())

    def convolved(self, s: float) -> Mixture:
        noise = s**2 * torch.eye(self.shape[0], dtype=torch.float64)
        return Mixture(self.atoms, noise.expand(len(self.atoms), -1, -1), self.weights)

    def sample(self, n, generator):
        weights = self.weights.to(generator.device)
        pick = torch.multinomial(weights, n, replacement=True, generator=generator)
        return self.atoms.to(generator.device)[pick]

    def project(self, x):
        return self.atoms.to(x)[exact.nearest(x, self.atoms.to(x))]

    def tangent(self, p):
        return p.new_zeros(*p.shape, 0)

    def posterior(self, x, sigma):
        return exact.atoms(x, sigma, self.atoms.to(x), self.weights.to(x))

    def weighed(self, x: Tensor, sigma: Tensor) -> Posterior:
        return atoms.weighed(x, sigma, self.atoms.to(x), self.weights.to(x))

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return atoms.log_density(x, sigma, self.atoms.to(x), self.weights.to(x))

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.weighed(x, sigma).trace

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return atoms.covariance_product(x, sigma, self.atoms.to(x), self.weights.to(x), v)

    def parameters(self):
        return [("points", self.atoms.tolist()), ("weights", self.weights.tolist())]


def random_points(count: int = 5, n: int = 2, seed: int = 0) -> Points:
    """`count` points, uniform in the unit cube of R^n, fixed by `seed`; equal weights (Figure 5 and
    Table 1 of the CEM paper)."""
    if count < 1 or n < 1:
        raise UsageError(f"data.count={count}, data.n={n}: write 1 or more of each")
    return Points(torch.rand(count, n, generator=stream(seed, count, n), dtype=torch.float64))


class Cloud(Law):
    """The empirical law of a point cloud [N,d]: `file` (.npy, .npz or .csv, `store.arrays`) or
    `points`, an array.

    float32 points are held and multiplied in float32, everything else in float64; draws, mean and
    denoised points are float64.
    """

    def __init__(
        self,
        file: str | None = None,
        points: Sequence[Sequence[float]] | np.ndarray | Tensor | None = None,
    ):
        if file is not None and points is None:
            points = read_array(file, "data.file")
        elif file is not None or points is None:
            raise UsageError("a cloud is one array: write data.file=PATH.npy (or .npz, .csv)")
        self.points = _double_or_float(points)
        if self.points.ndim != 2 or not self.points.numel():
            raise UsageError(
                f"a cloud is a table [N,d] of finite numbers, not {list(self.points.shape)}: one "
                "point a row"
            )
        wrong = (~self.points.isfinite()).any(1).nonzero()[:, 0]
        if len(wrong):
            raise UsageError(
                f"{len(wrong)} points of the cloud are not finite, number {int(wrong[0])} (from 0) "
                "the first: write finite numbers"
            )
        self.shape = (self.points.shape[1],)
        self.dim = 0
        self.mean = self.points.mean(0, dtype=torch.float64)
        square = sum(float((part - self.mean).square().sum()) for part in self.points.split(8192))
        self.std = (square / self.points.numel()) ** 0.5
        self._prepared: dict[torch.device, exact.Streamed | exact.Dense] = {}

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """The same points, of weight exp(-|y - A(a_i)|^2/2 sigma_n^2), whatever A is."""
        # clouds with weights are clouds: the module that has them imports this one
        from diffgeo.data.weighted import weighted

        posteriors.check(operator, y, sigma_n, self.shape)
        return weighted(self.points, None, operator, y, sigma_n)

    def sample(self, n, generator):
        pick = torch.randint(len(self.points), (n,), generator=generator, device=generator.device)
        return self.points[pick.to(self.points.device)].to(generator.device, torch.float64)

    def project(self, x):
        points = self.points.to(x)
        return points[exact.nearest(x, points)]

    def tangent(self, p):
        return p.new_zeros(*p.shape, 0)

    def prepared(self, device: torch.device) -> exact.Streamed | exact.Dense:
        """The posterior mean on a device, where the points are prepared for it at the first use."""
        if device not in self._prepared:
            self._prepared[device] = exact.cloud(self.points.to(device))
        return self._prepared[device]

    def posterior(self, x, sigma):
        return self.prepared(x.device)(x, sigma)

    def weighed(self, x: Tensor, sigma: Tensor) -> Posterior:
        return clouds.weighed(self.prepared(x.device), x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return clouds.log_density(self.prepared(x.device), x, sigma)

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.weighed(x, sigma).trace

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        return clouds.covariance_product(self.prepared(x.device), x, sigma, v)

    @property
    def key(self) -> str:
        """By content: the same points in another file are the same law."""
        content = hashlib.sha256()
        # as float64: the dtype of the file is no part of the law
        for part in self.points.split(8192):
            content.update(part.double().cpu().contiguous().numpy().tobytes())
        return f"cloud-{'x'.join(map(str, self.points.shape))}-{content.hexdigest()[:16]}"


def _double_or_float(points: Sequence[Sequence[float]] | np.ndarray | Tensor) -> Tensor:
    """An array as a tensor of its own dtype where that is float32, else of float64."""
    if isinstance(points, np.ndarray | Tensor):
        table = torch.as_tensor(points)
    else:
        table = torch.as_tensor(points, dtype=torch.float64)
    return table if table.dtype == torch.float32 else table.double()
