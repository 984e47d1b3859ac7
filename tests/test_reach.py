"""The reach theorem: the reach by Federer's formula, how far projections stray, and how far
denoiser and projection are apart, against closed forms."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.data import Ambient, Circle, Gaussian, Line, Parabola, Points, Sphere
from diffgeo.errors import UsageError
from diffgeo.theory.reach import measure, numbers, reach, verdict

f64 = torch.float64


def estimate(law, n=300):
    return reach(law, law.sample(n, generator(2)))


def test_reach_of_sets_whose_reach_is_known():
    """Spheres: the radius, by every pair. Finite sets: half the least distance. Flat ones: none.
    y = x^2: the radius of curvature 1/2 at the vertex, from above."""
    assert estimate(Circle(1.5)) == pytest.approx(1.5, rel=1e-6)
    assert estimate(Sphere(2.0, 5)) == pytest.approx(2, rel=1e-9)
    assert estimate(Ambient(Sphere(2.0, 3), 8)) == pytest.approx(2, rel=1e-9)
    assert estimate(Points([[0.0, 0.0], [0.6, 0.8], [9.0, 0.0]])) == 0.5
    assert estimate(Line()) == math.inf
    assert estimate(Gaussian([0.0] * 3, [[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0]])) == math.inf
    assert 0.5 < estimate(Parabola(), 1000) < 0.502


def test_a_line_strays_by_the_noise_along_it_and_has_the_gap_of_its_gaussian():
    """|proj(x) - x0| = sigma |e_1| at every level, E e_1^2 = 1; D - proj = -x_1 sigma^2/(1 +
    sigma^2) and |x - proj| = sigma |e_2|: the gap is sigma/sqrt(1 + sigma^2), 1 at large sigma, as
    the set is not bounded."""
    sigmas = torch.tensor([1e-3, 1.0, 1e3], dtype=f64)
    found = measure(Line().denoiser(), Line(), sigmas, n=4000, pairs=50, seed=1)
    assert found.reach == math.inf and bool(found.inside.all())
    assert torch.allclose(found.ratio[:1].expand(3, -1), found.ratio, rtol=0, atol=1e-11)
    square = found.ratio[0].square()
    assert float(square.mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 4000))
    gap, error = found.gap
    truth = sigmas / (1 + sigmas**2).sqrt()
    assert bool(((gap - truth).abs() < 4 * error).all()) and bool((error < 0.05 * gap).all())
    values = numbers(found)
    assert values["reach/estimate"] is None and values["reach/levels_inside"] == 3
    assert "the reach is infinite" in verdict(found)


def test_a_circle_strays_as_the_angle_of_its_noise():
    """proj(x) is at the angle atan2(s e_1, 1 + s e_2): the mean of its chord, and D = A(|x|/s^2)
    beside 1, by quadrature over the noise."""
    law = Circle()
    sigmas = torch.tensor([0.1, 0.4, 0.9], dtype=f64)
    found = measure(law.denoiser(), law, sigmas, n=4000, pairs=100, seed=3)
    assert found.inside.tolist() == [True, True, False]
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = torch.as_tensor(np.outer(weights, weights).ravel() / (2 * math.pi))
    e = torch.cartesian_prod(torch.as_tensor(nodes), torch.as_tensor(nodes))
    gap, error = found.gap
    for k, sigma in enumerate(sigmas.tolist()):
        x = torch.tensor([1.0, 0.0]) + sigma * e
        chord = 2 * (torch.atan2(x[:, 1], x[:, 0]) / 2).sin().abs() / sigma
        se = float(found.ratio[k].std()) / math.sqrt(4000)
        assert float(found.ratio[k].mean()) == pytest.approx(float(weights @ chord), abs=4 * se)
        kappa = x.norm(dim=1) / sigma**2
        mean = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        square = (weights @ (1 - mean) ** 2) / (weights @ (x.norm(dim=1) - 1) ** 2)
        assert float(gap[k]) == pytest.approx(float(square.sqrt()), abs=4 * float(error[k]) + 2e-3)


def test_points_project_on_their_own_atom_inside_the_reach():
    """Two atoms 2 apart in R^1: x crosses 0 with probability Q(1/sigma)."""
    law = Points([[-1.0], [1.0]])
    sigmas = torch.tensor([0.1, 0.7, 3.0], dtype=f64)
    found = measure(law.denoiser(), law, sigmas, n=4000, pairs=20, seed=4)
    assert found.reach == 1 and found.inside.tolist() == [True, True, False]
    for share, sigma in zip(found.returned.tolist(), sigmas.tolist(), strict=True):
        truth = 1 - 0.5 * math.erfc(1 / sigma / math.sqrt(2))
        assert share == pytest.approx(truth, abs=4 * math.sqrt(0.25 / 4000))
    assert found.returned[0] == 1 and float(found.ratio[0].max()) == 0


def test_batches_change_nothing(monkeypatch):
    law = Ambient(Circle(), 6)
    sigmas = torch.tensor([0.1, 2.0], dtype=f64)
    whole = measure(law.denoiser(), law, sigmas, n=50, pairs=40)
    monkeypatch.setattr("diffgeo.theory.reach.NUMBERS", 60)
    parts = measure(law.denoiser(), law, sigmas, n=50, pairs=40)
    assert torch.allclose(parts.ratio, whole.ratio, rtol=0, atol=1e-12)
    assert torch.allclose(parts.apart, whole.apart, rtol=0, atol=1e-12)
    assert parts.reach == pytest.approx(whole.reach, rel=1e-12)


def test_the_command(inside, tmp_path):
    line = ("theory", "reach", "data=circle", "n=200", "pairs=50", "levels=4", "figures=false")
    done = inside(*line, "hydra.run.dir=r")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "r/metrics.json").read_text())
    assert values["reach/estimate"] == pytest.approx(1, rel=1e-6)
    rows = list(csv.DictReader((tmp_path / "r/levels.csv").open()))
    sigmas = [float(row["sigma"]) for row in rows]
    assert sigmas == pytest.approx([1e-3, 10 ** (-4 / 3), 10 ** (1 / 3), 100], rel=1e-12)
    assert len(rows) == 4 and float(rows[0]["gap"]) == values["reach/gap_low"]
    assert (
        "exact denoiser of circle in R^2, of dimension d = 1" in done.stdout
        and "the theorem is for sigma <" in done.stdout
    )


@pytest.mark.parametrize(
    "words, line",
    [
        (("data=square",), "this law fills R^2, so every distance to it is 0"),
        (("data=circle", "lowest=5", "highest=1"), "0 < lowest < highest"),
    ],
)
def test_refusals_write_nothing(words, line, inside, tmp_path):
    done = inside("theory", "reach", *words, "hydra.run.dir=r")
    assert done.returncode == 2 and line in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_one_draw_has_no_spread():
    with pytest.raises(UsageError, match="2 or more"):
        measure(Circle().denoiser(), Circle(), torch.tensor([1.0]), n=1)
