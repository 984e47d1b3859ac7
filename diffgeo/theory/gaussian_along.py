"""The errors of sampling a Gaussian along the integration: W2 to p_t at every time on the way.

The formulas of theory/gaussian.py hold at any time t between T and the end, so what the last row of
a table says of the end is a curve. From N(0, I) at T, in each eigen-direction,

    SDE    Var y_t = lambda^t + G_t^2 (1 - lambda^T),      G_t = scale_T/scale_t lambda^t/lambda^T
    ODE    Var y_t = lambda^t / lambda^T,

which is the initialization error alone. G_t goes to 0 with the noise that is drawn after T: the SDE
forgets where it began, and has its least error on the way; the ODE keeps it and is at its worst at
the end. A sampler's own law after k of its steps has the discretization in it as well: its step,
read as a linear map (theory/linear.py), carries variance and mean from level to level.

Source: the left figure of the deck to Pierret and Galerne, "Diffusion models for Gaussian
distributions: exact solutions and Wasserstein errors" (2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Chart, Sampler
from diffgeo.errors import UsageError
from diffgeo.theory import linear
from diffgeo.theory.distances import Law, w2
from diffgeo.theory.gaussian import (
    STARTS,
    Spectrum,
    continuous,
    initial,
    moment,
    tables_of,
    true,
)
from diffgeo.theory.learned import Draws, spread
from diffgeo.theory.linear import Dependent

KINDS = {"SDE": True, "ODE": False}  # whether it draws noise


class Curve(NamedTuple):
    """W2 to p_t on the way of one run.

    name: a scheme, or SDE or ODE of the exact dynamics.    start: p_T or N_0.
    points: of the scheme's grid; None: of the exact dynamics, which have no grid.
    t: the times [K+1], decreasing.    w2: to p_t at each, in data units of the chart [K+1].
    deviation: of one draw of a random error [K+1]; None where the error is not drawn.
    """

    name: str
    start: str
    points: int | None
    t: Tensor
    w2: Tensor
    deviation: Tensor | None = None

    def nearest(self, t: float) -> int:
        """The number of the point that is nearest to a time."""
        return int((self.t - t).abs().argmin())


def exact(spectrum: Spectrum, chart: Chart, times: Tensor, start: str = "N_0") -> list[Curve]:
    """The exact SDE and ODE from `start` at the times [K+1], decreasing from T to 0 or above.

    Raises UsageError on times outside of [0, T], on another start than p_T and N_0.
    """
    found = []
    for name, stochastic in KINDS.items():
        errors = []
        for t in times.tolist():
            goal = true(spectrum, chart, t)
            law = initial(spectrum, chart, start)
            if t != chart.t_max:
                law = continuous(spectrum, chart, t, start, stochastic)
            errors.append(w2(law, goal, spectrum.counts))
        values = torch.tensor(errors, dtype=torch.float64)
        found.append(Curve(name, start, None, times, values))
    return found


def schemes(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    sigmas: Tensor,
    starts: Sequence[str] = STARTS,
    error: Dependent | Draws = 0.0,
) -> list[Curve]:
    """The law of each sampler after each of its steps down the levels `sigmas` [K+1], from each
    start, against p_t.

    error: the relative error of the score; of several draws of a random one, w2 is their mean.
    Raises UsageError on another start than p_T and N_0, on a sampler without a law in closed form.
    """
    draws = len(error.errors) if isinstance(error, Draws) else 1
    relative = error.errors.flatten() if isinstance(error, Draws) else error
    k = len(spectrum.values)
    wide = spectrum
    if draws > 1:  # every draw at once, as so many more eigenvalues
        mean = None if spectrum.mean is None else spectrum.mean.repeat(draws)
        wide = Spectrum(spectrum.values.repeat(draws), None, mean)
    t = chart.t(sigmas)
    t[0] = chart.t_max
    begun = [initial(wide, chart, start) for start in starts]
    variance = torch.stack([law.variance for law in begun])
    mean = None if wide.mean is None else torch.stack([law.mean for law in begun])
    centre = None if mean is None else moment(wide)
    scales = chart.scale(sigmas).tolist()
    c = linear.gain(wide.values, relative)
    tables = tables_of(chart, samplers, sigmas)
    first = linear.start(variance / scales[0] ** 2, None if mean is None else mean / scales[0])
    states = [first] * len(tables)
    errors = torch.empty(len(tables), len(begun), len(t), draws, dtype=torch.float64)
    for step, time in enumerate(t.tolist()):
        goal = true(spectrum, chart, time)
        for i in range(len(tables)):
            if step > 0:
                states[i] = linear.advance(tables[i][step - 1], c, states[i], centre)
            for j in range(len(begun)):
                laws = in_chart(states[i], scales[step], j, draws, k)
                found = [w2(law, goal, spectrum.counts) for law in laws]
                errors[i, j, step] = torch.tensor(found, dtype=torch.float64)
    return [
        curve_of(name, start, t, errors[i, j])
        for i, name in enumerate(samplers)
        for j, start in enumerate(starts)
    ]


def in_chart(state: linear.State, scale: float, start: int, draws: int, k: int) -> list[Law]:
    """The laws of x_t of one start, one for each draw of the error."""
    variances = (scale**2 * state.variance[start]).view(draws, k)
    if state.mean is None:
        return [Law(variance) for variance in variances]
    means = (scale * state.mean[0, start]).view(draws, k)
    return [Law(v, m) for v, m in zip(variances, means, strict=True)]


def curve_of(name: str, start: str, t: Tensor, errors: Tensor) -> Curve:
    """A curve of the errors [K+1,draws]."""
    if errors.shape[1] == 1:
        return Curve(name, start, len(t), t, errors[:, 0])
    both = [spread(row.tolist()) for row in errors]
    means, deviations = torch.tensor(both, dtype=torch.float64).unbind(1)
    return Curve(name, start, len(t), t, means, deviations)


def times(chart: Chart, count: int = 200) -> Tensor:
    """Times [count + 1] of a curve of the exact dynamics: equally spaced from T to 0.

    Raises UsageError on fewer than one interval.
    """
    if count < 1:
        raise UsageError(f"{count} intervals: write 1 or more")
    return chart.t_max * torch.linspace(1, 0, count + 1, dtype=torch.float64)
