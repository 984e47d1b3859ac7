"""Memorization: how many samples are copies of training images.

With d1 <= d2 the Euclidean distances from a sample, in pixel space, to its nearest and second
nearest training image, the sample is called a copy when d1 < d2/3 (Yoon et al. 2023, Diffusion
probabilistic models generalize when they fail to memorize; Gu et al. 2023, On memorization in
diffusion models): much nearer to one image than images are to each other. The ratio knows no scale,
so smooth images, which are near to everything, do not pass for copies. An image that the set holds
twice would hide its own copies (d1 = d2): equal images count once, and so do an image and its
mirror image where the law has both.

A sample of the exact denoiser is a copy; a held-out image seldom is, and what it scores (`_test`)
is the value to compare with.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data, ImageSet, Pictures, Run, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.features import training
from diffgeo.metrics.nets import device_of


def distinct(images: Tensor, flip: bool = False) -> Tensor:
    """Numbers of the first of each group of equal images, increasing, int64 [M]; with `flip`,
    mirror images are equal.

    Equal means equal 64-bit sums sum_j r_j a_j mod 2^64 with random r: two different images agree
    with probability near 2^-64.
    """
    g = generator(0, *b"distinct")
    random = torch.randint(-(2**62), 2**62, images.shape[1:], generator=g).to(images.device)
    key = digest(images, random)
    if flip:
        key = torch.minimum(key, digest(images, random.flip(-1)))
    numbers = torch.arange(len(images), device=images.device)
    _, group = key.unique(return_inverse=True)
    none = numbers.new_full((int(group.max()) + 1,), len(images))
    first = none.scatter_reduce(0, group, numbers, "amin")
    return first.sort().values


def digest(images: Tensor, factors: Tensor) -> Tensor:
    """sum_j factors_j a_j mod 2^64 of each image, int64 [N]."""
    blocks = images.split(512)
    return torch.cat([(block.long() * factors).sum((1, 2, 3)) for block in blocks])


@dataclass(frozen=True)
class Memorization(Measure):
    """`memorization/ratio`, the share of the first n samples that are copies (d1 < d2/3), and
    `memorization/nearest`, the mean of d1/sqrt(dimension), a root-mean-square distance per
    coordinate in the units of x0; both also with `_test`, for n held-out real images.

    device: auto takes the GPU when there is one. A thousand samples against CIFAR-10 take 3e11
        operations.

    {} for laws without images.
    """

    n: int = 1000
    device: str = "auto"

    floors = False  # a fresh true sample is a training image: ratio 1, distance 0

    def __post_init__(self):
        if self.n < 1:
            raise UsageError(f"metrics.memorization.n={self.n}: look at 1 sample or more")

    def prepare(self, data: Data, n: int) -> None:
        """Say that pictures of no set have nothing to be copies of."""
        if isinstance(data, Pictures) and not isinstance(data, ImageSet):
            print("left out: a Memorization needs training images", file=sys.stderr)

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not isinstance(data, ImageSet):
            return {}
        law = training(data)
        device = device_of(self.device)
        columns = distinct(law.images, law.flip).to(device)
        if len(columns) < 2:  # nothing to be the second nearest
            return {}
        clouds = {"": data.quantize(run.samples[: self.n])}
        held_out = law.other()
        if held_out is not None:
            g = generator(run.seed, *b"memorization")
            pick = torch.randperm(len(held_out.images), generator=g)[: self.n]
            clouds["_test"] = held_out.images[pick]
        report = {}
        for part, images in clouds.items():
            distances, _ = law.denoiser().nearest(images.to(device), 2, columns)
            first, second = distances.unbind(1)
            report["memorization/ratio" + part] = float((first < second / 3).double().mean())
            report["memorization/nearest" + part] = float(first.mean())
        return report

    def describe(self, run: Run, data: Data) -> dict:
        """The set, how many samples, the rule."""
        if not isinstance(data, ImageSet):
            return {}
        n = min(self.n, len(run.samples))
        rule = "d1 < d2/3 in pixels, equal images once"
        return {"n": n, "seed": run.seed, "set": training(data).key, "rule": rule}
