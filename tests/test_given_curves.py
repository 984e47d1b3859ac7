"""The posterior of laws on segments and curves: truncated normals against quadrature, quadrature
against the exact denoisers that ask nothing of y and against brute force, and draws that weigh."""

import math

import pytest
import torch

from diffgeo.analytic.exact import Density
from diffgeo.core import generator
from diffgeo.data import (
    Ambient,
    Blurred,
    Circle,
    Curve,
    Gaussian,
    Mixture,
    Moons,
    Parabola,
    Segment,
    Sphere,
    Square,
    Swissroll,
    Tree,
    line_given,
)
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.matrices import Matrix

f64 = torch.float64
A = Matrix(torch.tensor([[1, 0.5]], dtype=f64), (2,))
Y = torch.tensor([1.2], dtype=f64)
X = torch.randn(6, 2, dtype=f64, generator=generator(0))
V = torch.randn(6, 2, dtype=f64, generator=generator(1))


class Length:
    """y = |x0|: an operator that is not linear."""

    shape = (2,)
    measured = (1,)

    def __call__(self, x0: torch.Tensor) -> torch.Tensor:
        return x0.norm(dim=1, keepdim=True)


def gaps(a, b, x: torch.Tensor, sigma: float) -> float:
    """The largest difference of two exact denoisers in all that they know, in units of sigma."""
    one, other = a.denoiser(), b.denoiser()
    assert isinstance(one, Density) and isinstance(other, Density)
    products = (d.covariance_product(x, sigma, V) / sigma**2 for d in (one, other))
    pairs = (
        ((one(x, sigma) - other(x, sigma)) / sigma,),
        (one.log_density(x, sigma) - other.log_density(x, sigma),),
        (one.trace(x, sigma) - other.trace(x, sigma),),
        (next(products) - next(products),),
    )
    return max(float(gap.abs().max()) for (gap,) in pairs)


def test_the_segment_of_the_specification():
    law = Segment().given(A, Y, 0.4)
    found = law.denoiser()(torch.tensor([[0.7, -0.3]], dtype=f64), 0.8)
    assert (found - torch.tensor([[0.7479804711, 0]], dtype=f64)).abs().max() < 0.51e-10


@pytest.mark.parametrize("name", ["segment", "tree"])
def test_a_truncated_normal_is_the_quadrature(name):
    """Two ways to the same posterior, evidence and moments included."""
    prior = {"segment": Segment(), "tree": Tree(4, 2)}[name]
    closed = prior.given(A, Y, 0.3)
    summed = line_given.given(prior, A, Y, 0.3)
    assert abs(closed.log_evidence - summed.log_evidence) < 1e-12
    assert (closed.mean - summed.mean).abs().max() < 1e-13
    assert abs(closed.std - summed.std) < 1e-13
    for sigma in (0.1, 0.8, 5.0, 80.0):
        assert gaps(closed, summed, X, sigma) < 1e-11
    q = torch.linspace(0.01, 0.99, 9, dtype=f64)
    assert (closed.quantile(q) - summed.quantile(q)).abs().max() < 1e-9


@pytest.mark.parametrize("prior", [Circle(), Curve(), Moons(), Parabola(), Swissroll()], ids=str)
def test_a_measurement_that_says_nothing_leaves_the_law(prior):
    """sigma_n = 1e7: the quadrature against branch and bound, and against the von Mises law."""
    law = prior.given(A, Y, 1e7)
    assert (law.mean - prior.mean).abs().max() < 1e-12
    assert abs(law.std - prior.std) < 1e-12
    x0 = prior.sample(6, generator(2))
    for sigma, tolerance in ((0.05, 1e-9), (0.8, 1e-11), (20.0, 1e-12)):
        assert gaps(law, prior, x0 + sigma * X, sigma) < tolerance
    q = torch.linspace(0.01, 0.99, 9, dtype=f64)
    assert (law.quantile(q) - prior.quantile(q)).abs().max() < 1e-9


@pytest.mark.parametrize("operator", [A, Length()], ids=["linear", "length"])
def test_the_circle_against_brute_force(operator):
    """4000 equally spaced points: the trapezoidal rule of a periodic function is exact to rounding.
    Some x contradict y by more than 80 nats."""
    angle = 2 * math.pi * torch.arange(4000, dtype=f64) / 4000
    points = 1.5 * torch.stack([angle.cos(), angle.sin()], 1)
    likely = -((operator(points) - Y)[:, 0] ** 2) / (2 * 0.2**2)
    law = Circle(1.5).given(operator, Y, 0.2)
    noise = math.log(2 * math.pi * 0.2**2) / 2
    assert abs(law.log_evidence - float(likely.exp().mean().log()) + noise) < 1e-12
    for sigma in (0.1, 0.8, 5.0):
        square = (X[:, None] - points).square().sum(-1)
        weight = (likely - square / (2 * sigma**2)).softmax(1)
        assert (law.denoiser()(X, sigma) - weight @ points).abs().max() < 1e-11 * max(1, sigma)


@pytest.mark.parametrize("prior", [Segment(), Tree(4, 2), Circle(), Curve()], ids=str)
def test_draws_follow_the_quantile(prior):
    law = prior.given(A, Y, 0.2)
    x = law.sample(2000, generator(4))
    assert law.distance(x).max() < 1e-12
    error = (x.mean(0) - law.mean).abs() / (x.std(0) / 2000**0.5).clamp(min=1e-12)
    assert error.max() < 4.5
    place = law.coordinate(x).sort().values
    u = (torch.arange(2000, dtype=f64) + 0.5) / 2000
    below = torch.searchsorted(place, law.quantile(u).contiguous()) / 2000
    assert (below - u).abs().max() < 1.95 / 2000**0.5  # p = .001, of Kolmogorov and Smirnov


def test_a_lifted_curve_is_the_curve():
    """Measured through the plane: the same posterior, lifted."""
    prior = Ambient(Circle(), 5)
    rows = torch.randn(2, 5, dtype=f64, generator=generator(5))
    operator = Matrix(rows, (5,))
    y = torch.tensor([0.4, -0.2], dtype=f64)
    law = prior.given(operator, y, 0.3)
    inner = Circle().given(Matrix(rows @ prior.frame, (2,)), y, 0.3)
    assert abs(law.log_evidence - inner.log_evidence) < 1e-13
    x = prior.lift(X)
    assert (law.denoiser()(x, 0.5) - prior.lift(inner.denoiser()(X, 0.5))).abs().max() < 1e-13


def test_weighted_draws_are_an_estimate_of_the_closed_form():
    """A Gaussian as a law that only samples: mean and evidence within 5 standard errors of the
    exact ones, and an effective sample size that says what they are worth."""
    from diffgeo.data.weighted import DRAWS, given_draws

    prior = Gaussian([0.5, -1], [[2, 0.5], [0.5, 1]])
    exact = prior.given(A, Y, 0.4)
    law = given_draws(prior, A, Y, 0.4)
    assert 0.05 * DRAWS < law.ess < 0.5 * DRAWS
    error = (law.mean - exact.mean).abs() / (exact.covariance.diagonal() / law.ess).sqrt()
    assert error.max() < 5
    assert abs(law.log_evidence - exact.log_evidence) < 5 / law.ess**0.5
    assert abs(law.std / exact.std - 1) < 5 / law.ess**0.5


@pytest.mark.parametrize(
    "prior", [Square(), Sphere(n=2), Blurred(Curve(), 0.2), Mixture([[0, 0]], [[[1, 0], [0, 1]]])]
)
def test_a_law_without_a_closed_form_weighs_its_draws(prior):
    """An operator that is not linear, on laws that have no coordinate: E|x0| is near y."""
    law = prior.given(Length(), torch.tensor([0.9], dtype=f64), 0.05)
    assert law.ess is not None and law.ess > 100
    x = law.sample(2000, generator(6))
    assert abs(float(x.norm(dim=1).mean()) - 0.9) < 0.15


@pytest.mark.parametrize("prior", [Segment(), Circle()], ids=str)
def test_noiseless_curves_are_refused(prior):
    with pytest.raises(UsageError, match="sigma_n=0: on a"):
        prior.given(A, Y, 0.0)
