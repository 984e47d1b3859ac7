"""Propositions 2 and 4 of Pierret and Galerne: printed values of an independent computation, closed
forms of Gaussians, and finite differences of the flow."""

import json
import math

import pytest
import torch

from diffgeo.data import Gaussian
from diffgeo.data.gaussian import Mixture
from diffgeo.data.moments import moments
from diffgeo.data.points import Points
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.nn.mlp import MLP
from diffgeo.parameterization import EDM
from diffgeo.theory import transport
from diffgeo.theory.linear_score import gap
from diffgeo.theory.transport import asymmetry, bound, directions, field, flow, measure

f64 = torch.float64
CROSS = Mixture(
    means=[[0, 0], [0, 0]],
    covariances=[[[9, 0], [0, 0.01]], [[0.01, 0], [0, 9]]],
)
TILTED = Gaussian([1.0, -2.0], [[4.0, 1.0], [1.0, 0.5]])

# the score: Proposition 2


def test_two_points_in_r():
    """J Var - 1, by an integral; tr J in three ways."""
    law = Points([[1.0], [-1.0]])
    printed = {0.01: 49.501667, 0.05: 9.193794, 0.1: 3.251128, 0.5: 0.020256, 1.0: 0.000244}
    for t, value in printed.items():
        found = gap(law.denoiser(), law, moments(law), t)
        assert f"{found.relative:.6f}" == f"{value:.6f}"
        assert found.relative_se == 0
        assert found.fisher - found.linear == pytest.approx(found.excess, abs=1e-9)
        assert found.curvature == pytest.approx(found.fisher, rel=1e-9)


def test_a_gaussian_has_no_gap():
    found = gap(TILTED.denoiser(), TILTED, moments(TILTED), 0.1, n=100)
    assert abs(found.relative) < 1e-20
    values = torch.linalg.eigvalsh(torch.tensor([[4.0, 1.0], [1.0, 0.5]], dtype=f64))
    a2 = math.exp(-0.2)
    assert found.linear == pytest.approx(float((1 / (a2 * values + 1 - a2)).sum()), rel=1e-12)


def test_the_three_forms_agree_on_draws():
    found = gap(CROSS.denoiser(), CROSS, moments(CROSS), 0.2, n=20_000)
    for other, error in (
        (found.fisher, found.fisher_se),
        (found.curvature, found.curvature_se),
    ):
        apart = other - found.linear - found.excess
        assert abs(apart) < 4 * math.hypot(error, found.excess_se)
        assert 0 < error < 0.05 * other
    assert found.relative > 20 * found.relative_se > 0


def test_what_is_no_time_is_refused():
    with pytest.raises(UsageError, match="above 0"):
        gap(TILTED.denoiser(), TILTED, moments(TILTED), 0.0)


# the flow: Proposition 4


def test_jacobian_of_a_cross_at_a_point():
    x = torch.tensor([[1.0, 2.0]], dtype=f64)
    v = directions(1, (2,), 0)
    jacobian = flow(field(CROSS.denoiser()), x, v, 3.0, 1e-4, 60).pushed[0].mT
    assert [f"{value:.4f}" for value in jacobian.flatten().tolist()] == [
        "0.0747",
        "-0.0301",
        "-0.1060",
        "0.6951",
    ]
    both = torch.cat([v, v])
    pushed = jacobian.mT[None].expand(2, 2, 2)
    found = asymmetry(both, pushed)
    assert f"{found.total:.3f}" == "0.107"
    assert found.each.tolist() == pytest.approx([found.total] * 2)


def test_jacobian_is_the_flow_s_finite_difference():
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.4]], dtype=f64)
    found = flow(field(CROSS.denoiser()), x, directions(2, (2,), 0), 3.0, 0.01, 40)
    h = 1e-5
    for column in range(2):
        step = h * torch.eye(2, dtype=f64)[column]
        none = x[:, None][:, :0]
        ahead = flow(field(CROSS.denoiser()), x + step, none, 3.0, 0.01, 40).end
        behind = flow(field(CROSS.denoiser()), x - step, none, 3.0, 0.01, 40).end
        difference = (ahead - behind) / (2 * h)
        assert torch.allclose(found.pushed[:, column], difference, atol=1e-7)


def test_a_gaussian_s_flow_is_optimal():
    values, basis = torch.linalg.eigh(torch.tensor([[4.0, 1.0], [1.0, 0.5]], dtype=f64))
    assert f"{bound(values, 5.0, 0.0):.6f}" == "31.789655"
    assert f"{bound(values, 5.0, 1e-4):.6f}" == "31.789655"
    found = measure(TILTED.denoiser(), TILTED, 5.0, 1e-4, 40, pairs=150, repeats=4, points=20)
    assert found.skew.total < 1e-14
    assert found.pairs.excess.tolist() == [0.0] * 4
    matrix = basis @ torch.diag(((values + 1e-8) / (values + 25)).sqrt()) @ basis.mT
    mean = torch.tensor([1.0, -2.0], dtype=f64)
    exact = mean + (found.starts - mean) @ matrix
    assert torch.allclose(found.ends, exact, atol=1e-3)
    cost, error = found.cost
    assert abs(cost - 31.789655) < 4 * error
    # of |x - S x|^2 = sum c_i^2 z_i^2: the variance 2 sum c_i^4
    apart = (values + 25).sqrt() - (values + 1e-8).sqrt()
    assert error == pytest.approx(math.sqrt(2 * float(apart.pow(4).sum()) / 600), rel=0.2)
    assert cost == pytest.approx(float(found.pairs.cost.mean()), rel=1e-12)


def test_a_cross_costs_little_more_than_its_assignment():
    """8e-4 for 800 pairs, where the Jacobian is a tenth asymmetric: the Jacobian is the test."""
    found = measure(CROSS.denoiser(), CROSS, 3.0, 0.01, 30, pairs=800, repeats=2, points=100)
    assert 2e-4 < float(found.pairs.excess.mean()) < 2e-3
    mean, error = found.skew.at_a_point
    assert mean - 4 * error > 0.05
    assert found.skew.total > 2 * found.skew.error
    assert 0 < found.integration < 0.01


def test_probes_have_the_whole_asymmetry(monkeypatch):
    """Of a matrix that is known: E(u'Jv - v'Ju)^2 = |J - J'|^2."""
    jacobian = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.5, 2.0]], dtype=f64)
    whole = asymmetry(directions(2, (3,), 0), jacobian.mT.expand(2, 3, 3))
    skew = jacobian - jacobian.mT
    assert whole.total == pytest.approx(float(skew.norm() / jacobian.norm() / math.sqrt(2)))
    monkeypatch.setattr(transport, "BASIS", 2)
    v = directions(4000, (3,), 0)
    probed = asymmetry(v, v @ jacobian.mT)
    assert probed.each is None
    assert abs(probed.total - whole.total) < 4 * probed.error < 0.1


def test_derivative_of_a_network():
    torch.manual_seed(0)
    model = Network(MLP((2,), width=8, depth=2), EDM()).double()
    x = torch.randn(5, 2, dtype=f64)
    v = torch.randn(5, 2, dtype=f64)
    h = 1e-5
    found = field(model).derivative(x, 0.7, v)
    with torch.no_grad():
        difference = (model(x + h * v, 0.7) - model(x - h * v, 0.7)) / (2 * h)
    assert torch.allclose(found, difference, atol=1e-7)
    assert not found.requires_grad


def test_what_is_no_flow_is_refused():
    with pytest.raises(UsageError, match="lowest < sigma_T"):
        measure(TILTED.denoiser(), TILTED, 1.0, 2.0)
    with pytest.raises(UsageError, match="2 or more"):
        asymmetry(torch.ones(5, 1, 1), torch.ones(5, 1, 1))


# the command


def test_the_command(inside, tmp_path):
    done = inside(
        *("theory", "transport", "data=points2", "data.points=[[-1],[1]]", "t=[.5,1]"),
        *("pairs=20", "steps=20", "points=5", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| 0.5"))
    told = [cell.strip() for cell in row.split("|")[1:-1]]
    assert told == ["0.5", "1.311", "0.020256", "0", "0.020256", "0.020256", "0"]
    assert "In one dimension every flow is" in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["transport/asymmetry"] is None
    assert metrics["score/relative@t=1"] == pytest.approx(0.000244, abs=5e-7)
    assert (tmp_path / "run" / "figures" / "transport.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    "words, message",
    [
        ("points=3000", "write fewer points"),
        ("point=[1,2,3]", "points of shape"),
    ],
)
def test_mistakes_are_one_line(words, message, inside, tmp_path):
    done = inside("theory", "transport", *words.split())
    assert done.returncode == 2 and message in done.line, done.stderr
    assert not list(tmp_path.rglob("config.yaml"))
