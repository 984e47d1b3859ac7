"""Symmetry breaking, found from the law: the centre's levels in every chart, fixed points, saddle-
nodes, the published potential."""

import json
import math

import pytest
import torch

from diffgeo.core import column
from diffgeo.data import Circle, Gaussian, Points, Square, image_set
from diffgeo.errors import UsageError
from diffgeo.geometry.charts import CHARTS
from diffgeo.geometry.symmetry import (
    DYNAMICS,
    FLOW_ODE,
    VE,
    VP_ODE,
    VP_SDE,
    Field,
    centre,
    own_coordinates,
    potential,
)
from diffgeo.geometry.symmetry_branches import fixed_points, follow
from diffgeo.geometry.symmetry_diagram import symmetry

TWO = Points([[1.0], [-1.0]])
ANGLES = [2 * math.pi * k / 3 for k in range(3)]
TRIANGLE = Points([[math.cos(a), math.sin(a)] for a in ANGLES])


def pair(eigenvalue):
    """Two points, whose covariance has this one eigenvalue."""
    half = math.sqrt(eigenvalue)
    return Points([[half], [-half]])


def field(law):
    return Field.of(law.denoiser(), law)


# eigenvalue: VE sigma, theta and sigma of the VP SDE, sigma of the VP ODE, t and sigma of the flow
TABLE = {
    0.25: (0.5, 0.88361553, 0.52988339, 0.57735027, 0.39038820, 0.64038820),
    0.5: (0.70710678, 0.78615138, 0.78615138, 1.00000000, 0.5, 1.0),
    1.0: (1.0, 0.64359425, 1.18920712, None, 0.61803399, 1.61803399),
    2.0: (1.41421356, 0.48586827, 1.79890744, None, 0.73205081, 2.73205081),
    4.0: (2.0, 0.35086411, 2.66891469, None, 0.82842712, 4.82842712),
}


@pytest.mark.parametrize("eigenvalue", TABLE)
def test_the_centre_is_lost_where_the_specification_says(eigenvalue):
    sigma_ve, theta, sigma_sde, sigma_ode, t, sigma_flow = TABLE[eigenvalue]
    own = field(pair(eigenvalue))
    assert own.asymmetry(own.levels()) == 0
    lost = {one: centre(own, one).lost for one in DYNAMICS}
    assert lost[VE].sigma == pytest.approx(sigma_ve, abs=5e-9)
    assert lost[VE].eigenvalue == pytest.approx(eigenvalue, abs=1e-12)
    assert lost[VP_SDE].sigma == pytest.approx(sigma_sde, abs=5e-9)
    assert own_coordinates("vp", lost[VP_SDE].sigma)["theta"] == pytest.approx(theta, abs=5e-9)
    assert lost[FLOW_ODE].sigma == pytest.approx(sigma_flow, abs=5e-9)
    assert own_coordinates("flow", lost[FLOW_ODE].sigma)["t"] == pytest.approx(t, abs=5e-9)
    if sigma_ode is None:
        assert lost[VP_ODE] is None and str(centre(own, VP_ODE)) == "never stable"
    else:
        assert lost[VP_ODE].sigma == pytest.approx(sigma_ode, abs=5e-9)


def test_two_points_of_ddpm():
    """Song's time and DDPM's index, from the schedules, of the published critical level."""
    found = own_coordinates("vp", 2**0.25)
    assert found["s"] == pytest.approx(0.29264165, abs=5e-9)
    assert found["ddpm_index"] == 292


@pytest.mark.parametrize("one", DYNAMICS)
def test_the_gain_is_that_of_the_chart(one):
    """a = 1 + share dlog s/dlog sigma, against autograd through the schedule's own scale."""
    log_sigma = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    log_scale = CHARTS[one.chart].scale(log_sigma.exp()).log()
    slope = torch.zeros_like(log_sigma)
    if log_scale.requires_grad:
        (slope,) = torch.autograd.grad(log_scale.sum(), log_sigma)
    share = 0.5 if one is VP_SDE else 1.0
    gain = one.gain(log_sigma.detach().exp())
    torch.testing.assert_close(gain, 1 + share * slope, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("square, place", [(0.25, 0.9993256730), (0.5, 0.9575040241)])
def test_fixed_points_of_two_points(square, place):
    wells = fixed_points(field(TWO), VE, math.sqrt(square), TWO.atoms)
    assert wells.stable.all()
    assert sorted(wells.y[:, 0].tolist()) == pytest.approx([-place, place], abs=5e-11)


def test_fixed_points_near_the_critical_level_and_of_the_published_potential():
    wells = fixed_points(field(TWO), VE, 0.9, TWO.atoms)
    assert sorted(wells.y[:, 0].tolist()) == pytest.approx([-0.6956579986, 0.6956579986], abs=5e-11)
    sigma = math.sqrt(1 / 0.8**2 - 1)
    wells = fixed_points(field(TWO), VP_SDE, sigma, TWO.atoms)
    assert (0.8 * wells.y).max().item() == pytest.approx(0.9470385761, abs=5e-11)


def test_the_potential_is_the_published_one():
    """u/beta = -x^2/4 - log of two Gaussians at +-theta in the VP chart (Raya and Ambrogioni 2023,
    eq. 8 less a constant), by the law's density and by integrating the push."""
    theta = 0.8
    x = torch.linspace(0, 2, 801, dtype=torch.float64)

    def gauss(mean):
        return torch.exp(-((x - mean) ** 2) / (2 * (1 - theta**2)))

    published = -(x**2) / 4 - torch.log(gauss(theta) + gauss(-theta))
    published = published - published[0]
    own = field(TWO)
    sigma = math.sqrt(1 / theta**2 - 1)
    found = potential(own, VP_SDE, x[:, None] / theta, sigma)
    torch.testing.assert_close(found, published, rtol=1e-9, atol=1e-9)

    def plain(y, level, **cond):
        return torch.tanh(y / column(level, y)[:, None] ** 2)

    learned = Field(plain, torch.zeros(1, dtype=torch.float64), 1.0)
    found = potential(learned, VP_SDE, x[:, None] / theta, sigma)
    torch.testing.assert_close(found, published, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight, sigma", [(0.25, 0.7030374385), (0.4, 0.8187818122)])
def test_unequal_weights_have_a_saddle_node_instead(weight, sigma):
    law = Points([[1.0], [-1.0]], [weight, 1 - weight])
    found = symmetry(law.denoiser(), law, dynamics=[VE])
    assert not found.symmetric and found.asymmetry > 0.1
    (diagram,) = found.diagrams
    assert diagram.centre is None
    ((fold, count),) = diagram.saddle_nodes
    assert count == 1 and fold.sigma == pytest.approx(sigma, abs=5e-11)
    # the formula of the specification, at what was found
    root = math.sqrt(1 - fold.sigma**2)
    excess = math.atanh(-root) + root / fold.sigma**2 - math.log((1 - weight) / weight) / 2
    assert abs(excess) < 1e-9
    main = max(diagram.branches, key=lambda branch: float(branch.sigma[-1]))
    assert main.stable.all() and float(main.y[-1].abs()) < 0.05


def test_the_wells_of_a_triangle_are_there_before_its_centre_goes():
    found = symmetry(TRIANGLE.denoiser(), TRIANGLE, dynamics=[VE])
    (diagram,) = found.diagrams
    assert found.symmetric and diagram.wells == 3
    assert diagram.centre.lost.sigma == pytest.approx(0.7071067812, abs=5e-11)
    ((fold, count),) = diagram.saddle_nodes
    assert count == 3 and fold.sigma == pytest.approx(0.7391346294, abs=5e-11)
    for branch in diagram.branches:  # stable up to the saddle-node, unstable after it
        top = int(branch.sigma.argmax())
        assert branch.stable[: top - 1].all() and not branch.stable[top + 1]
    numbers = found.numbers()
    assert numbers["symmetry/ve/sde_ode/saddle_node_0_sigma"] == fold.sigma


def test_points_that_are_not_equidistant_take_the_posterior_covariance():
    """+-1 and +-3 on a line: sigma^2 is the variance of the atoms weighted by exp(-a^2/2 sigma^2),
    solved here by iteration; the inner wells are born of the centre, the outer in a saddle-node."""
    law = Points([[1.0], [-1.0], [3.0], [-3.0]])
    square = 5.0
    for _ in range(2000):
        outer = math.exp(-4 / square)  # of a^2 = 9 against a^2 = 1
        square = (1 + 9 * outer) / (1 + outer)
    found = symmetry(law.denoiser(), law, dynamics=[VE])
    (diagram,) = found.diagrams
    assert diagram.centre.lost.sigma**2 == pytest.approx(square, rel=1e-12)
    assert [branch.meets_centre for branch in diagram.branches] == [True, True, False, False]
    ((fold, count),) = diagram.saddle_nodes
    assert count == 2 and fold.sigma < diagram.centre.lost.sigma


def test_a_ring_of_fixed_points():
    """The circle: l = 1/2 by symmetry, and every direction's branch meets the centre."""
    law = Circle()
    own = field(law)
    assert own.scale**2 == pytest.approx(0.5, rel=1e-5)
    assert centre(own, VE).lost.sigma ** 2 == pytest.approx(0.5, rel=1e-9)
    start = fixed_points(own, VE, 0.2, torch.tensor([[0.6, 0.8]], dtype=torch.float64)).y[0]
    branch = follow(own, VE, start, 0.2, 2.0, symmetric=True)
    assert branch.meets_centre and not branch.folds
    turned = branch.y[:, 0] * 0.8 - branch.y[:, 1] * 0.6
    assert float(turned.abs().max()) < 1e-7
    assert float(branch.sigma.max()) == pytest.approx(math.sqrt(0.5), rel=1e-3)


def test_log_concave_laws_break_no_symmetry():
    """The centre of a Gaussian and of a cube is a mode at every level. In the flow chart the ODE
    leaves a Gaussian's centre all the same, below sigma = l, where l/(l + s^2) = 1/(1 + s)."""
    law = Gaussian([0.5, 0.0], [[0.25, 0.0], [0.0, 0.04]])
    for one in (VE, VP_SDE, VP_ODE):
        assert str(centre(field(law), one)) == "always stable"
    assert centre(field(law), FLOW_ODE).lost.sigma == pytest.approx(0.25, rel=1e-12)
    assert str(centre(field(Square()), VE)) == "always stable"


def test_what_has_no_symmetry_to_break_is_refused():
    one = Points([[1.0, 2.0]])
    with pytest.raises(UsageError, match="one point"):
        symmetry(one.denoiser(), one)
    images = image_set("digits")
    with pytest.raises(UsageError, match=r"points of shape \[1, 8, 8\]"):
        symmetry(images.denoiser(), images)
    with pytest.raises(UsageError, match="0 < lowest < highest"):
        symmetry(TWO.denoiser(), TWO, lowest=2.0, highest=1.0)


def test_the_command_prints_the_level_and_leaves_every_branch(inside, tmp_path):
    done = inside("trajectory", "symmetry", "hydra.run.dir=run", "figures=false", "highest=4")
    assert done.returncode == 0, done.stderr
    assert "stops being a mode of p_sigma at sigma = 1.41421356, the same in every" in done.stdout
    assert sum(line.startswith("| V") for line in done.stdout.splitlines()) == 3
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert values["symmetry/vp/sde/centre_theta"] == pytest.approx(0.48586827, abs=5e-9)
    stored = json.loads((tmp_path / "run" / "symmetry.json").read_text())
    assert stored["symmetric"] and stored["dynamics"]["VP, ODE"]["centre"] == []
    lines = (tmp_path / "run" / "branches.csv").read_text().splitlines()
    assert lines[0] == "dynamics,branch,sigma,stable,x0,x1" and len(lines) > 100


def test_a_law_that_keeps_its_centre_is_drawn_too(inside, tmp_path):
    """Of N(0, I) the VP ODE has no fixed point but the centre; a picture of it used to fail."""
    done = inside("trajectory", "symmetry", "data=normal", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "the centre is a mode of p_sigma at every level (always stable)" in done.stdout
    names = {path.name for path in (tmp_path / "run/figures").iterdir()}
    assert names == {"bifurcation.png", "potential.png"}
