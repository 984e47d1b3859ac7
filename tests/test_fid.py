"""FID: protocols, names, features held, bad input, floors; real images in order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

import diffgeo  # noqa: F401                    # lets torch_fidelity import torchvision
from diffgeo.config.build import build
from diffgeo.core import Run, generator
from diffgeo.data import Images, Line
from diffgeo.errors import UsageError
from diffgeo.metrics import FID, Suite, features, statistics
from diffgeo.metrics.features import OfFeatures, batches, of_samples
from diffgeo.metrics.fid import PROTOCOLS, name_of
from diffgeo.metrics.frechet import between, moments
from diffgeo.metrics.nets import Pixels


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(statistics, "_computed", {})
    monkeypatch.setattr(features, "_truth", {})
    return tmp_path / "cache"


def blobs(n, seed=0, shape=(1, 8, 8), name="blobs", **options):
    """Smooth random images."""
    low = torch.rand(n, shape[0], 3, 3, generator=generator(seed, *b"blobs"))
    images = (F.interpolate(low, shape[1:], mode="bilinear") * 255).to(torch.uint8)
    return Images(images, name=name, **options)


class Fake:
    """Features of the kind that Inception has, without its cost: the channel means of the image."""

    name = "inception"
    batch = 100

    def __init__(self, key="fake"):
        self.key = key
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return images.float().mean((2, 3))


@pytest.fixture
def fake(monkeypatch):
    net = Fake()
    monkeypatch.setitem(features.NETS, "inception", lambda data, wanted: net)
    return net


def test_pixels_by_hand():
    data = blobs(300)
    other = blobs(200, seed=1)
    x, y = ((law.images.flatten(1).double() / 127.5 - 1) for law in (other, data))
    exact = between(moments(x), moments(y))
    assert FID("pixels")(Run(other.images), data)["frechet/pixels"] == pytest.approx(
        exact, rel=1e-6
    )
    noisy = other.images.float() / 127.5 - 1 + 0.4 / 255  # floats are quantized first
    assert FID("pixels")(Run(noisy.double()), data)["frechet/pixels"] == pytest.approx(
        exact, rel=1e-6
    )


def test_pixels_above_1024_are_averaged():
    """CIFAR-10's 3072 become 768, CelebA's 12 288 too, MNIST's 784 stay."""
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator(0))
    blocks = x.double().view(2, 3, 16, 2, 16, 2).mean((3, 5)) / 127.5 - 1
    assert torch.allclose(Pixels()(x).double(), blocks.flatten(1), atol=1e-6)
    shapes = {
        (3, 64, 64): 768,
        (1, 28, 28): 784,
        (1, 32, 32): 1024,
        (3, 28, 28): 588,
        (3, 256, 256): 972,
    }
    assert {s: Pixels()(torch.zeros(1, *s, dtype=torch.uint8)).shape[1] for s in shapes} == shapes


def test_names_tell_the_count():
    assert [name_of(n, 50_000) for n in (50_000, 10_000, 5000, 1234, 64)] == [
        "fid",
        "fid_10k",
        "fid_5k",
        "fid_1234",
        "fid_64",
    ]
    assert (
        name_of(49_920, PROTOCOLS["pytorch_fid_pndm"].count) == "fid"
        and name_of(50_000, 49_920) == "fid_50k"
    )


def test_only_the_protocols_count_is_used(fake, monkeypatch):
    """50 000 images under a protocol of 49 920 = 390 x 128: the last 80 are not looked at. Here: 96
    of 100."""
    monkeypatch.setitem(
        PROTOCOLS, "pytorch_fid_pndm", replace(PROTOCOLS["pytorch_fid_pndm"], count=96)
    )
    data = blobs(200, shape=(3, 8, 8))
    run = Run(blobs(100, 1, (3, 8, 8)).images)
    report = FID(protocol="pytorch_fid_pndm")(run, data)
    exact = between(moments(fake(run.samples[:96])), moments(fake(data.images)))
    assert report == {"fid": pytest.approx(exact, rel=1e-6)}
    assert list(FID()(run, data)) == ["fid_100"]


def test_features_are_computed_once_and_go_with_the_samples(fake):
    data = blobs(50, shape=(3, 8, 8))
    run = Run(blobs(400, 1, (3, 8, 8)).images.clone())
    some = of_samples(fake, run, data, 250)
    assert fake.seen == 250 and torch.equal(of_samples(fake, run, data, 400)[:250], some)
    assert fake.seen == 400 and len(of_samples(fake, run, data, 10**6)) == 400 and fake.seen == 400
    run.samples[0] = 255 - run.samples[0]  # changed in place: other samples
    assert not torch.equal(of_samples(fake, run, data, 400)[0], some[0]) and fake.seen == 800
    held = len(features._held)
    del run, some
    assert len(features._held) == held - 1
    features_ = []
    states = []
    for part in batches(fake, data.images):
        features_.append(part)
        states.append(torch.is_inference_mode_enabled())
    assert torch.equal(torch.cat(features_), fake(data.images)) and not any(states)


def test_images_that_it_does_not_suit(capsys):
    grey = blobs(50)
    line = Line()
    colour = blobs(50, shape=(3, 8, 8))
    assert (
        FID("pixels")(Run(line.sample(100, generator(0))), line)
        == {}
        == FID("auto")(Run(colour.images), colour)
    )
    assert FID("auto").describe(Run(colour.images), colour) == {}
    with pytest.raises(UsageError, match="LeNet.*grey.*blobs.*features=pixels"):
        FID("lenet")(Run(colour.images), colour)
    with pytest.raises(UsageError, match="FID of 3 images means nothing: give at least 10"):
        FID("pixels")(Run(grey.images[:3]), grey)
    few = Run(grey.images[:3])
    assert (
        FID("pixels", optional=True)(few, grey)
        == {}
        == FID("pixels", optional=True).describe(few, grey)
    )
    assert capsys.readouterr().err.count("left out: a FID of 3 images means nothing") == 1
    assert FID("pixels", optional=True)(Run(grey.images[:10]), grey)
    for options, words in {
        "features": "inception, lenet, pixels",
        "protocol": "torch_fidelity, pytorch_fid_pndm, edm",
    }.items():
        with pytest.raises(UsageError, match=f"metrics.fid.{options}=clip: write {words}"):
            FID(**{options: "clip"})


def test_floors_and_what_has_none(fake):
    """Fresh images of the set are within the floor of its Frechet distance, blurred ones are not;
    Inception has no floors."""
    data = blobs(500)
    measure = Suite({"pixels": FID("pixels")}, pairs=4)
    report = measure(Run(data.images[torch.randperm(500, generator=generator(3))[:300]]), data)
    key = "frechet/pixels"
    # without replacement: a little below
    assert 0 < report[key] < report[key + "_floor"] + 4 * report[key + "_floor_sd"]
    blurred = measure(Run(F.avg_pool2d(data.images[:300].float(), 3, 1, 1).to(torch.uint8)), data)
    assert (
        blurred[key] > 5 * blurred[key + "_floor"]
        and blurred[key + "_floor"] == report[key + "_floor"]
    )
    assert list(Suite({"fid": FID()}, pairs=4)(Run(data.images), data)) == ["fid_500"]


def test_one_word_changes_the_features_of_a_whole_suite():
    """In metrics=fid the options of `fid` are those of every metric of features."""
    path = Path(__file__).parent.parent / "conf/metrics/fid.yaml"
    cfg = OmegaConf.create({"metrics": OmegaConf.load(path)})
    cfg.metrics.fid.update(features="pixels", weights="some.pth")
    built = build(cfg.metrics)
    of_features = [m for m in built.metrics.values() if isinstance(m, OfFeatures)]
    assert len(of_features) > 1 and built.pairs == 0
    assert all(m.features == "pixels" and m.weights == "some.pth" for m in of_features)


@pytest.fixture
def mnist(real):
    train, test = (
        torch.from_numpy(np.load(real / f"mnist/{split}_images.npy"))[:, None]
        for split in ("train", "test")
    )
    return Images(train[:6000], name="mnist"), test


def test_mnist_in_order(mnist):
    """2 000 other digits < lightly blurred < noisy, in LeNet features; the digits themselves within
    reach of the floor."""
    data, test = mnist
    real_ = test[:2000]
    metric = FID("lenet")
    blurred = (0.5 * real_ + 0.5 * F.avg_pool2d(real_.float(), 3, 1, 1)).to(torch.uint8)
    noisy = (
        (real_ + 40 * torch.randn(real_.shape, generator=generator(0)))
        .clamp(0, 255)
        .to(torch.uint8)
    )
    values = [
        metric(Run(x), data)["frechet/lenet"] for x in (data.images[:2000], real_, blurred, noisy)
    ]
    assert (
        values == sorted(values)
        and values[1] < 5
        and values[2] > 2 * values[1]
        and values[3] > 5 * values[2]
    )
