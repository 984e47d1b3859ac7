"""Features of a number, for networks that would otherwise learn low frequencies first and high ones
very slowly.

    Fourier      phi(v) = (sin(v B), cos(v B)),    B ~ N(0, bandwidth^2), drawn once
                 (Rahimi and Recht 2007; Tancik et al. 2020)
    Sinusoidal   phi(t) = (sin(t w), cos(t w)),    w_i = period^(-i/(half-1))
                 (Vaswani et al. 2017, as DDPM's code has it)

Fourier hands the network the bandwidth that the target needs; nothing about the law enters, for B
is isotropic. Sinusoidal is made for an index t = 0 .. T-1, or another real time of that size: its
frequencies run from 1 down to 1/period.

Angles are never rounded below the frequencies' own dtype: autocast or TF32 would merge neighbouring
noise levels (2000 of them into 975).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffgeo.errors import UsageError


class Fourier(nn.Module):
    """phi(v) = (sin(v B), cos(v B)): [B,size] -> [B,2*count].

    B [size,count] ~ N(0, bandwidth^2), in radians per unit of v.
    """

    frequencies: Tensor

    def __init__(self, size: int, count: int, bandwidth: float):
        super().__init__()
        if not math.isfinite(bandwidth):
            raise UsageError(f"net.bandwidth={bandwidth:g}: write a finite number of radians")
        self.register_buffer("frequencies", bandwidth * torch.randn(size, count))

    def forward(self, v: Tensor) -> Tensor:
        v = v.to(self.frequencies.dtype)
        with torch.autocast(v.device.type, enabled=False):
            angle = v * self.frequencies if v.shape[-1] == 1 else v @ self.frequencies
        return torch.cat((angle.sin(), angle.cos()), -1)


class Sinusoidal(nn.Module):
    """phi(t) = (sin(t w), cos(t w)): [B,1] -> [B,2*count], w_i = period^(-i/(count - shift)),
    i = 0 .. count-1.

    shift: with 1 the lowest frequency is 1/period (DDPM, EDM), with 0 one step short of it (ADM).
    flip: cosines before sines (ADM).
    """

    frequencies: Tensor

    def __init__(
        self, count: int, period: float = 10_000.0, shift: float = 1.0, flip: bool = False
    ):
        super().__init__()
        # float32 arithmetic, as the published networks were trained with
        i = torch.arange(count, dtype=torch.float32)
        frequencies = torch.exp(-math.log(period) * i / (count - shift))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.flip = flip

    def forward(self, t: Tensor) -> Tensor:
        angle = t.to(self.frequencies.dtype) * self.frequencies
        sin = angle.sin()
        cos = angle.cos()
        return torch.cat((cos, sin) if self.flip else (sin, cos), -1)
