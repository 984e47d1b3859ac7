"""Random numbers that belong to a sample, not to a batch.

Sample i draws its noise from the counter-based generator Philox4x32-10 (Salmon et al., SC 2011)
under the key seed_i:

    block(seed, draw, j) = Philox4x32-10(counter = (j, draw, 0, 0), key = seed),

four uniforms and by Box-Muller four normals. So its k-th draw is a function of (seed_i, k) alone:
it does not depend on the batch size, on the other samples, on the number of processes or on the
device. The whole batch, and for a small one several draws ahead, is computed in one vectorized pass
of 64-bit integer arithmetic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_M0 = 0xD2511F53
_M1 = 0xCD9E8D57
_W0 = 0x9E3779B9
_W1 = 0xBB67AE85
_BLOCKS = 1 << 14  # Philox blocks of one pass: fewer are all overhead, more leave the cache


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10. Words are int64 tensors whose low 32 bits count; products wrap modulo 2^64,
    which keeps all their bits."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # the factors alone must be clean; c1, c3, k0, k1 may carry higher bits
        p0 = c0 * _M0
        p1 = c2 * _M1
        c0 = ((p1 >> 32) ^ c1 ^ k0) & _MASK
        c1 = p1
        c2 = ((p0 >> 32) ^ c3 ^ k1) & _MASK
        c3 = p0
        k0 = k0 + _W0
        k1 = k1 + _W1
    return c0, c1 & _MASK, c2, c3 & _MASK


def normal(seeds: Tensor, draw: int, size: int, count: int = 1) -> Tensor:
    """Standard normal noise, float64 [count*N,size]: draws number draw .. draw+count-1, one after
    the other, of N streams.

    Row i of a draw is that of the stream with seed `seeds[i]` (int64 [N]).
    """
    j = torch.arange(blocks(size), device=seeds.device)
    number = torch.arange(draw, draw + count, device=seeds.device)[:, None, None]
    zero = torch.zeros_like(j)
    seeds = seeds[:, None]
    # each [count,N,blocks]
    w0, w1, w2, w3 = philox((j, number, zero, zero), (seeds & _MASK, seeds >> 32))
    normals = [*box_muller(w0, w1)]
    if size > 2:  # in the plane the first two words do
        normals += box_muller(w2, w3)
    rows = torch.stack(normals, -1).flatten(2).flatten(0, 1)
    return rows[:, :size].contiguous()


def blocks(size: int) -> int:
    """How many blocks hold so many normals."""
    return (size + 3) // 4


def box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent normals from two random words of 32 bits."""
    u = (a.to(torch.float64) + 0.5) * 2.0**-32
    v = (b.to(torch.float64) + 0.5) * 2.0**-32
    radius = torch.sqrt(-2 * torch.log(u))
    angle = 2 * math.pi * v
    return radius * torch.cos(angle), radius * torch.sin(angle)


class Streams:
    """A `Noise` source for N samples: each call returns every sample's next draw, float64
    [N,*shape].

    The first draw (number 0) is the initial noise. `seeds` are int64 [N]; `first_seed + arange(N)`
    by convention.
    """

    def __init__(self, seeds: Tensor, shape: tuple[int, ...]):
        self.seeds = seeds
        self.shape = tuple(shape)
        self.drawn = 0
        self.ahead: list[Tensor] = []  # computed and not yet handed out, the next one last

    def __call__(self) -> Tensor:
        if not self.ahead:
            self.look_ahead()
        self.drawn += 1
        return self.ahead.pop()

    def look_ahead(self) -> None:
        """Compute the next draws: as many as one pass holds, but the first draw alone, since
        deterministic samplers ask for no other."""
        n = len(self.seeds)
        size = math.prod(self.shape)
        count = 1
        if self.drawn:
            count = max(1, _BLOCKS // max(1, n * blocks(size)))
        draws = normal(self.seeds, self.drawn, size, count)
        self.ahead = list(draws.view(count, n, *self.shape))
        self.ahead.reverse()


def keys(seed: int, numbers: range, device: torch.device | str = "cpu") -> Tensor:
    """The noise keys of the samples of these numbers in a run, int64 [n]: the run's seed in the
    high word, the number in the low."""
    return (int(seed) << 32) + torch.arange(numbers.start, numbers.stop, device=device)
