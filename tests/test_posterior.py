"""What exact denoisers know beside D: density, trace, covariance products, posterior weights;
against autograd, differences, quadrature over the plane, and sums written out in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from test_analytic_images import blobs, noise, whole_softmax

from diffgeo.analytic.exact import Density, Finite
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.analytic.sphere import log_mean
from diffgeo.core import generator
from diffgeo.data import (
    Ambient,
    Blurred,
    Circle,
    Cloud,
    Curve,
    Gaussian,
    Line,
    Mixture,
    Moons,
    Parabola,
    Points,
    Segment,
    Sphere,
    Square,
    Tree,
    image_set,
)
from diffgeo.denoiser import covariance, is_own
from diffgeo.errors import UsageError

f64 = torch.float64
MIXTURE = Mixture(
    [[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]],
    [[[0.1, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.0, 0.5]], [[0.2, 0.1], [0.1, 0.2]]],
    [1.0, 2.0, 3.0],
)
ATOMS = Points([[1.0, 0.0], [-1.0, 0.0], [0.2, 0.7]], [0.5, 0.2, 0.3])
PLANAR = {
    "gaussian": Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]]),
    "line": Line(),
    "mixture": MIXTURE,
    "points": ATOMS,
    "cloud": Cloud(points=noise(40, 2)),
    "circle": Circle(),
    "square": Square(),
    "segment": Segment(),
    "tree": Tree(3, 2),
    "curve": Curve(first=1.0, last=7.0),
    "moons": Moons(),
    "parabola": Parabola(),
    "blurred": Blurred(Moons(), 0.2),
}
LAWS = PLANAR | {
    "sphere": Sphere(2.0, 5),
    "two_points": Sphere(1.0, 1),
    "cube": Square(1.0, 3),
    "wide_cloud": Cloud(points=noise(60, 20)),
    "lifted_circle": Ambient(Circle(), 5),
    "lifted_points": Ambient(ATOMS, 4),
    "blurred_lifted": Blurred(Ambient(MIXTURE, 4), 0.3),
}


def near(law, sigma: float, n: int = 3, seed: int = 1) -> torch.Tensor:
    """Noisy draws of a law, [n,d]."""
    g = generator(seed)
    return law.sample(n, g) + sigma * torch.randn(n, *law.shape, generator=g, dtype=f64)


# every law


@pytest.mark.parametrize("name", LAWS)
def test_trace_and_products_are_those_of_autograd(name):
    law = LAWS[name]
    denoise = law.denoiser()
    assert isinstance(denoise, Density) and is_own(denoise, law)
    for sigma in (0.1, 3.0):
        x = near(law, sigma)
        v = noise(*x.shape, seed=2)
        full = covariance(denoise, x, sigma) / sigma**2
        trace = full.diagonal(dim1=1, dim2=2).sum(1)
        assert torch.allclose(denoise.trace(x, sigma), trace, rtol=0, atol=1e-12 * len(v[0]))
        product = denoise.covariance_product(x, sigma, v) / sigma**2
        assert torch.allclose(product, torch.einsum("bij,bj->bi", full, v), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", LAWS)
def test_log_density_has_the_score_for_its_gradient_and_heat_flows(name):
    """Central differences of x and of log sigma: grad log p = (D - x)/sigma^2, and d log p / d log
    sigma = tr dD/dx + |x - D|^2/sigma^2 - d. A level for each row."""
    law = LAWS[name]
    denoise = law.denoiser()
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=f64)
    x = near(law, 1.0)
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, i] = 1e-4 * sigma
        rise = denoise.log_density(x + step, sigma) - denoise.log_density(x - step, sigma)
        score = (denoise(x, sigma) - x)[:, i] / sigma
        assert torch.allclose(rise / 2e-4, score, rtol=1e-6, atol=1e-6)
    h = 1e-4
    up = denoise.log_density(x, sigma * math.exp(h))
    down = denoise.log_density(x, sigma * math.exp(-h))
    residual = (x - denoise(x, sigma)).square().sum(1) / sigma**2
    heat = denoise.trace(x, sigma) + residual - x.shape[1]
    assert torch.allclose((up - down) / (2 * h), heat, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", PLANAR)
def test_density_has_mass_one(name):
    """On a grid of step h the sum over a plane is exact to e^(-2 pi^2 sigma^2/h^2), here 4e-13."""
    law = PLANAR[name]
    sigma = 0.6
    h = 0.5
    axis = torch.arange(-18, 19, dtype=f64) * h
    grid = torch.cartesian_prod(axis, axis) + law.mean
    if name == "parabola":  # (x, x^2): a long way up
        grid = torch.cartesian_prod(axis, torch.arange(-8, 82, dtype=f64) * h)
    mass = float(law.denoiser().log_density(grid, sigma).exp().sum()) * h**2
    assert mass == pytest.approx(1, abs=1e-8)


def test_density_of_the_sphere_against_mpmath():
    """log[Gamma(v+1) (2/k)^v I_v(k)] - k for the orders of R^2 .. R^300, k from 1e-8 to 1e6."""
    import mpmath as mp

    mp.mp.dps = 60
    for n in (1, 3, 10, 300):
        v = mp.mpf(n) / 2 - 1
        for k in (1e-8, 0.5, 50.0, 1e6):
            truth = mp.log(mp.gamma(v + 1) * (2 / mp.mpf(k)) ** v * mp.besseli(v, k)) - mp.mpf(k)
            found = float(log_mean(n / 2 - 1, torch.tensor([k], dtype=f64)))
            assert found == pytest.approx(float(truth), rel=1e-12, abs=1e-12)


def test_a_law_without_formulas_is_a_denoiser_still():
    """As docs/extending.md has it: sample, project, tangent and posterior are enough; its blurred
    and lifted forms are no densities either."""
    from diffgeo.data.law import Law

    class Origin(Law):
        shape = (2,)
        dim = 0
        mean = torch.zeros(2, dtype=f64)
        std = 0.0

        def sample(self, n, generator):
            return torch.zeros(n, 2, dtype=f64)

        def project(self, x):
            return torch.zeros_like(x)

        def tangent(self, p):
            return p.new_zeros(*p.shape, 0)

        def posterior(self, x, sigma):
            return torch.zeros_like(x)

    law = Origin()
    for made in (law, Blurred(law, 0.1), Ambient(law, 3)):
        denoise = made.denoiser()
        assert not isinstance(denoise, Density) and is_own(denoise, made)
        assert denoise(torch.ones(1, *made.shape), 1.0).shape == (1, *made.shape)


# the numbers of the spec, F12: tr dD/dx + |x - D|^2/sigma^2


@pytest.mark.parametrize(
    "law, x, sigma, dimension",
    [
        (Circle(), (1.0, 0.0), 0.1, 1.0025253990),
        (Circle(), (1.0, 0.0), 0.3, 1.0248806999),
        (Circle(), (1.1, 0.0), 0.1, 2.0022936876),
        (Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.25]]), (1.0, 1.0), 0.5, 2.4550173010),
    ],
)
def test_local_dimensions(law, x, sigma, dimension):
    x = torch.tensor([x], dtype=f64)
    denoise = law.denoiser()
    found = denoise.trace(x, sigma) + (x - denoise(x, sigma)).square().sum(1) / sigma**2
    assert float(found) == pytest.approx(dimension, abs=5e-11)


def test_local_dimension_of_a_plane():
    """N(0, I_2) in R^3 at a point p of the plane: 2/(1 + sigma^2) + |p|^2 sigma^2/(1 + sigma^2)^2;
    the printed 1.9999999800 is p = (1, 1, 0)."""
    law = Gaussian([0.0] * 3, [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0.0]])
    denoise = law.denoiser()
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=f64)
    found = denoise.trace(x, 0.01) + (x - denoise(x, 0.01)).square().sum(1) / 0.01**2
    expected = 2 / 1.0001 + x.square().sum(1) * 1e-4 / 1.0001**2
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)
    assert float(found[0]) == pytest.approx(1.9999999800, abs=5e-11)


# atoms


@pytest.mark.parametrize("d, dtype", [(2, f64), (2, torch.float32), (30, f64), (30, torch.float32)])
def test_posterior_of_a_cloud_is_that_of_its_atoms(d, dtype):
    """Streamed and Dense, blocks and rows of any size, against differences in float64: N = 9 000 is
    three blocks."""
    points = noise(9000, d).to(dtype)
    cloud = Cloud(points=points)
    sigma = torch.tensor([1e-3, 0.05, 0.3, 1.0, 30.0], dtype=f64)
    x = points[:5].double() + sigma[:, None] * noise(5, d, seed=3)
    step = points.double() - x[:, None]
    weight = (-step.square().sum(2) / (2 * sigma[:, None] ** 2)).softmax(1)
    mean = torch.einsum("bk,bkd->bd", weight, step)
    spread = (weight * (step - mean[:, None]).square().sum(2)).sum(1)
    denoise = cloud.denoiser()
    assert isinstance(denoise, Finite)
    found = denoise.posterior(x, sigma)
    bar = {"rtol": 0, "atol": 1e-9 if dtype == f64 or d == 2 else 2e-5}
    assert torch.allclose(found.mean, x + mean, **bar)
    assert torch.allclose(found.entropy, torch.special.entr(weight).sum(1), **bar)
    assert torch.allclose(found.collision, weight.square().sum(1), **bar)
    assert torch.allclose(found.trace, spread / sigma**2, **bar)
    assert torch.equal(found.nearest, weight.argmax(1)) and found.classes is None
    v = noise(5, d, seed=4)
    apart = step - mean[:, None]
    product = torch.einsum("bk,bk,bkd->bd", weight, (apart * v[:, None]).sum(2), apart)
    scale = sigma[:, None] ** 2
    assert torch.allclose(denoise.covariance_product(x, sigma, v) / scale, product / scale, **bar)


def test_posterior_of_weighted_atoms():
    """Two atoms +-1 of weight 1/4, 3/4: p = 1/(1 + 3 e^(-2x/s^2)), trace (1 - tanh^2)/s^2."""
    law = Points([[1.0], [-1.0]], [0.25, 0.75])
    x = torch.tensor([[0.3]], dtype=f64)
    found = law.denoiser().posterior(x, 0.5)
    p = 1 / (1 + 3 * math.exp(-2 * 0.3 / 0.25))
    assert float(found.mean) == pytest.approx(2 * p - 1, abs=1e-14)
    assert float(found.collision) == pytest.approx(p**2 + (1 - p) ** 2, abs=1e-14)
    assert float(found.trace) == pytest.approx(4 * p * (1 - p) / 0.25, abs=1e-13)
    density = 0.25 * math.exp(-(0.7**2) / 0.5) + 0.75 * math.exp(-(1.3**2) / 0.5)
    density /= math.sqrt(2 * math.pi) * 0.5
    assert float(law.denoiser().log_density(x, 0.5)) == pytest.approx(math.log(density), abs=1e-13)


# images


def told(images, weight, x, sigma, labels=None):
    """What the weights [B,N] of images say, written out in float64."""
    points = images.double() / 127.5 - 1
    mean = torch.einsum("bn,nchw->bchw", weight, points)
    spread = (points - mean[:, None]).square().sum((2, 3, 4))
    level = sigma.to(f64)
    classes = None
    if labels is not None:
        classes = weight @ torch.nn.functional.one_hot(labels).double()
    return SimpleNamespace(
        trace=(weight * spread).sum(1) / level**2,
        collision=weight.square().sum(1),
        classes=classes,
        apart=points - mean[:, None],
    )


@pytest.mark.parametrize("flip", [False, True])
def test_images_say_collision_trace_and_classes(flip):
    """60 levels from 1e-3 to 100; each row with its own class, or none, and its own image left out,
    or none."""
    images = blobs(120)
    labels = torch.arange(120) % 3
    sigma = torch.logspace(-3, 2, 60, dtype=f64)
    x = images[:60].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1) * noise(60, 3, 6, 5)
    label = torch.arange(60) % 4 - 1
    exclude = torch.where(torch.arange(60) % 5 == 0, -1, torch.arange(60))
    keep = (label[:, None] < 0) | (labels == label[:, None])
    keep = keep & (torch.arange(120) != exclude[:, None])
    every = torch.cat([images, images.flip(-1)]) if flip else images
    kept = keep.repeat(1, 2) if flip else keep
    _, weight = whole_softmax(every, x, sigma, keep=kept)
    truth = told(every, weight, x, sigma, labels.repeat(2) if flip else labels)
    denoise = ImageDenoiser(images, flip=flip, labels=labels)
    assert isinstance(denoise, Finite)
    told_too = {"label": label, "exclude": exclude}
    found = denoise.posterior(x, sigma, **told_too)
    assert torch.equal(found.mean, denoise(x, sigma, **told_too))
    assert torch.allclose(found.collision, truth.collision, rtol=0, atol=1e-5)
    assert torch.allclose(found.trace, truth.trace, rtol=1e-5, atol=1e-4)
    assert torch.allclose(found.classes, truth.classes, rtol=0, atol=1e-5)
    assert torch.equal(denoise.trace(x, sigma, **told_too), found.trace)

    # log of the mean of N(x; a, sigma^2 I) over what is left
    square = (every.double() / 127.5 - 1 - x[:, None]).square().sum((2, 3, 4))
    logit = (-square / (2 * sigma[:, None] ** 2)).masked_fill(~kept, -torch.inf)
    log_density = logit.logsumexp(1) - kept.sum(1).double().log()
    log_density = log_density - 45 * (2 * math.pi * sigma**2).log()
    close = {"rtol": 1e-9, "atol": 1e-4}
    assert torch.allclose(denoise.log_density(x, sigma, **told_too), log_density, **close)

    v = noise(60, 3, 6, 5, seed=9)
    along = (truth.apart * v[:, None]).sum((2, 3, 4))
    product = torch.einsum("bn,bn,bnchw->bchw", weight, along, truth.apart)
    scale = sigma.view(-1, 1, 1, 1) ** 2
    found = denoise.covariance_product(x, sigma, v, **told_too)
    assert torch.allclose(found / scale, product / scale, rtol=1e-4, atol=1e-4)


def test_trace_keeps_its_digits_at_small_sigma():
    """Two images one grey level apart in one pixel, x between them: p = 1/2 each and the trace is
    (1/2)^2/sigma^2, whatever |a|^2 is; one image alone: 0 exactly."""
    images = blobs(50)
    images[3] = images[2]
    images[3, 0, 0, 0] = images[2, 0, 0, 0] + 1
    denoise = ImageDenoiser(images, low=0.0, high=255.0)
    x = images[2:4].double().mean(0, keepdim=True)
    for sigma in (0.2, 0.1, 0.05, 0.01):
        found = denoise.posterior(x, sigma)
        assert float(found.trace) == pytest.approx(0.25 / sigma**2, rel=1e-7)
        assert float(found.collision) == pytest.approx(0.5, abs=1e-7)
    assert float(denoise.posterior(images[7:8].double() + 0.1, 0.05).trace) == 0


def test_shares_of_classes_have_a_place_for_each_class_of_the_set():
    """Four images of the digits: classes that have no image have the share 0."""
    data = image_set("digits", limit=4)
    x = data.dequantize(data.images).double()
    shares = data.denoiser().posterior(x, 0.01).classes
    assert shares.shape == (4, 10)
    assert torch.equal(shares, torch.nn.functional.one_hot(data.labels, 10).double())


def test_bad_input():
    images = ImageDenoiser(blobs(4))
    for denoise, shape in ((Circle().denoiser(), (2, 2)), (images, (2, 3, 6, 5))):
        x = torch.zeros(shape, dtype=f64)
        for call, words in [
            (lambda d=denoise, x=x: d.log_density(x, 0.0), "sigma must be positive"),
            (lambda d=denoise, x=x: d.trace(x[:, :1], 1.0), "this law lives in"),
            (lambda d=denoise, x=x: d.covariance_product(x, 1.0, x[:1]), "one direction v a row"),
        ]:
            with pytest.raises(UsageError, match=words):
                call()
