"""Distances, transport and atoms against closed forms and scipy."""

import dataclasses
import math
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from diffgeo.core import Run, generator
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.metrics import Atoms, Distance, FlowError, Tangential, Transport
from diffgeo.metrics.tangential import tangential_w2
from diffgeo.metrics.transport import directions, energy, sliced_w2, w2
from diffgeo.sampler import Heun
from diffgeo.schedule import VE
from diffgeo.simulation import ClassLabel, Simulation

f64 = torch.float64


class Line:
    """(x1, 0), x1 ~ N(0,1)."""

    shape = (2,)
    dim = 1
    key = "test-line"
    atoms = None
    weights = None
    period = None

    def sample(self, n, g):
        return torch.stack([torch.randn(n, generator=g, dtype=f64), torch.zeros(n, dtype=f64)], 1)

    def distance(self, x):
        return x[:, 1].abs()

    def coordinate(self, x):
        return x[:, 0]

    def quantile(self, u):
        return math.sqrt(2) * torch.erfinv(2 * u - 1)


class Points:
    """Three atoms of unequal weight."""

    shape = (2,)
    dim = 0
    key = "test-points"
    coordinate = None
    quantile = None
    period = None
    atoms = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=f64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=f64)

    def sample(self, n, g):
        return self.atoms[torch.multinomial(self.weights, n, replacement=True, generator=g)]

    def distance(self, x):
        return torch.cdist(x, self.atoms).min(1).values


def test_distance():
    d = np.random.default_rng(0).exponential(0.04, 1001)
    x = torch.tensor(np.stack([np.ones(1001), np.where(np.arange(1001) % 2, d, -d)], 1))
    report = Distance()(Run(x), Line())
    expected = {
        "mean": d.mean(),
        "median": np.median(d),
        "q99": np.quantile(d, 0.99),
        "below_0.01": np.mean(d <= 0.01),
        "below_0.05": np.mean(d <= 0.05),
    }
    assert report == pytest.approx({"distance/" + k: v for k, v in expected.items()}, rel=1e-12)
    assert set(Distance(below=(1e-3,))(Run(x), Line())) >= {"distance/below_0.001"}


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.2, 1.0), (-0.1, 1.3)])
def test_tangential_of_normals(shift, scale):
    """A cloud m + s E[Z | cell i], the best n points of N(m,s^2): W2^2 to N(0,1) is m^2 + (s-1)^2
    mean E[Z|cell]^2 + E Var(Z|cell)."""
    n = 4000
    edge = scipy.stats.norm.pdf(scipy.stats.norm.ppf(np.arange(n + 1) / n))
    means = n * (edge[:-1] - edge[1:])  # E[Z | cell i], exact
    inside = 1 - np.mean(means**2)  # variance within the cells, exact
    s = torch.tensor(shift + scale * means)
    # the three are orthogonal
    truth = math.sqrt(shift**2 + (scale - 1) ** 2 * np.mean(means**2) + inside)
    shuffled = s[torch.randperm(n, generator=generator(1))]
    assert tangential_w2(shuffled, Line().quantile) == pytest.approx(truth, rel=1e-5)
    assert Tangential()(Run(torch.stack([s, s * 0 + 7], 1)), Line())[
        "tangential/w2"
    ] == tangential_w2(s, Line().quantile)


def test_tangential_resolves_the_cells():
    """One point against U(0,1): sqrt(int (c-u)^2) = sqrt(1/12 + (c-1/2)^2); the midpoint rule would
    say |c-1/2|."""
    for c in (0.5, 0.8):
        assert tangential_w2(torch.tensor([c], dtype=f64), lambda u: u) == pytest.approx(
            math.sqrt(1 / 12 + (c - 0.5) ** 2), rel=1e-12
        )


def test_tangential_on_a_closed_curve():
    """Uniform law on a circle of length L: W2^2 = (L/n)^2/12 for n equidistant points however
    rotated; a bare line metric sees the cut."""
    n = 500
    length = 2 * math.pi
    s = ((torch.arange(n, dtype=f64) / n + 0.3712) % 1) * length
    cell = length / n / math.sqrt(12)
    assert tangential_w2(s, lambda u: length * u, length) == pytest.approx(cell, rel=1e-4)
    near_cut = (torch.arange(n, dtype=f64) / n - 0.4 / n) % 1 * length
    assert tangential_w2(near_cut, lambda u: length * u, length) == pytest.approx(cell, rel=1e-4)
    # general s: minimum over the rotation of int (s - L u - b)^2 is the variance of s - L u, for a
    # lift that is one arc
    arc = length * (0.6 + 0.5 * torch.rand(n, generator=generator(3), dtype=f64).sort().values ** 2)
    u = (torch.arange(n, dtype=f64) + 0.5) / n
    # s is constant on a cell: the two are orthogonal
    truth = torch.sqrt((arc - length * u).var(correction=0) + cell**2)
    assert tangential_w2(arc % length, lambda u: length * u, length) == pytest.approx(
        float(truth), rel=1e-6
    )


def test_w2_of_a_known_matching():
    """A translation, and any gradient of a convex function, is optimal: W2^2 is its mean square
    displacement (Brenier)."""
    x = np.random.default_rng(1).standard_normal((300, 3))
    y = x + [0.3, -1.0, 2.0]
    assert w2(x, y[::-1]) == pytest.approx(math.sqrt(0.09 + 1 + 4), rel=1e-12)
    stretched = x * [2.0, 0.5, 1.0]
    assert w2(x, np.roll(stretched, 7, 0)) == pytest.approx(
        math.sqrt(np.mean(((stretched - x) ** 2).sum(1))), rel=1e-12
    )


def test_pot_and_scipy_agree(monkeypatch):
    pytest.importorskip("ot")
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 400, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = w2(x, y)
    monkeypatch.setitem(sys.modules, "ot", None)  # import ot now raises ImportError
    assert w2(x, y) == pytest.approx(value, rel=1e-12)


def test_sliced_w2_of_a_translation():
    x = np.random.default_rng(3).standard_normal((500, 4))
    v = np.array([1.0, -2.0, 0.5, 0.0])
    theta = directions(200, 4)
    assert np.allclose((theta**2).sum(1), 1)
    assert sliced_w2(x, x[::-1] + v, 200) == pytest.approx(
        math.sqrt(np.mean((theta @ v) ** 2)), rel=1e-12
    )
    # |v|/sqrt(d), 4 standard errors
    assert sliced_w2(x, x + v, 20_000) == pytest.approx(np.linalg.norm(v) / 2, rel=0.02)


def test_energy():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 1))
    y = rng.standard_normal((200, 1)) * 2 + 1
    assert energy(x, y) == pytest.approx(scipy.stats.energy_distance(x[:, 0], y[:, 0]), rel=1e-12)
    assert energy(np.zeros((3, 2)), np.full((5, 2), 3.0)) == pytest.approx(
        math.sqrt(2 * math.sqrt(18)), rel=1e-12
    )


def test_transport_metric_uses_fresh_truth():
    """A shifted true cloud of the line: W2 >= the shift of the means, up to sampling noise; the
    reference depends on the seed alone."""
    x = Line().sample(600, generator(5)) + torch.tensor([0.0, 3.0], dtype=f64)
    y = Line().sample(600, generator(9, *b"transport")).numpy()
    report = Transport(n=200, projections=50)(Run(x.float(), seed=9), Line())
    assert report["transport/w2"] == pytest.approx(w2(x[:200].numpy(), y[:200]), rel=1e-6)
    assert report["transport/energy"] == pytest.approx(energy(x[:200].numpy(), y[:200]), rel=1e-6)
    assert report["transport/sliced_w2"] == pytest.approx(sliced_w2(x.numpy(), y, 50), rel=1e-6)
    with pytest.raises(UsageError, match="n=0"):
        Transport(n=0)


def test_atoms():
    counts = [460, 330, 210]
    x = Points.atoms.repeat_interleave(torch.tensor(counts), 0)
    x = x + 0.02 * torch.tensor([0.6, 0.8], dtype=f64)
    x[:5, 1] -= 0.06  # 5 of 1000 leave the radius .05 of their atom
    report = Atoms()(Run(x), Points())
    assert report["atoms/chi2"] == pytest.approx(
        scipy.stats.chisquare(counts, [500, 300, 200]).statistic, rel=1e-12
    )
    assert [report[f"atoms/w_{k}"] for k in (1, 2, 3)] == [0.46, 0.33, 0.21]
    assert report["atoms/off"] == 0.0
    x[:5, 0] += 0.06
    assert Atoms()(Run(x), Points())["atoms/off"] == 0.005
    assert Atoms()(Run(x), Line()) == {} and Tangential()(Run(x), Points()) == {}


def test_w2_from_the_last_potentials_is_the_same_optimum():
    """The second cloud against the same reference starts from the first one's dual potentials: same
    permutation as from nothing."""
    g = generator(7)
    x, z, y = (torch.randn(300, 2, generator=g, dtype=f64).numpy() for _ in range(3))
    w2(x, y)
    for cloud in (x + 1e-3 * z, z, 10 + 3 * z):
        cost = cdist(cloud, y, "sqeuclidean")
        assert w2(cloud, y) == math.sqrt(cost[linear_sum_assignment(cost)].mean())


def test_flow_is_that_of_the_class_that_a_sample_was_told():
    """60 steps of Heun follow the flow of the told denoiser closely, and not that of the untold
    one, which leads to other images."""
    pixels = torch.randint(0, 256, (40, 1, 4, 4), generator=generator(0)).to(torch.uint8)
    law = Images(pixels, labels=torch.arange(40) % 4, classes=4)
    sigmas = VE().grid(60)[:40]  # not yet at the images
    told = Simulation(Heun(), law.denoiser(), sigmas, law.shape, condition=ClassLabel(2, 1.0, 4))
    untold = dataclasses.replace(told, condition=ClassLabel())
    drawn = told.draw(range(16))
    run = Run(drawn.samples, 0, range(16), told, True, drawn.nfe)
    error = FlowError()(run, law)["flow/rms"]
    assert error < 0.01 < FlowError()(run._replace(simulation=untold), law)["flow/rms"]
