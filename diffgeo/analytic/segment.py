"""Segments, boxes, and trees of segments: moments of a truncated normal, without cancellation.

For x0 = a + p e uniform on p in [0, L], the posterior of p is N(s, sigma^2) cut to [0, L],
s = (x - a).e. With alpha = -s/sigma, beta = (L - s)/sigma, phi the normal density, Q its upper tail
and R = Q/phi Mills' ratio,

    E[p]  = s + sigma (phi(alpha) - phi(beta)) / (Q(alpha) - Q(beta)),
    Z     = Q(alpha) - Q(beta) = phi(alpha) (R(alpha) - e^(-delta) R(beta)),
    delta = (beta^2 - alpha^2)/2 .

Mirrored so that s <= L/2, delta >= 0 and nothing overflows: R is erfcx, of order 1/alpha far
outside; alpha < -1 uses Q as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SQRT2 = math.sqrt(2.0)
_MILLS = math.sqrt(math.pi / 2)


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


def box(x: Tensor, sigma: Tensor, half: float) -> Tensor:
    """E[x0|x] of the uniform law on [-half, half]^d: every coordinate by itself."""
    return truncated(x + half, 2 * half, sigma[:, None])[0] - half


def segments(
    x: Tensor, sigma: Tensor, start: Tensor, direction: Tensor, length: Tensor, window: float = 45.0
) -> Tensor:
    """E[x0|x] of the uniform law on k segments start + p direction, 0 <= p <= length, [B,d].

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
    top = torch.full_like(sigma, -math.inf).scatter_reduce(0, row, logit, "amax")
    weight = torch.exp(logit - top[row])
    none = torch.zeros_like(sigma)
    total = none.index_add(0, row, weight)
    moments = [none.index_add(0, row, weight * step) for step in steps]
    return reference + torch.stack(moments, 1) / total[:, None]
