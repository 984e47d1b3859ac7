"""The one objective, for every parameterization, weighting and schedule:

    L = E_{x0, sigma ~ p, eps}  w(sigma) |D(x0 + sigma eps; sigma) - x0|^2 / dim.

It is computed on what the network predicts, F, because float32 keeps more digits there:  |D - x0|^2 = out^2 |F - F*|^2 with
F* = (x0 - skip x)/out. For epsilon that target is exactly eps, for cem exactly x0; the general
formula has no cancellation beyond skip*x, which is at most x0's own size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.core import Parameterization, Weighting, expand


def batch(
    parameterization: Parameterization, weighting: Weighting, x0: Tensor, sigma: Tensor, eps: Tensor
):
    """The network's inputs and regression problem for clean points x0 [B,*D], levels sigma [B] and
    noise eps [B,*D].

    Returns (inp*x, noise, target F*, weight of |F - F*|^2), of which the weight and the noise are
    [B].
    """
    skip, out, inp, noise = parameterization(sigma)
    x = x0 + expand(sigma, x0) * eps
    # F* = ((1-skip) x0 - skip sigma eps)/out, never (x0 - skip*x)/out: at skip = 1 that would
    # subtract x0 from itself
    target = expand((1 - skip) / out, x0) * x0 - expand(skip * sigma / out, x0) * eps
    return expand(inp, x0) * x, noise, target, weighting(sigma) * out * out


def pool(x0: Tensor, sigma: Tensor, eps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rao-Blackwell targets: the same x, but each x0 becomes its mean given x and the `size` clean
    points of its group.

    Within a group {y_1..y_size} every point is equally likely to have made x, so that

        E[x0 | x, group] = sum_j softmax_j(-|x - y_j|^2 / 2 sigma^2) y_j

    has the same conditional mean as x0 and less variance: nothing is known but samples (the stable
    target field of Xu, Tong and Jaakkola 2023, here without bias because x's own index is as random
    as the others). x0 [n,*D], sigma [n], n a multiple of size. Returns (x0', eps') with x0' + sigma
    eps' = x0 + sigma eps.
    """
    x = x0 + expand(sigma, x0) * eps
    groups = x0.flatten(1).view(-1, size, x0[0].numel())
    parts = []
    for points, y, s in zip(
        x.flatten(1).view_as(groups).split(16),
        groups.split(16),
        sigma.view(-1, size, 1).split(16),
        strict=True,
    ):
        logits = (
            (torch.cdist(points, y, compute_mode="donot_use_mm_for_euclid_dist") / s)
            .square_()
            .mul_(-0.5)
        )
        parts.append(torch.softmax(logits, -1) @ y)
    mean = torch.cat(parts).view_as(x0)
    return mean, (x - mean) / expand(sigma, x0)
