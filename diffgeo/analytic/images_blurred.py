"""The exact denoiser of blurred images x0 = a_i + b z, alone and given y = A x0 + s n.

A mixture of isotropic Gaussians N(a_i, b^2 I), one an image: full-dimensional, so its posterior has
a spread, which that of the images themselves mostly has not. With tau^2 = b^2 + v, v = sigma^2,
g = b^2/tau^2 and c = b^2 v/tau^2, of component i given x

    D_i = g x + (1 - g) a_i,      Cov = c I,
    p(i | x, y) ~ N(x; a_i, tau^2 I) N(y; A D_i, c A A' + s^2 I).

The first factor is the images' own at level tau, the second a bias on their logits, diagonal in the
basis U of A A' = U diag(t^2) U'. Every component's step by y is the same affine map, so

    D_y = D + A' (A A' + s^2/c)^-1 (y - A D),      D = g x + (1 - g) sum_i p_i a_i :

two passes over the images, as without y, and one over their coefficients U'A a_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import given
from diffgeo.analytic.exact import check_direction, checked
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.analytic.images_given import IMAGES, GivenImageDenoiser
from diffgeo.analytic.measurement import Decomposed, prox
from diffgeo.core import Sigma, expand

BLOCK = 8192  # images whose coefficients are float64 at a time


@dataclass(frozen=True, eq=False)
class BlurredImageDenoiser:
    """E[x0 | x] of the images of `base` plus N(0, blur^2 I), an `exact.Density`."""

    base: ImageDenoiser
    blur: float

    classes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        total = self.blur**2 + levels**2
        share = expand(levels**2 / total, wide)
        return (wide + share * (self.base(wide, total.sqrt(), **cond) - wide)).to(x.dtype)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        return self.base.log_density(wide, (self.blur**2 + levels**2).sqrt(), **cond)

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        total = self.blur**2 + levels**2
        inner = self.base.trace(wide, total.sqrt(), **cond)
        return (self.blur**2 * wide[0].numel() + levels**2 * inner) / total

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        wide, levels = checked(x, sigma, self.shape)
        check_direction(v, x)
        total = self.blur**2 + levels**2
        share = expand(levels**2 / total, wide)
        inner = self.base.covariance_product(wide, total.sqrt(), v.double(), **cond)
        return (share * (self.blur**2 * v.double() + share * inner)).to(x)


def coefficients(base: ImageDenoiser, operator: Decomposed) -> Tensor:
    """U'A a of every image in each orientation, float32 [G,N,r]."""
    parts = []
    for block in base.images.split(IMAGES):
        x0 = base.low + block.double() / base.scale
        turned = [operator.left(operator(turn(x0))).float() for turn in base.turns]
        parts.append(torch.stack(turned))
    return torch.cat(parts, 1)


@dataclass(frozen=True, eq=False)
class Measured:
    """Blurred images and measurements of them.

    coefficients: of the images. y: [n,*M], one or one a row. sigma_n: above 0.
    """

    base: ImageDenoiser
    blur: float
    operator: Decomposed
    coefficients: Tensor
    y: Tensor
    sigma_n: float

    def logits(self, target: Tensor, share: Tensor, variance: Tensor) -> Tensor:
        """-1/2 sum_j (target_j - share u_ij)^2/(variance t_j^2 + s^2) of all images i, float64
        [B,G,N]: target [B,r], share [B], variance [B]."""
        total = variance[:, None] * self.operator.values.to(target) ** 2 + self.sigma_n**2
        constant = -(target**2 / total).sum(1) / 2
        slope = (share[:, None] * target / total).mT
        bend = (-(share[:, None] ** 2) / total / 2).mT
        found = []
        for part in self.coefficients.to(target.device).split(BLOCK, 1):
            u = part.double()
            found.append(u @ slope + u.square() @ bend)
        return torch.cat(found, 1).permute(2, 0, 1) + constant[:, None, None]

    def log_normal(self, variance: Tensor) -> Tensor:
        """log of what N(y; ., variance A A' + s^2 I) is divided by, and of its part that no signal
        reaches, [B]; variance [B]."""
        total = variance[:, None] * self.operator.values.to(variance) ** 2 + self.sigma_n**2
        rest = self.y[0].numel() - total.shape[1]
        y = self.y.to(variance)
        off = y.flatten(1).square().sum(1) - self.operator.left(y).square().sum(1)
        found = (2 * math.pi * total).log().sum(1) + off.clamp(min=0) / self.sigma_n**2
        return -(found + rest * math.log(2 * math.pi * self.sigma_n**2)) / 2

    def weights(self) -> given.Reweighted:
        """p(i | y) of the images, [n,G,N], and log p(y)."""
        y = self.y.double()
        rows = y.new_ones(len(y))
        logs = self.logits(self.operator.left(y), rows, self.blur**2 * rows)
        flat = logs.flatten(1)
        total = flat.logsumexp(1)
        evidence = total - math.log(flat.shape[1]) + self.log_normal(self.blur**2 * rows)
        return given.Reweighted(logs - total[:, None, None], evidence)


@dataclass(frozen=True, eq=False)
class GivenBlurredDenoiser:
    """E[x0 | x, y] of blurred images; it knows log p_sigma(x | y) and products with its
    covariance. Raises UsageError where x has another number of rows than y, which may be one."""

    told: Measured
    log_evidence: Tensor  # log p(y), [n]

    classes = 0

    def _seen(self, x: Tensor, sigma: Sigma) -> Seen:
        wide, levels = checked(x, sigma, self.told.base.shape)
        if len(self.told.y) != 1:
            given.check_rows(x, self.told.y)
        return Seen(self.told, wide, levels)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self._seen(x, sigma).mean().to(x.dtype)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self._seen(x, sigma).log_joint() - self.log_evidence.to(x.device)

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        check_direction(v, x)
        return self._seen(x, sigma).covariance_product(v.double()).to(x)


class Seen:
    """What a batch x [B,C,H,W] at levels [B] and its y say of the images."""

    def __init__(self, told: Measured, x: Tensor, sigma: Tensor):
        self.told = told
        self.x = x
        self.y = told.y.to(x).expand(len(x), *told.y.shape[1:])
        square = sigma**2
        total = told.blur**2 + square
        self.level = total.sqrt()
        self.gain = told.blur**2 / total
        self.variance = told.blur**2 * square / total
        self.rho = told.sigma_n**2 / self.variance
        left = told.operator.left
        target = left(self.y) - self.gain[:, None] * left(told.operator(x))
        logits = told.logits(target, 1 - self.gain, self.variance)
        self.log_mass = logits.flatten(1).logsumexp(1)
        weight = logits - self.log_mass[:, None, None]
        self.images = GivenImageDenoiser.of(told.base, weight)

    def mean(self) -> Tensor:
        """D_y, [B,C,H,W]."""
        gain = expand(self.gain, self.x)
        plain = gain * self.x + (1 - gain) * self.images(self.x, self.level)
        return prox(self.told.operator, plain, self.y, self.rho)

    def log_joint(self) -> Tensor:
        """log p_sigma(x) p(y | x), [B]."""
        atoms = math.log(self.told.coefficients.shape[:2].numel())
        own = self.images.log_density(self.x, self.level)
        return own + self.log_mass - atoms + self.told.log_normal(self.variance)

    def _left(self, v: Tensor) -> Tensor:
        """(I - A'(A A' + rho)^-1 A) v: what y leaves of a direction."""
        operator = self.told.operator
        return v - operator.adjoint(operator.solve(operator(v), self.rho))

    def covariance_product(self, v: Tensor) -> Tensor:
        """Cov[x0 | x, y] v, [B,C,H,W]."""
        left = self._left(v)
        between = self._left(self.images.covariance_product(self.x, self.level, left))
        share = expand(1 - self.gain, self.x)
        return expand(self.variance, self.x) * left + share**2 * between
