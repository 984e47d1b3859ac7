"""Gaussians and their mixtures, singular ones included.

x0 ~ N(m, U diag(v) U^T), so x ~ N(m, U diag(v + sigma^2) U^T) and, with z = U^T (x - m),

    D(x) = m + U [v/(v + sigma^2)] z,           Cov[x0 | x] = U diag(sigma^2 v/(v + sigma^2)) U^T,
    log p_sigma(x) = -1/2 sum_i [log 2 pi (v_i + sigma^2) + z_i^2/(v_i + sigma^2)],
    x(sigma') = m + U [sqrt((v + sigma'^2)/(v + sigma^2))] z        (the probability flow).

A mixture averages its components' D with the posterior weights r_k of w_k N(x; m_k, C_k + sigma^2
I), taken in log space; its covariance is that within and that between the components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian(x: Tensor, sigma: Tensor, mean: Tensor, basis: Tensor, variance: Tensor) -> Tensor:
    """E[x0|x] of N(mean, basis diag(variance) basis^T), [B,d].

    x [B,d], sigma [B], mean [d], basis [d,d], variance [d].
    """
    gain = variance / (variance + sigma[:, None] ** 2)
    return mean + ((x - mean) @ basis * gain) @ basis.mT


def log_normal(z: Tensor, total: Tensor) -> Tensor:
    """log N(z; 0, diag(total)), over the last axis."""
    return -0.5 * (math.log(2 * math.pi) + total.log() + z**2 / total).sum(-1)


def log_density(x: Tensor, sigma: Tensor, mean: Tensor, basis: Tensor, variance: Tensor) -> Tensor:
    """log p_sigma(x), [B]; the arguments of `gaussian`."""
    return log_normal((x - mean) @ basis, variance + sigma[:, None] ** 2)


def trace(sigma: Tensor, variance: Tensor) -> Tensor:
    """tr dD/dx = sum_i v_i/(v_i + sigma^2), [B], whatever x is."""
    return (variance / (variance + sigma[:, None] ** 2)).sum(1)


def covariance_product(v: Tensor, sigma: Tensor, basis: Tensor, variance: Tensor) -> Tensor:
    """Cov[x0 | x] v, [B,d], whatever x is."""
    square = sigma[:, None] ** 2
    return (v @ basis * (square * variance / (variance + square))) @ basis.mT


def flow(
    x: Tensor, sigma: Tensor, sigma_next: Tensor, mean: Tensor, basis: Tensor, variance: Tensor
) -> Tensor:
    """Where the probability flow takes x from sigma to sigma_next, which may be 0: [B,d]."""
    ratio = (variance + sigma_next[:, None] ** 2) / (variance + sigma[:, None] ** 2)
    return mean + ((x - mean) @ basis * ratio.sqrt()) @ basis.mT


class Local:
    """What a mixture knows of a batch: the responsibilities of its k components, and D of each.

    x [B,d], sigma [B], weights [k], means [k,d], bases [k,d,d], variances [k,d].
    """

    def __init__(
        self,
        x: Tensor,
        sigma: Tensor,
        weights: Tensor,
        means: Tensor,
        bases: Tensor,
        variances: Tensor,
    ):
        self.bases = bases
        self.square = sigma[:, None, None] ** 2
        total = variances + self.square  # [B,k,d]
        self.gain = variances / total
        local = torch.einsum("bkd,kde->bke", x[:, None] - means, bases)
        # a common constant, d/2 log 2 pi, is left to the log-density
        self.log_weight = weights.log() - 0.5 * (total.log() + local**2 / total).sum(-1)  # [B,k]
        self.share = self.log_weight.softmax(-1)
        self.denoised = means + torch.einsum("bke,kde->bkd", local * self.gain, bases)

    def mean(self) -> Tensor:
        """D, [B,d]."""
        return torch.einsum("bk,bkd->bd", self.share, self.denoised)

    def log_density(self) -> Tensor:
        """log p_sigma(x), [B]."""
        d = self.bases.shape[1]
        return self.log_weight.logsumexp(-1) - d / 2 * math.log(2 * math.pi)

    def trace(self) -> Tensor:
        """tr dD/dx, [B]."""
        apart = self.denoised - self.mean()[:, None]
        between = apart.square().sum(-1) / self.square[:, 0]
        return (self.share * (self.gain.sum(-1) + between)).sum(-1)

    def covariance_product(self, v: Tensor) -> Tensor:
        """Cov[x0 | x] v, [B,d]."""
        local = torch.einsum("bd,kde->bke", v, self.bases) * self.gain * self.square
        within = torch.einsum("bke,kde->bkd", local, self.bases)
        apart = self.denoised - self.mean()[:, None]
        between = apart * (apart * v[:, None]).sum(-1, keepdim=True)
        return torch.einsum("bk,bkd->bd", self.share, within + between)


def mixture(
    x: Tensor, sigma: Tensor, weights: Tensor, means: Tensor, bases: Tensor, variances: Tensor
) -> Tensor:
    """E[x0|x] of a mixture of k Gaussians, [B,d]; the arguments of `Local`."""
    return Local(x, sigma, weights, means, bases, variances).mean()
