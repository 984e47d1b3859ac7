"""Guidance and labels, against closed forms and the exact denoisers of labelled sets."""

import pytest
import torch
from simulations import draw
from torch import nn

from diffgeo.analytic.images import ImageDenoiser
from diffgeo.core import expand
from diffgeo.data import Cloud
from diffgeo.denoiser import Clipped, Counted, Guided, Labelled, Network, score
from diffgeo.errors import UsageError
from diffgeo.parameterization import EDM
from diffgeo.sampler.adaptive import RK45
from diffgeo.sampler.deterministic import Heun
from diffgeo.schedule import VE

f64 = torch.float64


class TwoGaussians:
    """Class k is N(mean_k, I) in R^2, the classes equally likely: p(label | x) is logistic in
    x.(mean_1 - mean_0)."""

    means = torch.tensor([[-1.0, 0.5], [2.0, -0.5]], dtype=f64)

    def responsibility(self, x, sigma):
        """p(1 | x) at level sigma."""
        step = self.means[1] - self.means[0]
        middle = self.means.mean(0)
        return torch.sigmoid((x - middle) @ step / (1 + sigma**2))

    def __call__(self, x, sigma, *, label=None, **cond):
        of = lambda mean: (x + expand(sigma, x) ** 2 * mean) / (1 + expand(sigma, x) ** 2)
        r = self.responsibility(x, sigma)[:, None]
        null = (1 - r) * of(self.means[0]) + r * of(self.means[1])
        if label is None:
            return null
        return torch.where(label[:, None] < 0, null, of(self.means[label.clamp(min=0)]))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("levels", ["one", "each"])
def test_guided_score_is_that_of_a_sharpened_posterior(scale, levels):
    """score = grad log p(x) + scale grad log p(label | x), the second term by autograd of the
    logistic function."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=g, dtype=f64)
    label = torch.tensor([0, 1, 1, 0, -1, 1])
    sigma = (
        torch.tensor(0.7, dtype=f64) if levels == "one" else torch.linspace(0.3, 2, 6, dtype=f64)
    )
    mixture = TwoGaussians()
    point = x.clone().requires_grad_()
    chance = mixture.responsibility(point, sigma)
    log = torch.where(label == 1, chance.log(), torch.log1p(-chance)).where(label >= 0, 0)
    (classifier,) = torch.autograd.grad(log.sum(), point)
    truth = score(mixture, x, sigma) + scale * classifier
    assert torch.allclose(score(Guided(mixture, scale), x, sigma, label=label), truth, atol=1e-12)
    assert torch.equal(Guided(mixture, scale)(x, sigma), mixture(x, sigma))


def test_guidance_with_exact_denoisers_of_images():
    """D_null is the exact denoiser of the whole set, D_label of one class: clouds by another
    kernel, in float64."""
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (60, 1, 3, 3), generator=g, dtype=torch.uint8)
    labels = torch.arange(60) % 2
    x = torch.randn(8, 1, 3, 3, generator=g, dtype=f64)
    label = torch.arange(8) % 2
    points = images.double().flatten(1) / 127.5 - 1
    null = Cloud(points=points).denoiser()(x.flatten(1), 1.5)
    of = torch.stack(
        [Cloud(points=points[labels == k]).denoiser()(x.flatten(1), 1.5) for k in (0, 1)]
    )[label, torch.arange(8)]
    guided = Guided(ImageDenoiser(images, labels=labels), 2.5)(x, 1.5, label=label)
    assert (
        torch.allclose(guided.flatten(1), null + 2.5 * (of - null), atol=1e-5)
        and (of - null).abs().max() > 0.1
    )


def test_guidance_of_one_image_a_class_is_linear_in_the_images():
    """Two atoms: D_label is the atom itself, D_null their mean with logistic weights, so D lies on
    their line at a known place."""
    images = torch.tensor([40, 200], dtype=torch.uint8).view(2, 1, 1, 1)
    x = torch.tensor([[[[100.0]]]], dtype=f64)
    sigma = 90.0
    scale = 4.0
    denoise = Guided(ImageDenoiser(images, 0.0, 255.0, labels=torch.arange(2)), scale)
    # of the atom 200
    weight = torch.sigmoid(torch.tensor((160 * (100 - 120)) / sigma**2, dtype=f64))
    null = 40 + 160 * weight
    assert float(denoise(x, sigma, label=torch.tensor([1]))) == pytest.approx(
        float(null + scale * (200 - null)), rel=1e-6
    )


class Recorder:
    """Remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, **cond):
        self.calls.append((len(x), cond))
        return x * 0


@pytest.mark.parametrize(
    "scale, rows, labels", [(1, 3, [4, -1, 2]), (0, 3, None), (2.0, 6, [-1, -1, -1, 4, -1, 2])]
)
def test_one_call_of_twice_the_rows(scale, rows, labels):
    counted = Counted(seen := Recorder())
    Guided(counted, scale)(
        torch.zeros(3, 2),
        1.0,
        label=torch.tensor([4, -1, 2]),
        exclude=torch.tensor([7, 8, 9]),
        power=3,
    )
    ((n, cond),) = seen.calls
    assert n == rows and counted.rows == rows and cond["power"] == 3
    assert cond["exclude"].tolist() == [7, 8, 9] * (rows // 3)
    assert labels is None and cond["label"] is None or cond["label"].tolist() == labels


class Net(nn.Module):
    """F = x (1 + label), of a law with labels; `classes` as the U-Net has it."""

    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.classes = classes

    def forward(self, x, noise, label=None):
        return self.weight * x * (1 + (0 if label is None else expand(label, x)))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, noise):
        return self.weight * x


def test_network_hands_on_labels_that_its_net_takes():
    x = torch.ones(2, 3, dtype=f64)
    label = torch.tensor([1, 4])
    sigma = 0.5
    skip, out, inp, _ = EDM()(torch.tensor(sigma, dtype=f64))
    by = lambda factor: skip * x + out * inp * x * factor
    assert torch.allclose(Network(Net(5), EDM())(x, sigma, label=label), by(1 + label[:, None]))
    assert torch.allclose(Network(Net(5), EDM())(x, sigma), by(1)) and torch.allclose(
        Network(Net(5), EDM())(x, sigma, label=None), by(1)
    )
    for net in (Net(0), Plain()):
        assert not Network(net, EDM()).conditional and torch.allclose(
            Network(net, EDM())(x, sigma, label=label), by(1)
        )
    with pytest.raises(TypeError, match="power"):
        Network(Plain(), EDM())(x, sigma, power=1)  # a condition that nobody takes is not swallowed


def test_sampling_with_labels_and_guidance():
    """Each sample ends on an image of its class; guidance moves D, so it changes which one but not
    the class."""
    g = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (40, 1, 4, 4), generator=g, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    denoise = ImageDenoiser(images, labels=labels)
    classes = torch.arange(24) % 4
    sigmas = VE(sigma_max=20.0).grid(15)
    for around in (lambda d: d, lambda d: Guided(d, 1.5)):
        samples = draw(
            Heun(), Labelled(Clipped(around(denoise)), classes), sigmas, (1, 4, 4), 24, batch=24
        ).samples
        distance, index = denoise.nearest(samples)
        assert distance.max() < 1 / 255 and torch.equal(labels[index[:, 0]], classes)


def test_a_sampler_that_drops_rows_is_refused():
    images = torch.randint(
        0, 256, (10, 1, 2, 2), generator=torch.Generator().manual_seed(3), dtype=torch.uint8
    )
    denoise = Labelled(ImageDenoiser(images, labels=torch.arange(10) % 2), torch.arange(16) % 2)
    with pytest.raises(UsageError, match=r"rows of a batch of 16 labelled samples.*sampler=heun"):
        draw(RK45(), denoise, VE().grid(2), (1, 2, 2), 16, batch=16)
    with pytest.raises(UsageError, match="3 rows"):
        denoise(torch.zeros(3, 1, 2, 2), 1.0)
