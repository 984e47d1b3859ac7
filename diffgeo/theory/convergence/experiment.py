"""What every experiment shares: the setting, the grids, and the record that a family of experiments
returns.

The setting is the theory's: dx_t = -x_t dt + sqrt 2 dW, that is VP with g^2 = 2, from p_0 at t = 0
to T = 6; eigenvalues 1/4, 1/2, 2, 4 in equal shares of d, so the scores of all p_t are L =
4-Lipschitz. A rate is the least-squares slope of ln(error) against ln(x), or against x where the
law is exponential.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Sampler, Step
from diffgeo.schedule import VP
from diffgeo.schedule.spacing import ExponentialDecay, Power, Spacing
from diffgeo.theory import gaussian
from diffgeo.theory.distances import Law
from diffgeo.theory.gaussian import Spectrum

TILED = (0.25, 0.5, 2.0, 4.0)
SMOOTHNESS = 4.0
HORIZON = 6.0


@dataclass(frozen=True)
class Series:
    """One quantity against x: its values, the exponent that the theory states (None where it states
    none), and the one measured.

    bound: the stated rate is the theorem's upper bound, which the law at hand does not attain.
    noise: what sampling alone makes of a distance 0; 0 where the values are exact.
    """

    key: str
    title: str
    values: tuple[float, ...]
    expected: float | None = None
    measured: float | None = None
    bound: bool = False
    noise: float = 0.0


@dataclass(frozen=True)
class Experiment:
    """One panel: quantities against one variable, and what the reader must know not to read too
    much into them."""

    name: str  # FAMILY/VARIABLE: the prefix of its keys in metrics.json
    title: str
    axis: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    note: str = ""
    exponential: bool = False  # rates are per unit of x, not powers of x

    def metrics(self) -> dict[str, float]:
        """{NAME/KEY@X: value, NAME/KEY_slope: measured, NAME/KEY_expected: expected}."""
        values = {}
        measured = {}
        expected = {}
        for s in self.series:
            key = f"{self.name}/{s.key}"
            for x, value in zip(self.x, s.values, strict=True):
                values[f"{key}@{x:g}"] = value
            if s.measured is not None:
                measured[f"{key}_slope"] = s.measured
            if s.expected is not None:
                expected[f"{key}_expected"] = s.expected
        return values | measured | expected

    def panel(self) -> dict:
        """What a picture of it shows, as keywords of `plot.convergence.panel`. Labels name the
        measured slope, and the stated one in brackets."""
        lines = {}
        for s in self.series:
            label = s.title
            if s.measured is not None:
                label += f": {s.measured:.2f} ({s.expected:g})"
            lines[label] = (s.values, s.expected, s.noise)
        return {
            "title": f"{self.name}: {self.title}",
            "axis": self.axis,
            "x": self.x,
            "lines": lines,
            "exponential": self.exponential,
        }


def slope(x: Sequence[float], y: Sequence[float], exponential: bool = False) -> float:
    """The least-squares slope of ln y against ln x (against x where exponential)."""
    a = torch.as_tensor(x, dtype=torch.float64)
    if not exponential:
        a = a.log()
    b = torch.as_tensor(y, dtype=torch.float64).log()
    a = a - a.mean()
    return float((a * b).sum() / a.square().sum())


def series(
    key: str,
    title: str,
    x: Sequence[float],
    y: Sequence[float],
    expected: float | None = None,
    exponential: bool = False,
    last: int = 0,
    fitted: bool = True,
    **more,
) -> Series:
    """A Series with its slope measured over all x or over the `last` ones; without one where not
    fitted."""
    measured = slope(x[-last:], y[-last:], exponential) if fitted else None
    return Series(key, title, tuple(map(float, y)), expected, measured, **more)


def powers(first: float, ratio: float, count: int) -> list[float]:
    """first, first ratio, first ratio^2, ..., in decimals."""
    return [float(f"{first * ratio**k:.12g}") for k in range(count)]


def chart(horizon: float = HORIZON, stop: float = 0.0, spacing: Spacing = Power()) -> VP:
    """x_t = e^-t x0 + sqrt(1 - e^-2t) eps, sigma^2 = e^2t - 1."""
    return VP(t_min=stop, t_max=horizon, beta_min=2.0, beta_max=2.0, spacing=spacing)


def tiled(d: float, values: Sequence[float] = TILED) -> Spectrum:
    """A Gaussian in d dimensions with equal shares of the eigenvalues `values`."""
    return Spectrum(torch.tensor(values), torch.full((len(values),), d / len(values)))


def uniform(steps: int, stop: float = 0.0, horizon: float = HORIZON) -> Tensor:
    """Times [steps+1] from the horizon down to `stop`, equally spaced, both exactly."""
    times = torch.linspace(horizon, stop, steps + 1, dtype=torch.float64)
    times[-1] = stop
    return times


def decaying(steps: int, stop: float, horizon: float = HORIZON) -> Tensor:
    """Times [steps+1] with steps h_k <= kappa min(1, t_k): uniform from the horizon to 1, geometric
    from 1 to `stop` (ExponentialDecay).

    Raises UsageError on stop <= 0, which no geometric grid reaches.
    """
    path = chart(horizon, stop, ExponentialDecay())
    times = path.level(path.spacing.fractions(path, steps + 1))
    times[0] = horizon
    times[-1] = stop
    return times


def sampler(name: str) -> Sampler:
    """A scheme of theory.gaussian in the setting's chart."""
    return gaussian.SCHEMES[name](chart())


def final(run: Iterator[Step]) -> Tensor:
    """The last state of a run."""
    (step,) = deque(run, maxlen=1)
    return step.x


def end(spectrum: Spectrum, sampler: Sampler, times: Tensor) -> Law:
    """The law, in the chart, at the last time of a run from N(0, I) down `times`."""
    path = chart(float(times[0]))
    laws = gaussian.discrete(spectrum, path, {"": sampler}, path.sigma(times), starts=("N_0",))
    return laws["", "N_0"]
