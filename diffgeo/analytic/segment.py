"""Segments, boxes, and trees of segments: moments of a truncated normal, without cancellation.

For x0 = a + p e uniform on p in [0, L], the posterior of p is N(s, sigma^2) cut to [0, L],
s = (x - a).e. With alpha = -s/sigma, beta = (L - s)/sigma, phi the normal density, Q its upper tail
and R = Q/phi Mills' ratio,

    E[p]  = s + sigma (phi(alpha) - phi(beta)) / (Q(alpha) - Q(beta)),
    Z     = Q(alpha) - Q(beta) = phi(alpha) (R(alpha) - e^(-delta) R(beta)),
    delta = (beta^2 - alpha^2)/2 .

Mirrored so that s <= L/2, delta >= 0 and nothing overflows: R is erfcx, of order 1/alpha far
outside; alpha < -1 uses Q as it is.

The variance of p is a difference of such numbers too, and they cancel where the segment is short or
far. It is taken by quadrature instead, a sum of squares over the part of [0, L] that carries the
mass.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_SQRT2 = math.sqrt(2.0)
_MILLS = math.sqrt(math.pi / 2)
_NODES = 64  # of the quadrature of a variance
_WINDOW = 40.0  # what is larger in the exponent weighs nothing there


def truncated(s: Tensor, length: Tensor | float, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of N(s, sigma^2) cut to [0, length], and the logarithm of

        integral over [0, length] of exp(-((p - s)^2 - g^2) / 2 sigma^2) dp / sigma.

    g is the distance from s to [0, length]: the factor exp(-g^2/2 sigma^2), which may underflow, is
    left to the caller.
    """
    mirrored = s > length / 2
    near = torch.where(mirrored, length - s, s)  # mirrored: near <= L/2
    alpha = -near / sigma
    beta = (length - near) / sigma
    delta = length / sigma * (alpha + beta) / 2
    decay = torch.exp(-delta)
    a = alpha.clamp(min=-1)
    # Z/phi(alpha)
    mills = _MILLS * (torch.special.erfcx(a / _SQRT2) - decay * torch.special.erfcx(beta / _SQRT2))
    # Z sqrt(2 pi)
    b = alpha.clamp(max=-1)
    inside = _MILLS * (torch.special.erf(beta / _SQRT2) - torch.special.erf(b / _SQRT2))
    bump = torch.exp(-(alpha.clamp(max=0) ** 2) / 2)  # phi(alpha)/phi(0) where alpha < 0, else 1
    deep = alpha < -1
    mass = torch.where(deep, inside, bump * mills)
    mean = near + sigma * -torch.expm1(-delta) * torch.where(deep, bump / inside, 1 / mills)
    mean = torch.minimum(mean.clamp(min=0), torch.as_tensor(length, dtype=s.dtype, device=s.device))
    return torch.where(mirrored, length - mean, mean), mass.log()


def variance(s: Tensor, length: Tensor | float, sigma: Tensor) -> Tensor:
    """Variance of N(s, sigma^2) cut to [0, length], like s: by Gauss-Legendre quadrature where the
    exponent is within `_WINDOW` of its least."""
    length = torch.as_tensor(length, dtype=s.dtype, device=s.device)
    nearest = torch.minimum(s.clamp(min=0), length)
    gap = s - nearest
    # (p - s)^2 <= gap^2 + 2 window sigma^2, where p - nearest = reach (reach - 2 gap) is at an end
    room = 2 * _WINDOW * sigma**2
    root = torch.sqrt(gap**2 + room)
    right = torch.minimum(room / (root - gap), length - nearest)
    left = torch.minimum(room / (root + gap), nearest)
    rule = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = (torch.as_tensor(v, dtype=s.dtype, device=s.device) for v in rule)
    t = (right - left)[..., None] / 2 + (right + left)[..., None] / 2 * nodes  # p - nearest
    weight = weights * torch.exp(-t * (t - 2 * gap[..., None]) / (2 * sigma[..., None] ** 2))
    weight = weight / weight.sum(-1, keepdim=True)
    mean = (weight * t).sum(-1, keepdim=True)
    return (weight * (t - mean) ** 2).sum(-1)


def box(x: Tensor, sigma: Tensor, half: float) -> Tensor:
    """E[x0|x] of the uniform law on [-half, half]^d: every coordinate by itself."""
    return truncated(x + half, 2 * half, sigma[:, None])[0] - half


def box_variance(x: Tensor, sigma: Tensor, half: float) -> Tensor:
    """Variance of each coordinate of x0 given x, [B,d]."""
    return variance(x + half, 2 * half, sigma[:, None].expand_as(x))


def box_log_density(x: Tensor, sigma: Tensor, half: float) -> Tensor:
    """log p_sigma(x) of the uniform law on [-half, half]^d, [B]."""
    levels = sigma[:, None]
    log_mass = truncated(x + half, 2 * half, levels)[1]
    outside = (x.abs() - half).clamp(min=0)
    each = log_mass - outside**2 / (2 * levels**2) - math.log(2 * half * math.sqrt(2 * math.pi))
    return each.sum(1)


class Pairs(NamedTuple):
    """Rows of x with the segments that weigh anything in their posterior, [P] each."""

    row: Tensor
    k: Tensor  # the segment
    width: Tensor  # sigma
    s: Tensor  # of the foot of the perpendicular
    log_weight: Tensor  # counted from exp(-least/2 sigma^2)
    steps: list[Tensor]  # mean of the segment's part, counted from the reference, by coordinate
    reference: Tensor  # the nearest point of all segments, [B,d]
    least: Tensor  # its squared distance, [B]

    def top(self) -> Tensor:
        """The largest log_weight of each row, [B]."""
        none = torch.full_like(self.least, -math.inf)
        return none.scatter_reduce(0, self.row, self.log_weight, "amax")

    def weights(self) -> Tensor:
        """exp(log_weight) counted from the largest of each row, [P]."""
        return torch.exp(self.log_weight - self.top()[self.row])


def pairs(
    x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor, window: float = 45.0
) -> Pairs:
    """The segments start + p direction, 0 <= p <= length, that each row may be from.

    x [B,d], sigma [B], start [k,d], direction [k,d] of length 1, length [k].

    Segments farther than the nearest one by more than `window` in the exponent carry no weight and
    are skipped.
    """
    s = x @ direction.mT - (start * direction).sum(-1)  # [B,k]
    place = torch.minimum(s.clamp(min=0), length)  # of the nearest point of each segment
    square = torch.zeros_like(s)
    for i in range(x.shape[1]):
        square = square + (x[:, i : i + 1] - start[:, i] - place * direction[:, i]) ** 2
    least, best = square.min(1)
    # [B,d], the nearest of all
    reference = start[best] + place.gather(1, best[:, None]) * direction[best]
    near = square <= (least + 2 * window * sigma**2)[:, None] + 1e-12 * square
    pair = near.flatten().nonzero()[:, 0]
    row = pair // len(length)
    k = pair % len(length)
    width = sigma[row]
    place = place.flatten()[pair]
    s = s.flatten()[pair]
    mean, log_mass = truncated(s, length[k], width)
    logit = log_mass
    steps = []
    for i in range(x.shape[1]):  # differences, as in `points`
        a = start[:, i][k]
        e = direction[:, i][k]
        ref = reference[:, i][row]
        step = a + place * e - ref
        logit = logit + step * (x[:, i][row] - ref - step / 2) / width**2
        steps.append(step + (mean - place) * e)
    return Pairs(row, k, width, s, logit, steps, reference, least)


def _mean_step(found: Pairs, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The rows' sum of weights [B], and their mean counted from the reference [B,d]."""
    none = torch.zeros_like(found.least)
    total = none.index_add(0, found.row, weight)
    moments = [none.index_add(0, found.row, weight * step) for step in found.steps]
    return total, torch.stack(moments, 1) / total[:, None]


def segments(x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor) -> Tensor:
    """E[x0|x] of the uniform law on k segments, [B,d]; the arguments of `pairs`."""
    found = pairs(x, sigma, start, direction, length)
    return found.reference + _mean_step(found, found.weights())[1]


def log_density(
    x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor
) -> Tensor:
    """log p_sigma(x), [B]; the arguments of `pairs`."""
    found = pairs(x, sigma, start, direction, length)
    total = torch.zeros_like(sigma).index_add(0, found.row, found.weights())
    # a segment's mass is in units of sigma / length of all
    mass = found.top() + total.log() + (sigma / length.sum()).log()
    normal = x.shape[1] / 2 * (2 * math.pi * sigma**2).log()
    return mass - found.least / (2 * sigma**2) - normal


def covariance(
    x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor
) -> tuple[Pairs, Tensor, Tensor, Tensor]:
    """What Cov[x0 | x] = sum_k w_k (v_k e_k e_k^T + c_k c_k^T) is made of: the pairs, and of each
    its share w [P], the variance v along the segment [P], and its mean counted from D, c [P,d]."""
    found = pairs(x, sigma, start, direction, length)
    weight = found.weights()
    total, mean = _mean_step(found, weight)
    apart = torch.stack(found.steps, 1) - mean[found.row]
    along = variance(found.s, length[found.k], found.width)
    return found, weight / total[found.row], along, apart


def trace(x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor) -> Tensor:
    """tr dD/dx, [B]; the arguments of `pairs`."""
    found, share, along, apart = covariance(x, sigma, start, direction, length)
    parts = share * (along + apart.square().sum(1))
    return torch.zeros_like(sigma).index_add(0, found.row, parts) / sigma**2


def covariance_product(
    x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor, v: Tensor
) -> Tensor:
    """Cov[x0 | x] v, [B,d]; the arguments of `pairs`."""
    found, share, along, apart = covariance(x, sigma, start, direction, length)
    axis = direction[found.k]
    own = v[found.row]
    within = along[:, None] * (axis * own).sum(1, keepdim=True) * axis
    between = (apart * own).sum(1, keepdim=True) * apart
    return torch.zeros_like(x).index_add(0, found.row, share[:, None] * (within + between))
