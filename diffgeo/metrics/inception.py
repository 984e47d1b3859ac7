"""Inception-v3 features for FID: the graph of 2015-12-05, 2048 averages of its last layer, made
fast for inference.

The graph is torch-fidelity's (Szegedy et al. 2016, as TensorFlow's FID script had it: average pools
that leave padding out of their mean, a max pool in the last block). Four identities make it
quicker, and none changes a feature beyond rounding:

    batch normalization     g (W*x - m)/sqrt(v + e) + b  is one convolution with W g/sqrt(v + e)
                            and b - m g/sqrt(v + e)
    1 x 1 heads             the branches of a block that begin with a 1 x 1 convolution of the same
                            x are one, split afterwards
    pooled branch           an average and a 1 x 1 convolution commute, so that the average is taken
                            over fewer channels
    resize                  bilinear scaling to 299 x 299 is A x B^T with two sparse matrices: two
                            GEMMs an image, exact at any size

Resizes: `tensorflow` reads pixel i at i h/299 and clamps at the border, (p - 128)/128
(torch-fidelity; EDM's and StyleGAN's pickle writes the same as a grid_sample); `pytorch_fid` reads
it at (i + 1/2) h/299 - 1/2, 2 p/255 - 1 (F.interpolate, pytorch-fid 0.3); `clean` is Pillow's
bicubic with antialiasing, unrounded, kept in 0..255, (p - 128)/128 (clean-fid; Parmar, Zhang, Zhu
2022).
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.metrics.inception_weights import KNOWN, content, download, found, read

SIDE = 299
EPS = 1e-3
CONVOLUTIONS = 94
NORMALIZATION = ("weight", "bias", "running_mean", "running_var")  # of a layer's `bn`
# branches that begin with a 1 x 1 convolution of the block's x, where theirs is one
HEADS = (
    "branch1x1",
    "branch5x5_1",
    "branch3x3_1",
    "branch7x7_1",
    "branch3x3dbl_1",
    "branch7x7dbl_1",
    "branch7x7x3_1",
    "branch_pool",
)


RESIZES = ("tensorflow", "pytorch_fid", "clean")


def scaling(size: int, resize: str = "tensorflow") -> Tensor:
    """A [299,size] of the interpolation `resize`, float32; rows sum to 1."""
    if resize == "clean":
        return bicubic(size)
    if resize == "pytorch_fid":
        one = torch.eye(size)[None]
        scaled = F.interpolate(one, size=SIDE, mode="linear", align_corners=False)
        return scaled[0].T.contiguous()
    at = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(size / SIDE, dtype=torch.float32)
    low = at.long()
    rows = torch.arange(SIDE)
    a = torch.zeros(SIDE, size)
    a[rows, low] = 1 - (at - low)
    a[rows, (low + 1).clamp(max=size - 1)] += at - low
    return a


def bicubic(size: int) -> Tensor:
    """A [299,size] of Keys' cubic kernel with a = -1/2, as wide as the reduction asks for, cut at
    the border and normalized there: Pillow's BICUBIC, float32; rows sum to 1."""
    scale = size / SIDE
    width = max(scale, 1.0)  # the kernel widens where there are fewer pixels afterwards
    centre = (torch.arange(SIDE, dtype=torch.float64) + 0.5) * scale
    first = (centre - 2 * width + 0.5).trunc().clamp(min=0)
    last = (centre + 2 * width + 0.5).trunc().clamp(max=size)
    pixel = torch.arange(size, dtype=torch.float64)
    inside = (pixel >= first[:, None]) & (pixel < last[:, None])
    d = ((pixel + 0.5 - centre[:, None]) / width).abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    kernel = torch.where(d < 1, near, torch.where(d < 2, far, 0.0)) * inside
    return (kernel / kernel.sum(1, keepdim=True)).float()


Layer = tuple[Tensor, Tensor]  # weight [o,i,h,w], bias [o]


def folded(weights: dict[str, Tensor]) -> dict[str, Layer]:
    """Convolutions with their batch normalization, by name, float32. Raises UsageError where one
    lacks."""
    layers = {}
    for key in weights:
        name = key.removesuffix(".conv.weight")
        if name == key:
            continue
        for part in NORMALIZATION:
            if f"{name}.bn.{part}" not in weights:
                raise UsageError(
                    f"these are no weights of FID's Inception-v3: {name}.bn.{part} is not there"
                )
        gamma, beta, mean, variance = (weights[f"{name}.bn.{k}"].double() for k in NORMALIZATION)
        scale = gamma / (variance + EPS).sqrt()
        weight = weights[key].double() * scale[:, None, None, None]
        layers[name] = weight.float(), (beta - mean * scale).float()
    if len(layers) != CONVOLUTIONS:
        raise UsageError(
            f"these are no weights of FID's Inception-v3: {len(layers)} convolutions named like "
            f"Conv2d_1a_3x3.conv.weight, not {CONVOLUTIONS}"
        )
    return layers


def heads(layers: dict[str, Layer]) -> dict[str, list[Layer]]:
    """Of each block, the 1 x 1 convolutions of its x."""
    found = {}
    for block in sorted({name.split(".")[0] for name in layers if "." in name}):
        names = [f"{block}.{branch}" for branch in HEADS]
        if block == "Mixed_7c":
            # behind a max pool, which commutes with nothing
            names.remove("Mixed_7c.branch_pool")
        there = [layers[name] for name in names if name in layers]
        found[block] = [(weight, bias) for weight, bias in there if weight.shape[2] == 1]
    return found


class Inception:
    """Features [B,2048] of uint8 images [B,C,H,W], C = 1 or 3 (grey is repeated), any size. half:
    in float16, on a GPU only."""

    name = "inception"

    def __init__(
        self,
        weights: dict[str, Tensor],
        key: str = "",
        resize: str = "tensorflow",
        half: bool = False,
        device: str = "cpu",
    ):
        """weights: of torch-fidelity's module, by its names; `fc` is not used. Raises UsageError
        where one lacks."""
        self.resize = resize
        self.device = torch.device(device)
        on_gpu = self.device.type == "cuda"
        self.dtype = torch.float16 if half and on_gpu else torch.float32
        self.batch = 256 if on_gpu else 16
        self.key = f"inception-{key}-{resize}-{str(self.dtype).removeprefix('torch.')}"
        layers = folded(weights)
        self.sizes: dict[str, list[int]] = {}  # of the heads of a block, in channels
        for block, parts in heads(layers).items():
            weight, bias = (torch.cat(together) for together in zip(*parts, strict=True))
            layers[block] = weight, bias
            self.sizes[block] = [len(bias) for _, bias in parts]
        self.layers = {name: self.placed(*layer) for name, layer in layers.items()}
        self.scalings: dict[int, Tensor] = {}

    def placed(self, weight: Tensor, bias: Tensor) -> Layer:
        """A layer where it is used, as convolutions want it."""
        weight = weight.to(self.device, self.dtype, memory_format=torch.channels_last)
        return weight, bias.to(self.device, self.dtype)

    def conv(self, x: Tensor, name: str, stride: int = 1, pad: bool = True) -> Tensor:
        """relu of a convolution, padded to keep the size."""
        weight, bias = self.layers[name]
        padding = [k // 2 if pad else 0 for k in weight.shape[2:]]
        return F.conv2d(x, weight, bias, stride, padding).relu_()

    def heads(self, x: Tensor, block: str, pooled: bool = True) -> list[Tensor]:
        """The 1 x 1 convolutions of x at the head of a block, relu taken; the last one averaged
        over 3 x 3 before, when `pooled`."""
        *parts, last = F.conv2d(x, *self.layers[block]).split(self.sizes[block], 1)
        if pooled:
            last = F.avg_pool2d(last, 3, 1, 1, count_include_pad=False)
        return [F.relu(part) for part in (*parts, last)]

    def chain(self, x: Tensor, block: str, *names: str) -> Tensor:
        for name in names:
            x = self.conv(x, f"{block}.{name}")
        return x

    # the five kinds of blocks, A to E as torchvision has them

    def a(self, x: Tensor, block: str) -> Tensor:
        one, five, three, pool = self.heads(x, block)
        five = self.chain(five, block, "branch5x5_2")
        three = self.chain(three, block, "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat([one, five, three, pool], 1)

    def b(self, x: Tensor, block: str) -> Tensor:
        double = self.chain(x, block, "branch3x3dbl_1", "branch3x3dbl_2")
        three = self.conv(x, f"{block}.branch3x3", 2, False)
        double = self.conv(double, f"{block}.branch3x3dbl_3", 2, False)
        return torch.cat([three, double, F.max_pool2d(x, 3, 2)], 1)

    def c(self, x: Tensor, block: str) -> Tensor:
        one, seven, double, pool = self.heads(x, block)
        seven = self.chain(seven, block, "branch7x7_2", "branch7x7_3")
        double = self.chain(double, block, *(f"branch7x7dbl_{i}" for i in (2, 3, 4, 5)))
        return torch.cat([one, seven, double, pool], 1)

    def d(self, x: Tensor, block: str) -> Tensor:
        three, seven = self.heads(x, block, pooled=False)
        seven = self.chain(seven, block, "branch7x7x3_2", "branch7x7x3_3")
        three = self.conv(three, f"{block}.branch3x3_2", 2, False)
        seven = self.conv(seven, f"{block}.branch7x7x3_4", 2, False)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, block: str, last: bool = False) -> Tensor:
        """last: a max pool in the place of the average."""
        if last:
            one, three, double = self.heads(x, block, pooled=False)
            pool = self.conv(F.max_pool2d(x, 3, 1, 1), f"{block}.branch_pool")
        else:
            one, three, double, pool = self.heads(x, block)
        double = self.chain(double, block, "branch3x3dbl_2")
        fork = [
            self.conv(three, f"{block}.branch3x3_2a"),
            self.conv(three, f"{block}.branch3x3_2b"),
            self.conv(double, f"{block}.branch3x3dbl_3a"),
            self.conv(double, f"{block}.branch3x3dbl_3b"),
        ]
        return torch.cat([one, *fork, pool], 1)

    def scaled(self, images: Tensor) -> Tensor:
        """uint8 [B,C,H,W] -> [B,3,299,299], normalized."""
        x = images.to(self.device).float()
        for size in x.shape[2:]:
            if size not in self.scalings:
                self.scalings[size] = scaling(size, self.resize).to(self.device)
        rows, columns = (self.scalings[size] for size in x.shape[2:])
        if self.resize == "clean":  # which overshoots at edges
            x = ((rows @ (x @ columns.mT)).clamp(0, 255) - 128) / 128
        else:
            x = x / 127.5 - 1 if self.resize == "pytorch_fid" else (x - 128) / 128
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


def load(
    root: Path | str | None, weights: str | None, resize: str, half: bool, device: str
) -> Inception:
    """Inception with the weights of a file, or `found`, or downloaded. Raises UsageError, in one
    line."""
    path = Path(weights) if weights else found(root) or download()
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _load(path, stamp, resize, half, device)


@lru_cache(maxsize=2)
def _load(path: Path, stamp: int, resize: str, half: bool, device: str) -> Inception:
    weights = read(path)
    key = content(weights)
    net = Inception(weights, key, resize, half, device)
    if key != KNOWN:
        print(
            f"metrics.fid: {path.name} holds other weights than those of 2015-12-05: the FID "
            "compares with nobody's",
            file=sys.stderr,
        )
    return net
