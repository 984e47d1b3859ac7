"""What a FID is held against and what it tells: references computed, cached, in files, known by
content; torch-fidelity's number."""

# ruff: noqa: F811
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from simulations import made_by
from test_fid import Fake, blobs, cache, fake  # noqa: F401

import diffgeo  # noqa: F401                    # lets torch_fidelity import torchvision
from diffgeo.core import Run
from diffgeo.data import Images, Line, image_set
from diffgeo.errors import UsageError
from diffgeo.metrics import FID, Distance, Suite, statistics
from diffgeo.metrics.features import of_samples
from diffgeo.metrics.floor import reference
from diffgeo.metrics.frechet import Moments, between, moments
from diffgeo.metrics.inception import KNOWN
from diffgeo.metrics.statistics import is_of, known, of_training, said


def test_describe_tells_what_a_reviewer_asks(fake, tmp_path):
    data = blobs(200, shape=(3, 8, 8))
    run = Run(blobs(100, 1, (3, 8, 8)).images, seed=7)
    facts = Suite({"fid": FID(protocol="edm"), "pixels": FID("pixels")}).describe(run, data)
    inception = facts["fid"]
    assert (
        inception["n"] == 100 and inception["seeds"] is None and inception["quantization"] is None
    )
    assert inception["features_hash"] == "fake" and inception["key"] == "fid_100"
    published = inception["published"]  # what was not done here stands under another name
    assert (
        inception["protocol"] == "edm"
        and published["count"] == 50_000
        and "0-49999" in published["seeds"]
    )
    assert published["reference"] == "cifar10-32x32.npz" and "127.5" in published["quantization"]
    assert (
        inception["reference"]["n"] == 200
        and "200 train images of blobs" in inception["reference"]["origin"]
    )
    made = made_by(data.denoiser(), run.samples, seed=7)
    drawn = FID("pixels").describe(made, blobs(200, shape=(3, 8, 8), low=0.0))
    assert drawn["seeds"] == {"run": 7, "rule": "noise of sample i: Philox of the key (run, i)"}
    assert drawn["quantization"].endswith("low=0 high=1")
    again = FID().describe(run, blobs(200, 2, (3, 8, 8)))["reference"]["hash"]
    assert again != inception["reference"]["hash"] == FID().describe(run, data)["reference"]["hash"]
    assert (
        not {"protocol", "published"} & set(facts["pixels"])
        and facts["pixels"]["features"] == "pixels"
    )
    import json

    json.dumps(facts)


def test_reference_is_the_training_set_whichever_split_is_measured():
    train = blobs(300)
    test = blobs(50, 1, split="test", twin=lambda: train)
    samples = Run(blobs(100, 2).images)
    assert FID("pixels")(samples, test) == FID("pixels")(samples, train)


def test_reference_is_computed_once_for_the_same_pixels(fake, cache, monkeypatch):
    law = blobs(200, shape=(3, 8, 8))
    first = of_training(fake, law)
    (file,) = (cache / "statistics").iterdir()
    monkeypatch.setattr(statistics, "_computed", {})
    assert fake.seen == 200 and all(
        torch.equal(a, b) for a, b in zip(first[:2], of_training(fake, law)[:2], strict=True)
    )
    # the same bytes under another law
    of_training(fake, Images(law.images.clone(), name="other", flip=True, low=0.0))
    assert fake.seen == 200
    of_training(Fake("another net"), law)
    monkeypatch.setattr(statistics, "_computed", {})
    file.write_bytes(b"damaged")
    assert torch.equal(of_training(fake, law).covariance, first.covariance) and fake.seen == 400
    one_bit = law.images.clone()
    one_bit[-1, -1, -1, -1] ^= 1
    of_training(fake, Images(one_bit, name="blobs"))
    assert fake.seen == 600 and len(list((cache / "statistics").iterdir())) == 3


def test_reference_of_a_file(fake, tmp_path):
    data = blobs(200, shape=(3, 8, 8))
    run = Run(blobs(100, 1, (3, 8, 8)).images)
    m = Moments(
        torch.tensor([100.0, 120.0, 140.0]).double(),
        torch.diag(torch.tensor([4.0, 5.0, 6.0])).double(),
    )
    np.savez(tmp_path / "ref.npz", mu=m.mean, sigma=m.covariance)
    metric = FID(reference=str(tmp_path / "ref.npz"))
    assert metric(run, data)["fid_100"] == pytest.approx(
        between(moments(fake(run.samples)), m), rel=1e-9
    )
    facts = metric.describe(run, data)["reference"]
    assert facts["origin"] == "ref.npz" and facts["n"] is None
    assert fake.seen == 200  # the samples, twice; no training image
    np.savez(tmp_path / "wide.npz", mu=np.zeros(4), sigma=np.eye(4))
    np.savez(tmp_path / "odd.npz", mu=np.zeros(3), sigma=np.eye(4))
    np.savez(tmp_path / "names.npz", mean=np.zeros(3))
    np.savez(tmp_path / "objects.npz", mu=np.array([{}]), sigma=np.eye(1))
    np.savez(tmp_path / "nan.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    np.savez(tmp_path / "complex.npz", mu=np.zeros(3), sigma=np.eye(3) * 1j)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("mu")
    for name, words in {
        "wide": "is of 4 features, inception has 3",
        "odd": "sigma .4, 4.",
        "names": "mu",
        "objects": "allow_pickle",
        "nan": "not finite",
        "complex": "it holds complex numbers",
        "text": "no .npz",
        "none": "none.npz",
    }.items():
        with pytest.raises(UsageError, match=words) as error:
            FID(reference=str(tmp_path / f"{name}.npz"))(run, data)
        with pytest.raises(UsageError, match=words):  # before a run, not after it
            FID(reference=str(tmp_path / f"{name}.npz")).prepare(data, 10)
        assert "\n" not in str(error.value)
    Suite({"fid": metric, "distance": Distance()}).prepare(data, 10)
    bad = FID(reference=str(tmp_path / "array.npy"))
    with pytest.raises(
        UsageError, match="array.npy: no .npz with arrays mu .*a .npy file holds one array"
    ):
        Suite({"fid": bad}).prepare(data, 10)
    with pytest.raises(UsageError, match="a FID is of images, and data= is none"):
        Suite({"fid": bad}).prepare(Line(), 10)
    with pytest.raises(UsageError, match="a FID of 3 images means nothing: give at least 10"):
        Suite({"fid": metric}).prepare(data, 3)
    Suite({"fid": replace(metric, optional=True)}).prepare(data, 3)


def test_another_file_of_the_same_name_has_another_floor(tmp_path):
    """The floor of a metric with a reference is kept under the file's content."""
    data = blobs(60)
    path = tmp_path / "ref.npz"
    for scale in (1.0, 4.0):
        np.savez(path, mu=np.zeros(64), sigma=scale * np.eye(64))
        metric = FID("pixels", reference=str(path))
        held = reference(metric, data, 30, pairs=2)
        assert held == reference(metric, data, 30, pairs=2)
        fresh = FID("pixels", reference=str(path.rename(tmp_path / f"{scale}.npz")))
        assert held == reference(fresh, data, 30, pairs=2)


def sha256_of(images):
    """Of the bytes [n,H,W,C], as a file of statistics tells it."""
    return hashlib.sha256(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())).hexdigest()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 6)])
def test_a_file_says_of_which_images_it_is(tmp_path, shape):
    """By three arrays, whatever its name, the set and what the set has beside: complete, or with
    others where the file has none."""
    law = blobs(60, shape=shape, root=tmp_path)
    lacking = [59, 3, 41]
    keep = [i for i in range(60) if i not in lacking]
    folder = tmp_path / "fid_stats"
    folder.mkdir()
    moments_ = {"mu": np.zeros(3), "sigma": np.eye(3)}
    np.savez(folder / "a.npz", **moments_)  # says nothing
    assert known(law) is None and said(folder / "a.npz") is None
    named = {"n": 57, "images_sha256": sha256_of(law.images[keep])}
    np.savez(folder / "b.npz", **moments_, lacking=lacking, **named)
    assert known(law) == folder / "b.npz"
    of = said(folder / "b.npz")
    stand_in = law.images.clone()
    stand_in[lacking] = 255 - stand_in[lacking]
    assert is_of(of, stand_in) and is_of(of, law.images[keep])
    stand_in[4, 0, 0, 0] ^= 1
    for other in (
        stand_in.clone(),
        law.images[:57],
        law.images[:3],
        law.images.flip(-1),
        law.images.flip(0),
    ):
        assert not is_of(of, other)
    assert not is_of(of._replace(lacking=(3, 41, 60)), law.images)
    whole = {"n": 60, "images_sha256": sha256_of(law.images)}
    np.savez(folder / "b.npz", **moments_, **whole)
    assert known(law) == folder / "b.npz" and known(Images(stand_in, root=tmp_path)) is None
    assert known(Images(law.images)) is None  # from no folder
    (folder / "0.npz").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="0.npz: this is no .npz of statistics.*take it out of"):
        known(law)


def test_known_statistics_are_used_for_what_they_are_of(real, fake):
    """CIFAR-10's training images by their content, in the known weights' features under
    torch_fidelity; nothing else."""
    law = image_set("cifar10", root=str(real))
    path = real / "fid_stats/cifar10_train_49927.npz"
    of = said(path)
    complete = law.images.clone(memory_format=torch.preserve_format)
    # another image where the copy here has a stand-in
    complete[of.lacking[0]] = 255 - complete[of.lacking[0]]
    assert is_of(of, law.images) and is_of(of, complete)
    assert is_of(of, image_set("cifar10", root=str(real), exact_only=True).images)
    complete = complete.clone(memory_format=torch.preserve_format)
    complete[of.lacking[0] + 1, 0, 0, 0] ^= 1
    assert not is_of(of, complete)
    assert not is_of(of, law.images[: of.n]) and not is_of(of, law.images.flip(-1))
    file = lambda metric, law: metric.file(fake, law)
    assert file(FID(), law) is None  # other features
    fake.key = f"inception-{KNOWN}-tensorflow-float32"
    assert file(FID(), law) == path and file(FID(protocol="edm"), law) is None
    assert file(FID(), Images(complete, name="cifar10", root=real)) is None
    assert file(FID(), Images(law.images, name="mine")) is None
    with pytest.raises(UsageError, match="is of 2048 features, inception has 3"):
        FID().prepare(law, 10)


@pytest.mark.slow
def test_fid_of_cifar10_is_torch_fidelitys(real, tmp_path):
    """200 test images against the statistics of the training set, and two sets of 200 against one
    another, to 1e-3."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    from diffgeo.metrics.inception import load, read

    path = real / "inception/fid_inception_v3_2015_12_05.safetensors"
    torch.save(
        {**read(path), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)},
        tmp_path / "torch_fidelity.pth",
    )
    theirs = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], str(tmp_path / "torch_fidelity.pth")
    )
    images = (
        torch.from_numpy(np.load(real / "cifar10/test_images.npy")[:400])
        .permute(0, 3, 1, 2)
        .contiguous()
    )
    with torch.inference_mode():
        a, b = (
            torch.cat([theirs(part)[0] for part in half.split(50)]) for half in images.split(200)
        )
    statistics = [fid_features_to_statistics(x) for x in (a, b)]
    law = image_set("cifar10", root=str(real))
    run = Run(images[:200])
    metric = FID()
    with np.load(real / "fid_stats/cifar10_train_49927.npz") as archive:
        reference = {"mu": archive["mu"], "sigma": archive["sigma"]}
    known = fid_statistics_to_metric(
        {"mu": statistics[0]["mu"].astype(float), "sigma": statistics[0]["sigma"]}, reference, False
    )
    assert metric(run, law)["fid_200"] == pytest.approx(known[KEY_METRIC_FID], abs=1e-3)
    told = metric.describe(run, law)["reference"]
    assert (
        told["origin"] == "cifar10_train_49927.npz"
        and told["note"] == "moments of 49927 images; the training set here holds 50000"
    )
    ours = load(None, str(path), "tensorflow", False, "cpu")
    # the first held already
    halves = [moments(of_samples(ours, r, law, 200)) for r in (run, Run(images[200:]))]
    assert between(*halves) == pytest.approx(
        fid_statistics_to_metric(*statistics, False)[KEY_METRIC_FID], abs=1e-3
    )
