"""The noise of a sample: Random123's known answers, a second implementation in Python integers,
independence of the batch."""

import math

import pytest
import torch
from scipy import stats

from diffgeo.simulation.noise import Streams, normal, philox

MASK = 0xFFFFFFFF


def words(*values):
    return tuple(torch.tensor([v]) for v in values)


@pytest.mark.parametrize(
    "counter, key, answer",
    [  # Random123, kat_vectors, "philox4x32 10"
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (MASK, MASK), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, answer):
    assert tuple(int(w) for w in philox(words(*counter), words(*key))) == answer


def philox_integers(c, k):
    for _ in range(10):
        a = c[0] * 0xD2511F53
        b = c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK, (a >> 32) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def normals_by_hand(seed, draw, size):
    out = []
    for j in range((size + 3) // 4):
        u = [
            (w + 0.5) / 2**32
            for w in philox_integers([j, draw, 0, 0], [seed & MASK, (seed >> 32) & MASK])
        ]
        for a, b in (u[:2], u[2:]):
            out += [math.sqrt(-2 * math.log(a)) * f(2 * math.pi * b) for f in (math.cos, math.sin)]
    return out[:size]


@pytest.mark.parametrize(
    "seed, draw, size",
    [(0, 0, 1), (7, 3, 2), (2**31 + 5, 1, 7), ((12 << 32) + 9_999, 200, 10), (-1, 0, 4)],
)
def test_normals_by_hand(seed, draw, size):
    ours = normal(torch.tensor([seed]), draw, size)[0]
    torch.testing.assert_close(
        ours,
        torch.tensor(normals_by_hand(seed, draw, size), dtype=torch.float64),
        rtol=1e-13,
        atol=1e-15,
    )


def test_a_sample_does_not_depend_on_its_batch():
    seeds = torch.arange(100) + (5 << 32)
    whole = Streams(seeds, (3, 2))
    parts = [Streams(seeds[:1], (3, 2)), Streams(seeds[1:64], (3, 2)), Streams(seeds[64:], (3, 2))]
    for _ in range(4):
        draw = whole()
        assert draw.shape == (100, 3, 2) and torch.equal(
            draw, torch.cat([part() for part in parts])
        )


# one by one, ahead, ahead to the limit
@pytest.mark.parametrize("n, size, draws", [(2, 5, 40), (512, 2, 40), (6_000, 2, 8), (3, 1, 4)])
def test_draw_k_is_row_k_of_the_stream(n, size, draws):
    seeds = torch.arange(n) + (9 << 32)
    stream = Streams(seeds, (size,))
    for k in range(draws):
        assert torch.equal(stream(), normal(seeds, k, size))
        assert stream.drawn == k + 1


def test_draws_ahead_by_hand():
    stream = Streams(torch.tensor([4, 7]), (6,))
    for k in range(9):
        expected = torch.tensor(
            [normals_by_hand(seed, k, 6) for seed in (4, 7)], dtype=torch.float64
        )
        torch.testing.assert_close(stream(), expected, rtol=1e-13, atol=1e-15)


def test_normality():
    z = normal(torch.arange(4_000) + (1 << 32), 0, 50).flatten()  # 200 000 numbers
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < 4 * math.sqrt(variance / len(z))


def test_neighbours_are_uncorrelated():
    """Adjacent seeds, draws and coordinates, and the squares too (Box-Muller partners share a
    radius)."""
    n = 20_000
    seeds = torch.arange(n + 1)
    a = normal(seeds, 0, 8)
    b = normal(seeds, 1, 8)
    pairs = {"seeds": (a[:-1], a[1:]), "draws": (a, b), "coordinates": (a[:, :-1], a[:, 1:])}
    for x, y in pairs.values():
        for f in (lambda v: v, lambda v: (v**2 - 1) / math.sqrt(2)):
            assert abs(float((f(x) * f(y)).mean())) < 4.5 / math.sqrt(x.numel())
