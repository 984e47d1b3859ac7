"""p(x0 | y) as a law: the values of the specification to its digits, the identity that makes it the
plain denoiser of that law, and what no measurement can be."""

import math

import pytest
import torch

from diffgeo.analytic.exact import Density, Finite
from diffgeo.analytic.measurement import Measurement
from diffgeo.core import generator
from diffgeo.data import Ambient, Blurred, Cloud, Gaussian, Mixture, Points
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.matrices import Matrix
from diffgeo.inverse.posterior import posterior_denoiser
from diffgeo.theory.distances import bures

f64 = torch.float64

M2 = Mixture(
    [[0, 0], [2, 1], [-1, 2]],
    [[[1, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.25, 0.5], [0.5, 1]]],
    [0.5, 0.3, 0.2],
)
G4 = Gaussian(
    [0.5, -1, 0, 2],
    [[2, 0.5, 0, 0], [0.5, 1, 0.3, 0], [0, 0.3, 0.5, 0.1], [0, 0, 0.1, 0.2]],
)
P5 = Points([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 2]])


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=f64)


def linear(*rows) -> Matrix:
    entries = tensor(*rows)
    return Matrix(entries, (entries.shape[1],))


A2 = linear([1, 0.5])
A4 = linear([1, 0, 1, 0], [0, 2, 0, -1])
Y4 = tensor(1.5, -3)
D5 = 0.9483483318  # the first number of D_y on P5


def near(found, expected, digits: int) -> None:
    found = torch.as_tensor(found, dtype=f64)
    expected = torch.as_tensor(expected, dtype=f64)
    assert (found - expected).abs().max() <= 0.5001 * 10**-digits, found


# the values of the specification, section 1


def test_the_mixture_of_the_specification():
    x = tensor([0.7, -0.3])
    law = M2.given(A2, tensor(1.2), 0.4)
    near(M2.denoiser()(x, 0.8), [[0.4490564375, 0.1744584651]], 10)
    near(law.denoiser()(x, 0.8), [[0.8370020508, 0.4409643296]], 10)
    share = law._local(x, tensor(0.8)).share[0]
    # printed as .90988179; the three then add up to 1 + 1.5e-8
    near(share[:2], [0.90988178, 0.09002429], 8)
    near(share[2], 9.3934682e-5, 12)
    near(law.components, [0.6091529156, 0.1462026876, 0.2446443968], 10)
    near(law.mean, [0.5625353602, 1.2181930981], 10)
    apart = law.means - law.mean
    covariance = torch.einsum("k,kij->ij", law.components, law.covariances)
    covariance += torch.einsum("k,ki,kj->ij", law.components, apart, apart)
    near(covariance, [[0.4639107686, -0.5837049937], [-0.5837049937, 1.2273568449]], 10)
    joint = law.log_evidence + float(law.denoiser().log_density(x, 0.8))
    near(joint, -4.242608179134, 12)


def test_the_evidence_of_the_mixture():
    """The specification prints -1.815326514; mpmath gives -1.81532653901398, and its p(x, y)
    above holds the same number."""
    near(M2.given(A2, tensor(1.2), 0.4).log_evidence, -1.81532653901398, 13)


def test_the_gaussian_of_the_specification():
    x = tensor([1, 0, -1, 1])
    law = G4.given(A4, Y4, 0.3)
    near(G4.denoiser()(x, 1.5), [[0.8229569924, -0.7451344356, -0.1326386012, 1.8829648409]], 10)
    near(law.denoiser()(x, 1.5), [[1.3811498421, -0.5383398271, 0.0696053863, 1.9238594791]], 10)
    axes = torch.eye(4, dtype=f64)
    products = law.denoiser().covariance_product(x.expand(4, -1), 1.5, axes)
    near(products.diagonal(), [0.33361849, 0.05686683, 0.29110528, 0.15642174], 8)
    near(law.mean, [1.2527282166, -0.5020934196, 0.2189344438, 2.0068840212], 10)
    near(law.covariance.diagonal(), [0.4482739163, 0.0626897338, 0.3905327781, 0.1766958955], 10)
    moments = (G4.mean, G4.covariance, law.mean, law.covariance)
    near(bures(*moments), 1.5816293433, 10)


def test_the_gaussian_without_noise():
    law = G4.given(A4, Y4, 0.0)
    near(law.mean, [1.2757575758, -0.4957575758, 0.2242424242, 2.0084848485], 10)
    near(law.covariance.diagonal(), [0.38787879, 0.04387879, 0.38787879, 0.17551515], 8)
    assert law.dim == 2
    x = law.sample(100, generator(0))
    assert (x @ A4.entries.mT - Y4).abs().max() < 1e-14


@pytest.mark.parametrize("prior", [P5, Cloud(points=P5.atoms)], ids=["points", "cloud"])
def test_the_points_of_the_specification(prior):
    law = prior.given(A2, tensor(1.2), 0.4)
    near(law.denoiser()(tensor([0.7, -0.3]), 0.8), [[D5, 0.2475769922]], 10)
    near(law.mean, [0.7691229784, 0.9470266714], 10)
    weights = law.weights if isinstance(law, Points) else law.shares
    shares = [0.004240803, 0.3368887067, 0.0825581281, 0.2881561811, 0.2881561811]
    near(weights, shares, 9)
    near(law.ess, 1 / sum(share**2 for share in shares), 8)
    square = (1.2 - P5.atoms @ tensor(1, 0.5)) ** 2
    evidence = (torch.exp(-square / 0.32) / math.sqrt(2 * math.pi * 0.16)).mean().log()
    near(law.log_evidence, evidence, 13)


# D_y - D = sigma^2 grad log p(y | x)

LAWS = {
    "gaussian": G4,
    "mixture": M2,
    "points": P5,
    "cloud": Cloud(points=P5.atoms),
    "blurred": Blurred(P5, 0.3),
    "ambient": Ambient(M2, 4),
}


def operator_for(law) -> Matrix:
    return A2 if law.shape == (2,) else A4


@pytest.mark.parametrize("name", LAWS)
def test_the_step_is_the_gradient_of_the_likelihood(name):
    """log p(y | x) = log p(x | y) + log p(y) - log p(x) by autograd, two exact densities apart, and
    Cov[x0 | x, y] v = sigma^2 dD_y/dx v."""
    prior = LAWS[name]
    operator = operator_for(prior)
    y = tensor(1.2) if operator is A2 else Y4
    posterior = prior.given(operator, y, 0.4).denoiser()
    plain = prior.denoiser()
    assert isinstance(posterior, Density) and isinstance(plain, Density)
    x = torch.randn(5, *prior.shape, dtype=f64, generator=generator(1)) + 0.5
    for sigma in (0.2, 0.8, 5.0):
        at = x.clone().requires_grad_()
        log_ratio = posterior.log_density(at, sigma) - plain.log_density(at, sigma)
        (slope,) = torch.autograd.grad(log_ratio.sum(), at)
        step = posterior(x, sigma) - plain(x, sigma)
        assert (step - sigma**2 * slope).abs().max() < 1e-10
        v = torch.randn(x.shape, dtype=f64, generator=generator(2))
        found = torch.autograd.functional.jvp(lambda u, s=sigma: posterior(u, s), x, v)[1]
        product = posterior.covariance_product(x, sigma, v)
        assert (product - sigma**2 * found).abs().max() < 1e-10 * max(1, sigma**2)


@pytest.mark.parametrize("name", LAWS)
def test_many_rows_are_as_each_alone(name):
    """`posterior_denoiser` of rows with a y each, and all its formulas, against `given`."""
    prior = LAWS[name]
    operator = operator_for(prior)
    x = prior.sample(4, generator(3)) + torch.randn(4, *prior.shape, dtype=f64)
    y = operator(prior.sample(4, generator(4))) + 0.4
    y[2] = y[1]
    rows = posterior_denoiser(prior, Measurement(operator, y, 0.4))
    assert isinstance(rows, Density)
    v = torch.randn(x.shape, dtype=f64, generator=generator(2))
    sigma = tensor(0.3, 0.8, 1, 2)
    for i in range(4):
        one = prior.given(operator, y[i], 0.4).denoiser()
        part = slice(i, i + 1)
        for together, alone in (
            (rows(x, sigma), one(x[part], sigma[part])),
            (rows.log_density(x, sigma), one.log_density(x[part], sigma[part])),
            (rows.trace(x, sigma), one.trace(x[part], sigma[part])),
            (
                rows.covariance_product(x, sigma, v),
                one.covariance_product(x[part], sigma[part], v[part]),
            ),
        ):
            assert (together[part] - alone).abs().max() < 1e-13 * (1 + alone.abs().max())
    with pytest.raises(UsageError, match="asks for 3 rows of a batch of 4 measured"):
        rows(x[:3], 0.5)


def test_a_shared_measurement_is_one_law():
    rows = posterior_denoiser(P5, Measurement(A2, tensor(1.2), 0.4))
    assert isinstance(rows, Finite)
    near(rows(tensor([0.7, -0.3]), 0.8), [[D5, 0.2475769922]], 10)


# without noise, with little of it, and what cannot be


def test_no_noise_is_the_limit_of_little():
    """What contradicts y is out; of what allows it, the component with less freedom wins."""
    prior = Mixture(
        [[0, 0], [0, 0], [3, 3]],
        [[[1, 0], [0, 1]], [[0, 0], [0, 2]], [[0, 0], [0, 0]]],
        [0.98, 0.01, 0.01],
    )
    first = linear([1, 0])
    exact = prior.given(first, tensor(0.0), 0.0)
    assert exact.components.tolist() == [1.0] and exact.log_evidence is None
    near(
        exact.covariance if isinstance(exact, Gaussian) else exact.covariances[0],
        [[0, 0], [0, 2]],
        15,
    )
    little = prior.given(first, tensor(0.0), 1e-7)
    assert float(little.components.max()) > 1 - 1e-4
    elsewhere = prior.given(first, tensor(0.5), 0.0)
    near(elsewhere.mean, [0.5, 0], 14)
    near(elsewhere.log_evidence, math.log(0.98) - 0.125 - math.log(2 * math.pi) / 2, 13)
    assert prior.given(first, tensor(3.0), 0.0).means.tolist() == [[3.0, 3.0]]


def test_a_tiny_noise_keeps_its_digits():
    """C - K A C would lose every digit here, by subtraction: the variance of what is
    measured is s^2."""
    s = 1e-9
    law = Gaussian([0.0, 0], [[2, 0.3], [0.3, 1]]).given(linear([1, 0], [0, 1]), tensor(1, 2), s)
    near(law.covariance / s**2, [[1, 0], [0, 1]], 12)
    near(law.mean, [1, 2], 14)


@pytest.mark.parametrize("prior", [G4, Ambient(M2, 4), Points([[0.0, 0, 0, 0], [1, 1, 1, 1]])])
@pytest.mark.parametrize(
    ("y", "sigma_n", "said"),
    [
        (tensor(1.0), 0.1, r"y has shape \[1\] and the operator measures \[2\]"),
        (tensor(1.0, math.nan), 0.1, "not finite"),
        (tensor(1.0, 2), -0.1, "sigma_n=-0.1"),
        (tensor(1.0, 2), math.inf, "sigma_n=inf"),
    ],
)
def test_what_is_no_measurement_is_refused(prior, y, sigma_n, said):
    with pytest.raises(UsageError, match=said):
        prior.given(A4, y, sigma_n)


def test_a_y_that_the_law_cannot_have_is_refused():
    line = Gaussian([0.0, 0], [[1, 0], [0, 0]])
    both = linear([1, 0], [0, 1])
    for prior in (line, Mixture([[0, 0]], [[[1, 0], [0, 0]]]), P5, Cloud(points=P5.atoms)):
        with pytest.raises(UsageError, match="no signal of this law has the measurement y"):
            prior.given(both, tensor(0.3, 0.1), 0.0)
    assert line.given(both, tensor(0.3, 0.0), 0.0).mean.tolist() == [0.3, 0.0]
    found = P5.given(both, tensor(0.5, 2.0), 0.0)
    assert found.atoms.tolist() == [[0.5, 2.0]] and found.ess == 1
    with pytest.raises(UsageError, match=r"measures signals of shape \[4\]"):
        P5.given(A4, Y4, 0.1)
