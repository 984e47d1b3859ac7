"""A network of sines (Sitzmann et al. 2020)."""

import math

import torch
from torch import nn

from diffgeo.errors import UsageError


class Sine(nn.Module):
    """h_0 = sin(W_0 (x, noise)), h_k = h_{k-1} + sin(W_k h_{k-1}), F = W h_depth.

    shape: of a point, *D. width, depth: of the hidden layers. frequency: radians per unit of x.
    """

    def __init__(self, shape, width: int = 64, depth: int = 2, frequency: float = 3.0):
        super().__init__()
        if min(width, depth) < 1:
            raise UsageError(f"net.width={width}, net.depth={depth}: write 1 or more of each")
        self.shape = tuple(shape)
        self.frequency = frequency
        size = math.prod(shape)
        self.first = nn.Linear(size + 1, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, size)

    def forward(self, x, noise):
        """x [B,*D], already in units of the network, noise [B] -> F [B,*D]."""
        h = torch.sin(self.first(torch.cat([self.frequency * x.flatten(1), noise[:, None]], 1)))
        for layer in self.hidden:
            h = h + torch.sin(layer(h))
        return self.last(h).view(-1, *self.shape)
