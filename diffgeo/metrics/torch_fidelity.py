"""torch-fidelity's FID, the reference implementation, on request:
metrics.fid.implementation=torch_fidelity.

Its network looks at the samples (and at the training images, where no file holds their moments),
its functions make the moments and the distance. Ours gives the same number to 1e-3 in a sixth of
the time (`benchmarks/fid.py`); what both share are the weights, and which images are counted.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.machine.libraries import needed
from diffgeo.metrics.frechet import Moments
from diffgeo.metrics.inception_weights import content, download, found, read

WHAT = "metrics.fid.implementation=torch_fidelity"


def module(name: str):
    """A module of torch-fidelity. Raises UsageError where it is not installed."""
    return needed(f"torch_fidelity.{name}", WHAT, "torch-fidelity")


class Reference:
    """The `Features` of torch-fidelity's own Inception-v3."""

    name = "inception"
    batch = 32

    def __init__(self, weights: dict[str, Tensor], device: str):
        kind = module("feature_extractor_inceptionv3").FeatureExtractorInceptionV3
        # the last layer, which the 2048 features do not see, is not in every file
        whole = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)} | weights
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pth"
            torch.save(whole, file)
            self.net = kind("inception-v3-compat", ["2048"], str(file)).to(device)
        self.device = device
        self.version = importlib.metadata.version("torch-fidelity")
        self.key = f"inception-{content(weights)}-torch_fidelity-{self.version}"

    def __call__(self, images: Tensor) -> Tensor:
        colour = images.expand(-1, 3, -1, -1).contiguous()
        return self.net(colour.to(self.device))[0]


def load(root: Path | str | None, weights: str | None, device: str) -> Reference:
    """torch-fidelity's network with the weights that ours would take. Raises UsageError."""
    path = Path(weights) if weights else found(root) or download()
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _load(path, stamp, device)


@lru_cache(maxsize=1)
def _load(path: Path, stamp: int, device: str) -> Reference:
    module("metric_fid")  # what is missing is said before a file is read
    return Reference(read(path), device)


def distance(features: Tensor, truth: Moments) -> float:
    """torch-fidelity's FID of features [n,2048] from moments."""
    library = module("metric_fid")
    generated = library.fid_features_to_statistics(features)
    reference = {
        # it compares numbers of one dtype only
        "mu": truth.mean.numpy().astype(generated["mu"].dtype),
        "sigma": truth.covariance.numpy().astype(generated["sigma"].dtype),
    }
    found = library.fid_statistics_to_metric(generated, reference, False)
    return float(found[library.KEY_METRIC_FID])
