"""Gaussians in the place of a law of any size: mean and covariance, the same per class, and the
mean alone.

    Gaussian     N(m, C): the posterior mean of a law that has no more than these (the "wiener"
                 reference of Wang & Vastola 2023), and its flow in closed form, by which a state
                 goes from one level to another at no evaluation
    Classes      sum_c w_c N(m_c, C_c)
    Isotropic    N(m, v I): what the notebooks of Chen et al. call the full-rank Gaussian, v = 1

All three are `exact.Density`. A step of `Gaussian` is two matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgeo.analytic import normal as formulas
from diffgeo.analytic.exact import check_direction, checked
from diffgeo.core import Sigma, column, expand
from diffgeo.errors import UsageError


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """E[x0 | x] of N(mean, basis diag(variance) basis^T), a `Density`.

    mean [d], basis [d,d], variance [d] in the coordinates of flattened points; shape: *D.
    Raises UsageError where x is not of that shape, or sigma not positive.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    shape: tuple[int, ...]
    _held: dict = field(default_factory=dict, repr=False)

    classes = 0

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, basis and variance on a device, copied there at the first use."""
        if device not in self._held:
            self._held[device] = tuple(
                part.to(device) for part in (self.mean, self.basis, self.variance)
            )
        return self._held[device]

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        found = formulas.gaussian(wide.flatten(1), levels, *self.on(x.device))
        return found.view_as(wide).to(x.dtype)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        return formulas.log_density(wide.flatten(1), levels, *self.on(x.device))

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        _, levels = checked(x, sigma, self.shape)
        return formulas.trace(levels, self.on(x.device)[2])

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        _, levels = checked(x, sigma, self.shape)
        check_direction(v, x)
        _, basis, variance = self.on(x.device)
        flat = v.double().flatten(1)
        return formulas.covariance_product(flat, levels, basis, variance).view_as(x).to(x)

    def flow(self, x: Tensor, sigma: Sigma, sigma_next: Sigma) -> Tensor:
        """Where the probability flow takes x [B,*D] from sigma to sigma_next, in one step and
        exactly. sigma_next may be 0, and above sigma. Raises UsageError where it is negative."""
        wide, levels = checked(x, sigma, self.shape)
        target = column(sigma_next, wide)
        if not bool((target >= 0).all()):
            raise UsageError("the level that a flow ends at must be 0 or more")
        found = formulas.flow(wide.flatten(1), levels, target, *self.on(x.device))
        return found.view_as(wide).to(x.dtype)


@dataclass(frozen=True, eq=False)
class IsotropicDenoiser:
    """E[x0 | x] of N(mean, variance I), a `Density`: mean [*D]."""

    mean: Tensor
    variance: float = 1.0

    classes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape)

    def _moved(self, x: Tensor, ratio: Tensor) -> Tensor:
        """mean + ratio (x - mean), like x."""
        mean = self.mean.to(x.device)
        return (mean + expand(ratio, x) * (x.double() - mean)).to(x.dtype)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        _, levels = checked(x, sigma, self.shape)
        return self._moved(x, self.variance / (self.variance + levels**2))

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        z = (wide - self.mean.to(wide.device)).flatten(1)
        total = (self.variance + levels**2)[:, None].expand_as(z)
        return formulas.log_normal(z, total)

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        _, levels = checked(x, sigma, self.shape)
        return self.mean.numel() * self.variance / (self.variance + levels**2)

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        check_direction(v, x)
        gain = levels**2 * self.variance / (self.variance + levels**2)
        return (expand(gain, wide) * v.double()).to(x)

    def flow(self, x: Tensor, sigma: Sigma, sigma_next: Sigma) -> Tensor:
        """As `GaussianDenoiser.flow`."""
        wide, levels = checked(x, sigma, self.shape)
        target = column(sigma_next, wide)
        if not bool((target >= 0).all()):
            raise UsageError("the level that a flow ends at must be 0 or more")
        ratio = (self.variance + target**2) / (self.variance + levels**2)
        return self._moved(x, ratio.sqrt())


@dataclass(frozen=True, eq=False)
class GaussianClasses:
    """E[x0 | x] of sum_c weights_c N(m_c, C_c), a `Density`; a `label` picks one class a row.

    weights: [C], of sum 1; a class of weight 0 is told apart by its label alone.
    Raises UsageError as `GaussianDenoiser` does, and on a label that there is not.
    """

    weights: Tensor
    parts: Sequence[GaussianDenoiser]

    @property
    def classes(self) -> int:
        """How many a label may name."""
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    def shares(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        """p(c | x), float64 [B,C]; of a row with a label that class alone."""
        return self._log_joint(x, sigma, label).softmax(1)

    def _log_joint(self, x: Tensor, sigma: Sigma, label: Tensor | None) -> Tensor:
        """log of weight and density of each class, [B,C]; -inf where the label says another."""
        logs = [part.log_density(x, sigma) for part in self.parts]
        prior = self.weights.to(x.device).log().expand(len(x), -1)
        if label is not None:
            prior = self._told(prior, label.to(x.device))
        return prior + torch.stack(logs, 1)

    def _told(self, prior: Tensor, label: Tensor) -> Tensor:
        """log weights [B,C] of rows whose class is known; -1: not known."""
        count = len(self.parts)
        if len(label) != len(prior) or not bool(((label >= -1) & (label < count)).all()):
            raise UsageError(
                f"label: write one number a row, from 0 to {count - 1}, or -1 for no class"
            )
        own = torch.nn.functional.one_hot(label.clamp(min=0), count).to(prior).log()
        return torch.where((label >= 0)[:, None], own, prior)

    def __call__(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        share = self.shares(x, sigma, label=label)
        return self._mean(x.double(), sigma, share).to(x.dtype)

    def _mean(self, x: Tensor, sigma: Sigma, share: Tensor) -> Tensor:
        found = torch.zeros_like(x)
        for part, weight in zip(self.parts, share.unbind(1), strict=True):
            if bool((weight > 0).any()):
                found += expand(weight, x) * part(x, sigma)
        return found

    def log_density(
        self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond
    ) -> Tensor:
        return self._log_joint(x, sigma, label).logsumexp(1)

    def trace(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        share = self.shares(wide, levels, label=label)
        mean = self._mean(wide, levels, share)
        found = torch.zeros_like(levels)
        for part, weight in zip(self.parts, share.unbind(1), strict=True):
            between = (part(wide, levels) - mean).flatten(1).square().sum(1) / levels**2
            found += weight * (part.trace(wide, levels) + between)
        return found

    def covariance_product(
        self, x: Tensor, sigma: Sigma, v: Tensor, *, label: Tensor | None = None, **cond
    ) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        check_direction(v, x)
        share = self.shares(wide, levels, label=label)
        mean = self._mean(wide, levels, share)
        found = torch.zeros_like(wide)
        for part, weight in zip(self.parts, share.unbind(1), strict=True):
            apart = part(wide, levels) - mean
            along = (apart * v.double()).flatten(1).sum(1)
            own = part.covariance_product(wide, levels, v.double()) + expand(along, wide) * apart
            found += expand(weight, wide) * own
        return found.to(x)
