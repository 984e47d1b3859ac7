"""Gaussians and their mixtures, singular ones included.

x0 ~ N(m, U diag(v) U^T), so x ~ N(m, U diag(v + sigma^2) U^T) and

    D(x) = m + U [v/(v + sigma^2)] U^T (x - m).

A mixture averages its components' D with the posterior weights w_k N(x; m_k, C_k + sigma^2 I),
taken in log space.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(x: Tensor, sigma: Tensor, mean: Tensor, basis: Tensor, variance: Tensor) -> Tensor:
    """E[x0|x] of N(mean, basis diag(variance) basis^T), [B,d].

    x [B,d], sigma [B], mean [d], basis [d,d], variance [d].
    """
    gain = variance / (variance + sigma[:, None] ** 2)
    return mean + ((x - mean) @ basis * gain) @ basis.mT


def mixture(
    x: Tensor, sigma: Tensor, weights: Tensor, means: Tensor, bases: Tensor, variances: Tensor
) -> Tensor:
    """E[x0|x] of a mixture of k Gaussians, [B,d].

    x [B,d], sigma [B], weights [k], means [k,d], bases [k,d,d], variances [k,d].
    """
    total = variances + sigma[:, None, None] ** 2  # [B,k,d]
    local = torch.einsum("bkd,kde->bke", x[:, None] - means, bases)
    log_weight = weights.log() - 0.5 * (total.log() + local**2 / total).sum(-1)  # [B,k]
    denoised = means + torch.einsum("bke,kde->bkd", local * (variances / total), bases)
    return torch.einsum("bk,bkd->bd", log_weight.softmax(-1), denoised)
