"""Closed-form denoisers against mpmath, errors in units of sigma; the bar of the project is 1e-6
for sigma from 1e-3 to 1e3."""

import math

import mpmath as mp
import pytest
import torch

from diffgeo.analytic.sphere import ratio
from diffgeo.data import (
    Circle,
    Cloud,
    Gaussian,
    Line,
    Mixture,
    Points,
    Segment,
    Sphere,
    Square,
    Tree,
    normal,
    random_points,
)
from diffgeo.errors import UsageError

mp.mp.dps = 60
SIGMAS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3)


def vector(values) -> list:
    return [mp.mpf(float(v)) for v in values]


def worst(law, x: tuple, sigma: float, expected) -> float:
    actual = law.denoiser()(torch.tensor([x], dtype=torch.float64), sigma)[0]
    return (
        max(float(abs(mp.mpf(float(a)) - e)) for a, e in zip(actual, expected, strict=True)) / sigma
    )


def average(log_weights: list, values: list) -> list:
    top = max(log_weights)
    weights = [mp.exp(w - top) for w in log_weights]
    return [mp.fdot(weights, column) / mp.fsum(weights) for column in zip(*values, strict=True)]


def cut_normal(s, length, sigma):
    """Mass and mean of N(s, sigma^2) cut to [0, length], by erfc at 60 digits."""
    a = -s / sigma
    b = (length - s) / sigma
    if a > 0:
        mass = (mp.erfc(a / mp.sqrt(2)) - mp.erfc(b / mp.sqrt(2))) / 2
    else:
        mass = (mp.erfc(-b / mp.sqrt(2)) - mp.erfc(-a / mp.sqrt(2))) / 2
    return mass, s + sigma * (mp.npdf(a) - mp.npdf(b)) / mass


# Gaussians
SINGULAR = [[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "mean, covariance", [([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]]), ([0.5, 0.0, 3.0], SINGULAR)]
)
def test_gaussian(mean, covariance):
    law = Gaussian(mean, covariance)
    c = mp.matrix(covariance)
    m = mp.matrix(mean)
    d = len(mean)
    for sigma in SIGMAS:
        for x in ((0.3, -0.2, 5.0)[:d], (300.0, 400.0, -70.0)[:d]):
            expected = m + c * mp.lu_solve(
                c + mp.mpf(sigma) ** 2 * mp.eye(d), mp.matrix(vector(x)) - m
            )
            assert worst(law, x, sigma, list(expected)) < 1e-9
    assert law.dim == (2 if d == 2 else 1)


def test_line_and_normal_are_the_papers():
    """Equation (62): with sigma^2 = e^t - 1 and x = e^(t/2) x_t, f = (e^(-t/2) x_t, 0) = (x_1/(1 +
    sigma^2), 0)."""
    x = torch.tensor([[1.7, -0.4]], dtype=torch.float64)
    assert torch.allclose(
        Line().denoiser()(x, 0.7),
        torch.tensor([[1.7 / 1.49, 0.0]], dtype=torch.float64),
        atol=1e-15,
    )
    assert torch.allclose(normal(2).denoiser()(x, 0.7), x / 1.49, atol=1e-15)


@pytest.mark.parametrize(
    "bad",
    [
        [[1.0, 0.5]],
        [[1.0, 0.5], [0.4, 1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, math.nan], [math.nan, 1.0]],
        [[1.0], [0.0, 1.0]],
        [[1.0]],
    ],
)
def test_bad_covariance(bad):
    with pytest.raises(UsageError) as caught:
        Gaussian([0.0, 0.0], bad)
    assert "\n" not in str(caught.value)


def test_mixture():
    means = [[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]
    covariances = [[[0.1, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.0, 0.5]], [[0.2, 0.1], [0.1, 0.2]]]
    weights = [1.0, 2.0, 3.0]
    law = Mixture(means, covariances, weights)
    for sigma in SIGMAS:
        for x in ((0.05, 0.1), (2.0, 0.4), (1.0, 1.0), (-40.0, 20.0), (9 * sigma, -12 * sigma)):
            logs = []
            values = []
            for w, m, c in zip(weights, means, covariances, strict=True):
                c = mp.matrix(c)
                offset = mp.matrix(vector(x)) - mp.matrix(m)
                total = c + mp.mpf(sigma) ** 2 * mp.eye(2)
                solved = mp.lu_solve(total, offset)
                logs.append(mp.log(w) - mp.log(mp.det(total)) / 2 - (offset.T * solved)[0] / 2)
                values.append(list(mp.matrix(m) + c * solved))
            assert worst(law, x, sigma, average(logs, values)) < 1e-6, (x, sigma)


# points
EIGHT = [[-2, 0], [-1.2, 1.6], [-1.2, -1.6], [0, 2], [0, -2], [1.2, 1.6], [1.2, -1.6], [2, 0]]


def point_truth(atoms, weights, x, sigma):
    x = vector(x)
    s = mp.mpf(sigma)
    atoms = [vector(a) for a in atoms]
    square = [sum((p - q) ** 2 for p, q in zip(x, a, strict=True)) for a in atoms]
    return average(
        [mp.log(mp.mpf(w)) - d / (2 * s * s) for d, w in zip(square, weights, strict=True)], atoms
    )


@pytest.mark.parametrize(
    "law",
    [
        Points([[1, -1], [-1, 1]]),
        Points([[1, -1], [1, 1], [1, 3], [1, -3], [1, -5]], [1, 2, 3, 4, 5]),
        random_points(),
        Points(EIGHT),
        Cloud(points=torch.tensor(EIGHT, dtype=torch.float64) + 7),
    ],
)
def test_points(law):
    atoms = law.points.tolist()
    weights = [1.0] * len(atoms) if law.weights is None else law.weights.tolist()
    d = torch.pdist(law.points)  # the closest two: their midpoint is a tie of these two
    i, j = torch.combinations(torch.arange(len(atoms)))[d.argmin()].tolist()
    middle = [(p + q) / 2 for p, q in zip(atoms[i], atoms[j], strict=True)]
    for sigma in SIGMAS:
        tie = [m + 0.3 * sigma**2 for m in middle]  # at and beside the bisector of two atoms
        for x in (middle, tie, (0.1, -0.2), (300.0, 400.0), (-40 * sigma, 30 * sigma)):
            assert worst(law, x, sigma, point_truth(atoms, weights, x, sigma)) < 1e-6, (x, sigma)


def test_cloud_streams_a_large_set():
    """50 000 points in blocks against the whole softmax in float64, one sigma a row."""
    g = torch.Generator().manual_seed(0)
    points = 10 + torch.randn(50_000, 2, generator=g, dtype=torch.float64)
    x = 10 + 3 * torch.randn(40, 2, generator=g, dtype=torch.float64)
    sigma = torch.logspace(-3, 3, 40, dtype=torch.float64)
    logit = -(x[:, None] - points).square().sum(-1) / (2 * sigma[:, None] ** 2)
    whole = logit.softmax(1) @ (points - x[0]) + x[0]
    assert ((Cloud(points=points).denoiser()(x, sigma) - whole).abs().amax(1) / sigma).max() < 1e-6


def test_cloud_files(tmp_path):
    import numpy as np

    points = np.random.default_rng(0).normal(size=(50, 2))
    np.save(tmp_path / "a.npy", points)
    np.savez(tmp_path / "a.npz", points)
    np.savetxt(tmp_path / "a.csv", points, delimiter=",", header="x,y", comments="")
    laws = [Cloud(file=str(tmp_path / f"a.{kind}")) for kind in ("npy", "npz", "csv")]
    assert (
        all(torch.equal(law.points, torch.as_tensor(points)) for law in laws[:2])
        and laws[0].key == laws[1].key
    )
    assert torch.allclose(laws[2].points, torch.as_tensor(points), rtol=1e-15)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "bad.csv").write_text("1,2\n3,four\n")
    for bad in ("bad.npy", "bad.csv", "missing.npy", "a.txt"):
        with pytest.raises(UsageError) as caught:
            Cloud(file=str(tmp_path / bad))
        assert "\n" not in str(caught.value) and bad in str(caught.value)


# straight pieces
def segment_truth(starts, directions, lengths, x, sigma):
    x = vector(x)
    s = mp.mpf(sigma)
    logs = []
    values = []
    for a, e, length in zip(starts, directions, lengths, strict=True):
        a = vector(a)
        e = vector(e)
        length = mp.mpf(length)
        norm = mp.sqrt(sum(v * v for v in e))
        e = [v / norm for v in e]
        along = sum((p - q) * v for p, q, v in zip(x, a, e, strict=True))
        across = sum((p - q - along * v) ** 2 for p, q, v in zip(x, a, e, strict=True))
        mass, mean = cut_normal(along, length, s)
        logs.append(mp.log(mass) - across / (2 * s * s))
        values.append([q + mean * v for q, v in zip(a, e, strict=True)])
    return average(logs, values)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_segment_and_square(sigma):
    law = Segment((-1.0, 0.0), (2.0, 4.0))
    square = Square()
    s = mp.mpf(sigma)
    for x in (
        (0.1, 0.2),
        (-1.0, 0.0),
        (300.0, 400.0),
        (-300.0, -400.0),
        (2 + 30 * sigma, 4 + 40 * sigma),
        (-1 - 0.8 * sigma, -1e-9),
        (0.5, 2.0),
        (-1.0 - 3 * sigma, 0.999),
    ):
        expected = segment_truth([(-1, 0)], [(3, 4)], [5], x, sigma)
        assert worst(law, x, sigma, expected) < 1e-9, x
        assert (
            worst(square, x, sigma, [cut_normal(v + 1, mp.mpf(2), s)[1] - 1 for v in vector(x)])
            < 1e-9
        ), x


@pytest.mark.parametrize("sigma", SIGMAS)
def test_tree(sigma):
    law = Tree()
    pieces = (law.start.tolist(), law.direction.tolist(), law.length.tolist())
    corner = law.start[50].tolist()
    for x in (
        (0.0, 0.0),
        (0.31, 0.12),
        corner,
        (corner[0] + sigma, corner[1] - sigma),
        (0.95, 0.3),
        (300.0, 400.0),
        (-3.0, 0.0),
    ):
        assert worst(law, x, sigma, segment_truth(*pieces, x, sigma)) < 1e-6, x


# spheres
@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 64, 512])
def test_mean_resultant(n):
    """A_n(kappa) to 1e-13, relative at small kappa, and in 1 - A_n at large kappa as far as float64
    can say it."""
    for kappa in (1e-9, 1e-3, 0.5, 3.0, 30.0, 200.0, 5e3, 1e6, 5e8):
        k = mp.mpf(kappa)
        v = mp.mpf(n) / 2
        exact = mp.besseli(v, k) / mp.besseli(v - 1, k) if kappa < 1e4 else asymptotic(v, k)
        assert abs(
            mp.mpf(float(ratio(n / 2 - 1, torch.tensor(kappa, dtype=torch.float64)))) / exact - 1
        ) < 3e-15 * (1 + n / 50), kappa


def asymptotic(v, k):
    """I_v/I_{v-1} by Hankel's expansions, whose terms fall by (2v)^2/8k; good for k >= 1e6 and v <=
    256."""

    def hankel(v):
        total = mp.mpf(1)
        term = mp.mpf(1)
        j = 1
        while abs(term) > mp.mpf(10) ** -40 and j < 200:
            term *= -(4 * v * v - (2 * j - 1) ** 2) / (8 * k * j)
            total = total + term
            j = j + 1
        return total

    return hankel(v) / hankel(v - 1)


@pytest.mark.parametrize("law", [Circle(), Circle(2.5), Sphere(), Sphere(0.7, 6), Sphere(1.0, 1)])
def test_sphere(law):
    d = law.shape[0]
    for sigma in SIGMAS:
        for base in ((1e-9, 0.0), (0.6, 0.8), (0.001, 0.002), (300.0, 400.0), (3 * sigma, -sigma)):
            x = (base + (0.1 * sigma,) * 10)[:d]
            norm = mp.sqrt(sum(v * v for v in vector(x)))
            kappa = law.radius * norm / mp.mpf(sigma) ** 2
            v = mp.mpf(d) / 2
            gain = (
                asymptotic(v, kappa)
                if kappa > 1e4
                else mp.besseli(v, kappa) / mp.besseli(v - 1, kappa)
            )
            assert worst(law, x, sigma, [law.radius * gain * v / norm for v in vector(x)]) < 1e-8, (
                x,
                sigma,
            )
    zero = torch.zeros(1, d, dtype=torch.float64)
    assert torch.equal(law.denoiser()(zero, 0.1), zero)


# arguments
@pytest.mark.parametrize("law", [Line(), Circle(), Points(EIGHT), Segment(), Tree()])
def test_bad_arguments_are_named(law):
    x = torch.zeros(3, 2, dtype=torch.float64)
    for bad in (0.0, -1.0, math.nan, torch.tensor([1.0, 0.0, 1.0])):
        with pytest.raises(UsageError, match="sigma must be positive"):
            law.denoiser()(x, bad)
    with pytest.raises(UsageError, match="lives in"):
        law.denoiser()(torch.zeros(3, 3), 1.0)


def test_dtype_is_kept_and_the_work_is_float64():
    x = torch.tensor([[0.4, 0.3], [3.0, 4.0]])
    narrow = Circle().denoiser()(x, 1e-2)
    assert narrow.dtype == torch.float32 and torch.equal(
        narrow, Circle().denoiser()(x.double(), 1e-2).float()
    )


@pytest.mark.parametrize("means, covariances", [([], []), ([[]], [[[]]]), ([1.0], [1.0])])
def test_a_mixture_of_nothing_is_refused(means, covariances):
    with pytest.raises(UsageError, match="a mixture takes means"):
        Mixture(means, covariances)
