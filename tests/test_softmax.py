"""The softmax network: exact for mixtures of one isotropic covariance under every parameterization;
trained by the package's loop."""

import math

import numpy as np
import pytest
import torch

from diffgeo.data import Gaussian, Mixture, simplex
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.nn import Softmax
from diffgeo.parameterization import (
    CEM,
    EDM,
    Epsilon,
    Scaled,
    Score,
    V,
    Velocity,
    flow_time,
    ou_time,
)
from diffgeo.schedule import OU
from diffgeo.training.loss import batch
from diffgeo.training.weighting import Native

MEANS = torch.tensor([[3.0, 0, 0], [-1, 0.5, 0], [0, 0, 6]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
KINDS = [
    Epsilon(),
    Score(),
    Score(OU()),
    CEM(),
    V(),
    Velocity(),
    EDM(1.0),
    EDM(0.5),
    Epsilon(ou_time),
    CEM(flow_time),
]


def law(means=MEANS, weights=WEIGHTS, s: float = 1.0) -> Mixture:
    k, d = means.shape
    return Mixture(
        means.tolist(),
        (s * s * torch.eye(d, dtype=torch.float64)).expand(k, d, d).tolist(),
        weights.tolist(),
    )


def noisy(one: Mixture, n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward samples of `one` at n levels from 1e-3 to 100."""
    g = torch.Generator().manual_seed(0)
    sigma = torch.logspace(-3, 2, n, dtype=torch.float64)
    x0 = one.sample(n, g)
    return x0 + sigma[:, None] * torch.randn(x0.shape, generator=g, dtype=torch.float64), sigma


def network(
    parameterization, means=MEANS, weights=WEIGHTS, unit: float = 1.0, **options
) -> Network:
    net = (
        Softmax((means.shape[1],), parameterization, len(means), unit=unit, **options)
        .double()
        .assign(means, weights)
    )
    return Network(net, Scaled(parameterization, unit))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize(("s", "unit"), [(1.0, 1.0), (0.3, 2.5)])
def test_the_exact_denoiser_is_the_network_of_the_true_parameters(kind, s, unit):
    one = law(s=s)
    x, sigma = noisy(one)
    learned = network(kind, unit=unit, std=s, pace=3 * unit)
    assert (learned(x, sigma) - one.denoiser()(x, sigma)).abs().max() < 1e-10
    means, weights = learned.net.mixture()
    torch.testing.assert_close(means, MEANS, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, WEIGHTS, rtol=1e-12, atol=0)


@pytest.mark.parametrize("t", [0.01, 0.3, 2.0])
def test_under_score_it_is_the_formula_of_the_lectures(t):
    """In numpy, with a = e^(-t):

    s_t(x) = sum_j softmax_j(<x, a mu_j> - a^2 |mu_j|^2/2 + b_j) a mu_j - x
    """
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = math.exp(-t)
    mu = a * MEANS.numpy()
    r = np.empty((50, 3))
    for i, j in np.ndindex(50, 3):
        r[i, j] = WEIGHTS[j] * math.exp(x[i].numpy() @ mu[j] - mu[j] @ mu[j] / 2)
    score = r / r.sum(1, keepdims=True) @ mu - x.numpy()
    noise = torch.full((50,), math.log(math.expm1(2 * t)) / 8, dtype=torch.float64)  # log(sigma)/4
    np.testing.assert_allclose(
        network(Score(OU())).net(x, noise).detach().numpy(), score, rtol=1e-11, atol=1e-11
    )


def test_under_epsilon_its_native_loss_is_the_ddpm_objective():
    """|F - z|^2 = |sigma_t s_t(x_t) + z|^2, from the score of the exact denoiser: s_t = (D - x)/(a
    sigma^2)."""
    one = law()
    g = torch.Generator().manual_seed(2)
    x0 = one.sample(200, g)
    z = torch.randn(200, 3, generator=g, dtype=torch.float64)
    sigma = torch.linspace(0.05, 5, 200).double()
    inputs, noise, target, weight = batch(Epsilon(), Native(Epsilon()), x0, sigma, z)
    ours = (weight[:, None] * (network(Epsilon()).net(inputs, noise) - target) ** 2).sum(1)
    x = x0 + sigma[:, None] * z
    a = torch.rsqrt(1 + sigma**2)[:, None]
    s_t = (one.denoiser()(x, sigma) - x) / (a * sigma[:, None] ** 2)
    torch.testing.assert_close(
        ours, (a * sigma[:, None] * s_t + z).square().sum(1), rtol=1e-9, atol=1e-12
    )


def test_the_lectures_equation_is_right_for_equal_norms_and_weights_alone():
    corner = 3 * torch.eye(3, dtype=torch.float64)
    equal = torch.full((3,), 1 / 3, dtype=torch.float64)

    def miss(means, weights):
        one = law(means, weights)
        x, sigma = noisy(one)
        return (
            (network(Epsilon(), means, weights, deck=True)(x, sigma) - one.denoiser()(x, sigma))
            .abs()
            .max()
            .item()
        )

    assert miss(corner, equal) < 1e-10
    assert miss(corner * torch.tensor([1.0, 1, 1.5]), equal) > 0.5 and miss(corner, WEIGHTS) > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"components": 0}, "net.components=0"),
        ({"std": -1.0}, "net.std=-1"),
        ({"parameterization": None}, "must know what its model predicts"),
        ({"parameterization": Epsilon(torch.sqrt)}, "must know what its model predicts"),
    ],
)
def test_what_it_cannot_be_is_said(options, words):
    with pytest.raises(UsageError, match=words):
        Softmax((2,), **{"parameterization": Epsilon()} | options)


def test_its_deviation_can_be_learnt():
    """One float64 gradient of the log deviation against a central difference; without learn_std it
    has none."""
    x, sigma = noisy(law(s=0.5), 50)
    learned = network(CEM(), std=0.7, learn_std=True)
    loss = lambda: learned(x, sigma).square().sum()
    gradient = torch.autograd.grad(loss(), learned.net.stretch)[0]
    ends = []
    for move in (1e-5, -1e-5):
        learned.net.stretch.data.fill_(move)
        ends.append(loss().item())
    assert float(gradient) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert not network(CEM()).net.stretch.requires_grad


def test_training_finds_the_mixture(inside, tmp_path):
    """600 steps of 512 points, Adam on a half cosine: at sigma = .5 .. 4 the denoiser errs by .003
    to .013 a coordinate, at most a tenth of what the best affine one (the law taken for a Gaussian)
    does, .11 to .35: what is learnt is the mixture. 300 000 points leave a few thousandths of
    statistical error, the rest is the noise of the optimizer. Weights .1 to .4 are found within
    .01."""
    done = inside(
        "train",
        "net=softmax",
        "data=mixture_simplex",
        "model=epsilon",
        "trainer=adam",
        "trainer.lr=.0015",
        "trainer.steps=600",
        "trainer.rate.end=0",
        "schedule.sigma_min=.1",
        "schedule.sigma_max=20",
        "metrics=none",
        "logger=jsonl",
        "figures=false",
        "n=4",
        "sampler.steps=4",
        "hydra.run.dir=run",
    )
    assert done.returncode == 0, done.stderr
    from diffgeo.metrics import denoiser_error
    from diffgeo.run import load

    model = load(tmp_path / "run").model
    one = simplex()
    sigmas = torch.tensor([0.5, 1, 2, 4], dtype=torch.float64)
    affine = Gaussian(
        one.mean.tolist(),
        (
            torch.eye(8)
            + torch.diag(torch.tensor([1.6, 3.2, 4.8, 6.4, 0, 0, 0, 0])).double()
            - torch.outer(one.mean, one.mean)
        ).tolist(),
    ).denoiser()
    net, baseline = (denoiser_error(f, one, sigmas, n=2000)["f"].sqrt() for f in (model, affine))
    assert (net < 0.02).all() and (net < baseline / 10).all() and baseline[1] > 0.25
    assert model.net.mixture()[1].sort().values.tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4], abs=0.01
    )
