"""Denoising, Tweedie and score matching are one functional; the Hessian of log p_t and its Fisher
information: printed values, closed forms, and a network."""

import csv
import json
import math

import pytest
import torch

from diffgeo.core import generator
from diffgeo.data import Ambient, Circle, Line, Points
from diffgeo.data.moments import moments
from diffgeo.data.reference import gaussian
from diffgeo.plot.denoise import denoise as figure
from diffgeo.theory.denoise import (
    Cloud,
    difference,
    least_affine,
    loss,
    norms,
    psi_norm,
    radius_of,
    turning,
)

f64 = torch.float64
PAIR = Points([[-1.0], [1.0]])
EXACT = PAIR.denoiser()


@pytest.mark.parametrize(
    "sigma, least, affine",
    [(0.25, 0.000098, 0.058824), (0.5, 0.068597, 0.2), (1.0, 0.449600, 0.5), (2.0, 0.795946, 0.8)],
)
def test_the_loss_of_two_atoms(sigma, least, affine):
    """The printed values: E tr Cov = min L, and the least L of an affine r, which its excess says
    again; on draws L is both, within 4 standard errors."""
    best = loss(EXACT, EXACT, PAIR, sigma, 2000, seed=5)
    assert round(best.least[0], 6) == least and best.least[1] == 0
    assert best.excess == (0, 0)
    formula = least_affine(moments(PAIR).variance, sigma)
    assert round(formula, 6) == affine
    straight = loss(gaussian(PAIR), EXACT, PAIR, sigma, 2000, seed=5)
    assert straight.least[0] + straight.excess[0] == pytest.approx(formula, abs=1e-9)
    assert abs(straight.loss[0] - formula) < 4 * straight.loss[1]
    assert abs(straight.rest[0]) < 4 * straight.rest[1]
    # draw by draw, sigma^4 |score error|^2 with a score by differences of log p
    assert abs(straight.score[0] - straight.excess[0]) < 4 * straight.score[1]
    if sigma >= 0.5:  # at .25 one draw in 10 000 makes all of L
        assert abs(best.loss[0] - best.least[0]) < 4 * best.loss[1]


def test_r_and_noise_and_score_are_one_functional():
    """Draw by draw: |g - sigma xi|^2 of g = y - r, sigma^4 |s + xi/sigma|^2 of s = (r - y)/sigma^2
    and |r - x0|^2 are one number, for any r."""
    g = generator(3)
    x0 = Circle().sample(50, g)
    xi = torch.randn(50, 2, generator=g, dtype=f64)
    sigma = 0.7
    y = x0 + sigma * xi
    r = torch.tanh(y)
    dae = (r - x0).square().sum(1)
    noise = (y - r - sigma * xi).square().sum(1)
    score = sigma**4 * ((r - y) / sigma**2 + xi / sigma).square().sum(1)
    assert torch.allclose(noise, dae, rtol=1e-12) and torch.allclose(score, dae, rtol=1e-12)


@pytest.mark.parametrize(
    "law",
    [PAIR, Circle(), Ambient(Circle(), 5), Line()],
    ids=["pair", "circle", "ambient circle", "line"],
)
def test_tweedie_by_differences(law):
    """v . grad log p by differences of log p against v . (D - x)/sigma^2."""
    g = generator(1)
    exact = law.denoiser()
    for sigma in (0.3, 1.5):
        x = law.sample(40, g).double()
        x = x + sigma * torch.randn(x.shape, generator=g, dtype=f64)
        v = torch.randn(x.shape, generator=g, dtype=f64)
        told = (v * (exact(x, sigma) - x)).sum(1) / sigma**2
        measured = difference(exact, x, v, sigma)
        assert torch.allclose(measured, told, rtol=0, atol=1e-7 * float(told.abs().max()))


def test_how_fast_the_score_of_two_atoms_turns():
    """t^2 sup -> R^2/4, and t times the psi_1 norm stays bounded. The sup is at x = 0, (a/s^2)^2 -
    1/s^2: a grid without 0 has 2442.514 89.3751 19.3967 instead of the first three. The psi_1 norms
    by mpmath with 25 digits."""
    sup = [2449.415001677752, 89.40837637202967, 19.40017750302596, 1.581976706869]
    psi = [0.8979689189, 0.8623424669, 0.849021395, 0.7550405003]
    for t, largest, norm in zip([0.01, 0.05, 0.1, 0.5], sup, psi, strict=True):
        found = turning(EXACT, PAIR, t, 10)
        assert found.integral
        assert found.largest == pytest.approx(largest, rel=1e-7)
        assert found.bound == pytest.approx(largest, rel=1e-9)
        assert t * found.psi[0] == pytest.approx(norm, abs=2e-7)
        assert found.by_trace[0] == pytest.approx(found.by_score[0], rel=1e-9)
        s2 = -math.expm1(-2 * t)
        cov = loss(EXACT, EXACT, PAIR, math.sqrt(math.expm1(2 * t)), 2).least[0]
        assert found.by_trace[0] == pytest.approx(1 / s2 - (1 - s2) / s2**2 * cov, rel=1e-9)
    assert 1e-4 * sup[0] == pytest.approx(0.25, abs=0.006)


@pytest.mark.parametrize("d, size", [(2, 50.5116), (64, 400.846)])
def test_a_line_in_a_large_space_turns_by_its_dimension(d, size):
    """H = -(1, 1/s^2, .., 1/s^2): |H|_F is no random number; sqrt(d)/2t, not d/t."""
    law = Line() if d == 2 else Ambient(Line(), d)
    found = turning(law.denoiser(), law, 0.01, 50)
    assert found.root == pytest.approx(size, rel=2e-6)
    assert found.psi[0] == pytest.approx(found.root / math.log(2), rel=1e-6)
    assert found.psi[1] < 1e-9 * size
    assert found.largest == pytest.approx(-1 / math.expm1(-0.02), rel=1e-9)
    s2 = -math.expm1(-0.02)
    assert found.by_trace[0] == pytest.approx((d - 1) / s2 + 1, rel=1e-9)
    assert abs(found.apart[0]) < 4 * found.apart[1]


def test_the_norm_by_directions_is_the_norm():
    """In 100 coordinates |H|_F^2 is a mean of |H v|^2 over 16 directions: of its standard deviation
    sqrt(2/(16 d)) a row."""
    law = Ambient(Circle(), 100)
    exact = law.denoiser()
    sigma = 0.3
    a = 1 / math.sqrt(1 + sigma**2)
    s2 = (a * sigma) ** 2
    x = law.sample(30, generator(0)) + sigma * torch.randn(30, 100, generator=generator(1)).double()
    square = norms(exact, x, sigma, a, s2, seed=0)[0].square()
    inner = Circle()
    plane = norms(inner.denoiser(), law.lower(x), sigma, a, s2, seed=0)[0].square()
    truth = plane + 98 / s2**2
    assert torch.allclose(square, truth, rtol=5 * math.sqrt(2 / 1600))
    assert float((square / truth).mean()) == pytest.approx(1, abs=0.03)


def test_the_psi_norm_of_known_values():
    """Of an exponential law of mean 1, E exp(v/c) = c/(c-1) = 2 at c = 2; of v = m, m/log 2."""
    v = -torch.rand(100_000, generator=generator(0), dtype=f64).log()
    weights = torch.full_like(v, 1 / len(v))
    found, error = psi_norm(Cloud(v[:, None], weights, v[:, None]), v)
    assert found == pytest.approx(2, abs=4 * error + 0.02) and error < 0.02
    same = torch.full((3,), 5.0, dtype=f64)
    constant, none = psi_norm(Cloud(same[:, None], torch.full_like(same, 1 / 3)), same)
    assert constant == pytest.approx(5 / math.log(2), rel=1e-12) and none == 0


def test_a_wrong_denoiser_is_seen_by_how_wrong_it_is():
    """r = D + b: the excess is |b|^2, whatever is said of the score; on draws in R^2."""
    law = Circle()
    exact = law.denoiser()
    found = loss(lambda x, sigma: exact(x, sigma) + 0.3, exact, law, 0.5, 2000, seed=2)
    assert found.excess[0] == pytest.approx(2 * 0.09, rel=1e-12)
    assert abs(found.rest[0]) < 4 * found.rest[1]
    assert abs(found.score[0] - 0.18) < 4 * found.score[1]
    assert radius_of(law) is None and radius_of(PAIR) == 1


def test_the_command(inside, tmp_path):
    line = (
        "data=points2",
        "data.points=[[-1],[1]]",
        "n=100",
        "sigmas=0.5,2",
        "t=[0.1]",
        "figures=false",
    )
    done = inside("theory", "denoise", *line, "hydra.run.dir=r")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "r/metrics.json").read_text())
    assert round(values["denoise/loss/exact/least@0.5"], 6) == 0.068597
    assert round(values["denoise/loss/affine/by_formula@2"], 6) == 0.8
    assert round(values["denoise/hessian/psi_1@0.1"], 5) == 8.49021
    rows = list(csv.DictReader((tmp_path / "r/table.csv").open()))
    kept = [row for row in rows if row["quantity"] == "least" and row["denoiser"] == "exact"]
    assert float(kept[0]["value"]) == values["denoise/loss/exact/least@0.5"]
    assert "R^2/4 = 0.25" in done.stdout


@pytest.mark.slow
def test_a_network_loses_what_its_score_errs(made):
    """A network trained on the line: the three functionals of its run."""
    folder = made(
        "train model=cem data=line trainer.steps=300 net.width=32 n=50 figures=false"
        " metrics.pairs=0 hydra.run.dir=net",
        "theory denoise run=net n=4000 sigmas=0.5,2 t=0.5 hydra.run.dir=r",
    )
    values = json.loads((folder / "r/metrics.json").read_text())
    for sigma in ("0.5", "2"):
        key = f"denoise/loss/learned/{{}}@{sigma}"
        excess, score = values[key.format("excess")], values[key.format("score")]
        spread = math.hypot(*(values[f"{key.format(part)}_se"] for part in ("score", "excess")))
        assert excess > 0 and abs(excess - score) < 4 * spread
        rest = values[key.format("rest")]
        assert abs(rest) < 4 * values[f"{key.format('rest')}_se"]


def test_one_point_is_known_and_drawn(tmp_path):
    """Nothing to lose and nothing to turn but the noise: H = -1/s^2, |H|_F = 1/s^2."""
    law = Points([[0.5]])
    exact = law.denoiser()
    lost = loss(exact, exact, law, 0.5, 10)
    assert lost.loss == lost.excess == (0, 0) and lost.least[0] == 0
    found = turning(exact, law, 0.1, 10)
    assert found.root == pytest.approx(-1 / math.expm1(-0.2), rel=1e-9)
    assert found.largest == pytest.approx(found.bound, rel=1e-12)
    sizes = {"t": [0.1], "largest": [found.largest], "bound": [None]}
    sizes |= {"psi": [found.psi[0]], "root": [found.root]}
    figure(tmp_path / "denoise.png", {"exact": ([0.5], [0.0], [0.0])}, sizes)
    assert (tmp_path / "denoise.png").exists()


def test_refusals_write_nothing(inside, tmp_path):
    done = inside("theory", "denoise", "sigmas=0", "hydra.run.dir=r")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "sigmas=[0.0]: write up to 64 numbers from 0.0001 to 10000" in done.stderr
    assert not (tmp_path / "r").exists()
