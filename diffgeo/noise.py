"""Random numbers that belong to a sample, not to a batch.

Sample i draws its noise from the counter-based generator Philox4x32-10 (Salmon et al., SC 2011) under the key seed_i:

    block(seed, draw, j) = Philox4x32-10(counter = (j, draw, 0, 0), key = seed),    four uniforms, by Box-Muller four normals,

so its k-th draw is a function of (seed_i, k) alone. It does not depend on the batch size, on the other samples, on the number of
processes or on the device. The whole batch is computed in one vectorized pass of 64-bit integer arithmetic.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10. Words are int64 tensors holding 32-bit values; products wrap modulo 2^64, which keeps all their bits."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def normal(seeds: Tensor, draw: int, size: int) -> Tensor:
    """Standard normal noise, float64 [N,size]: row i is draw number `draw` of the stream with seed `seeds[i]` (int64 [N])."""
    j = torch.arange((size + 3) // 4, device=seeds.device)
    zero = torch.zeros((), dtype=torch.int64, device=seeds.device)
    seeds = seeds[:, None]
    words = philox((j, zero + draw, zero, zero), (seeds & _MASK, (seeds >> 32) & _MASK))
    u = [(w.to(torch.float64) + 0.5) * 2.0**-32 for w in torch.broadcast_tensors(*words)]
    pairs = []
    for a, b in ((u[0], u[1]), (u[2], u[3])):
        radius, angle = torch.sqrt(-2 * torch.log(a)), 2 * math.pi * b
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, -1).flatten(1)[:, :size]


class Streams:
    """A `Noise` source for N samples: each call returns every sample's next draw, float64 [N,*shape].

    The first draw (number 0) is the initial noise. `seeds` are int64 [N]; `first_seed + arange(N)` by convention.
    """

    def __init__(self, seeds: Tensor, shape: tuple[int, ...]):
        self.seeds, self.shape, self.drawn = seeds, tuple(shape), 0

    def __call__(self) -> Tensor:
        self.drawn += 1
        return normal(self.seeds, self.drawn - 1, math.prod(self.shape)).reshape(len(self.seeds), *self.shape)
