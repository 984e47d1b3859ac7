"""Two distances between clouds of features that assume no Gaussian.

    KID    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j),
           k(x, y) = (<x,y>/d + 1)^3

is unbiased at any n, unlike the FID, and may be negative (Binkowski, Sutherland, Arbel, Gretton
2018). As published and as in torch-fidelity it is the mean over 100 subsets of 1 000 images of each
side; the subsets are torch-fidelity's own (its seed).

    W2^2 = min over permutations p of 1/n sum_i |x_i - y_p(i)|^2,

exact, in feature space, is biased upwards: read it beside its floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffgeo.core import Data, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.features import OfFeatures, fewest, of_samples, of_truth, suffixed, training
from diffgeo.metrics.nets import FeatureNet
from diffgeo.metrics.transport import w2

SEED = 2020  # of the subsets: torch-fidelity's


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j), [n,d] and [m,d] -> float64 [n,m]; the inner products in the dtype of x."""
    return ((x @ y.mT).double() / x.shape[1] + 1) ** 3


def mmd2(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of MMD^2 from x [n,d] and y [m,d]."""
    between = polynomial(x, y).mean()
    return float(within(x) + within(y) - 2 * between)


def within(x: Tensor) -> Tensor:
    """mean_{i != j} k(x_i, x_j)."""
    k = polynomial(x, x)
    return (k.sum() - k.trace()) / (len(x) * (len(x) - 1))


def possible(n: int, m: int, subsets: int, size: int) -> tuple[int, int]:
    """The number and size of the subsets that n and m images have: a size above them is brought
    down, and a whole set is one subset."""
    size = min(size, n, m)
    if size == n == m:
        return 1, size
    return subsets, size


def kid(x: Tensor, y: Tensor, subsets: int = 100, size: int = 1000) -> tuple[float, float]:
    """Mean and deviation (ddof = 0) of MMD^2 over random subsets of x [n,d] and y [m,d], as many
    and as large as is `possible`."""
    subsets, size = possible(len(x), len(y), subsets, size)
    random = np.random.RandomState(SEED)
    values = np.empty(subsets)
    for k in range(subsets):
        of_x = random.choice(len(x), size, replace=False)
        of_y = random.choice(len(y), size, replace=False)
        values[k] = mmd2(x[torch.from_numpy(of_x)], y[torch.from_numpy(of_y)])
    return float(values.mean()), float(values.std())


@dataclass(frozen=True)
class KID(OfFeatures):
    """`kid` and `kid_sd`, over the subsets; `kid/lenet` and so on in other features.

    n: the most images on either side. As many true images as samples are drawn, or `size` where
        that is more.
    subsets, size: how many subsets, and of how many images.
    """

    features: str | FeatureNet = "inception"
    n: int = 10_000
    subsets: int = 100
    size: int = 1000

    def __post_init__(self):
        super().__post_init__()
        if self.n < self.LEAST or self.subsets < 1 or self.size < 2:
            raise UsageError(
                f"metrics.kid.n={self.n} subsets={self.subsets} size={self.size}: give n from "
                f"{self.LEAST}, subsets from 1, size from 2"
            )

    def counts(self, run: Run, data: Data) -> tuple[int, int]:
        """How many samples and how many training images."""
        n = min(self.n, len(run.samples))
        return n, min(max(n, self.size), len(training(data).images))

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(data, run, say=True):
            return {}
        net = self.net(data)
        n, true = self.counts(run, data)
        x = of_samples(net, run, data, n)
        y = of_truth(net, data, true)
        value, sd = kid(x, y, self.subsets, self.size)
        key = suffixed("kid", net)
        return {key: value, f"{key}_sd": sd}

    def describe(self, run: Run, data: Data) -> dict:
        if not self.applies(data, run):
            return {}
        n, true = self.counts(run, data)
        subsets, size = possible(n, true, self.subsets, self.size)
        return self.facts(self.net(data), run, data, n) | {
            "true": true,
            "subsets": subsets,
            "size": size,
            "published": {"subsets": 100, "size": 1000},
        }


@dataclass(frozen=True)
class FeatureW2(OfFeatures):
    """`w2` in feature space, or `w2/lenet`, of the first n samples against n training images; in
    units of the features."""

    features: str | FeatureNet = "inception"
    n: int = 1000

    def __post_init__(self):
        super().__post_init__()
        if self.n < self.LEAST:
            raise UsageError(f"metrics.w2.n={self.n}: give n from {self.LEAST}")

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(data, run, say=True):
            return {}
        net = self.net(data)
        n = fewest(self.n, run, data)
        x = of_samples(net, run, data, n)
        y = of_truth(net, data, n)
        return {suffixed("w2", net): w2(x.double().numpy(), y.double().numpy())}

    def describe(self, run: Run, data: Data) -> dict:
        if not self.applies(data, run):
            return {}
        n = fewest(self.n, run, data)
        return self.facts(self.net(data), run, data, n) | {"true": n}
