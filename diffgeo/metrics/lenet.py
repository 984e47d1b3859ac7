"""Features of MNIST-like images: the penultimate layer of a small convolutional classifier of grey
28 x 28 images.

    side        28  14  14   7   4    by 3 x 3 convolutions and relu; then 64 linear features, relu,
    channels    16  32  32  64  64    ten logits

The shipped weights are those of scripts/train_lenet.py on MNIST's 60 000 training images, in
float16 with batch normalization folded in (LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998, for the
idea). The 64 features are taken before their relu, so that none is constant and their covariance is
regular. Distances are comparable under the same weights only: `key` tells.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffgeo.errors import DiffgeoError

WEIGHTS = Path(__file__).parent.parent / "assets" / "lenet.safetensors"
SIDE = 28
# channels in, channels out, stride
LAYERS = ((1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 2))


class LeNet(nn.Module):
    """x [B,1,28,28] in [-1, 1] -> logits [B,10]; `features` are the 64 before them.

    normalized: with batch normalization, to be trained.
    """

    def __init__(self, normalized: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out, stride in LAYERS:
            normalization = nn.BatchNorm2d(channels_out) if normalized else nn.Identity()
            convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
            layers += [convolution, normalization, nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.penultimate = nn.Linear(64 * 4 * 4, 64)
        self.last = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.penultimate(self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.features(x)))

    def folded(self) -> LeNet:
        """The same function of a trained net in evaluation, without batch normalization."""
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        plain = LeNet()
        head = {k: v for k, v in self.state_dict().items() if not k.startswith("body.")}
        plain.load_state_dict(head, strict=False)
        for i in range(0, 3 * len(LAYERS), 3):
            plain.body[i] = fuse_conv_bn_eval(self.body[i].eval(), self.body[i + 1].eval())
        return plain.eval()


def read(images: Tensor) -> Tensor:
    """uint8 grey images [B,1,H,W] as LeNet wants them: bilinearly 28 x 28, averaged where that
    shrinks them, in [-1, 1]."""
    x = images.float() / 127.5 - 1
    size = (SIDE, SIDE)
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


class Shipped:
    """The `Features` of the shipped weights."""

    name = "lenet"
    batch = 500

    def __init__(self, device: str):
        from safetensors.torch import load_file

        try:
            weights = load_file(WEIGHTS)
            self.net = LeNet().eval()
            self.net.load_state_dict({name: value.float() for name, value in weights.items()})
        except Exception as error:  # safetensors and load_state_dict raise half a dozen kinds
            raise DiffgeoError(
                f"{WEIGHTS} cannot be read: {str(error).splitlines()[0]}; install diffgeo again"
            ) from error
        self.key = "lenet-" + hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]
        self.device = device
        self.net.to(device, memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        return self.net.features(read(images.to(self.device)))


@lru_cache
def load(device: str = "cpu") -> Shipped:
    """LeNet with the shipped weights. Raises DiffgeoError when they are missing or damaged."""
    return Shipped(device)
