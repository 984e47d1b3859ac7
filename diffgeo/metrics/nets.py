"""Feature nets: what looks at images before a metric does.

A feature net maps uint8 images [B,C,H,W] to float32 vectors [B,d]; `key` identifies its weights and
how it reads images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Pictures
from diffgeo.errors import UsageError

# more coordinates than this are pooled first: their covariance would cost more than it tells
PIXELS = 1024


@runtime_checkable
class FeatureNet(Protocol):
    """What a user may give for a feature net: anything that looks at images."""

    def __call__(self, images: Tensor, /) -> Tensor: ...  # uint8 [B,C,H,W] -> [B,d]


@runtime_checkable
class Features(Protocol):
    @property
    def name(self) -> str: ...  # as in metrics.fid.features
    @property
    def key(self) -> str: ...  # hash of the weights and of the way that images are read
    @property
    def batch(self) -> int: ...  # images at a time

    def __call__(self, images: Tensor) -> Tensor: ...  # uint8 [B,C,H,W] -> float32 [B,d]


@dataclass(frozen=True)
class Pixels:
    """The image itself in [-1, 1], flattened.

    Above 1 024 coordinates it is first averaged over the smallest squares, of 2 x 2, 3 x 3, ...
    pixels, that leave no more: CIFAR-10 is seen at 16 x 16, CelebA at 16 x 16 too.
    """

    name: str = "pixels"
    batch: int = 1000

    @property
    def key(self) -> str:
        return f"pixels-{PIXELS}"

    def __call__(self, images: Tensor) -> Tensor:
        x = images.float() / 127.5 - 1
        channels, height, width = x.shape[1:]
        side = 1
        while channels * (height // side) * (width // side) > PIXELS:
            side += 1
        if side > 1:
            x = F.avg_pool2d(x, side)
        return x.flatten(1)


def device_of(word: str) -> str:
    """The device that an option names: auto is the GPU when there is one. Raises UsageError for one
    that torch does not have."""
    if word == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=word)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"metrics.*.device={word} is not available here; write auto, cpu or cuda"
        ) from error
    return word


@dataclass(frozen=True)
class Wanted:
    """How a metric wants its feature net. The fields are those of `OfFeatures`."""

    weights: str | None
    resize: str
    half: bool
    device: str


def inception(data: Pictures, wanted: Wanted) -> Features:
    from diffgeo.metrics.inception import load

    return load(data.root, wanted.weights, wanted.resize, wanted.half, wanted.device)


def lenet(data: Pictures, wanted: Wanted) -> Features:
    from diffgeo.metrics.lenet import load

    if data.picture[0] != 1:
        raise UsageError(
            f"LeNet features are of grey images, {data.name} are in colour: "
            "write metrics.fid.features=pixels or metrics.fid.features=inception"
        )
    return load(wanted.device)


def pixels(data: Pictures, wanted: Wanted) -> Features:
    return Pixels()


NETS: dict[str, Callable[[Pictures, Wanted], Features]] = {
    "inception": inception,
    "lenet": lenet,
    "pixels": pixels,
}
