"""Sampling images: batches, shards that a killed run goes on from, classes and guidance, and the
folder that is left."""

import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from simulations import draw
from torch import nn

from diffgeo.data import image_set
from diffgeo.data.images import Images
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.distributed import ALONE
from diffgeo.machine.speed import flops
from diffgeo.parameterization import EDM
from diffgeo.report.finish import pictures
from diffgeo.run import load
from diffgeo.sampler import Euler, Heun
from diffgeo.schedule import VE
from diffgeo.simulation import ClassLabel, Simulation, fitting, ranges
from diffgeo.simulation.draw import streamed
from diffgeo.store import shards

SIGMAS = VE(sigma_min=0.02, sigma_max=20.0).grid(6)
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def law():
    return Images(
        torch.randint(0, 256, (30, *SHAPE), generator=torch.Generator().manual_seed(0)).to(
            torch.uint8
        )
    )


@pytest.fixture(scope="module")
def network():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 32, 3, padding=1)
            self.b = nn.Conv2d(32, 3, 3, padding=1)

        def forward(self, x, noise):
            return self.b(torch.tanh(self.a(x) + noise[:, None, None, None]))

    torch.manual_seed(0)
    return Network(Small(), EDM()).eval()


def simulated(denoise):
    return Simulation(Heun(), denoise, SIGMAS, SHAPE, seed=3)


# batches


def test_batches_of_7_and_16_give_the_same_images(law, network):
    """To the rounding of float32 convolutions, whose order of summation a library may choose by the
    batch: the states agree to 1e-4 of the data's unit, and a byte differs by one at most, where a
    value lies on a step of the quantization, and in less than one of a thousand."""
    seven, sixteen = (
        draw(Heun(), network, SIGMAS, SHAPE, 40, seed=3, batch=b).samples for b in (7, 16)
    )
    torch.testing.assert_close(seven, sixteen, rtol=0, atol=1e-4)
    difference = (law.quantize(seven).int() - law.quantize(sixteen).int()).abs()
    assert int(difference.max()) <= 1 and float((difference > 0).double().mean()) < 1e-3


def test_as_many_at_once_as_fit():
    assert fitting((2,)) == 50_000 and fitting((3, 32, 32)) == 170 and fitting((3, 1024, 1024)) == 1
    assert ranges(range(5, 12), 3) == [range(5, 8), range(8, 11), range(11, 12)]


# shards


def test_gaps_are_what_no_shard_holds(tmp_path):
    """Random shards, some overlapping, some reaching beyond: those kept are disjoint, inside, and
    with the gaps they cover all once."""
    rng = random.Random(0)
    for trial in range(20):
        folder = tmp_path / str(trial)
        for _ in range(rng.randrange(6)):
            start = rng.randrange(90)
            shards.write(folder, range(start, start + rng.randrange(1, 30)), np.zeros((1, 2)), 1.0)
        numbers = range(rng.randrange(20), rng.randrange(40, 100))
        kept = shards.held(folder, numbers)
        covered = [i for r in [s.numbers for s in kept] + shards.gaps(kept, numbers) for i in r]
        assert sorted(covered) == list(numbers) and len(set(covered)) == len(covered)


@pytest.mark.parametrize("batch", [4, 9, 100])
def test_a_stream_is_what_is_drawn_in_memory(tmp_path, law, network, batch):
    samples, nfe = streamed(simulated(network), range(2, 25), batch, law, tmp_path, ALONE)
    whole = draw(Heun(), network, SIGMAS, SHAPE, 23, seed=3, batch=batch, first=2)
    assert torch.equal(samples, law.quantize(whole.samples)) and nfe == whole.nfe == 11
    stored = np.load(tmp_path / "samples.npy")
    assert (
        stored.dtype == np.uint8
        and stored.shape == (23, 8, 8, 3)
        and torch.equal(law.restore(stored), samples)
    )
    assert not list(tmp_path.glob(".*"))


def test_a_killed_run_draws_only_what_is_missing(tmp_path, law, network):
    """The third batch fails: two shards are left. Taken up with another batch size, the rest is
    drawn and nothing twice."""

    class Counted:
        """The network, which counts its rows, and fails after so many calls."""

        def __init__(self, most: float):
            self.most = most
            self.rows = []

        def __call__(self, x, sigma):
            if len(self.rows) >= self.most:
                raise DiffgeoError("killed")
            self.rows.append(len(x))
            return network(x, sigma)

    with pytest.raises(DiffgeoError, match="killed"):
        streamed(simulated(Counted(2 * 11)), range(20), 4, law, tmp_path, ALONE)
    assert (
        not (tmp_path / "samples.npy").exists() and len(list((tmp_path / "shards").iterdir())) == 2
    )
    counted = Counted(math.inf)
    samples, nfe = streamed(simulated(counted), range(20), 7, law, tmp_path, ALONE)
    rows = counted.rows
    assert sum(rows) == 12 * 11 and rows[0] == 7 and nfe == 11
    assert torch.equal(
        samples[:8],
        law.quantize(draw(Heun(), network, SIGMAS, SHAPE, 20, seed=3, batch=4).samples)[:8],
    )
    difference = (
        samples.int() - law.quantize(draw(Heun(), network, SIGMAS, SHAPE, 20, seed=3).samples).int()
    )
    assert int(difference.abs().max()) <= 1
    shards.remove(tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_pictures_are_the_samples_byte_for_byte(tmp_path, law):
    for channels in (1, 3):
        pixels = law.images[:5, :channels]
        pictures(pixels, law, tmp_path / str(channels), 998)
        files = sorted((tmp_path / str(channels)).iterdir())
        assert [f.name for f in files] == [f"{i:06d}.png" for i in range(998, 1003)]
        read = np.stack([np.asarray(Image.open(f)) for f in files])
        assert np.array_equal(
            read[:, None] if channels == 1 else read.transpose(0, 3, 1, 2), pixels.numpy()
        )


# classes


class Means:
    """D = the number of the class, .5 for none, whatever x: guidance by hand."""

    def __init__(self):
        self.rows = 0

    def __call__(self, x, sigma, label=None):
        self.rows += len(x)
        label = torch.full((len(x),), -1) if label is None else label
        return torch.where(label < 0, 0.5, label.double())[:, None, None, None].expand(x.shape)


@pytest.mark.parametrize(
    "label, expected", [(None, [0.5] * 7), (2, [2.0] * 7), ("all", [2.0, 0, 1, 2, 0, 1, 2])]
)
def test_every_sample_has_its_class_in_any_batch(label, expected):
    """Euler's last step is D itself. Sample i has class i mod 3, counted from the number of the
    first, which is 5."""
    condition = ClassLabel(label, 1.0, 3)
    for batch in (2, 7):
        drawn = draw(Euler(), Means(), SIGMAS, SHAPE, 7, batch=batch, first=5, condition=condition)
        torch.testing.assert_close(
            drawn.samples[:, 0, 0, 0], torch.tensor(expected, dtype=torch.float64)
        )
    assert label is None or condition.labels(range(5, 12)).tolist() == [int(v) for v in expected]


def test_the_classes_of_a_choice_are_gone_through_under_their_own_numbers():
    """data.only=[3,8] leaves two classes of ten: sample i has the one or the other, by i, in any
    batch; the classes that are not there cannot be asked for."""
    condition = ClassLabel("all", 1.0, 10, among=(3, 8))
    drawn = draw(Euler(), Means(), SIGMAS, SHAPE, 5, batch=2, first=7, condition=condition)
    assert drawn.samples[:, 0, 0, 0].tolist() == [8, 3, 8, 3, 8]
    assert condition.labels(range(7, 12)).tolist() == [8, 3, 8, 3, 8]
    assert ClassLabel(8, 1.0, 10, among=(3, 8)).labels(range(2)).tolist() == [8, 8]
    with pytest.raises(UsageError, match="label=5: data= has no image .* all, or one of 3, 8"):
        ClassLabel(5, 1.0, 10, among=(3, 8))


def test_label_all_of_a_choice_samples_its_classes(inside, tmp_path):
    """With the exact denoiser of each class every sample ends beside an image of the class that it
    was told."""
    done = inside(
        *("sample", "model=exact", "data=digits", "data.only=[3,8]", "label=all", "n=6", "first=1"),
        *("sampler.steps=20", "metrics=none", "figures=false", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "run/labels.npy").tolist() == [8, 3, 8, 3, 8, 3]
    digits = image_set("digits")
    samples = torch.from_numpy(np.load(tmp_path / "run/samples.npy")).flatten(1).float()
    nearest = torch.cdist(samples, digits.images.flatten(1).float()).argmin(1)
    assert digits.labels[nearest].tolist() == [8, 3, 8, 3, 8, 3]


def test_guidance_is_the_published_combination_and_costs_two_evaluations():
    drawn = draw(Euler(), Means(), SIGMAS, SHAPE, 4, batch=3, condition=ClassLabel(2, 3.0, 3))
    torch.testing.assert_close(
        drawn.samples, torch.full((4, *SHAPE), 0.5 + 3 * (2 - 0.5), dtype=torch.float64)
    )
    assert drawn.nfe == 2 * 6
    assert draw(Euler(), Means(), SIGMAS, SHAPE, 4, condition=ClassLabel(2, 1.0, 3)).nfe == 6


@pytest.mark.parametrize(
    "label, guidance, classes, words",
    [
        (0, 1.0, 0, "label=0: this model knows no classes"),
        ("all", 1.0, 0, "label=all: this model knows no classes"),
        (3, 1.0, 3, "write null, all, or a class from 0 to 2"),
        (-1, 1.0, 3, "class from 0 to 2"),
        ("some", 1.0, 3, "label=some"),
        (True, 1.0, 3, "label=True"),
        (None, 2.0, 3, "guidance=2 leads towards a class"),
    ],
)
def test_what_the_model_cannot_be_told(label, guidance, classes, words):
    with pytest.raises(UsageError, match=words):
        ClassLabel(label, guidance, classes)


# the command

DIGITS = [
    "data=digits",
    "metrics=images_quick",
    "sampler=euler",
    "schedule@sampler.schedule=karras",
    "sampler.steps=4",
]


def test_sample_and_evaluate_images(inside, tmp_path):
    """The exact denoiser's samples: uint8 in the prepared layout, one class, figures, fid.json; the
    folder of PNGs measures the same."""
    done = inside(
        "sample",
        "model=exact",
        *DIGITS,
        "n=30",
        "batch=7",
        "label=3",
        "png=true",
        "hydra.run.dir=run",
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    stored = np.load(run / "samples.npy")
    assert stored.shape == (30, 8, 8) and stored.dtype == np.uint8
    assert np.load(run / "labels.npy").tolist() == [3] * 30
    assert not (run / "shards").exists() and {p.name for p in (run / "figures").iterdir()} == {
        "samples.png",
        "neighbours.png",
    }
    values = json.loads((run / "metrics.json").read_text())
    assert (
        values["sampling/nfe"] == 4
        and json.loads((run / "fid.json").read_text())["pixels"]["n"] == 30
    )
    for samples in ("run/samples", "run", "run/samples.npy"):
        done = inside(
            "evaluate",
            f"samples={samples}",
            "data=digits",
            "metrics=images_quick",
            "figures=false",
            "hydra.run.dir=again",
        )
        assert done.returncode == 0, done.stderr
        again = json.loads((tmp_path / "again/metrics.json").read_text())
        assert again == {k: v for k, v in values.items() if k != "sampling/nfe"}
        (tmp_path / "again/metrics.json").unlink()
        (tmp_path / "again/config.yaml").unlink()


def test_images_of_another_kind_are_one_line(inside, tmp_path):
    red = np.zeros((4, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    np.save(tmp_path / "colour.npy", red)
    np.save(tmp_path / "large.npy", np.zeros((4, 9, 9), np.uint8))
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("colour.npy", "grey"),
        ("large.npy", "9 x 9"),
        ("empty", "no images"),
        ("none.npy", "no such file"),
    ):
        done = inside(
            "evaluate",
            f"samples={name}",
            "data=digits",
            "metrics=none",
            "figures=false",
            "hydra.run.dir=e",
        )
        assert done.returncode == 2 and words in done.line and name in done.line


def test_a_short_image_run_can_be_stopped_looked_at_and_sampled(inside, tmp_path, monkeypatch):
    """max_seconds=0 stops at the first report; resumed, with a look on the way, it ends as the
    undisturbed run to the byte."""
    monkeypatch.setattr("diffgeo.training.fit.peak", lambda device, precision: 1e12)
    train = [
        "train",
        *DIGITS,
        "model=edm",
        "net=unet_8",
        "net.channels=8",
        "net.classes=10",
        "net.dropout=0.2",
        "trainer=images",
        "schedule=images",
        "trainer.steps=6",
        "trainer.batch=16",
        "trainer.log_every=2",
        "n=12",
        "label=all",
        "guidance=2",
    ]
    assert inside(*train, "hydra.run.dir=whole", "figures=false").returncode == 0
    done = inside(*train, "hydra.run.dir=stopped", "max_seconds=0", "figures=false")
    assert (
        done.returncode == 0
        and "resume=" in done.stdout
        and not (tmp_path / "stopped/metrics.json").exists()
    )
    assert "stopped at step 2 of 6" in done.stdout
    done = inside("train", "resume=stopped", "preview.every=4", "preview.n=5", "figures=true")
    assert done.returncode == 0, done.stderr
    for name in (
        "metrics.json",
        "metrics.jsonl",
        "samples.npy",
        "labels.npy",
        "checkpoint/model.safetensors",
        "checkpoint/state.safetensors",
    ):
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "stopped" / name
        ).read_bytes(), name
    figures = {p.name for p in (tmp_path / "stopped/figures").iterdir()}
    assert figures == {
        "preview_0000004.png",
        "samples.png",
        "neighbours.png",
        "denoised.png",
        "loss.png",
    }
    facts = json.loads((tmp_path / "whole/provenance.json").read_text())
    operations = facts["training_share_of_peak"] * 1e12 / facts["training_images_per_s"]
    assert operations == pytest.approx(
        3 * flops(load(tmp_path / "whole").model.net, torch.zeros(1, 1, 8, 8), torch.zeros(1)),
        rel=1e-9,
    )
    assert [
        json.loads(line)["step"]
        for line in (tmp_path / "whole/speed.jsonl").read_text().splitlines()
    ] == [2, 4, 6]
    done = inside("sample", "run=stopped", "n=7", "figures=false", "hydra.run.dir=more")
    assert done.returncode == 0, done.stderr
    more = np.load(tmp_path / "more/samples.npy").astype(int)
    whole = np.load(tmp_path / "whole/samples.npy").astype(int)
    assert np.abs(more - whole[:7]).max() <= 1
