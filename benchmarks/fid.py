"""FID: Inception features beside torch-fidelity's extractor on the same weights, and the Frechet
distance at 2048."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import diffgeo  # noqa: F401                    # lets torchvision and torch_fidelity be imported
from benchmarks.measure import Row, interleaved, peer
from diffgeo.metrics.frechet import frechet
from diffgeo.metrics.inception import Inception, found, read
from diffgeo.metrics.lenet import load

IMAGES = 32
D = 2048


def weights() -> dict[str, Tensor]:
    """The published ones under $DIFFGEO_DATA/inception, else random ones of torchvision's net: the
    arithmetic is the same."""
    path = found(None)
    if path is not None:
        state = read(path)
    else:
        from torchvision.models import inception_v3

        state = inception_v3(weights=None, aux_logits=False, init_weights=False).state_dict()
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def features() -> list[Row]:
    """Images a CPU second, 32 x 32 to 2048 numbers, each extractor at the batch it is quickest with
    (16 and 32: they differ by 2 %)."""
    tensors = weights()
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    ours = Inception(tensors)
    variants = {"ours": lambda: [ours(part) for part in images.split(ours.batch)]}
    if package := peer("torch_fidelity.feature_extractor_inceptionv3"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pth"
            head = {"fc.weight": torch.zeros(1008, D), "fc.bias": torch.zeros(1008)}
            torch.save({**tensors, **head}, file)
            peers = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file))
        variants["torch-fidelity"] = lambda: peers(images)
    with torch.inference_mode():
        seconds = interleaved(variants, rounds=3)
    rate = IMAGES / seconds["ours"]
    theirs = IMAGES / seconds.get("torch-fidelity", math.nan)
    return [Row("Inception-v3 features", "images/s", rate, theirs, 1.5, "torch-fidelity")]


def lenet() -> list[Row]:
    net = load()
    images = torch.randint(0, 256, (2000, 1, 28, 28), dtype=torch.uint8)
    with torch.inference_mode():
        seconds = interleaved(
            {"ours": lambda: [net(part) for part in images.split(net.batch)]}, rounds=3
        )
    return [Row("LeNet features", "images/s", len(images) / seconds["ours"], math.nan)]


def distance() -> list[Row]:
    """Two covariances with Inception's kind of spectrum; torch-fidelity's way is the eigenvalues of
    their unsymmetric product."""
    scale = torch.logspace(1, -3, D, dtype=torch.float64).sqrt()
    a, b = (torch.randn(2 * D, D, dtype=torch.float64) * scale for _ in range(2))
    s = a.mT @ a / len(a)
    t = b.mT @ b / len(b)
    m = torch.zeros(D)
    seconds = interleaved({"ours": lambda: frechet(m, s, m, t)}, rounds=3)
    return [Row(f"Frechet distance, {D} features", "CPU s", seconds["ours"], math.nan, 2.5)]


def rows() -> list[Row]:
    torch.manual_seed(0)
    return features() + lenet() + distance()
