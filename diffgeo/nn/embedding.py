"""Random Fourier features: phi(v) = (sin(v B), cos(v B)) with fixed B ~ N(0, bandwidth^2) (Rahimi and Recht 2007; Tancik et al. 2020).

An MLP learns low frequencies first and high ones very slowly; the features hand it the bandwidth that the target needs. Nothing
about the law enters: B is drawn once from the seed, isotropically.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """phi(v) = (sin(v B), cos(v B)): [B,size] -> [B,2*count], B [size,count] ~ N(0, bandwidth^2) in radians per unit of v."""

    def __init__(self, size: int, count: int, bandwidth: float):
        super().__init__()
        self.register_buffer("frequencies", bandwidth * torch.randn(size, count))

    def forward(self, v: Tensor) -> Tensor:
        angle = v @ self.frequencies
        return torch.cat((angle.sin(), angle.cos()), -1)
