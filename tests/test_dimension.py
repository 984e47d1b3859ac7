"""The local dimension: the specification's digits, d on average over noised points, autograd and
Hutchinson against the closed form."""

import json
import math

import pytest
import torch

from diffgeo.core import column
from diffgeo.data import Ambient, Circle, Gaussian, Points, Sphere
from diffgeo.errors import UsageError
from diffgeo.geometry.dimension import along, dimension, signs, trace_of
from diffgeo.nn import MLP

PLANE = Gaussian([0.0, 0.0, 0.0], torch.diag(torch.tensor([1.0, 1.0, 0.0])).tolist())
WIDE = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.25]])


class At:
    """A law all of whose draws are one given point."""

    def __init__(self, law, x):
        self.shape = law.shape
        self.std = law.std
        self.x = torch.tensor(x, dtype=torch.float64)

    def sample(self, n, generator):
        return self.x.expand(n, -1)


@pytest.mark.parametrize(
    "law, x, sigma, value",
    [
        (Circle(), [1.0, 0.0], 0.1, 1.0025253990),
        (Circle(), [1.0, 0.0], 0.3, 1.0248806999),
        (Circle(), [1.1, 0.0], 0.1, 2.0022936876),
        (WIDE, [1.0, 1.0], 0.5, 2.4550173010),
        (PLANE, [1.0, 1.0, 0.0], 0.01, 1.9999999800),
    ],
)
def test_the_dimension_at_a_point(law, x, sigma, value):
    found = dimension(law.denoiser(), At(law, x), 1, [sigma])
    assert float(found.value) == pytest.approx(value, abs=6e-11)
    assert float(found.error) == 0


@pytest.mark.parametrize("law", [Circle(), WIDE, Points([[1.0, 0.0], [-1.0, 0.5]], [0.3, 0.7])])
def test_averaged_over_noised_points_it_is_d_for_every_law(law):
    found = dimension(law.denoiser(), law, 20_000, [0.3, 1.0, 3.0], noised=True)
    mean = found.value.mean(1)
    error = found.value.std(1) / math.sqrt(20_000)
    assert bool(((mean - 2).abs() < 4 * error).all()) and float(error.max()) < 0.03


def test_the_manifold_is_seen_through_the_ambient_space():
    """In R^8 the circle has its digits in the plane. On the sphere of R^3 curvature takes s^2 from
    the trace and adds it to the residual: 2 exactly, since A_3(k) = coth k - 1/k."""
    law = Ambient(Circle(), 8)
    found = dimension(law.denoiser(), law, 3, [0.1])
    assert found.value[0].tolist() == pytest.approx([1.0025253990] * 3, abs=6e-11)
    law = Ambient(Sphere(1.0, 3), 8)
    found = dimension(law.denoiser(), law, 3, [0.1, 0.02])
    torch.testing.assert_close(found.value, torch.full_like(found.value, 2), rtol=1e-10, atol=0)
    squares = found.sigma[:, None].square().expand(2, 3)
    torch.testing.assert_close(found.residual, squares, rtol=1e-6, atol=0)


def test_a_finite_set_has_none_at_its_points():
    law = Points([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = dimension(law.denoiser(), law, 16, [0.05, 0.5])
    assert float(found.value[0].max()) < 1e-12 and float(found.value[1].min()) > 0.1


def test_autograd_is_the_closed_form_and_hutchinson_is_within_its_error():
    law = Gaussian(torch.zeros(20), torch.diag(torch.linspace(0.1, 2, 20)))
    law_plain = Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]])
    exact = law.denoiser()

    def learned(x, sigma, **cond):  # without a known trace
        gain = law.variance / (law.variance + column(sigma, x)[:, None] ** 2)
        return (x @ law.basis * gain) @ law.basis.mT + 0.1 * torch.sin(x.roll(1, 1))

    def few(x, sigma, **cond):
        return law_plain.posterior(x, column(sigma, x))

    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = (law_plain.variance / (law_plain.variance + 0.49)).sum()
    found = trace_of(few, x, 0.7, torch.zeros(0))
    torch.testing.assert_close(found.value, truth.expand(6), rtol=1e-12, atol=0)

    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    axes = torch.eye(20, dtype=torch.float64)[:, None].expand(20, 6, 20)
    level = torch.full((6,), 0.7, dtype=torch.float64)
    whole = along(learned, x, level, axes).sum(0)
    assert float((whole - exact.trace(x, 0.7)).abs().max()) < 1e-9  # the sine has no diagonal
    estimate = trace_of(learned, x, 0.7, signs(0, range(6), (20,), 64))
    assert bool(((estimate.value - whole).abs() < 4 * estimate.error).all())
    assert float(estimate.error.max()) < 0.2


def test_numbers_do_not_depend_on_the_batch():
    law = Circle()
    whole = dimension(law.denoiser(), law, 9, [0.1, 1.0])
    parts = dimension(law.denoiser(), law, 9, [0.1, 1.0], batch=2)
    torch.testing.assert_close(whole.value, parts.value, rtol=1e-12, atol=0)

    net = MLP(shape=(20,), width=8)

    def learned(x, sigma, **cond):
        return net(x.float(), column(sigma, x).float()).double()

    law = Gaussian(torch.zeros(20), torch.eye(20))
    whole = dimension(learned, law, 5, [0.5])
    parts = dimension(learned, law, 5, [0.5], batch=1)
    torch.testing.assert_close(whole.trace, parts.trace, rtol=1e-4, atol=1e-5)
    assert bool((whole.error > 0).all())


def test_levels_and_points_that_cannot_be():
    with pytest.raises(UsageError, match="above 0"):
        dimension(WIDE.denoiser(), WIDE, 4, [0.0, 1.0])
    one = Points([[1.0]])
    with pytest.raises(UsageError, match="one point"):
        dimension(one.denoiser(), one, 4)
    with pytest.raises(UsageError, match="probes=1"):
        dimension(WIDE.denoiser(), WIDE, 4, [1.0], probes=1)


def test_the_command_warns_of_a_finite_set(inside, tmp_path):
    line = ["trajectory", "dimension", "n=8", "levels=[.1,.5]", "figures=false"]
    done = inside(*line, "data=points2", "hydra.run.dir=points")
    assert done.returncode == 0, done.stderr
    assert "warning: a finite set has dimension 0" in done.stdout
    assert "memorization" in done.stdout and "the support has dimension 0, in R^2" in done.stdout
    values = json.loads((tmp_path / "points" / "metrics.json").read_text())
    # +-(1, -1): tanh of the exponent 2/s^2 at a point, so the variance along the axis is sech^2
    cosh = math.cosh(2 / 0.5**2)
    assert values["dimension/trace@0.5"] == pytest.approx(2 / 0.5**2 / cosh**2, rel=1e-9)
