"""FID in features of a user's own network, given as an object or by a config node of a plugin; and
by torch-fidelity on request."""

import json
import sys
import types
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import diffgeo  # noqa: F401                    # lets torch_fidelity import torchvision
from diffgeo.core import Run, generator
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.metrics import FID, KID, FeatureW2, PrecisionRecall, features, own, statistics, suite
from diffgeo.metrics import torch_fidelity as theirs
from diffgeo.metrics.frechet import Moments, between, moments
from diffgeo.metrics.inception_weights import KNOWN
from diffgeo.metrics.kid import kid
from diffgeo.metrics.precision_recall import precision_recall


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(statistics, "_computed", {})
    monkeypatch.setattr(features, "_truth", {})
    return tmp_path / "cache"


def pictures(n, seed=0, channels=3) -> Images:
    g = generator(seed, *b"pictures")
    pixels = torch.randint(0, 256, (n, channels, 6, 6), dtype=torch.uint8, generator=g)
    return Images(pixels, name="noise")


class Linear(nn.Module):
    """Features that a reader computes by hand: W x/255."""

    def __init__(self, seed: int = 0, channels: int = 3):
        super().__init__()
        self.layer = nn.Linear(36 * channels, 5, bias=False)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            weights = torch.randn(5, 36 * channels, generator=generator(seed))
            self.layer.weight.copy_(weights)

    def forward(self, images):
        return self.drop(self.layer(images.flatten(1) / 255))


def means(images):
    """Features of a plain function: the means of the channels."""
    return images.float().mean((2, 3))


DATA = pictures(200)
SAMPLES = pictures(90, seed=1).images


def test_the_distance_is_that_of_the_features_by_hand():
    """Frechet's distance in W x/255, in evaluation mode though the module trains; as by the
    function."""
    net = Linear()
    assert net.training
    run = Run(SAMPLES.clone())
    value = FID(net)(run, DATA)
    w = net.layer.weight.detach().double()
    x, y = (images.flatten(1).double() / 255 @ w.mT for images in (SAMPLES, DATA.images))
    assert value == {"frechet/Linear": pytest.approx(between(moments(x), moments(y)), rel=1e-5)}
    assert net.training and net.layer.weight.requires_grad
    other = FID(means)(run, DATA)
    x, y = (images.double().mean((2, 3)) for images in (SAMPLES, DATA.images))
    assert other == {"frechet/means": pytest.approx(between(moments(x), moments(y)), rel=1e-5)}


def test_every_metric_of_features_takes_it():
    """KID, precision and recall of the features that a reader computes, under the network's name;
    the training images in the order that every net meets them in."""
    net = Linear()
    run = Run(SAMPLES.clone())
    metrics = {"kid": KID(net, subsets=2, size=50), "precision": PrecisionRecall(net, k=4)}
    values = suite(pairs=0, **metrics)(run, DATA)
    order = torch.randperm(200, generator=generator(0, *b"features"))
    weight = net.layer.weight.detach()
    x, y = (images.flatten(1) / 255 @ weight.mT for images in (SAMPLES, DATA.images[order]))
    value, sd = kid(x, y[:90], 2, 50)
    precision, recall = precision_recall(x, y[:90], 4)
    assert values == {
        "kid/Linear": pytest.approx(value, rel=1e-4),
        "kid/Linear_sd": pytest.approx(sd, rel=1e-4),
        "precision/Linear": pytest.approx(precision, abs=1e-6),
        "recall/Linear": pytest.approx(recall, abs=1e-6),
    }
    assert 0 < recall < 1 and FeatureW2(net).word == "Linear"


def test_the_key_is_of_weights_and_code():
    """Other weights, another class of the same weights: another key. The digest in fid.json is the
    sha256 of the tensors by name."""
    import hashlib

    net = Linear()
    told = FID(net).describe(Run(SAMPLES), DATA)
    weight = net.layer.weight.detach().numpy()
    by_hand = hashlib.sha256(b"layer.weight torch.float32 [5, 108]\n" + weight.tobytes())
    assert told["features"] == "Linear" and told["features_weights"] == by_hand.hexdigest()
    assert "key" not in told and "published" not in told  # no published protocol is of it

    other = type("Linear", (Linear,), {"__qualname__": "Other"})()  # of the same weights
    keys = {own.features_of(n, (3, 6, 6), "cpu").key for n in (net, Linear(1), other)}
    same = own.features_of(Linear(), (3, 6, 6), "cpu").key
    assert len(keys) == 3 and same == told["features_hash"] and same in keys
    assert FID(net).identity == FID(Linear()).identity != FID(Linear(1)).identity


def test_the_code_of_a_package_is_all_its_modules(tmp_path, monkeypatch):
    """A changed helper beside the network's module makes another key."""
    package = types.ModuleType("mynets")
    package.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "mynets", package)
    monkeypatch.setattr(Linear, "__module__", "mynets.look")
    keys = set()
    for text in ("size = 1", "size = 2"):
        (tmp_path / "__init__.py").write_text("")
        (tmp_path / "helper.py").write_text(text)
        own.digest_of.cache_clear()
        keys.add(own.code_of(Linear()))
    assert len(keys) == 2


def test_a_function_is_known_by_what_it_sees():
    """Two functions of one name and other features have other keys; and no noise floors, which
    would be kept under nothing that tells them apart."""

    def scaled(images, by):
        return by * images.float().mean((2, 3))

    key = lambda net: own.features_of(net, (3, 6, 6), "cpu").key
    assert key(partial(scaled, by=1.0)) == key(partial(scaled, by=1.0))
    assert key(partial(scaled, by=1.0)) != key(partial(scaled, by=1.01))
    assert key(partial(scaled, by=1.0)).startswith("scaled-")
    assert not FID(means).floors and FID(Linear()).floors and FID(means).identity is None


def test_statistics_of_the_training_set_are_kept_under_the_key(cache):
    net = Linear()
    run = Run(SAMPLES)
    value = FID(net)(run, DATA)
    (file,) = (cache / "statistics").glob("*.npz")
    statistics._computed.clear()
    mean, covariance, n = statistics.read(file)
    np.savez(file, mu=mean.numpy() + 1, sigma=covariance.numpy(), n=n)
    assert FID(Linear())(run, DATA) != value  # the kept file is what is read
    assert FID(Linear(1))(run, DATA) != value and len(list(file.parent.iterdir())) == 2


class Named:
    """What says of itself all that is needed."""

    name = "mine"
    key = "mine-1"
    batch = 7
    seen = ()

    def __call__(self, images):
        self.seen += (len(images),)
        return means(images)


def test_features_of_ones_own_protocol_are_taken_as_they_are():
    net = Named()
    value = FID(net)(Run(SAMPLES.clone()), DATA)["frechet/mine"]
    assert value == FID(means)(Run(SAMPLES.clone()), DATA)["frechet/means"]
    assert max(net.seen) == 7 and sum(net.seen) == 290 and FID(net).identity == "mine-1"


@pytest.mark.parametrize(
    "net, message",
    [
        (lambda images: images.float(), r"lambda gives \[8, 3, 6, 6\] for images \[8, 3, 6, 6\]"),
        (lambda images: 3, "lambda gives int for"),
        (lambda images: images.nothing, "lambda stops at uint8 images .*no attribute 'nothing'"),
        (Linear(channels=1), r"Linear stops at uint8 images \[64, 3, 6, 6\]: mat1 and mat2"),
        (type("inception", (Linear,), {})(), "inception is the name of features that are here"),
    ],
)
def test_networks_that_are_none(net, message):
    with pytest.raises(UsageError, match=f"metrics.fid.features: {message}"):
        FID(net)(Run(SAMPLES), DATA)


def test_a_node_of_a_plugin_is_a_network(tmp_path, inside, monkeypatch):
    """The line names a class of its plugin: the values of the same module given as an object.
    Without the plugin it is refused, and leaves no folder."""
    package = tmp_path / "mynets"
    (package / "conf" / "metrics").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Networks of mine."""\n')
    (package / "look.py").write_text(
        "import torch\n\n\nclass Look(torch.nn.Module):\n    def __init__(self, power: int):\n"
        "        super().__init__()\n        self.power = power\n\n"
        "    def forward(self, images):\n        x = images.float() / 255\n"
        "        return torch.cat([x.mean(-1), x.std(-1)], -1).flatten(1) ** self.power\n"
    )
    (package / "conf" / "metrics" / "look.yaml").write_text(
        "# FID in my features\n_target_: diffgeo.metrics.suite\npairs: 0\nfid:\n"
        "  _target_: diffgeo.metrics.FID\n  features: {_target_: mynets.look.Look, power: 2}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    common = ["sample", "model=exact", "data=digits", "n=12", "figures=false", "sampler.steps=2"]
    done = inside(*common, "metrics=look", "plugins=[mynets]", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    from mynets.look import Look

    from diffgeo.data import image_set

    digits = image_set("digits")
    samples = digits.restore(np.load(tmp_path / "run" / "samples.npy"))
    assert values["frechet/Look"] == FID(Look(2))(Run(samples), digits)["frechet/Look"]
    told = json.loads((tmp_path / "run" / "fid.json").read_text())
    assert told["fid"]["features"] == "Look" and len(told["fid"]["features_weights"]) == 64
    node = "metrics.fid.features={_target_: mynets.look.Look, power: 2}"
    refused = inside(*common, "metrics=images_quick", node, "hydra.run.dir=other")
    assert refused.returncode == 2 and "plugins=[mynets]" in refused.line
    assert not (tmp_path / "other").exists()


# torch-fidelity


def test_what_torch_fidelity_does_not_do():
    for options, message in (
        ({"features": "pixels"}, "is of metrics.fid.features=inception"),
        ({"half": True}, "in float32"),
        ({"protocol": "pytorch_fid_pndm"}, "resizes as TensorFlow 1"),
        ({"implementation": "torchfidelity"}, "write diffgeo or torch_fidelity"),
    ):
        with pytest.raises(UsageError, match=message):
            FID(**{"implementation": "torch_fidelity"} | options)


@pytest.mark.slow
def test_its_distance_is_ours():
    """Its functions on features of our making, against ours: two implementations of one formula."""
    x, y = (
        torch.randn(300, 12, generator=generator(0)),
        torch.randn(400, 12, generator=generator(1)),
    )
    y = y * torch.linspace(0.5, 2, 12) + 0.3
    truth = moments(y)
    assert theirs.distance(x, truth) == pytest.approx(between(moments(x), truth), rel=1e-5)
    other = Moments(truth.mean + 1, truth.covariance, truth.n)
    assert theirs.distance(x, other) > theirs.distance(x, truth) + 5


def test_its_features_are_what_is_measured(monkeypatch):
    """The metric asks torch-fidelity's network and distance, not ours, and says so."""
    seen = []

    class Fake:
        name = "inception"
        batch = 50
        key = f"inception-{KNOWN}-torch_fidelity-0"

        def __call__(self, images):
            seen.append(len(images))
            return means(images)

    monkeypatch.setattr(theirs, "load", lambda root, weights, device: Fake())
    monkeypatch.setattr(theirs, "distance", lambda features, truth: float(len(features)))
    metric = FID(implementation="torch_fidelity")
    run = Run(SAMPLES.clone())
    assert metric(run, DATA) == {"fid_90": 90.0} and sum(seen) == 290
    told = metric.describe(run, DATA)
    assert told["implementation"] == "torch_fidelity" and "torch_fidelity" in told["features_hash"]
    assert "implementation" not in FID("pixels").describe(run, DATA)


@pytest.mark.slow
def test_torch_fidelity_by_command_is_torch_fidelity(real, tmp_path, inside):
    """`evaluate ... metrics.fid.implementation=torch_fidelity` of 20 images against 30, beside the
    library's own calculate_metrics of the same images; and ours beside both."""
    from torch_fidelity import calculate_metrics

    from diffgeo.metrics.inception import read

    images = np.load(real / "cifar10/test_images.npy", mmap_mode="r")[:50]
    np.save(tmp_path / "a.npy", images[:20])
    np.save(tmp_path / "b.npy", images[20:])
    file = real / "inception/fid_inception_v3_2015_12_05.safetensors"
    weights = tmp_path / "weights.pth"
    last = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(read(file) | last, weights)

    class Bytes(torch.utils.data.Dataset):
        def __init__(self, part):
            self.part = torch.from_numpy(np.array(part)).permute(0, 3, 1, 2)

        def __len__(self):
            return len(self.part)

        def __getitem__(self, i):
            return self.part[i]

    published = calculate_metrics(
        input1=Bytes(images[:20]),
        input2=Bytes(images[20:]),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )["frechet_inception_distance"]
    off = [f"metrics.{name}=null" for name in ("kid", "precision", "w2", "memorization")]
    values = {}
    for name in ("torch_fidelity", "diffgeo"):
        done = inside(
            *("evaluate", "samples=a.npy", "data=npy_images", "data.file=b.npy", "metrics=fid"),
            *(*off, f"metrics.fid.implementation={name}", f"metrics.fid.weights={file}"),
            *("figures=false", f"hydra.run.dir={name}"),
        )
        assert done.returncode == 0, done.stderr
        values[name] = json.loads((tmp_path / name / "metrics.json").read_text())["fid_20"]
    assert values["torch_fidelity"] == pytest.approx(published, abs=1e-3)
    assert values["diffgeo"] == pytest.approx(published, abs=1e-2) and published > 50
    assert replace(FID(), implementation="torch_fidelity").theirs
