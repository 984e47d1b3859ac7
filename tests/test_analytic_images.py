"""The exact denoiser of images against the whole softmax in float64, which knows nothing of blocks,
queries or bytes."""

import itertools
import math
from types import SimpleNamespace

import pytest
import scipy.stats
import torch
from simulations import draw

from diffgeo.analytic import points as point_sets
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.data import Cloud
from diffgeo.errors import UsageError
from diffgeo.sampler.deterministic import Heun
from diffgeo.schedule import VE

f64 = torch.float64


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def blobs(n, shape=(3, 6, 5), seed=1):
    """Smooth random images, uint8 [n,C,H,W], near enough to each other that many of them compete at
    every sigma above .2."""
    waves = noise(4, *shape, seed=7)
    return (
        (128 + 40 * torch.einsum("nk,kchw->nchw", noise(n, 4, seed=seed), waves))
        .clamp(0, 255)
        .to(torch.uint8)
    )


def whole_softmax(images, x, sigma, low=-1.0, high=1.0, keep=None):
    """Row by row in float64 by differences: means, weights [B,N]. keep [B,N]: the images that a
    row's law has."""
    points = low + (high - low) * images.double() / 255
    means = []
    weights = []
    for i, row in enumerate(x.double()):
        step = points - row
        logit = -step.square().sum((1, 2, 3)) / (2 * float(sigma[i]) ** 2)
        weights.append(
            (logit if keep is None else logit.masked_fill(~keep[i], -torch.inf)).softmax(0)
        )
        means.append(row + torch.einsum("n,nchw->chw", weights[-1], step))
    return torch.stack(means), torch.stack(weights)


def rms(error, sigma):
    """Largest rms error of a row, in units of sigma."""
    return float((error.double().square().mean((1, 2, 3)).sqrt() / sigma).max())


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1.0), (9.0, 11.0)])
def test_every_sigma_and_every_range(low, high):
    """60 levels from 1e-3 to 100 in one call; data off the origin too. Steps of one grey level stay
    right at sigma = 1e-3."""
    images = blobs(3000)
    sigma = torch.logspace(-3, 2, 60, dtype=f64)[
        torch.randperm(60, generator=torch.Generator().manual_seed(2))
    ]
    x = (
        low
        + (high - low) / 255 * images[:60].double()
        + sigma.view(-1, 1, 1, 1) * noise(60, 3, 6, 5)
    )
    denoise, (truth, weight) = (
        ImageDenoiser(images, low, high),
        whole_softmax(images, x, sigma, low, high),
    )
    assert rms(denoise(x, sigma) - truth, sigma) < 1e-4
    assert weight.square().sum(1).reciprocal().max() > 500  # at the largest sigma they do compete


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_real_images(real, name):
    """2 000 real images in the order that the file has them, noisy and held-out queries."""
    from diffgeo.data.pixels import read_images

    images = torch.from_numpy(read_images(real / name / "train_images.npy", "data.file")[:2010])
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    images, held_out = images[:2000], images[2000:]
    sigma = torch.logspace(-3, 2, 20, dtype=f64)
    clean = torch.cat([images[:10], held_out]).double() / 127.5 - 1
    x = clean + sigma.view(-1, 1, 1, 1) * noise(*clean.shape)
    denoise, (truth, weight) = ImageDenoiser(images), whole_softmax(images, x, sigma)
    assert denoise.flat(images).data_ptr() == images.data_ptr()  # the bytes are read where they lie
    posterior = denoise.posterior(x, sigma)
    assert rms(posterior.mean - truth, sigma) < 1e-5
    assert (
        posterior.entropy - torch.tensor([scipy.stats.entropy(w) for w in weight.numpy()])
    ).abs().max() < 1e-4
    assert torch.equal(posterior.nearest, weight.argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [64])
def test_all_of_cifar10(real, rows):
    """The set of the benchmark: 50 000 x 3072, with sigma from 1e-3 to 100."""
    import numpy as np

    images = torch.from_numpy(np.load(real / "cifar10/train_images.npy")).permute(0, 3, 1, 2)
    sigma = torch.logspace(-3, 2, rows, dtype=f64)
    x = images[:rows].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1) * noise(rows, 3, 32, 32)
    posterior = ImageDenoiser(images).posterior(x, sigma)
    total = torch.zeros(rows, dtype=f64)
    top = torch.full((rows,), -torch.inf, dtype=f64)
    mean = torch.zeros(rows, 3072, dtype=f64)
    # a running softmax in float64, as the machine has no 1.2 GB a row
    weighted = torch.zeros(rows, dtype=f64)
    for block in images.split(500):
        points = block.double().div(127.5).sub(1).flatten(1)
        for i, row in enumerate(x.flatten(1)):
            logit = -(points - row).square().sum(1) / (2 * sigma[i] ** 2)
            new = torch.maximum(top[i], logit.max())
            old = (top[i] - new).exp()
            weight = (logit - new).exp()
            total[i] = total[i] * old + weight.sum()
            mean[i] = mean[i] * old + weight @ points
            top[i] = new
            weighted[i] = weighted[i] * old + (weight * logit).sum()
    assert rms(posterior.mean - (mean / total[:, None]).view_as(x), sigma) < 1e-4
    assert (posterior.entropy - (total.log() + top - weighted / total)).abs().max() < 1e-4


def test_blocks_and_parts_change_nothing(monkeypatch):
    images = blobs(300)
    sigma = torch.logspace(-2, 1, 23, dtype=f64)
    x = images[:23].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1) * noise(23, 3, 6, 5)
    label = torch.arange(23) % 3 - 1
    labels = torch.arange(300) % 2
    ask = lambda: ImageDenoiser(images, flip=True, labels=labels).posterior(x, sigma, label=label)
    whole = ask()
    for name, value in {"BLOCK": 7, "LOGITS": 2 * 300 * 4 * 5, "PRODUCT": 90 * 4 * 11}.items():
        monkeypatch.setattr(point_sets, name, value)
    parts = ask()
    assert rms(parts.mean - whole.mean, sigma) < 1e-5 and torch.equal(parts.nearest, whole.nearest)
    assert torch.allclose(parts.entropy, whole.entropy, atol=1e-5)


def allocated(call):
    """Most bytes that `call` held at any time beyond what there was, by torch's own allocator."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    steps = [
        event.nbytes()
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return max(itertools.accumulate(steps))


@pytest.mark.parametrize("n, shape, rows", [(40, (3, 64, 64), 600), (20_000, (1, 8, 8), 400)])
def test_memory_is_bounded(n, shape, rows):
    """A few large images, where the float64 queries are what is large, and many small ones, where
    the logits are: 256 MiB beside the answer, whatever the rows. A batch of 64 against CIFAR-10 is
    one pass all the same."""
    denoise = ImageDenoiser(blobs(n, shape), flip=True)
    x = noise(rows, *shape).float()
    denoise(x[:1], 1.0)  # prepares the set
    for ask in (denoise, denoise.posterior, lambda x, sigma: denoise.nearest(x, 2)):
        assert allocated(lambda ask=ask: ask(x, 0.5)) < x.nbytes + 2**28
    cifar10 = SimpleNamespace(
        bias=torch.empty(0), points=torch.empty(50_000, 3072, dtype=torch.uint8, device="meta")
    )
    assert all(point_sets.Dense.rows(cifar10, 50_000, turns) >= 64 for turns in (1, 2))


def test_flip_is_the_doubled_set():
    images = blobs(200)
    sigma = torch.logspace(-2, 1.5, 30, dtype=f64)
    doubled = torch.cat([images, images.flip(-1)])
    x = doubled[185:215].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1) * noise(30, 3, 6, 5)
    truth, weight = whole_softmax(doubled, x, sigma)
    posterior = ImageDenoiser(images, flip=True).posterior(x, sigma)
    assert rms(posterior.mean - truth, sigma) < 1e-4
    assert torch.allclose(
        posterior.entropy, torch.tensor([scipy.stats.entropy(w) for w in weight.numpy()]), atol=1e-5
    )
    assert torch.equal(posterior.nearest, weight.argmax(1) % 200)
    assert torch.allclose(posterior.neighbours, posterior.entropy.exp())


@pytest.mark.parametrize("flip", [False, True])
def test_label_and_exclude_are_the_reduced_set(flip):
    """Each row has its own class (or none) and its own image left out (or none); the law that
    remains is built by hand."""
    images = blobs(120)
    labels = torch.arange(120) % 3
    sigma = torch.full((24,), 0.8, dtype=f64)
    x = images[:24].double() / 127.5 - 1 + 0.8 * noise(24, 3, 6, 5)
    label = torch.arange(24) % 4 - 1
    exclude = torch.where(torch.arange(24) % 5 == 0, -1, torch.arange(24))
    keep = ((label[:, None] < 0) | (labels == label[:, None])) & (
        torch.arange(120) != exclude[:, None]
    )
    assert 0 < keep.sum() < keep.numel() and not keep.all(1).all()
    every, kept = (
        (torch.cat([images, images.flip(-1)]), keep.repeat(1, 2)) if flip else (images, keep)
    )
    truth, weight = whole_softmax(every, x, sigma, keep=kept)
    denoise = ImageDenoiser(images, flip=flip, labels=labels)
    posterior = denoise.posterior(x, 0.8, label=label, exclude=exclude)
    assert rms(posterior.mean - truth, sigma) < 1e-4 and torch.equal(
        posterior.nearest, weight.argmax(1) % 120
    )
    assert torch.allclose(
        posterior.entropy, torch.tensor([scipy.stats.entropy(w) for w in weight.numpy()]), atol=1e-5
    )
    alone = torch.cat(
        [
            denoise(x[i : i + 1], 0.8, label=label[i : i + 1], exclude=exclude[i : i + 1])
            for i in range(24)
        ]
    )
    assert rms(alone - posterior.mean, sigma) < 1e-5


def test_leave_one_out_of_few_images():
    """Fewer images than are refined: the hidden one must not come back with its exact logit."""
    images = blobs(5)
    x = images[:5].double() / 127.5 - 1
    others = torch.arange(5)
    truth, _ = whole_softmax(images, x, torch.full((5,), 0.1), keep=~torch.eye(5, dtype=torch.bool))
    posterior = ImageDenoiser(images).posterior(x, 0.1, exclude=others)
    assert (
        rms(posterior.mean - truth, torch.full((5,), 0.1)) < 1e-5
        and not (posterior.nearest == others).any()
    )


def test_equal_and_nearly_equal_images_share_the_weight():
    """Two copies: half each, ln 2 nats. One grey level apart, x off the bisector by s^2/2: logits
    1/2 apart."""
    images = blobs(50)
    images[1] = images[0]
    images[3] = images[2]
    images[3, 0, 0, 0] = images[2, 0, 0, 0] + 1
    denoise = ImageDenoiser(images, low=0.0, high=255.0)
    posterior = denoise.posterior(images[:1].double(), 0.25)
    assert float(posterior.entropy) == pytest.approx(math.log(2), abs=1e-6) and torch.equal(
        posterior.mean, images[:1].double()
    )
    for sigma in (0.2, 0.1, 0.05):
        x = images[2:4].double().mean(0, keepdim=True)
        x[0, 0, 0, 0] += sigma**2 / 2
        weight = 1 / (1 + math.exp(-0.5))
        assert float(denoise(x, sigma)[0, 0, 0, 0] - images[2, 0, 0, 0]) == pytest.approx(
            weight, abs=1e-6
        )


def test_same_law_as_a_cloud():
    """Another kernel of the package, float64 throughout; float32 in, float32 out."""
    images = blobs(150)
    sigma = torch.logspace(-2, 2, 20, dtype=f64)
    x = images[:20].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1) * noise(20, 3, 6, 5)
    truth = (
        Cloud(points=images.double().flatten(1) / 127.5 - 1)
        .denoiser()(x.flatten(1), sigma)
        .view_as(x)
    )
    denoise = ImageDenoiser(images)
    assert rms(denoise(x, sigma) - truth, sigma) < 1e-5
    narrow = denoise(x.float(), sigma.float())
    assert narrow.dtype == torch.float32 and denoise(x.half(), 0.5).dtype == torch.float16
    assert (narrow - truth).abs().max() < 1e-3


def test_nearest_by_brute_force():
    images = blobs(300)
    x = blobs(40, seed=5).double() / 127.5 - 1
    for flip in (False, True):
        sets = [images, images.flip(-1)] if flip else [images]
        squares = torch.stack(
            [(x[:, None] - (s.double() / 127.5 - 1)).square().mean((2, 3, 4)) for s in sets]
        ).amin(0)
        for columns in (None, torch.arange(0, 300, 3)):
            truth, number = squares[:, columns if columns is not None else slice(None)].sort(1)
            distance, index = ImageDenoiser(images, flip=flip).nearest(x, 3, columns)
            assert torch.allclose(distance, truth[:, :3].sqrt(), atol=1e-12)
            assert torch.equal(index, number[:, :3] if columns is None else columns[number[:, :3]])


def test_sampling_returns_training_images(real):
    """Heun, 18 steps of Karras' levels from 80 to .002 and then 0: each sample is one of the 200
    images (1/255 is half a level)."""
    import numpy as np

    from diffgeo.core import Run
    from diffgeo.data import Images
    from diffgeo.metrics import Memorization

    law = Images(
        torch.from_numpy(np.load(real / "cifar10/train_images.npy", mmap_mode="c")[:200]).permute(
            0, 3, 1, 2
        )
    )
    sigmas = VE(sigma_min=0.002, sigma_max=80.0).grid(18)
    samples = draw(Heun(), law.denoiser(), sigmas, law.shape, 64, seed=3).samples
    distance, index = law.denoiser().nearest(samples)
    assert distance.max() < 1 / 255 and len(index.unique()) > 30
    assert torch.equal(law.quantize(samples), law.images[index[:, 0]])
    assert Memorization()(Run(law.quantize(samples)), law)["memorization/ratio"] == 1


def test_bad_input():
    images = blobs(4)
    denoise = ImageDenoiser(images, labels=torch.tensor([0, 0, 0, 2]))
    x = torch.zeros(2, 3, 6, 5)
    for call, words in [
        (lambda: ImageDenoiser(images.float()), "uint8"),
        (lambda: ImageDenoiser(images[:0]), "uint8"),
        (lambda: ImageDenoiser(images, labels=torch.zeros(3)), "one label an image"),
        (lambda: ImageDenoiser(images, 1.0, -1.0), "above the value of black"),
        (lambda: denoise(x[:, :1], 1.0), r"x must be \[B, 3, 6, 5\]"),
        (lambda: denoise(x, 0.0), "sigma must be positive"),
        (lambda: denoise(x, torch.tensor([1.0, -1.0])), "sigma must be positive"),
        (lambda: denoise(x, 1.0, label=torch.tensor([0, 1])), "label=1: no image"),
        (lambda: ImageDenoiser(images)(x, 1.0, label=torch.tensor([0, 0])), "has no labels"),
        (lambda: denoise(x, 1.0, exclude=torch.tensor([0, 4])), "image 4 of 4"),
        (lambda: denoise(x, 1.0, label=torch.tensor([0])), "one number a row"),
        (
            lambda: denoise(x, 1.0, exclude=torch.tensor([3, 3]), label=torch.tensor([0, 2])),
            "leaves no image",
        ),
    ]:
        with pytest.raises(UsageError, match=words):
            call()
    assert denoise(x[:0], 1.0).shape == (0, 3, 6, 5)
