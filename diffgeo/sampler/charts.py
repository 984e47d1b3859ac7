"""Schemes that step in a schedule's own time and chart, and the chart at the noise levels of a
grid: Python floats, remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch

from diffgeo.core import Chart
from diffgeo.sampler.base import ChartMethod
from diffgeo.schedule import OU

MOST = 8192  # levels remembered


class Level(NamedTuple):
    """A chart x_t = scale x at one noise level: dx_t = -beta x_t dt + sqrt(g2) dW there."""

    t: float
    scale: float
    beta: float
    g2: float
    integral: float  # int_0^sigma scale(s) d(s^2)


@dataclass(frozen=True, eq=False)
class Levels:
    """The chart at a noise level, remembered: the levels of a grid come back with every batch, and
    with every scheme of the chart."""

    chart: Chart
    known: dict[float, Level] = field(default_factory=dict)

    def __call__(self, sigma: float) -> Level:
        if sigma not in self.known:
            self.learn([sigma])
        return self.known[sigma]

    def learn(self, sigmas: Sequence[float]) -> None:
        """All of a grid at once: thirty operations on tensors, whatever their number is."""
        if len(self.known) > MOST:
            self.known.clear()
        chart = self.chart
        s = torch.tensor(sigmas, dtype=torch.float64)
        t = chart.t(s)
        columns = (t, chart.scale(s), chart.beta(t), chart.g2(t), chart.scale_integral(s))
        rows = torch.stack(columns, -1).tolist()
        for sigma, row in zip(sigmas, rows, strict=True):
            self.known[sigma] = Level(*row)


@lru_cache
def levels_of(chart: Chart) -> Levels:
    """The one memory of a chart."""
    return Levels(chart)


@dataclass(frozen=True)
class ChartScheme(ChartMethod):
    """A scheme in the time and chart of a schedule."""

    chart: Chart = OU()

    @cached_property
    def level(self) -> Levels:
        """The chart at a noise level."""
        return levels_of(self.chart)
