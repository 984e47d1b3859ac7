"""Copies among samples, and learned denoisers of images against the exact ones."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from simulations import made_by

from diffgeo.analytic.images import ImageDenoiser
from diffgeo.core import Run, generator
from diffgeo.data import Images, Line
from diffgeo.errors import UsageError
from diffgeo.metrics import ImageDenoiserError, Memorization, suite
from diffgeo.metrics.memorization import distinct


def law(n=60, seed=0, flip=False, shape=(1, 6, 6), twin=lambda: None, **options):
    g = torch.Generator().manual_seed(seed)
    return Images(
        torch.randint(0, 256, (n, *shape), generator=g, dtype=torch.uint8),
        flip=flip,
        twin=twin,
        **options,
    )


def at_ratio(images, fraction):
    """Floats that divide the way from image 0 to image 1 so that d1/d2 = fraction, image 1 being
    its second nearest by construction."""
    x0 = images[:1].double()
    x1 = images[1:2].double()
    return x0 + (x1 - x0) * fraction / (1 + fraction)


@pytest.mark.parametrize("fraction, copy", [(0.30, 1.0), (0.36, 0.0)])
def test_a_third_of_the_second_distance_decides(fraction, copy):
    """Two training images; a point that divides their segment at a known ratio, on both sides of
    1/3; its distance is known."""
    images = torch.tensor([[[[0, 0], [0, 0]]], [[[200, 240], [220, 180]]]], dtype=torch.uint8)
    sample = at_ratio(images, fraction).round().to(torch.uint8)
    values = Memorization()(Run(sample), Images(images))
    near = sample.double().square().mean().sqrt() / 127.5
    assert values == {
        "memorization/ratio": copy,
        "memorization/nearest": pytest.approx(float(near), rel=1e-9),
    }


def test_against_the_whole_table_of_distances():
    """Shares and means over random, copied and disturbed images from the full float64 distance
    table; test split beside it."""
    other = law(40, seed=9, split="test")
    data = law(twin=lambda: other)
    g = torch.Generator().manual_seed(1)
    disturbed = (
        (
            data.images[20:40].double()
            + 25 * torch.randn(20, 1, 6, 6, generator=g, dtype=torch.float64)
        )
        .clamp(0, 255)
        .byte()
    )
    samples = torch.cat([data.images[:20], disturbed, law(20, seed=2).images])

    def table(x):
        d = (
            torch.cdist(x.double().flatten(1), data.images.double().flatten(1)).sort(1).values
            / 127.5
            / 6
        )
        return float((d[:, 0] < d[:, 1] / 3).double().mean()), float(d[:, 0].mean())

    values = Memorization()(Run(samples), data)
    truth = table(samples)
    assert 20 / 60 < truth[0] < 1 and values["memorization/ratio"] == truth[0]
    assert values["memorization/nearest"] == pytest.approx(truth[1], rel=1e-9)
    assert values["memorization/ratio_test"] == table(other.images)[0] == 0
    assert values["memorization/nearest_test"] == pytest.approx(table(other.images)[1], rel=1e-9)
    assert Memorization(n=20)(Run(samples), data)["memorization/ratio"] == 1
    floats = data.dequantize(samples)  # as floor draws give them
    assert Memorization()(Run(floats), data) == values
    # of the training images
    assert (
        Memorization()(Run(samples), replace(other, twin=lambda: data))["memorization/ratio"]
        == truth[0]
    )


@pytest.mark.parametrize("flip", [False, True])
def test_equal_images_do_not_hide_copies(flip):
    """Every image 40 times, more than are refined, the mirror images too: with all of them counted,
    no copy would be found."""
    base = law(6, seed=3).images
    same = torch.cat([base, base.flip(-1)]) if flip else base
    data = Images(same.repeat(40, 1, 1, 1), flip=flip)
    assert distinct(data.images, flip).tolist() == list(range(6))
    values = Memorization()(Run(torch.cat([base, base.flip(-1)])), data)
    assert values["memorization/ratio"] == (1.0 if flip else 0.5)
    # there is no second image
    assert Memorization()(Run(base), Images(base[:1].repeat(5, 1, 1, 1))) == {}


def test_distinct_against_numpy(real):
    """MNIST and CIFAR-10 hold no two equal training images among these; with planted ones the first
    of each group is kept."""
    images = torch.from_numpy(np.load(real / "mnist/train_images.npy", mmap_mode="c")[:3000])[
        :, None
    ]
    planted = torch.cat([images, images[100:150], images[7:8].flip(-1)])
    unique = np.sort(
        np.unique(planted.numpy().reshape(len(planted), -1), axis=0, return_index=True)[1]
    )
    assert distinct(planted).tolist() == unique.tolist() and len(unique) == 3001
    assert distinct(planted, flip=True).tolist() == list(range(3000))


def test_real_test_images_are_no_copies(real):
    """Of MNIST's test digits almost none is three times nearer to one training digit than to all
    others."""
    train, test = (
        torch.from_numpy(np.load(real / f"mnist/{s}_images.npy", mmap_mode="c")[:5000])[:, None]
        for s in ("train", "test")
    )
    held_out = Images(test, split="test")
    values = Memorization(n=200)(Run(train[:200]), Images(train, twin=lambda: held_out))
    assert values["memorization/ratio"] == 1 and values["memorization/nearest"] == 0
    assert values["memorization/ratio_test"] < 0.01 and values["memorization/nearest_test"] > 0.1


class Shifted:
    """The exact denoiser of a law, off by `by` in every coordinate; remembers what it was asked."""

    def __init__(self, exact, by=0.0, conditional=False):
        self.exact = exact
        self.by = by
        self.conditional = conditional
        self.asked = []

    def __call__(self, x, sigma, *, label=None, **cond):
        self.asked.append((len(x), label))
        return self.exact(x, sigma, label=label) + self.by


def test_errors_of_a_known_denoiser():
    """Off by 1/8 in every coordinate: rms 1/8 on training and on test images, at every level."""
    data = law(twin=lambda: law(30, seed=4, split="test"))
    learned = Shifted(data.denoiser(), 0.125)
    values = ImageDenoiserError(n=50, sigmas=(0.1, 3.0), batch=20)(
        made_by(learned, data.images[:2]), data
    )
    assert [
        values[f"denoiser/{key}@{s}"] for key in ("rms", "rms_test") for s in ("0.1", "3")
    ] == pytest.approx([0.125] * 4, rel=1e-5)
    assert [n for n, _ in learned.asked] == [20, 20, 10] * 4 and all(
        label is None for _, label in learned.asked
    )


def test_leave_one_out_and_neighbours_by_hand():
    """Two images: without x0 the posterior mean is the other image, and a look-up errs by their
    distance times its own weight."""
    images = torch.tensor([100, 140], dtype=torch.uint8).view(2, 1, 1, 1)
    data = Images(images)
    a = data.dequantize(images).double().flatten()
    sigma = 0.2
    values = ImageDenoiserError(n=4000, sigmas=(sigma,))(
        made_by(Shifted(data.denoiser()), images, seed=5), data
    )
    assert values["denoiser/rms@0.2"] == 0 and "denoiser/rms_test@0.2" not in values
    z, w = np.polynomial.hermite_e.hermegauss(80)
    step = float(a[1] - a[0])
    p = []
    for node in z:  # p(the other | x) for x = a_0 + sigma z
        p.append(1 / (1 + math.exp((step**2 / 2 - step * sigma * node) / sigma**2)))
    p = np.array(p)
    w = w / w.sum()
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    assert values["denoiser/neighbours@0.2"] == pytest.approx(float(w @ np.exp(entropy)), rel=0.02)
    assert values["denoiser/rms_loo@0.2"] == pytest.approx(
        step * math.sqrt(float(w @ (1 - p) ** 2)), rel=0.02
    )


def test_conditional_denoisers_are_asked_with_labels():
    """The exact class-conditional denoiser has no error; the unconditional one, asked as if it were
    conditional, has."""
    data = law(
        labels=torch.arange(60) % 3,
        classes=3,
        twin=lambda: law(30, seed=4, split="test", labels=torch.arange(30) % 3, classes=3),
    )
    told = Shifted(data.denoiser(), conditional=True)
    values = ImageDenoiserError(n=40, sigmas=(2.0,))(made_by(told, data.images[:1]), data)
    assert values["denoiser/rms@2"] == 0 == values["denoiser/rms_test@2"] and all(
        label is not None for _, label in told.asked
    )
    deaf = Shifted(ImageDenoiser(data.images), conditional=True)
    deaf.exact = lambda x, sigma, label=None, e=deaf.exact: e(x, sigma)
    assert (
        ImageDenoiserError(n=40, sigmas=(2.0,))(made_by(deaf, data.images[:1]), data)[
            "denoiser/rms@2"
        ]
        > 0.05
    )


def test_where_there_is_nothing_to_measure():
    data = law()
    exact = made_by(data.denoiser(), data.images, exact=True)
    assert ImageDenoiserError()(exact, data) == {} == ImageDenoiserError()(Run(data.images), data)
    points = made_by(Line().denoiser(), Line().sample(5, generator(0)))
    assert Memorization()(points, Line()) == {} == ImageDenoiserError()(points, Line())
    assert Memorization().describe(points, Line()) == {}
    for make, node in (
        (lambda: Memorization(n=0), "memorization"),
        (lambda: ImageDenoiserError(n=0), "denoiser"),
        (lambda: ImageDenoiserError(sigmas=(0.0,)), "denoiser"),
    ):
        with pytest.raises(UsageError, match=f"^metrics.{node}.n="):
            make()


def test_in_a_suite_without_floors(monkeypatch):
    """A fresh true sample is a training image: a floor would say nothing, and none is drawn."""
    monkeypatch.setattr(
        sys.modules["diffgeo.metrics.suite"],
        "reference",
        lambda *_: pytest.fail("a floor was drawn"),
    )
    data = law()
    measure = suite(
        memorization=Memorization(n=10), image_denoiser=ImageDenoiserError(n=5, sigmas=(1.0,))
    )
    report = measure(made_by(Shifted(data.denoiser()), data.images[:20]), data)
    assert set(report) == {
        "memorization/ratio",
        "memorization/nearest",
        "denoiser/rms@1",
        "denoiser/rms_loo@1",
        "denoiser/neighbours@1",
    }
    assert measure.describe(Run(data.images[:20]), data)["memorization"] == {
        "n": 10,
        "seed": 0,
        "set": data.key,
        "rule": "d1 < d2/3 in pixels, equal images once",
    }
