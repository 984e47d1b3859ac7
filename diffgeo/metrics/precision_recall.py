"""Precision and recall of a cloud of features (Kynkaanniemi, Karras, Laine, Lehtinen, Aila 2019).

The support of a cloud is taken to be the union of balls about its points, each out to the point's
k-th nearest neighbour, k = 3:

    precision = share of generated points in the support of the true ones,
    recall    = share of true points in that of the generated.

Both depend on n; compare at equal n only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.features import OfFeatures, fewest, of_samples, of_truth, suffixed
from diffgeo.metrics.nets import FeatureNet

BLOCK = 1000  # rows of a distance matrix at a time: 40 MB against 10 000


def radii(x: Tensor, k: int) -> Tensor:
    """The distance from each of x [n,d], n > k, to its k-th nearest neighbour among the others."""
    parts = []
    for rows in x.split(BLOCK):
        d = torch.cdist(rows, x)
        parts.append(d.kthvalue(k + 1).values)  # the first is the point itself
    return torch.cat(parts)


def precision_recall(generated: Tensor, true: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision and recall of generated [n,d] against true [m,d] features. Memory: a matrix of
    BLOCK x max(n,m)."""
    about_true = radii(true, k)
    about_generated = radii(generated, k)
    precise = []
    covered = torch.zeros(len(true), dtype=torch.bool)
    for rows, radius in zip(generated.split(BLOCK), about_generated.split(BLOCK), strict=True):
        d = torch.cdist(rows, true)
        precise.append((d <= about_true).any(1))
        covered |= (d <= radius[:, None]).any(0)
    return float(torch.cat(precise).double().mean()), float(covered.double().mean())


@dataclass(frozen=True)
class PrecisionRecall(OfFeatures):
    """`precision` and `recall`, `precision/lenet` and so on in other features. n: the most images
    on either side; k: the neighbour."""

    features: str | FeatureNet = "inception"
    n: int = 10_000
    k: int = 3

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.k < self.LEAST or self.n < self.LEAST:
            raise UsageError(
                f"metrics.precision.k={self.k} n={self.n}: give k from 1 to {self.LEAST - 1} and n "
                f"from {self.LEAST}"
            )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(data, run, say=True):
            return {}
        net = self.net(data)
        n = fewest(self.n, run, data)
        generated = of_samples(net, run, data, n)
        true = of_truth(net, data, n)
        precision, recall = precision_recall(generated, true, self.k)
        return {suffixed("precision", net): precision, suffixed("recall", net): recall}

    def describe(self, run: Run, data: Data) -> dict:
        if not self.applies(data, run):
            return {}
        n = fewest(self.n, run, data)
        return self.facts(self.net(data), run, data, n) | {"true": n, "k": self.k}
