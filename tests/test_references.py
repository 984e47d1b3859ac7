"""Denoisers that stand for a law: its mean and covariance, the same per class, its mean alone."""

import json

import numpy as np
import pytest
import torch

from diffgeo.analytic.exact import Density
from diffgeo.core import generator
from diffgeo.data import (
    Ambient,
    Blurred,
    Circle,
    Cloud,
    Gaussian,
    Mixture,
    Points,
    Segment,
    Square,
    image_set,
)
from diffgeo.data.images import Images
from diffgeo.data.moments import class_moments, moments
from diffgeo.data.reference import REFERENCES, gaussian, gaussian_classes, identity, reference
from diffgeo.denoiser import exact, is_own
from diffgeo.errors import UsageError
from diffgeo.simulation.flow import flow

f64 = torch.float64
SQUASHED = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.25]])
TWO = Mixture(
    [[-2.0, 0.0], [1.0, 1.0]], [[[1.0, 0.3], [0.3, 0.2]], [[0.2, 0], [0, 0.0]]], [0.3, 0.7]
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=f64)


@pytest.fixture(scope="module")
def digits():
    return image_set("digits")


# the Gaussian


def test_the_closed_flow_ends_where_the_spec_says():
    """Section 3 of geometry.md: from (48, 64) at 80 to .002, and on the way the largest deviation
    from the chord, .5479678239 at 8.5888, beside a chord of 78.9635081176."""
    model = gaussian(SQUASHED)
    part = torch.linspace(0, 1, 21, dtype=f64)
    sigmas = (80 ** (1 / 7) + part * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    start = torch.tensor([[48.0, 64.0]], dtype=f64)
    states = torch.cat([model.flow(start, 80.0, float(sigma)) for sigma in sigmas])
    end = torch.tensor([1.1996257755, 0.3999953877], dtype=f64)
    assert torch.allclose(states[-1], end, rtol=0, atol=5e-11)
    chord = states[-1] - states[0]
    along = (states - states[0]) @ chord / (chord @ chord)
    deviation = (states - states[0] - along[:, None] * chord).norm(dim=1)
    assert float(chord.norm()) == pytest.approx(78.9635081176, abs=5e-11)
    assert float(deviation.max()) == pytest.approx(0.5479678239, abs=5e-11)
    assert float(sigmas[deviation.argmax()]) == pytest.approx(8.5888, abs=5e-5)


def test_the_flow_to_zero_lies_on_the_support_and_goes_back():
    """A singular Gaussian: at sigma' = 0 nothing is left off its plane, and a way there and back is
    none."""
    law = Gaussian([1.0, 2.0, -1.0], [[4.0, 0, 0], [0, 0.25, 0], [0, 0, 0.0]])
    model = gaussian(law)
    x = 5 * noise(4, 3)
    at = model.flow(x, 3.0, 0.0)
    assert float(law.distance(at).max()) < 1e-14
    scale = torch.tensor([2 / 13**0.5, 0.5 / 9.25**0.5, 0.0], dtype=f64)
    assert torch.allclose(at, law.mean + scale * (x - law.mean), rtol=0, atol=1e-14)
    there = model.flow(x, 3.0, torch.tensor([0.5, 1.0, 8.0, 3.0], dtype=f64))
    back = model.flow(there, torch.tensor([0.5, 1.0, 8.0, 3.0], dtype=f64), 3.0)
    assert torch.allclose(back, x, rtol=0, atol=1e-13)
    with pytest.raises(UsageError, match="0 or more"):
        model.flow(x, 3.0, -1.0)


@pytest.mark.parametrize("make", [gaussian, identity])
def test_the_flow_is_that_of_the_denoiser(make, digits):
    """Against the classical method of order 4 on a fine grid, on images."""
    model = make(digits)
    x = 10 * noise(3, 1, 8, 8)
    solved = flow(model, x, 10.0, 0.1, 150)
    assert torch.allclose(model.flow(x, 10.0, 0.1), solved, rtol=0, atol=1e-6)


def test_a_gaussian_law_is_its_own_reference():
    x = 3 * noise(5, 2)
    v = noise(5, 2, seed=1)
    sigma = torch.tensor([0.01, 0.3, 1.0, 4.0, 80.0], dtype=f64)
    for law in (SQUASHED, Gaussian([1.0, 2.0], [[1.0, 1.0], [1.0, 1.0]])):
        model, own = gaussian(law), law.denoiser()
        assert isinstance(model, Density) and not is_own(model, law) and is_own(own, law)
        assert torch.allclose(model(x, sigma), own(x, sigma), rtol=0, atol=1e-13)
        for ask in ("log_density", "trace"):
            found, truth = getattr(model, ask)(x, sigma), getattr(own, ask)(x, sigma)
            assert torch.allclose(found, truth, rtol=1e-13, atol=1e-13)
        product = model.covariance_product(x, sigma, v)
        assert torch.allclose(product, own.covariance_product(x, sigma, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("flip", [False, True])
def test_the_gaussian_of_images_has_the_moments_of_the_law(flip, digits):
    """numpy over the set and its mirror images, over n: the law is those n images."""
    data = image_set("digits", flip=flip, low=0.0, high=2.0)
    x = data.dequantize(data.images).double().numpy()
    x = np.concatenate([x, x[..., ::-1]]) if flip else x
    covariance = np.cov(x.reshape(len(x), -1).T, bias=True)
    found = moments(data)
    np.testing.assert_allclose(found.mean, x.mean(0).ravel(), atol=1e-6)
    rebuilt = (found.basis * found.variance) @ found.basis.mT
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-6)
    assert float(found.variance.sum() / 64) ** 0.5 == pytest.approx(data.std, rel=1e-9)
    query = noise(3, 1, 8, 8)
    gain = covariance @ np.linalg.inv(covariance + 0.49 * np.eye(64))
    apart = (query.numpy() - x.mean(0)).reshape(3, 64)
    expected = x.mean(0) + (apart @ gain.T).reshape(3, 1, 8, 8)
    np.testing.assert_allclose(gaussian(data)(query, 0.7), expected, atol=1e-6)


def test_the_gaussian_of_a_law_of_points_is_exact():
    """Without a draw: a circle r^2/2, a cube half^2/3, a segment L^2/12 along it; lifted, blurred
    and of a cloud."""
    assert torch.allclose(moments(Circle(2.0)).variance, torch.full((2,), 2.0, dtype=f64))
    cube = moments(Square(1.5, 3)).variance
    assert torch.allclose(cube, torch.full((3,), 0.75, dtype=f64), rtol=1e-9)
    segment = moments(Segment((0.0, 0.0), (3.0, 4.0)))
    assert torch.allclose(segment.variance, torch.tensor([25 / 12, 0], dtype=f64), atol=1e-9)
    assert torch.allclose(segment.basis[:, 0].abs(), torch.tensor([0.6, 0.8], dtype=f64))
    lifted = moments(Blurred(Ambient(Circle(), 4), 0.5)).variance
    truth = torch.tensor([0.75, 0.75, 0.25, 0.25], dtype=f64)
    assert torch.allclose(lifted, truth, rtol=1e-9)
    cloud = noise(30, 20)
    own = moments(Cloud(points=cloud))
    rebuilt = (own.basis * own.variance) @ own.basis.mT
    assert torch.allclose(rebuilt, cloud.T.cov(correction=0), rtol=0, atol=1e-8)


def test_identity_knows_the_mean_alone(digits):
    model = identity(digits)
    x = noise(2, 1, 8, 8)
    assert torch.allclose(model(x, 2.0), digits.mean + (x - digits.mean) / 5, rtol=0, atol=1e-14)
    assert torch.allclose(model.trace(x, 2.0), torch.full((2,), 64 / 5, dtype=f64))
    half = model.flow(x, 2.0, 0.0)
    assert torch.allclose(half, digits.mean + (x - digits.mean) / 5**0.5, rtol=0, atol=1e-14)
    normal = torch.distributions.Normal(digits.mean, 5**0.5)
    truth = normal.log_prob(x).sum((1, 2, 3))
    assert torch.allclose(model.log_density(x, 2.0), truth, rtol=1e-13, atol=0)


# classes


def test_classes_of_a_mixture_are_its_components():
    """So the reference is the law itself; a label leaves one component, -1 all."""
    model, own = gaussian_classes(TWO), TWO.denoiser()
    x = 2 * noise(6, 2)
    v = noise(6, 2, seed=1)
    for sigma in (0.05, 1.0, 20.0):
        assert torch.allclose(model(x, sigma), own(x, sigma), rtol=0, atol=1e-13)
        for ask in ("log_density", "trace"):
            found, truth = getattr(model, ask)(x, sigma), getattr(own, ask)(x, sigma)
            assert torch.allclose(found, truth, rtol=1e-12, atol=1e-12)
        product = model.covariance_product(x, sigma, v)
        truth = own.covariance_product(x, sigma, v)
        assert torch.allclose(product, truth, rtol=1e-12, atol=1e-13)
    label = torch.tensor([0, 1, -1, 0, 1, -1])
    told = model(x, 1.0, label=label)
    for k in (0, 1):
        alone = Gaussian(TWO.means[k], TWO.covariances[k]).denoiser()(x, 1.0)
        assert torch.allclose(told[label == k], alone[label == k], rtol=0, atol=1e-13)
    assert torch.allclose(told[label < 0], own(x, 1.0)[label < 0], rtol=0, atol=1e-13)
    assert torch.equal(model.shares(x, 1.0, label=label)[:2], torch.eye(2, dtype=f64))


def test_classes_of_images_have_their_own_moments(digits):
    weights, parts = class_moments(digits)
    counts = torch.bincount(digits.labels, minlength=10)
    assert torch.equal(weights, counts.double() / 1500)
    x = digits.dequantize(digits.images).double().flatten(1)
    for label in (0, 7):
        own = x[digits.labels == label]
        assert torch.allclose(parts[label].mean, own.mean(0), rtol=0, atol=1e-6)
        trace = own.var(0, correction=0).sum()
        assert torch.allclose(parts[label].variance.sum(), trace, rtol=1e-6)
    # the whole law is the mixture: its mean is theirs, its trace is theirs and that of their means
    whole = moments(digits)
    means = torch.stack([part.mean for part in parts])
    assert torch.allclose(weights @ means, whole.mean, rtol=0, atol=1e-9)
    within = sum(w * part.variance.sum() for w, part in zip(weights, parts, strict=True))
    between = weights @ (means - whole.mean).square().sum(1)
    assert torch.allclose(within + between, whole.variance.sum(), rtol=1e-9)


def test_what_has_no_classes_is_refused():
    with pytest.raises(UsageError, match="write model=gaussian"):
        gaussian_classes(SQUASHED)
    unlabelled = Images(torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8))
    with pytest.raises(UsageError, match="write model=gaussian"):
        gaussian_classes(unlabelled)
    with pytest.raises(UsageError, match="no class"):
        gaussian_classes(TWO)(noise(2, 2), 1.0, label=torch.tensor([0, 2]))
    with pytest.raises(UsageError, match="there is no reference wiener: write one of exact, gauss"):
        reference("wiener", SQUASHED)


# in a network's place


def test_only_the_law_s_own_denoiser_is_exact(digits):
    for law in (SQUASHED, Circle(), Points([[1.0, 0.0], [0.0, 1.0]]), digits):
        assert is_own(exact(law), law) and is_own(reference("exact", law), law)
        assert not is_own(gaussian(law), law) and not is_own(identity(law), law)
    assert not is_own(exact(Circle(2.0)), Circle())
    assert list(REFERENCES) == ["exact", "gaussian", "gaussian_classes", "identity"]


def test_a_reference_is_sampled_and_measured_against_the_law(inside, tmp_path):
    """`sample model=gaussian data=digits`: what it lacks against the exact denoiser is measured, as
    a network's error is; there is nothing to train, and it has no classes."""
    error = "{_target_: diffgeo.metrics.ImageDenoiserError, n: 40, sigmas: [2.0]}"
    line = ("data=digits", "model=gaussian", "n=4", "sampler.steps=4", "figures=false")
    measured = ("metrics=none", f"+metrics.denoiser={error}")
    done = inside("sample", *line, *measured, "hydra.run.dir=sampled")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "sampled/metrics.json").read_text())
    assert 0.03 < values["denoiser/rms@2"] < 0.15
    done = inside("sample", *line, "label=3", "hydra.run.dir=refused")
    assert done.returncode == 2 and "this model knows no classes" in done.stderr
    done = inside("train", "data=line", "model=gaussian", "hydra.run.dir=refused")
    assert done.returncode == 2 and "has nothing to train" in done.stderr
    assert not (tmp_path / "refused").exists()


# the real sets: section 5 of geometry.md, over n, without mirror images


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, first, trace, norm, participation",
    [
        # the page prints |mean| 4.9784 for CIFAR-10; it is 4.978343
        ("cifar10", (221.4475, 85.7040, 50.9847, 28.0001), 761.5959, 4.97834, 9.235),
        ("mnist", (20.4672, 14.9653, 13.0106), 210.9001, 22.6845, 30.69),
    ],
)
def test_spectra_of_real_images(real, name, first, trace, norm, participation):
    found = moments(image_set(name, root=str(real), flip=False))
    for value, printed in zip(found.variance.tolist(), first, strict=False):
        assert value == pytest.approx(printed, abs=5e-5)
    total = found.variance.sum()
    assert float(total) == pytest.approx(trace, abs=5e-5)
    assert float(found.mean.norm()) == pytest.approx(norm, abs=5e-5)
    assert float(total**2 / found.variance.square().sum()) == pytest.approx(participation, abs=5e-3)
