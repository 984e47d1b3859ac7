"""Inception-v3 features for FID: the graph of 2015-12-05, 2048 averages of its last layer, made
fast for inference.

The graph is torch-fidelity's (Szegedy et al. 2016, as TensorFlow's FID script had it: average pools
that leave padding out of their mean, a max pool in the last block). Four identities make it
quicker, and none changes a feature beyond rounding:

    batch normalization     g (W*x - m)/sqrt(v + e) + b  is one convolution with W g/sqrt(v + e) and b - m g/sqrt(v + e)
    1 x 1 heads             the branches of a block that begin with a 1 x 1 convolution of the same x are one, split afterwards
    pooled branch           an average and a 1 x 1 convolution commute, so that the average is taken over fewer channels
    resize                  bilinear scaling to 299 x 299 is A x B^T with two sparse matrices: two GEMMs an image, exact at any size

Resizes: `tensorflow` reads pixel i at i h/299 and clamps at the border, (p - 128)/128
(torch-fidelity; EDM's and StyleGAN's pickle writes the same as a grid_sample); `pytorch_fid` reads
it at (i + 1/2) h/299 - 1/2, 2 p/255 - 1 (F.interpolate, pytorch-fid 0.3).
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgeo.errors import UsageError

SIDE = 299
EPS = 1e-3
CONVOLUTIONS = 94
KNOWN = "c9ce7f36d5ee9536"  # `content` of the weights of 2015-12-05
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
POOLED = (
    "branch1x1",
    "branch5x5_1",
    "branch3x3_1",
    "branch7x7_1",
    "branch3x3dbl_1",
    "branch7x7dbl_1",
    "branch7x7x3_1",
    "branch_pool",
)


def scaling(size: int, tensorflow: bool) -> Tensor:
    """A [299,size] of bilinear interpolation, float32; rows sum to 1."""
    if not tensorflow:
        return F.interpolate(torch.eye(size)[None], size=SIDE, mode="linear", align_corners=False)[
            0
        ].T.contiguous()
    at = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(size / SIDE, dtype=torch.float32)
    low = at.long()
    rows = torch.arange(SIDE)
    a = torch.zeros(SIDE, size)
    a[rows, low] = 1 - (at - low)
    a[rows, (low + 1).clamp(max=size - 1)] += at - low
    return a


def folded(weights: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Convolutions with their batch normalization: name -> weight [o,i,h,w], bias [o], float32.
    Raises UsageError where one lacks."""
    layers = {}
    for name in (k.removesuffix(".conv.weight") for k in weights if k.endswith(".conv.weight")):
        if absent := [
            k
            for k in ("weight", "bias", "running_mean", "running_var")
            if f"{name}.bn.{k}" not in weights
        ]:
            raise UsageError(
                f"these are no weights of FID's Inception-v3: {name}.bn.{absent[0]} is not there"
            )
        gamma, beta, mean, variance = (
            weights[f"{name}.bn.{k}"].double()
            for k in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (variance + EPS).sqrt()
        layers[name] = (
            (weights[f"{name}.conv.weight"].double() * scale[:, None, None, None]).float(),
            (beta - mean * scale).float(),
        )
    if len(layers) != CONVOLUTIONS:
        raise UsageError(
            f"these are no weights of FID's Inception-v3: {len(layers)} convolutions named like "
            f"Conv2d_1a_3x3.conv.weight, not {CONVOLUTIONS}"
        )
    return layers


class Inception:
    """Features [B,2048] of uint8 images [B,C,H,W], C = 1 or 3 (grey is repeated), any size. half:
    in float16, on a GPU only."""

    name = "inception"

    def __init__(
        self,
        weights: dict[str, Tensor],
        key: str = "",
        tensorflow: bool = True,
        half: bool = False,
        device: str = "cpu",
    ):
        """weights: of torch-fidelity's module, by its names; `fc` is not used. Raises UsageError
        where one lacks."""
        self.tensorflow = tensorflow
        self.device = torch.device(device)
        self.dtype = torch.float16 if half and self.device.type == "cuda" else torch.float32
        self.key = f"inception-{key}-{'tensorflow' if tensorflow else 'pytorch_fid'}-{str(self.dtype).removeprefix('torch.')}"
        self.batch = 256 if self.device.type == "cuda" else 16
        layers = folded(weights)
        heads = {}
        for block in sorted({name.split(".")[0] for name in layers if "." in name}):
            names = [
                f"{block}.{b}"
                for b in POOLED
                if f"{block}.{b}" in layers and layers[f"{block}.{b}"][0].shape[2] == 1
            ]
            if block == "Mixed_7c":
                # behind a max pool, which commutes with nothing
                names.remove("Mixed_7c.branch_pool")
            heads[block] = [layers[name] for name in names]
            layers[block] = tuple(torch.cat(part) for part in zip(*heads[block], strict=True))
        self.sizes = {block: [len(bias) for _, bias in parts] for block, parts in heads.items()}
        place = lambda w: w.to(
            self.device,
            self.dtype,
            memory_format=torch.channels_last if w.ndim == 4 else torch.contiguous_format,
        )
        self.layers = {name: tuple(place(v) for v in layer) for name, layer in layers.items()}
        self.scalings: dict[int, Tensor] = {}

    def conv(self, x: Tensor, name: str, stride: int = 1, pad: bool = True) -> Tensor:
        """relu of a convolution, padded to keep the size."""
        w, b = self.layers[name]
        return F.conv2d(x, w, b, stride, [k // 2 if pad else 0 for k in w.shape[2:]]).relu_()

    def heads(self, x: Tensor, block: str, pooled: bool = True) -> list[Tensor]:
        """The 1 x 1 convolutions of x at the head of a block, relu taken; the last one averaged
        over 3 x 3 before, when `pooled`."""
        *parts, last = F.conv2d(x, *self.layers[block]).split(self.sizes[block], 1)
        last = F.avg_pool2d(last, 3, 1, 1, count_include_pad=False) if pooled else last
        return [F.relu(part) for part in (*parts, last)]

    def chain(self, x: Tensor, block: str, *names: str) -> Tensor:
        for name in names:
            x = self.conv(x, f"{block}.{name}")
        return x

    def a(self, x: Tensor, block: str) -> Tensor:
        one, five, three, pool = self.heads(x, block)
        five = self.chain(five, block, "branch5x5_2")
        three = self.chain(three, block, "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat([one, five, three, pool], 1)

    def b(self, x: Tensor, block: str) -> Tensor:
        three = self.chain(x, block, "branch3x3dbl_1", "branch3x3dbl_2")
        down = [
            self.conv(x, f"{block}.branch3x3", 2, False),
            self.conv(three, f"{block}.branch3x3dbl_3", 2, False),
        ]
        return torch.cat([*down, F.max_pool2d(x, 3, 2)], 1)

    def c(self, x: Tensor, block: str) -> Tensor:
        one, seven, double, pool = self.heads(x, block)
        double = self.chain(double, block, *(f"branch7x7dbl_{i}" for i in (2, 3, 4, 5)))
        return torch.cat(
            [one, self.chain(seven, block, "branch7x7_2", "branch7x7_3"), double, pool], 1
        )

    def d(self, x: Tensor, block: str) -> Tensor:
        three, seven = self.heads(x, block, pooled=False)
        seven = self.chain(seven, block, "branch7x7x3_2", "branch7x7x3_3")
        down = [
            self.conv(three, f"{block}.branch3x3_2", 2, False),
            self.conv(seven, f"{block}.branch7x7x3_4", 2, False),
        ]
        return torch.cat([*down, F.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, block: str, last: bool = False) -> Tensor:
        one, three, double, *pool = self.heads(x, block, pooled=not last)
        double = self.chain(double, block, "branch3x3dbl_2")
        fork = [
            self.conv(y, f"{block}.{name}{side}")
            for y, name in ((three, "branch3x3_2"), (double, "branch3x3dbl_3"))
            for side in "ab"
        ]
        return torch.cat(
            [one, *fork, *(pool or [self.conv(F.max_pool2d(x, 3, 1, 1), f"{block}.branch_pool")])],
            1,
        )

    def scaled(self, images: Tensor) -> Tensor:
        """uint8 [B,C,H,W] -> [B,3,299,299], normalized."""
        x = images.to(self.device).float()
        x = (x - 128) / 128 if self.tensorflow else x / 127.5 - 1
        for size in x.shape[2:]:
            if size not in self.scalings:
                self.scalings[size] = scaling(size, self.tensorflow).to(self.device)
        rows, columns = (self.scalings[size] for size in x.shape[2:])
        x = rows @ (x @ columns.mT)
        return x.expand(-1, 3, -1, -1).to(self.dtype, memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        x = self.conv(self.scaled(images), "Conv2d_1a_3x3", 2, False)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3", 1, False), "Conv2d_2b_3x3")
        x = self.conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = F.max_pool2d(self.conv(x, "Conv2d_4a_3x3", 1, False), 3, 2)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(x, block)
        x = self.b(x, "Mixed_6a")
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.c(x, block)
        x = self.e(self.e(self.d(x, "Mixed_7a"), "Mixed_7b"), "Mixed_7c", last=True)
        return x.float().mean((2, 3))


def content(weights: dict[str, Tensor]) -> str:
    """A hash of the tensors that features depend on, the same for .safetensors, torch-fidelity's
    and pytorch-fid's .pth."""
    names = sorted(
        k
        for k in weights
        if ".conv." in k or (".bn." in k and not k.endswith("num_batches_tracked"))
    )
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + weights[name].float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def found(root: Path | str | None) -> Path | None:
    """The weights where they usually are: data.root/inception, $DIFFGEO_DATA/inception, torch's
    download cache."""
    for folder in (root, os.environ.get("DIFFGEO_DATA")):
        if folder and (files := sorted((Path(folder) / "inception").glob("*.safetensors"))):
            return files[0]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    return next(
        (
            cache / n
            for n in (Path(URL).name, "pt_inception-2015-12-05-6726825d.pth")
            if (cache / n).is_file()
        ),
        None,
    )


def download() -> Path:
    """torch-fidelity's file, into torch's download cache, its hash checked. Raises UsageError
    without a network: what to put where."""
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name
    timeout = socket.getdefaulttimeout()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(20)
        torch.hub.download_url_to_file(URL, str(target), hash_prefix="6726825d", progress=False)
    except Exception as error:  # urllib, ssl, socket and the hash check fail in their own ways
        raise UsageError(
            f"FID's Inception weights are not here and cannot be fetched ({type(error).__name__}): "
            f"put {target.name} into "
            f"{target.parent}, or a .safetensors of them into data.root/inception, or "
            "write metrics.fid.weights=FILE, "
            "or metrics.fid.features=lenet or pixels"
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
            "the "
            ".safetensors, torch-fidelity's or pytorch-fid's .pth"
        ) from error


def load(
    root: Path | str | None, weights: str | None, tensorflow: bool, half: bool, device: str
) -> Inception:
    """Inception with the weights of a file, or `found`, or downloaded. Raises UsageError, in one
    line."""
    path = Path(weights) if weights else found(root) or download()
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _load(path, stamp, tensorflow, half, device)


@lru_cache(maxsize=2)
def _load(path: Path, stamp: int, tensorflow: bool, half: bool, device: str) -> Inception:
    weights = read(path)
    net = Inception(weights, key := content(weights), tensorflow, half, device)
    if key != KNOWN:
        print(
            f"metrics.fid: {path.name} holds other weights than those of 2015-12-05: the FID "
            "compares with nobody's",
            file=sys.stderr,
        )
    return net
