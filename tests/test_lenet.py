"""The shipped classifier: its accuracy on MNIST, its size, its script."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from diffgeo.core import generator
from diffgeo.metrics import lenet

SCRIPT = Path(__file__).parent.parent / "scripts/train_lenet.py"


def test_accuracy_on_the_test_set(real):
    """99 % at least of MNIST's 10 000 test images; train_lenet.py reported 99.61 %."""
    images = torch.from_numpy(np.load(real / "mnist/test_images.npy"))[:, None]
    labels = torch.from_numpy(np.load(real / "mnist/test_labels.npy")).long()
    shipped = lenet.load()
    with torch.inference_mode():
        logits = torch.cat([shipped.net.last(F.relu(shipped(part))) for part in images.split(500)])
    assert float((logits.argmax(1) == labels).double().mean()) >= 0.995


def test_small_half_precision_and_keyed():
    assert lenet.WEIGHTS.stat().st_size < 500_000
    weights = load_file(lenet.WEIGHTS)
    assert {v.dtype for v in weights.values()} == {torch.float16} and weights[
        "penultimate.weight"
    ].shape == (64, 1024)
    assert lenet.load().key.startswith("lenet-") and len(lenet.load().key) == 22


def test_folding_changes_nothing():
    net = lenet.LeNet(normalized=True)
    g = generator(0)
    for layer in net.body:
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, low in (
                (layer.weight, 0.5),
                (layer.bias, -1),
                (layer.running_mean, -1),
                (layer.running_var, 0.5),
            ):
                tensor.data.uniform_(low, low + 2, generator=g)
    x = torch.rand(4, 1, 28, 28, generator=g)
    with torch.no_grad():
        assert torch.allclose(net.folded()(x), net.eval()(x), rtol=1e-4, atol=1e-4)


def test_images_of_another_size():
    """A linear ramp stays one when it is scaled (inside: the ends are clamped); a constant stays
    what it is."""
    ramp = torch.arange(8, dtype=torch.uint8).mul(16).expand(1, 1, 8, 8)
    x = lenet.read(ramp)[0, 0, 0]
    at = (torch.arange(28) + 0.5) * 8 / 28 - 0.5
    assert x.shape == (28,) and torch.allclose(x, at.clamp(0, 7) * 16 / 127.5 - 1, atol=1e-6)
    assert torch.allclose(
        lenet.read(torch.full((1, 1, 64, 64), 255, dtype=torch.uint8)), torch.ones(1, 1, 28, 28)
    )


def test_script_trains_and_repeats(tmp_path, monkeypatch, capsys):
    """A tiny set of two kinds of images: learnt, the same bytes from the same seed, status 1 below
    99 %."""
    g = np.random.RandomState(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for split, n in (("train", 256), ("test", 200)):
        labels = g.randint(0, 2, n).astype(np.uint8)
        images = g.randint(0, 60, (n, 28, 28)).astype(np.uint8)
        images[labels == 1, 8:20] += 180
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)

    def status(out: str, epochs: int, seed: int = 0) -> int:
        words = "--root", tmp_path, "--out", tmp_path / out, "--epochs", epochs, "--seed", seed
        monkeypatch.setattr(sys, "argv", ["train_lenet.py", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return int(stop.value.code)

    assert status("a.safetensors", 8) == 0 and "test accuracy 100.00 %" in capsys.readouterr().out
    assert status("b.safetensors", 8) == 0 and status("c.safetensors", 1, seed=1) == 1
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100])
def test_damaged_weights(tmp_path, monkeypatch, damage):
    from diffgeo.errors import DiffgeoError

    (tmp_path / "lenet.safetensors").write_bytes(damage)
    monkeypatch.setattr(lenet, "WEIGHTS", tmp_path / "lenet.safetensors")
    with pytest.raises(DiffgeoError, match="lenet.safetensors cannot be read.*install"):
        lenet.Shipped("cpu")
