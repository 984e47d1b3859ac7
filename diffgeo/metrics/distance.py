"""Distance to the support: how far off the data manifold samples lie, d(x) = |x - project(x)|.

Says nothing of where along the support they lie: a cloud collapsed to one point of it scores 0.
Read it with the tangential W2 or the transport distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Data, Run
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points


@runtime_checkable
class Supported(Protocol):
    """A law whose support is known."""

    def distance(self, x: Tensor) -> Tensor: ...  # to it, [n]


@dataclass(frozen=True)
class Distance(Measure):
    """`distance/mean median q99` in data units, and `distance/below_<r>`, the share with d(x) <= r,
    for each radius r. {} where the support is not known."""

    below: Sequence[float] = (0.01, 0.05)

    cheap = True

    def steady(self, key: str, n: int) -> bool:
        return True

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not isinstance(data, Supported):
            return {}
        d = data.distance(points(run.samples)).double()
        report = {
            "distance/mean": float(d.mean()),
            "distance/median": float(d.quantile(0.5)),
            "distance/q99": float(d.quantile(0.99)),
        }
        for r in self.below:
            report[f"distance/below_{r:g}"] = float((d <= r).double().mean())
        return report
