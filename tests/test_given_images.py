"""The posterior of a set of images against that of the same images as weighted points in float64:
D and what it knows beside it, weights, evidence, moments, draws."""

import math

import pytest
import torch

from diffgeo.analytic.exact import Finite
from diffgeo.analytic.images_given import reweighted
from diffgeo.analytic.measurement import Measurement, Operator
from diffgeo.core import ImageSet, Uneven, generator
from diffgeo.data import Points, image_set
from diffgeo.errors import UsageError
from diffgeo.inverse import operators
from diffgeo.inverse.posterior import posterior_denoiser
from diffgeo.metrics import FID

f64 = torch.float64


class Flattened:
    """An operator of images as one of their rows of numbers."""

    def __init__(self, inner: Operator):
        self.inner = inner
        self.shape = (math.prod(inner.shape),)
        self.measured = tuple(inner.measured)

    def __call__(self, x0: torch.Tensor) -> torch.Tensor:
        return self.inner(x0.view(-1, *self.inner.shape))


def problem(flip: bool, builder=operators.pool, **options):
    """Digits, an operator, three noisy measurements, and the images as points."""
    data = image_set("digits", flip=flip, limit=300)
    operator = builder(shape=data.shape, **options)
    x0 = data.dequantize(data.images[:3]).double()
    y = operator(x0)
    y = y + 0.3 * torch.randn(y.shape, dtype=f64, generator=generator(0))
    atoms = data.low + data.images.double() / 255 * (data.high - data.low)
    if flip:
        atoms = torch.cat([atoms, atoms.flip(-1)])
    return data, operator, y, Points(atoms.flatten(1))


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.flatten() - b.flatten()).abs().max())


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_weighted_points(flip):
    data, operator, y, points = problem(flip, factor=2)
    law = data.given(operator, y[0], 0.3)
    same = points.given(Flattened(operator), y[0], 0.3)
    assert isinstance(law, ImageSet) and isinstance(law, Uneven)
    assert abs(law.ess / same.ess - 1) < 1e-12
    assert abs(law.log_evidence - same.log_evidence) < 1e-12
    assert gap(law.mean, same.mean) < 1e-14 and abs(law.std - same.std) < 1e-13
    ours, theirs = law.denoiser(), same.denoiser()
    assert isinstance(ours, Finite) and isinstance(theirs, Finite)
    for sigma in (0.05, 0.5, 5.0):
        x = data.dequantize(data.images[:3]).double()
        x = x + sigma * torch.randn(x.shape, dtype=f64, generator=generator(1))
        v = torch.randn(x.shape, dtype=f64, generator=generator(2))
        flat = x.flatten(1)
        # the tolerances that D of a set has without weights: products in float32
        assert gap(ours(x, sigma), theirs(flat, sigma)) < 1e-5 * sigma
        assert gap(ours.log_density(x, sigma), theirs.log_density(flat, sigma)) < 1e-6
        assert gap(ours.trace(x, sigma), theirs.trace(flat, sigma)) < 2e-5
        products = theirs.covariance_product(flat, sigma, v.flatten(1))
        assert gap(ours.covariance_product(x, sigma, v), products) < 1e-5
        assert gap(ours.posterior(x, sigma).entropy, theirs.posterior(flat, sigma).entropy) < 1e-5


def test_a_label_and_an_image_left_out_leave_the_rest_its_weights():
    data, operator, y, _ = problem(False, factor=2)
    assert data.labels is not None
    law = data.given(operator, y[0], 0.3)
    atoms = data.low + data.images.double().flatten(1) / 255 * (data.high - data.low)
    weights = law.log_weights[0].exp()
    left = data.labels == data.labels[0]
    left[0] = False
    same = Points(atoms[left], weights[left]).denoiser()
    x = data.mean[None] + 0.1
    told = {"label": data.labels[:1], "exclude": torch.tensor([0])}
    ours = law.denoiser()
    assert gap(ours(x, 0.5, **told), same(x.flatten(1), 0.5)) < 1e-5
    assert gap(ours.log_density(x, 0.5, **told), same.log_density(x.flatten(1), 0.5)) < 1e-6
    assert gap(ours.trace(x, 0.5, **told), same.trace(x.flatten(1), 0.5)) < 2e-5


@pytest.mark.parametrize("flip", [False, True])
def test_rows_with_a_y_each_are_as_alone(flip):
    data, operator, y, _ = problem(flip, factor=2)
    y = torch.cat([y, y[:1]])
    rows = posterior_denoiser(data, Measurement(operator, y, 0.3))
    x = data.dequantize(data.images[:4]).double() + 0.3
    together = rows(x, 0.5)
    for i in range(4):
        alone = data.given(operator, y[i], 0.3).denoiser()
        assert gap(together[i], alone(x[i : i + 1], 0.5)) < 1e-6
    with pytest.raises(UsageError, match="asks for 2 rows of a batch of 4 measured"):
        rows(x[:2], 0.5)


def test_draws_have_the_weights():
    data, operator, y, _ = problem(True, factor=4)
    law = data.given(operator, y[0], 0.3)
    x = law.sample(20_000, generator(3))
    error = (x.mean(0) - law.mean).abs() / (x.std(0) / 20_000**0.5).clamp(min=1e-3)
    assert error.max() < 4.5
    number, mirrored = law.pick(20_000, generator(3))
    weights = law.log_weights.exp()
    assert mirrored is not None
    share = float(mirrored.double().mean())
    assert abs(share - float(weights[1].sum())) < 4.5 * (0.25 / 20_000) ** 0.5
    counts = torch.bincount(number, minlength=len(law)) / 20_000
    expected = weights.sum(0)
    assert ((counts - expected).abs() <= 4.5 * (expected / 20_000).sqrt() + 2e-4).all()


def test_two_measurements_one_after_the_other_are_both():
    data, operator, y, _ = problem(True, factor=2)
    twice = data.given(operator, y[0], 0.3).given(operator, y[0], 0.4)
    s = (1 / (1 / 0.3**2 + 1 / 0.4**2)) ** 0.5
    assert gap(twice.log_weights, data.given(operator, y[0], s).log_weights) < 1e-10


def test_no_noise_names_the_image():
    """A y in float32, as a measurement of an image comes."""
    data, operator, _, _ = problem(False, builder=operators.inpaint_box, size=4)
    y = operator(data.dequantize(data.images[7:8]))[0]
    law = data.given(operator, y, 0.0)
    assert law.ess == 1 and int(law.log_weights.argmax()) == 7
    with pytest.raises(UsageError, match="no signal of this law has the measurement y"):
        data.given(operator, y + 0.1, 0.0)


def test_what_is_of_equal_images_is_refused():
    """A reference of equally likely images would be another law's."""
    from diffgeo.data.moments import moments

    data, operator, y, _ = problem(False, factor=2)
    law = data.given(operator, y[0], 0.3)
    with pytest.raises(UsageError, match="these images have weights"):
        moments(law)
    with pytest.raises(UsageError, match="a posterior's have weights"):
        FID(features="pixels").prepare(law, 100)


@pytest.mark.slow
def test_on_mnist_the_posterior_is_one_image(real):
    """The median of 1/sum w^2 over 20 test images, other ones than the specification has:
    over five sets of 20 it went from 1 to 1 (box, s .1), 5.7 to 10.5 (pool x4, s .3), 1720 to 3420
    (pool x7, s .3), 2710 to 3890 (pool x4, s 1)."""
    data = image_set("mnist", root=str(real))
    test = data.other()
    assert test is not None
    x0 = test.dequantize(test.images[1000:1020]).double()
    table = (
        (operators.inpaint_box(shape=data.shape, size=14), 0.1, 1, 1.2),
        (operators.pool(shape=data.shape, factor=4), 0.3, 4, 12),
        (operators.pool(shape=data.shape, factor=4), 1.0, 2000, 5000),
        (operators.pool(shape=data.shape, factor=7), 0.3, 1500, 4000),
    )
    for operator, sigma_n, least, most in table:
        y = operator(x0)
        y = y + sigma_n * torch.randn(y.shape, dtype=f64, generator=generator(0))
        ess = reweighted(data.denoiser(), operator, y, sigma_n).ess
        assert least <= float(ess.median()) <= most
        # of one of them by differences, image by image
        square = [float((y[0] - operator(block)).square().sum()) for block in floats(data, 300)]
        ours = reweighted(data.denoiser(), operator, y[:1], sigma_n).log_weight[0, 0, :300]
        logs = -torch.tensor(square, dtype=f64) / (2 * sigma_n**2)
        assert gap(ours - ours[0], logs - logs[0]) < 1e-8


def floats(data, count: int):
    """The first images one by one, float64 [1,C,H,W]."""
    for pixels in data.images[:count]:
        yield data.low + pixels[None].double() / 255 * (data.high - data.low)
