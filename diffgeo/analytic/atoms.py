"""What the posterior of a few weighted atoms says, all of it by differences: O(B k d) memory.

p = softmax(log w_i - |x - a_i|^2/2 sigma^2),     D = sum_i p_i a_i,
Cov[x0 | x] = sum_i p_i (a_i - D) (a_i - D)^T,
log p_sigma = log sum_i w_i N(x; a_i, sigma^2 I)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic import weights as said
from diffgeo.analytic.exact import Posterior
from diffgeo.analytic.points import nearest


class Local(NamedTuple):
    """The atoms as some rows of x see them."""

    reference: Tensor  # the nearest atom, [B,d]
    step: Tensor  # of each atom from it, [B,k,d]
    logit: Tensor  # log w_i - (|x - a_i|^2 - |x - reference|^2)/2 sigma^2, [B,k]

    @property
    def weight(self) -> Tensor:
        """p, [B,k]."""
        return self.logit.softmax(-1)

    def mean_step(self) -> Tensor:
        """D - reference, [B,d]."""
        return torch.einsum("bk,bkd->bd", self.weight, self.step)


def local(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Local:
    """x [B,d], sigma [B], points [k,d], weights [k] of sum 1."""
    reference = points[nearest(x, points)][:, None]  # [B,1,d]
    step = points - reference
    product = (step * (x[:, None] - (points + reference) / 2)).sum(-1)
    return Local(reference[:, 0], step, product / sigma[:, None] ** 2 + weights.log())


def weighed(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Posterior:
    """D and what its weights say; the arguments of `local`."""
    found = local(x, sigma, points, weights)
    p = found.weight
    mean = found.mean_step()
    entropy = torch.special.entr(p).sum(-1)
    spread = (p * (found.step - mean[:, None]).square().sum(-1)).sum(-1)
    return Posterior(
        mean=found.reference + mean,
        entropy=entropy,
        neighbours=entropy.exp(),
        nearest=p.argmax(-1),
        collision=p.square().sum(-1),
        trace=spread / sigma**2,
    )


def log_density(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """log p_sigma(x), [B]; the arguments of `local`."""
    found = local(x, sigma, points, weights)
    square = (x - found.reference).square().sum(-1)
    return said.log_density(square, found.logit.logsumexp(-1), sigma, x.shape[1])


def covariance_product(
    x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor, v: Tensor
) -> Tensor:
    """Cov[x0 | x] v, [B,d]; the arguments of `local`."""
    found = local(x, sigma, points, weights)
    apart = found.step - found.mean_step()[:, None]
    along = (apart * v[:, None]).sum(-1)
    return torch.einsum("bk,bkd->bd", found.weight * along, apart)
