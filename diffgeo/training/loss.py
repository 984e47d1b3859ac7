"""The one objective, for every parameterization, weighting and schedule:

    L = E_{x0, sigma ~ p, eps}  w(sigma) |D(x0 + sigma eps; sigma) - x0|^2 / dim.

It is computed on what the network predicts, F, because float32 keeps more digits there:

    |D - x0|^2 = out^2 |F - F*|^2,      F* = (x0 - skip x)/out.

For epsilon that target is exactly eps, for cem exactly x0; the general formula has no cancellation
beyond skip*x, which is at most x0's own size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.core import Parameterization, Weighting, expand

GROUPS = 16  # groups at once, so that their tables of distances [size, size] stay small


def batch(
    parameterization: Parameterization, weighting: Weighting, x0: Tensor, sigma: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The network's inputs and regression problem for clean points x0 [B,*D], levels sigma [B] and
    noise eps [B,*D].

    Returns inp*x [B,*D], the conditioning `noise` [B], the target F* [B,*D] and the weight of
    |F - F*|^2 [B].
    """
    skip, out, inp, noise = parameterization(sigma)
    x = x0 + expand(sigma, x0) * eps
    # F* = ((1-skip) x0 - skip sigma eps)/out, never (x0 - skip*x)/out: at skip = 1 that would
    # subtract x0 from itself
    of_x0 = expand((1 - skip) / out, x0)
    of_eps = expand(skip * sigma / out, x0)
    target = of_x0 * x0 - of_eps * eps
    weight = weighting(sigma) * out * out
    return expand(inp, x0) * x, noise, target, weight


def pool(x0: Tensor, sigma: Tensor, eps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rao-Blackwell targets: the same x, but each x0 becomes its mean given x and the `size` clean
    points of its group.

    Within a group {y_1..y_size} every point is equally likely to have made x, so that

        E[x0 | x, group] = sum_j softmax_j(-|x - y_j|^2 / 2 sigma^2) y_j

    has the same conditional mean as x0 and less variance: nothing is known but samples (the stable
    target field of Xu, Tong and Jaakkola 2023, here without bias because x's own index is as random
    as the others).

    x0 [n,*D], sigma [n], n a multiple of size. Returns (x0', eps') with
    x0' + sigma eps' = x0 + sigma eps.
    """
    x = x0 + expand(sigma, x0) * eps
    clean = x0.to(x.dtype).flatten(1).view(-1, size, x0[0].numel())  # [groups, size, prod D]
    noisy = x.flatten(1).view_as(clean)
    levels = sigma.view(-1, size, 1)
    parts = []
    some = zip(noisy.split(GROUPS), clean.split(GROUPS), levels.split(GROUPS), strict=True)
    for noisy_points, points, s in some:
        # the direct sum of squares: by way of the product x y it would cancel at small sigma
        distance = torch.cdist(noisy_points, points, compute_mode="donot_use_mm_for_euclid_dist")
        logits = (distance / s).square_().mul_(-0.5)
        parts.append(torch.softmax(logits, -1) @ points)
    mean = torch.cat(parts).view_as(x0)
    return mean, (x - mean) / expand(sigma, x0)
