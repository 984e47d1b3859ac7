"""KID and precision/recall against torch-fidelity, closed forms and brute force; W2 in feature
space."""

import math

import numpy as np
import pytest
import torch

import diffgeo  # noqa: F401                    # lets torch_fidelity import torchvision
from diffgeo.core import Run, generator
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.metrics import KID, FeatureW2, PrecisionRecall, features, nets, precision_recall
from diffgeo.metrics.features import of_truth
from diffgeo.metrics.kid import kid, mmd2


def clouds(n=400, m=500, d=16, shift=0.3):
    g = generator(0, *b"clouds")
    return torch.randn(n, d, generator=g) * 1.1 + shift, torch.randn(m, d, generator=g)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "_truth", {})


def test_kid_is_torch_fidelitys_on_the_same_subsets():
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    x, y = clouds()
    theirs = kid_features_to_metric(x, y, kid_subsets=7, kid_subset_size=100, verbose=False)
    value, sd = kid(x, y, subsets=7, size=100)
    assert value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-5) and sd == pytest.approx(
        theirs[KEY_METRIC_KID_STD], rel=1e-4
    )


def test_mmd_by_hand_and_unbiased():
    """The definition on three against two points; and over 4 000 pairs of small equal clouds a mean
    of 0 within 4 standard errors."""
    x = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    y = torch.tensor([[0.0, 0], [2, 0]])
    k = lambda a, b: (float(a @ b) / 2 + 1) ** 3
    within = sum(
        sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j)
        / (len(z) * (len(z) - 1))
        for z in (x, y)
    )
    assert mmd2(x, y) == pytest.approx(
        within - 2 * sum(k(a, b) for a in x for b in y) / 6, rel=1e-12
    )
    z = torch.randn(4000, 2, 8, 3, generator=generator(1), dtype=torch.float64)
    values = np.array([mmd2(a, b) for a, b in z])
    assert (
        abs(values.mean()) < 4 * values.std() / math.sqrt(len(values)) and (values < 0).mean() > 0.3
    )


def test_precision_and_recall_are_torch_fidelitys(monkeypatch):
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    x, y = clouds(d=6, shift=0.8)
    theirs = prc_features_to_metric(
        x, y, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    whole = precision_recall.precision_recall(x, y)
    assert (
        whole == pytest.approx((theirs[KEY_METRIC_PRECISION], theirs[KEY_METRIC_RECALL]), abs=1e-7)
        and 0.2 < whole[0] < whole[1] < 0.95
    )
    monkeypatch.setattr(precision_recall, "BLOCK", 37)
    assert precision_recall.precision_recall(x, y) == whole


def test_precision_and_recall_on_a_line():
    """True 0, 1, ..., 9, k = 1: radius 1 each. Generated 0.5, 0.6, 20, 20.5: half are precise; .1
    and .5 about them cover nobody."""
    true = torch.arange(10.0)[:, None]
    generated = torch.tensor([[0.5], [0.6], [20.0], [20.5]])
    assert precision_recall.precision_recall(generated, true, k=1) == (0.5, 0.0)
    assert precision_recall.precision_recall(true, generated, k=1) == (0.0, 0.5)
    assert precision_recall.precision_recall(true, true, k=1) == (1.0, 1.0)


def images(n, seed):
    return torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator(seed))


def test_metrics_in_a_suite():
    """A set against itself: W2 of the same points 0, precision and recall 1, KID about 0; white
    images are no such images."""
    data = Images(images(60, 0), name="noise")
    run = Run(data.images)
    assert FeatureW2("pixels", n=60)(run, data)["w2/pixels"] == pytest.approx(0, abs=1e-9)
    assert PrecisionRecall("pixels")(run, data) == {"precision/pixels": 1.0, "recall/pixels": 1.0}
    value = KID("pixels", size=50)(run, data)
    assert list(value) == ["kid/pixels", "kid/pixels_sd"] and abs(value["kid/pixels"]) < 0.1
    white = Run(torch.full_like(data.images, 255))
    assert PrecisionRecall("pixels")(white, data) == {"precision/pixels": 0.0, "recall/pixels": 0.0}
    moved = FeatureW2("pixels", n=60)(Run((data.images // 2 + 64).clone()), data)["w2/pixels"]
    halved = (data.images // 2 + 64).double() / 127.5 - data.images.double() / 127.5
    # a contraction: its own best plan
    assert moved == pytest.approx(float(halved.flatten(1).square().sum(1).mean().sqrt()), rel=0.01)
    facts = KID("pixels").describe(run, data)
    assert (facts["subsets"], facts["size"]) == (1, 60) and facts["published"] == {
        "subsets": 100,
        "size": 1000,
    }
    facts = KID("pixels", size=50).describe(Run(data.images[:20]), data)
    assert [facts[key] for key in ("n", "true", "subsets", "size")] == [20, 50, 100, 20]


def test_both_sides_are_equal_and_another_seed_costs_nothing(monkeypatch):
    """20 samples against 20 of 60 images: with all 60, smaller balls would be less precise. The
    true side is the same in every run."""
    data = Images(images(60, 0), name="noise")
    seen = []
    run = Run(images(20, 1), seed=1)
    x = nets.Pixels()(run.samples)
    y = of_truth(nets.Pixels(), data, 20)
    for metric in (PrecisionRecall("pixels"), FeatureW2("pixels")):
        facts = metric.describe(run, data)
        assert facts["n"] == facts["true"] == 20
    values = PrecisionRecall("pixels")(run, data)
    assert tuple(values.values()) == precision_recall.precision_recall(x, y)
    monkeypatch.setattr(
        nets.Pixels,
        "__call__",
        lambda self, pixels: seen.append(len(pixels)) or pixels.float().flatten(1),
    )
    again = PrecisionRecall("pixels")(run._replace(seed=2), data)
    assert again == values and not seen


def test_true_features_are_drawn_once():
    seen = []
    data = Images(images(60, 0), name="noise")

    class Net:
        name = "inception"
        key = "net"
        batch = 100

        def __call__(self, pixels):
            seen.append(len(pixels))
            return pixels.float().flatten(1)

    net = Net()
    some = of_truth(net, data, 40)
    assert torch.equal(of_truth(net, data, 20), some[:20]) and seen == [40]
    features._truth.clear()
    # from the disk, fewer too
    assert torch.equal(of_truth(net, data, 30), some[:30]) and seen == [40]
    assert len({tuple(row.tolist()) for row in of_truth(net, data, 100)}) == 60 and seen == [40, 60]


def test_bad_input():
    data = Images(images(60, 0), name="noise")
    for metric in (KID("pixels"), PrecisionRecall("pixels"), FeatureW2("pixels")):
        with pytest.raises(UsageError, match=f"{type(metric).__name__} of 3 images means nothing"):
            metric(Run(data.images[:3]), data)
    with pytest.raises(UsageError, match="metrics.precision.k=10"):
        PrecisionRecall(k=10)
    with pytest.raises(UsageError, match="size=1"):
        KID(size=1)
    for make, name in ((KID, "kid"), (FeatureW2, "w2")):
        with pytest.raises(UsageError, match=f"metrics.{name}.n=9.*n from 10"):
            make(n=9)
