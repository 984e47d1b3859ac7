"""Fully connected networks for laws in the plane and in R^n.

    MLP       h_0     = W_in (x, phi(x), noise, phi(noise))
              h_{k+1} = h_k + silu(h_k W_k + b_k)
    MLPTanh   h_0     = (x, noise)
              h_{k+1} = tanh(W_k h_k + b_k)

and F = W_out h_depth + b_out of both.

The hidden layers of the MLP are one parameter [depth,width,width], so that an optimizer may treat
them in one pass. (Their backward written out as a single autograd.Function was tried: the same
steps a second at batch 512.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffgeo.errors import UsageError
from diffgeo.nn.embedding import Fourier


class MLP(nn.Module):
    """Residual SiLU network on random Fourier features of the point and of the noise level.

    shape: of a point, *D. width, depth: of the residual stack.
    features, bandwidth: of phi(x), in radians per unit of inp*x.
    noise_features, noise_bandwidth: of phi(noise).

    W_out does not start at zero: on the line, whose second coordinate is always 0, a cem network
    that did would be exact there without having learnt anything.
    Raises UsageError on a width, depth or number of features that is not positive.
    """

    def __init__(
        self,
        shape,
        width: int = 64,
        depth: int = 3,
        features: int = 32,
        bandwidth: float = 2.5,
        noise_features: int = 8,
        noise_bandwidth: float = 4.0,
    ):
        super().__init__()
        if min(width, depth, features, noise_features) < 1:
            raise UsageError(
                f"net.width={width}, net.depth={depth}, net.features={features}, "
                f"net.noise_features={noise_features}: write 1 or more of each"
            )
        self.shape = tuple(shape)
        size = math.prod(shape)
        self.point = Fourier(size, features, bandwidth)
        self.level = Fourier(1, noise_features, noise_bandwidth)
        self.inp = nn.Linear(size + 2 * features + 1 + 2 * noise_features, width)
        bound = 1 / math.sqrt(width)  # as nn.Linear does
        self.weight = nn.Parameter(torch.empty(depth, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(depth, width).uniform_(-bound, bound))
        self.out = nn.Linear(width, size)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,*D] (already times inp), noise [B] -> F [B,*D]."""
        x = x.flatten(1)
        noise = noise[:, None]
        h = self.inp(torch.cat((x, self.point(x), noise, self.level(noise)), -1))
        for w, b in zip(self.weight, self.bias, strict=True):
            h = h + nn.functional.silu(torch.addmm(b, h, w))
        return self.out(h).view(-1, *self.shape)


class MLPTanh(nn.Module):
    """The network of Lu, Wang and Bal: `depth` hidden layers of `width`, tanh, torch's default
    initialization."""

    def __init__(self, shape, width: int = 64, depth: int = 3):
        super().__init__()
        if min(width, depth) < 1:
            raise UsageError(f"net.width={width}, net.depth={depth}: write 1 or more of each")
        self.shape = tuple(shape)
        size = math.prod(shape)
        layers: list[nn.Module] = []
        inp = size + 1
        for _ in range(depth):
            layers += [nn.Linear(inp, width), nn.Tanh()]
            inp = width
        self.stack = nn.Sequential(*layers, nn.Linear(width, size))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,*D] (already times inp), noise [B] (the papers feed the raw time t) -> F [B,*D]."""
        return self.stack(torch.cat((x.flatten(1), noise[:, None]), -1)).view(-1, *self.shape)
