"""The one objective, for every parameterization, weighting and schedule:

    L = E_{x0, sigma ~ p, eps}  w(sigma) |D(x0 + sigma eps; sigma) - x0|^2 / dim.

It is computed on what the network predicts, F, because float32 keeps more digits there:  |D - x0|^2 = out^2 |F - F*|^2 with
F* = (x0 - skip x)/out. For epsilon that target is exactly eps, for cem exactly x0; the general formula has no cancellation beyond
skip*x, which is at most x0's own size.
"""
from __future__ import annotations

from torch import Tensor

from diffgeo.core import Parameterization, Weighting, expand


def batch(parameterization: Parameterization, weighting: Weighting, x0: Tensor, sigma: Tensor, eps: Tensor):
    """The network's inputs and regression problem for clean points x0 [B,*D], levels sigma [B] and noise eps [B,*D].

    Returns (inp*x, noise, target F*, weight of |F - F*|^2), of which the weight and the noise are [B].
    """
    skip, out, inp, noise = parameterization(sigma)
    x = x0 + expand(sigma, x0) * eps
    # F* = ((1-skip) x0 - skip sigma eps)/out, never (x0 - skip*x)/out: at skip = 1 that would subtract x0 from itself
    target = expand((1 - skip) / out, x0) * x0 - expand(skip * sigma / out, x0) * eps
    return expand(inp, x0) * x, noise, target, weighting(sigma) * out * out


def weighted_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over batch and coordinates of weight * (prediction - target)^2; a scalar."""
    return ((prediction - target).square() * expand(weight, target)).mean()
