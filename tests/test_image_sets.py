"""The sets that `data=` names as they were published, and the choices that are made among their
images."""

import numpy as np
import pytest
import torch

from diffgeo.core import ImageSet, Known, Manifold, Streamed, generator
from diffgeo.data import image_set
from diffgeo.errors import UsageError


@pytest.fixture(scope="module")
def digits():
    return image_set("digits")


def test_a_set_is_what_the_protocols_say_and_asking_reads_no_pixel():
    """A set of images is a law, a finite set, a manifold of dimension 0; `key` and `mean` read all
    pixels, and isinstance must not."""
    fresh = image_set("digits")
    for protocol in (Known, Manifold, Streamed, ImageSet):
        assert isinstance(fresh, protocol)
    assert not {"key", "_moments"} & set(vars(fresh))
    assert fresh.coordinate is None and fresh.quantile is None and fresh.period is None
    assert fresh.atoms is None and fresh.weights is None and fresh.dim == 0


# real sets


def test_digits_are_those_of_the_repository(digits):
    """UCI's page: 178 182 177 183 181 182 181 179 174 180 images of the classes 0-9 in the test
    part, 1797 in all; counts 0..16."""
    test = digits.other()
    assert (len(digits), len(test), test.split, digits.classes, digits.shape) == (
        1500,
        297,
        "test",
        10,
        (1, 8, 8),
    )
    labels = torch.cat([digits.labels, test.labels])
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    scale = [int(255 * v / 16 + 0.5) for v in range(17)]
    assert sorted(set(torch.cat([digits.images, test.images]).flatten().tolist())) == scale
    # of scikit-learn's documentation: digits.images[0]
    first = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    assert digits.images[0].flatten()[:16].tolist() == [scale[v] for v in first] and digits.labels[
        :6
    ].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(test.other().images, digits.images)


def test_mnist_is_the_published_one(real, monkeypatch):
    """The md5 of the IDX files: the arrays behind their headers; mean .1307 and deviation .3081 of
    all pixels, as everybody normalizes."""
    import hashlib
    import struct

    mnist = image_set("mnist", root=str(real))
    parts = {
        "6bbc9ace898e44ae57da46a324031adb": mnist.images,
        "2646ac647ad5339dbf082846283269ea": mnist.other().images,
    }
    for md5, images in parts.items():
        header = struct.pack(">HBBIII", 0, 8, 3, *images[:, 0].shape)
        assert hashlib.md5(header + images.numpy().tobytes()).hexdigest() == md5
    for md5, split in (
        ("a25bea736e30d166cdddb491f175f624", mnist),
        ("27ae3e4e09519cfbb04c329615203637", mnist.other()),
    ):
        labels = split.labels.to(torch.uint8)
        assert (
            hashlib.md5(
                struct.pack(">HBBI", 0, 8, 1, len(labels)) + labels.numpy().tobytes()
            ).hexdigest()
            == md5
        )
    unit = image_set("mnist", root=str(real), low=0.0)
    assert round(float(unit.mean.mean()), 4) == 0.1307
    # within and between coordinates
    spread = (unit.std**2 + float((unit.mean - unit.mean.mean()).square().mean())) ** 0.5
    assert round(spread, 4) == 0.3081


def test_cifar10_has_its_channel_means(real):
    """.49140 .48216 .44653 over the training set, as published; 59 907 of the 60 000 images here
    are exact."""
    cifar = image_set("cifar10", root=str(real), low=0.0)
    assert [round(float(m), 5) for m in cifar.mean.mean((1, 2))] == [0.49140, 0.48216, 0.44653]
    assert (
        cifar.labels.bincount().tolist() == [5000] * 10
        and cifar.other().labels.bincount().tolist() == [1000] * 10
    )
    exact = image_set("cifar10", root=str(real), exact_only=True, flip=True)
    assert (len(exact), len(exact.other())) == (49_927, 9_980) and exact.other().flip
    x, labels = exact.sample_labelled(64, generator(0))
    assert x.shape == (64, 3, 32, 32) and x.is_contiguous()
    loader = exact.stream(64, [generator(0)])
    assert torch.equal(next(loader)[0], x)


# choices


def test_subsets(digits):
    some = image_set("digits", only=[3, 8])
    assert sorted(set(some.labels.tolist())) == [3, 8] and some.classes == 10
    assert torch.equal(some.images, digits.images[(digits.labels == 3) | (digits.labels == 8)])
    few = image_set("digits", only=[3, 8], limit=7, split="test")
    assert (
        len(few) == 7 and few.split == "test" and torch.equal(few.other().images, some.images[:7])
    )


def test_resizing_is_pillows():
    """The antialiased bilinear filter, against Pillow on every image: at most one byte apart."""
    from PIL import Image

    for size in (16, 5):
        resized = image_set("digits", size=size, limit=50)
        assert resized.shape == (1, size, size)
        for ours, image in zip(
            resized.images[:, 0], image_set("digits", limit=50).images[:, 0], strict=True
        ):
            theirs = np.asarray(
                Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BILINEAR)
            ).astype(int)
            assert np.abs(ours.numpy().astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"only": [3, 10]}, r"data.only=\[3, 10\]: data=digits has classes 0..9"),
        ({"only": []}, r"data.only=\[\]"),
        ({"only": 3}, "data.only=3"),
        ({"exact_only": True}, "no list of exact images"),
        ({"limit": 0}, "data.limit=0"),
        ({"size": -1}, "data.size=-1"),
        ({"split": "valid"}, "write train or test"),
        ({"hold": "gpu"}, "data.hold=gpu is unknown"),
        ({"low": 1.0}, "data.low=1.0 data.high=1.0"),
        (
            {"crop": 140},
            "data.crop is no option of data=digits; it belongs to data=celeba, data=folder",
        ),
        ({"workers": -1}, "data.workers=-1"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(UsageError, match=message):
        image_set("digits", **options)
