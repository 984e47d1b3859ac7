"""Blurred images as a law, and their posterior, against the same mixture of isotropic Gaussians
component by component; its draws; what it refuses."""

import pytest
import torch

from diffgeo.analytic.exact import Density
from diffgeo.analytic.given import matrix
from diffgeo.analytic.measurement import Measurement
from diffgeo.core import ImageSet, Known, Manifold, generator
from diffgeo.data import Mixture, Points, image_set
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.inverse import operators
from diffgeo.inverse.operators.matrices import Matrix
from diffgeo.inverse.posterior import posterior_denoiser

f64 = torch.float64
S = 0.3


def blurred(flip: bool):
    """24 digits blurred by .25, and the mixture that they are."""
    law = image_set("digits", flip=flip, limit=24, blur=0.25)
    images = law.images
    atoms = images.low + images.images.double() / 255 * (images.high - images.low)
    if flip:
        atoms = torch.cat([atoms, atoms.flip(-1)])
    mixture = Points(atoms.flatten(1)).convolved(0.25)
    assert isinstance(mixture, Mixture)
    return law, mixture


def measured(law, operator):
    y = operator(law.sample(3, generator(5)))
    return y + S * torch.randn(y.shape, dtype=f64, generator=generator(0))


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.flatten() - b.flatten()).abs().max())


BUILDERS = {
    "pool": lambda shape: operators.pool(shape=shape, factor=2),
    "inpaint_box": lambda shape: operators.inpaint_box(shape=shape, size=4),
    "blur": lambda shape: operators.blur(shape=shape, std=1.0),
}


@pytest.mark.parametrize("flip", [False, True])
def test_blurred_images_are_a_mixture(flip):
    law, mixture = blurred(flip)
    assert isinstance(law, Known) and isinstance(law, Manifold) and not isinstance(law, ImageSet)
    assert gap(law.mean, mixture.mean) < 1e-12 and abs(law.std - mixture.std) < 1e-12
    ours, theirs = law.denoiser(), mixture.denoiser()
    assert isinstance(ours, Density) and isinstance(theirs, Density)
    assert is_own(ours, law)  # or every exact run would be measured as a network's
    x = law.sample(3, generator(1))
    v = torch.randn(x.shape, dtype=f64, generator=generator(2))
    for sigma in (0.05, 0.8, 5.0):
        flat = x.flatten(1)
        assert gap(ours(x, sigma), theirs(flat, sigma)) < 1e-5 * sigma
        assert gap(ours.log_density(x, sigma), theirs.log_density(flat, sigma)) < 1e-6
        assert gap(ours.trace(x, sigma), theirs.trace(flat, sigma)) < 1e-5
        products = theirs.covariance_product(flat, sigma, v.flatten(1))
        assert gap(ours.covariance_product(x, sigma, v), products) < 1e-5


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("flip", [False, True])
def test_their_posterior_is_the_mixtures(name, flip):
    law, mixture = blurred(flip)
    operator = BUILDERS[name](law.shape)
    y = measured(law, operator)
    ours = law.given(operator, y[0], S)
    theirs = mixture.given(Matrix(matrix(operator), (64,)), y[0].flatten(), S)
    assert abs(ours.log_evidence - theirs.log_evidence) < 1e-5
    assert abs(ours.ess - 1 / float(theirs.components.square().sum())) < 1e-5
    assert gap(ours.mean, theirs.mean) < 1e-6 and abs(ours.std - theirs.std) < 1e-6
    one, other = ours.denoiser(), theirs.denoiser()
    assert is_own(one, ours) and not is_own(law.denoiser(), ours)
    assert isinstance(other, Density)
    x = law.sample(3, generator(1))
    v = torch.randn(x.shape, dtype=f64, generator=generator(2))
    for sigma in (0.05, 0.5, 5.0):
        flat = x.flatten(1)
        assert gap(one(x, sigma), other(flat, sigma)) < 1e-5 * sigma
        assert gap(one.log_density(x, sigma), other.log_density(flat, sigma)) < 1e-5
        products = other.covariance_product(flat, sigma, v.flatten(1))
        assert gap(one.covariance_product(x, sigma, v), products) < 1e-5
    rows = posterior_denoiser(law, Measurement(operator, y, S))
    for i in range(3):
        alone = law.given(operator, y[i], S).denoiser()
        assert gap(rows(x, 0.5)[i], alone(x[i : i + 1], 0.5)) < 1e-6


@pytest.mark.parametrize("flip", [False, True])
def test_their_draws_have_the_moments(flip):
    law, _ = blurred(flip)
    operator = BUILDERS["pool"](law.shape)
    posterior = law.given(operator, measured(law, operator)[0], S)
    x = posterior.sample(20_000, generator(7)).flatten(1)
    error = (x.mean(0) - posterior.mean.flatten()).abs() / (x.std(0) / 20_000**0.5)
    assert error.max() < 4.5
    assert abs(float(x.var(0).mean()) ** 0.5 / posterior.std - 1) < 0.02


def test_a_truth_of_the_law_has_a_misfit_of_one():
    """|y - A x|^2/(s^2 m) of posterior draws is 1 in the mean over truths drawn from the law."""
    law, _ = blurred(False)
    operator = BUILDERS["pool"](law.shape)
    truth = law.sample(200, generator(8))
    y = operator(truth)
    y = y + S * torch.randn(y.shape, dtype=f64, generator=generator(9))
    misfits = []
    for number, own in enumerate(y):
        draw = law.given(operator, own, S).sample(1, generator(10, number))
        misfits.append(float((own - operator(draw)).square().mean()) / S**2)
    mean = torch.tensor(misfits)
    assert abs(float(mean.mean()) - 1) < 4.5 * float(mean.std()) / 200**0.5


def test_what_blurred_images_refuse():
    law, _ = blurred(False)
    with pytest.raises(UsageError, match=r"data.blur=-1 must be positive"):
        image_set("digits", limit=24, blur=-1.0)
    pool = BUILDERS["pool"](law.shape)
    y = measured(law, pool)[0]
    with pytest.raises(UsageError, match="data.blur with sigma_n=0"):
        law.given(pool, y, 0.0)
    hdr = operators.hdr(shape=law.shape)
    with pytest.raises(UsageError, match="not linear: its posterior has no closed form"):
        law.given(hdr, hdr(law.mean[None])[0], 0.1)
