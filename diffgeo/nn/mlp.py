"""Fully connected networks for laws in the plane and in R^n.

    MLP       h_0 = W_in (x, phi(x), noise, phi(noise)),    h_{k+1} = h_k + silu(W_k h_k + b_k),    F = W_out h_depth + b_out
    MLPTanh   h_0 = (x, noise),                             h_{k+1} = tanh(W_k h_k + b_k),          F = W_out h_depth + b_out

A planar network is a few small matrix products, so half of an ordinary training step is bookkeeping. The hidden layers are therefore
one parameter [depth,width,width] and one node of autograd, whose backward is written out: with g_k = dL/dh_k and a_k = W_k h_k + b_k,

    d_k = g_{k+1} silu'(a_k),    dL/dW_k = d_k h_k^T,    dL/db_k = sum_B d_k,    g_k = g_{k+1} + W_k^T d_k.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from diffgeo.errors import UsageError
from diffgeo.nn.embedding import Fourier


class ResidualStack(torch.autograd.Function):
    """h_0 [B,width], weight [depth,width,width], bias [depth,width] -> h_depth [B,width], on rows: h_{k+1} = h_k + silu(h_k W_k + b_k)."""

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        states, inner = [], []
        for w, b in zip(weight, bias, strict=True):
            states.append(h)
            inner.append(torch.addmm(b, h, w))
            h = h + nn.functional.silu(inner[-1])
        ctx.save_for_backward(weight, *states, *inner)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        weight, *saved = ctx.saved_tensors
        depth = len(weight)
        to_weight, to_bias = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        for k in reversed(range(depth)):
            d = torch.ops.aten.silu_backward(g, saved[depth + k])
            torch.mm(saved[k].mT, d, out=to_weight[k])
            torch.sum(d, 0, out=to_bias[k])
            g = torch.addmm(g, d, weight[k].mT)
        return g, to_weight, to_bias


class MLP(nn.Module):
    """Residual SiLU network on random Fourier features of the point and of the noise level.

    shape: of a point, *D; width, depth: of the residual stack; features, bandwidth: of phi(x), in radians per unit of inp*x;
    noise_features, noise_bandwidth: of phi(noise). W_out does not start at zero: on the line, whose second coordinate is always 0,
    a cem network that did would be exact there without having learnt anything.
    Raises UsageError on a width, depth or number of features that is not positive.
    """

    def __init__(self, shape, width: int = 64, depth: int = 3, features: int = 32, bandwidth: float = 2.5,
                 noise_features: int = 8, noise_bandwidth: float = 4.0):
        super().__init__()
        if min(width, depth, features, noise_features) < 1:
            raise UsageError(f"net.width={width}, net.depth={depth}, net.features={features}, net.noise_features={noise_features}: "
                             "write 1 or more of each")
        self.shape, size = tuple(shape), math.prod(shape)
        self.point, self.level = Fourier(size, features, bandwidth), Fourier(1, noise_features, noise_bandwidth)
        self.inp = nn.Linear(size + 2 * features + 1 + 2 * noise_features, width)
        bound = 1 / math.sqrt(width)                                # as nn.Linear does
        self.weight = nn.Parameter(torch.empty(depth, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(depth, width).uniform_(-bound, bound))
        self.out = nn.Linear(width, size)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,*D] (already times inp), noise [B] -> F [B,*D]."""
        x, noise = x.flatten(1), noise[:, None]
        h = self.inp(torch.cat((x, self.point(x), noise, self.level(noise)), -1))
        return self.out(ResidualStack.apply(h, self.weight, self.bias)).view(-1, *self.shape)


class MLPTanh(nn.Module):
    """The network of Lu, Wang and Bal: (x, noise) -> R^n, tanh, `depth` hidden layers of `width`, torch's default initialization."""

    def __init__(self, shape, width: int = 64, depth: int = 3):
        super().__init__()
        if min(width, depth) < 1:
            raise UsageError(f"net.width={width}, net.depth={depth}: write 1 or more of each")
        self.shape, size = tuple(shape), math.prod(shape)
        sizes = [size + 1] + depth * [width]
        hidden = [layer for a, b in zip(sizes[:-1], sizes[1:], strict=True) for layer in (nn.Linear(a, b), nn.Tanh())]
        self.stack = nn.Sequential(*hidden, nn.Linear(width, size))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,*D] (already times inp), noise [B] (the papers feed the raw time t) -> F [B,*D]."""
        return self.stack(torch.cat((x.flatten(1), noise[:, None]), -1)).view(-1, *self.shape)
