"""Denoisers that wrap a network or another denoiser, and the views of D.

    Network:  D(x; sigma) = skip*x + out*F(inp*x, noise)
    views:    eps = (x - D)/sigma,   score = (D - x)/sigma^2,   Cov[x0|x] = sigma^2 dD/dx
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffgeo.core import Data, Denoiser, Parameterization, Sigma, column, expand
from diffgeo.errors import UsageError
from diffgeo.parameterization import Scaled


class Network(nn.Module):
    """A network F(x, noise) read as a denoiser through a parameterization.

    The scalars are formed in x's dtype, F runs in its own dtype and on its own device, and the result is like x: a float64 sampler
    keeps its state exact, wherever the weights are.
    """

    def __init__(self, net: nn.Module, parameterization: Parameterization):
        super().__init__()
        self.net, self.parameterization = net, parameterization

    def forward(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        skip, out, inp, noise = self.parameterization(column(sigma, x))
        weights = next(self.net.parameters())
        prediction = self.net((expand(inp, x) * x).to(weights), noise.to(weights), **cond)
        return expand(skip, x) * x + expand(out, x) * prediction.to(x)


class Counted:
    """Counts network evaluations: `nfe` batched calls and `rows` states since the start."""

    def __init__(self, denoise: Denoiser):
        self.denoise, self.nfe, self.rows = denoise, 0, 0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        self.nfe += 1
        self.rows += len(x)
        return self.denoise(x, sigma, **cond)


@dataclass(frozen=True)
class AnalyticFirst:
    """The analytical first step (AFS; Dockhorn, Vahdat, Kreis 2022): at `first` and above the law is taken for N(0, std^2 I), whose
    D = x std^2/(std^2 + sigma^2) costs no evaluation; eps = x/sqrt(1 + sigma^2), as it is published, is this to O(1/sigma^2) at std = 1."""

    denoise: Denoiser
    first: float
    std: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        above = float(torch.as_tensor(sigma).min()) >= self.first
        return x * expand(self.std**2 / (self.std**2 + sigma**2), x) if above else self.denoise(x, sigma, **cond)


@dataclass(frozen=True)
class Thresholded:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3): D clipped to [-s, s] and multiplied by limit/s, where s is the
    `quantile` of |D| in each sample, but at least `limit`. For data in [-limit, limit]."""

    denoise: Denoiser
    quantile: float = 0.995
    limit: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        denoised = self.denoise(x, sigma, **cond)
        s = expand(torch.quantile(denoised.flatten(1).abs(), self.quantile, dim=1).clamp(min=self.limit), x)
        return denoised.clamp(-s, s) * (self.limit / s)


@dataclass(frozen=True)
class Clipped:
    """D clipped to [-limit, limit]: what the DDPM code and diffusers' `clip_sample` do. A multistep history then holds clipped values."""

    denoise: Denoiser
    limit: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self.denoise(x, sigma, **cond).clamp(-self.limit, self.limit)


def trainable(denoise: Denoiser) -> bool:
    """Whether a denoiser has weights: a network, as against an exact one."""
    return isinstance(denoise, nn.Module)


def epsilon(denoise: Denoiser, x: Tensor, sigma: Sigma, **cond) -> Tensor:
    """E[eps | x] = (x - D)/sigma, [B,*D]."""
    return (x - denoise(x, sigma, **cond)) / expand(sigma, x)


def score(denoise: Denoiser, x: Tensor, sigma: Sigma, **cond) -> Tensor:
    """grad log p_sigma(x) = (D - x)/sigma^2, [B,*D] (Tweedie)."""
    s = expand(sigma, x)
    return (denoise(x, sigma, **cond) - x) / (s * s)


def covariance(denoise: Denoiser, x: Tensor, sigma: Sigma) -> Tensor:
    """Cov[x0 | x] = sigma^2 dD/dx for flat data, [B,d,d]; `denoise` must be differentiable by autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        d = denoise(x, sigma)
        rows = [torch.autograd.grad(d[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return column(sigma, x)[:, None, None] ** 2 * torch.stack(rows, 1)


# Builders: what `model=` names. Each is called with the law and a network factory.

def learned(data: Data, net: Callable[..., nn.Module], parameterization: Parameterization, sigma_data: float, predicts: str) -> Network:
    """A trainable denoiser: `net(shape=data.shape)` under `parameterization`, data in units of sigma_data.

    `predicts` is what a weighting expression refers to in a config.
    """
    return Network(net(shape=data.shape), Scaled(parameterization, sigma_data))


def exact(data: Data, **unused) -> Denoiser:
    """The law's own exact denoiser; nothing to train, so what a network would need is not looked at."""
    if not hasattr(data, "denoiser"):
        raise UsageError(f"model=exact: {type(data).__name__} has no exact denoiser; train a network instead, e.g. model=cem")
    return data.denoiser()
