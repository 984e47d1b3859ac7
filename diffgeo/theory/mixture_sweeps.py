"""The experiments of theory/mixtures.py over their variables and over seeds: what `diffgeo theory
mixture` measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffgeo.theory import mixtures

EXPECTED = -0.5  # slope of every error against n


class Effort(NamedTuple):
    """Over which values of the variable, and over how many seeds at each."""

    values: Sequence[float]
    seeds: int


class Sweep(NamedTuple):
    """`measure(value, seed=)` -> {quantity: number} over values of the variable `label`."""

    label: str
    measure: Callable[..., dict[str, float]]
    quick: Effort
    full: Effort

    def effort(self, budget: str) -> Effort:
        """That of a budget, quick or full."""
        return {"quick": self.quick, "full": self.full}[budget]


def by_radius(radius: float, seed: int) -> dict[str, float]:
    """`softmax` against the length of the means; the likelihood is flat between near ones, and asks
    for longer steps."""
    lr = 0.1 if radius < 2 else 0.02
    return mixtures.softmax(radius=radius, seed=seed, deck=True, lr=lr)


SWEEPS: dict[str, tuple[Sweep, ...]] = {
    "pair": (
        Sweep(
            "n",
            mixtures.pair,
            quick=Effort((250, 1000, 4000, 16_000), 8),
            full=Effort((250, 1000, 4000, 16_000, 64_000), 8),
        ),
    ),
    "step": (
        Sweep(
            "t",
            mixtures.step,
            quick=Effort((0.02, 0.1, 0.5), 4),
            full=Effort((0.02, 0.1, 0.5), 16),
        ),
    ),
    "softmax": (
        Sweep(
            "R",
            by_radius,
            quick=Effort((6, 4, 2, 1), 1),
            full=Effort((6, 4, 2, 1), 4),
        ),
        Sweep(
            "n",
            mixtures.softmax,
            quick=Effort((500, 2000, 8000, 32_000), 1),
            full=Effort((500, 1000, 2000, 4000, 8000, 16_000, 32_000), 4),
        ),
    ),
}


class Found(NamedTuple):
    """What was measured over values of `label`: {quantity: [(mean over seeds, its standard
    error)]}; the error is nan for one seed."""

    label: str
    values: Sequence[float]
    curves: dict[str, list[tuple[float, float]]]
    seeds: int

    def slopes(self) -> dict[str, tuple[float, float]]:
        """Of every quantity against n, and its standard error; none for another label."""
        if self.label != "n":
            return {}
        found = {}
        for key, curve in self.curves.items():
            means = [mean for mean, _ in curve]
            relative = [error / mean for mean, error in curve]
            found[key] = slope(self.values, means), slope_error(self.values, relative)
        return found


def run(sweep: Sweep, budget: str, seed: int, seeds: int | None = None) -> Found:
    """Every value of a budget, quick or full, over its seeds from `seed` on, or over so many."""
    effort = sweep.effort(budget)
    count = effort.seeds if seeds is None else seeds
    curves: dict[str, list[tuple[float, float]]] = {}
    for value in effort.values:
        drawn = [sweep.measure(value, seed=seed + i) for i in range(count)]
        for key in drawn[0]:
            curves.setdefault(key, []).append(mean_of([one[key] for one in drawn]))
    return Found(sweep.label, effort.values, curves, count)


def mean_of(numbers: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, nan for one number."""
    values = np.array(numbers)
    if len(values) == 1:
        return float(values.mean()), math.nan
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def slope(n: Sequence[float], errors: Sequence[float]) -> float:
    """The least-squares slope of log error against log n."""
    return float(np.polyfit(np.log(n), np.log(errors), 1)[0])


def slope_error(n: Sequence[float], relative: Sequence[float]) -> float:
    """The standard error of that slope, from the relative ones of the errors, which are
    independent."""
    x = np.log(n) - np.mean(np.log(n))
    return float(np.sqrt(np.square(x * np.array(relative)).sum()) / np.square(x).sum())


def metrics(name: str, found: Sequence[Found]) -> dict[str, float]:
    """{NAME/quantity/label=value: mean} and {NAME/slope_quantity: slope}, each followed by its
    standard error, _se, where there are several seeds."""
    told: dict[str, float] = {}

    def put(key: str, value: float, error: float) -> None:
        told[key] = value
        if not math.isnan(error):
            told[f"{key}_se"] = error

    for one in found:
        for key, curve in one.curves.items():
            for value, (mean, error) in zip(one.values, curve, strict=True):
                put(f"{name}/{key}/{one.label}={value:g}", mean, error)
    for one in found:
        for key, (measured, error) in one.slopes().items():
            put(f"{name}/slope_{key}", measured, error)
    return told
