"""The weights of FID's Inception-v3: where they lie, where they come from, and which they are."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.store.caches import need_home

KNOWN = "c9ce7f36d5ee9536"  # `content` of the weights of 2015-12-05
RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
FILE = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's
FILES = (FILE, "pt_inception-2015-12-05-6726825d.pth")  # the same, and pytorch-fid's


def content(weights: dict[str, Tensor]) -> str:
    """A hash of the tensors that features depend on, the same for .safetensors, torch-fidelity's
    and pytorch-fid's .pth."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        convolution = ".conv." in name
        normalization = ".bn." in name and not name.endswith("num_batches_tracked")
        if convolution or normalization:
            digest.update(name.encode() + weights[name].float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def hub() -> Path:
    """torch's download cache."""
    need_home()
    return Path(torch.hub.get_dir()) / "checkpoints"


def found(root: Path | str | None) -> Path | None:
    """The weights where they usually are: data.root/inception, $DIFFGEO_DATA/inception, torch's
    download cache."""
    for folder in (root, os.environ.get("DIFFGEO_DATA")):
        if folder:
            files = sorted((Path(folder) / "inception").glob("*.safetensors"))
            if files:
                return files[0]
    for name in FILES:
        if (hub() / name).is_file():
            return hub() / name
    return None


def download() -> Path:
    """torch-fidelity's file, into torch's download cache, its hash checked. Raises UsageError
    without a network: what to put where."""
    target = hub() / FILE
    timeout = socket.getdefaulttimeout()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(20)
        torch.hub.download_url_to_file(
            f"{RELEASE}/{FILE}", str(target), hash_prefix="6726825d", progress=False
        )
    except Exception as error:  # urllib, ssl, socket and the hash check fail in their own ways
        raise UsageError(
            f"FID's Inception weights are not here and cannot be fetched ({type(error).__name__}): "
            f"put {target.name} into {target.parent}, or a .safetensors of them into "
            "data.root/inception, or write metrics.fid.weights=FILE, or "
            "metrics.fid.features=lenet or pixels"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return target


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or a torch file. Nothing is unpickled but tensors. Raises
    UsageError."""
    if not path.is_file():
        raise UsageError(f"metrics.fid.weights={path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value for name, value in weights.items() if torch.is_tensor(value)}
    except Exception as error:  # safetensors, zipfile and pickle raise half a dozen kinds
        raise UsageError(
            f"metrics.fid.weights={path} holds no tensors by name ({type(error).__name__}): give "
            "the .safetensors, torch-fidelity's or pytorch-fid's .pth"
        ) from error
