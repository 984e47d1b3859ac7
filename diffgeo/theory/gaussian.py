"""Exact theory of sampling a Gaussian: the four errors in closed form (Pierret and Galerne 2024).

Data N(m, Sigma) with eigenvalues lambda. In the chart x_t = scale x the law p_t has, in each
eigen-direction,

    lambda^t = scale^2 (lambda + sigma^2),     mean scale m

(in VP  e^(-2B) lambda + 1 - e^(-2B); their beta is half of Song's). The exact reverse dynamics from
any y_T at T to eps are linear, so that (the form needs no inverse of lambda^eps, which may be 0)

    SDE    y_eps ~ lambda^eps + G^2 (Var y_T - lambda^T)
    ODE    y_eps = S y_T
    mean   scale_eps m + G (E y_T - scale_T m),  S in place of G for the ODE,

    G = scale_T/scale_eps lambda^eps/lambda^T,   S = sqrt(lambda^eps/lambda^T).

y_T starts from "p_T" (the exact law) or "N_0" (N(0, I), as in practice). W2 to p_0 is then the
truncation error, with N_0 also that of the initialization; `discrete` adds the sampler's own law
(theory.linear: read from its step, no second copy of a scheme), and an error in the score. To first
order a relative score error eta costs, with

    I = int beta/lambda^t dt = 1/2 ln (lambda + sigma_T^2)/(lambda + sigma_eps^2),

    SDE, which forgets         W2^2 = sum lambda eta^2 (1 - e^(-2I))^2
    ODE, which accumulates     W2^2 = sum lambda eta^2 I^2.

Covariances in place of spectra, where a start does not commute with the data: gaussian_matrix.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgeo.core import Chart, Sampler
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DDPM,
    ChartEuler,
    ChartHeun,
    ChartRK4,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
)
from diffgeo.sampler.charts import levels_of
from diffgeo.theory import linear
from diffgeo.theory.distances import Law
from diffgeo.theory.linear import Dependent

SCHEMES: dict[str, Callable[[Chart], Sampler]] = {
    "EM": EulerMaruyama,
    "EI": ExponentialIntegrator,
    "Euler": ChartEuler,
    "Heun": ChartHeun,
    "RK4": ChartRK4,
    "DDIM": lambda chart: Euler(),
    "DDPM": lambda chart: DDPM(),
    "DDPM-large": lambda chart: DDPM(variance="beta"),
}
STARTS = "p_T", "N_0"
# stands for the level 0 where a scheme takes the score there: its square is lost beside every
# eigenvalue but 0
VANISHING = 1e-140


def stochastic(scheme: str) -> bool:
    """Whether a scheme of SCHEMES discretizes the reverse SDE (else the probability flow)."""
    return scheme in ("EM", "EI", "DDPM", "DDPM-large")


# the law of the data


Numbers = Sequence[float] | Tensor


@dataclass(frozen=True, eq=False, init=False)
class Spectrum:
    """A Gaussian up to rotation: eigenvalues `values` [k] >= 0, multiplicities `counts` [k] (1
    each, if None), `mean` [k] the norm of m in each eigenspace; all float64.

    Raises UsageError on an eigenvalue or count that is negative or not finite, an empty spectrum,
    no count above 0, shapes that differ.
    """

    values: Tensor
    counts: Tensor
    mean: Tensor | None

    def __init__(self, values: Numbers, counts: Numbers | None = None, mean: Numbers | None = None):
        eigenvalues = torch.as_tensor(values, dtype=torch.float64)
        if eigenvalues.ndim != 1 or not len(eigenvalues):
            raise UsageError(
                "a spectrum is a list of eigenvalues, one or more; this one has shape "
                f"{list(eigenvalues.shape)}"
            )
        k = len(eigenvalues)
        check_part("eigenvalues", eigenvalues, k)
        times = torch.ones_like(eigenvalues)
        if counts is not None:
            times = torch.as_tensor(counts, dtype=torch.float64)
            check_part("counts", times, k)
        norms = None
        if mean is not None:
            norms = torch.as_tensor(mean, dtype=torch.float64)
            check_part("means", norms, k, signed=True)
        if not bool(times.any()):
            raise UsageError(
                "the counts of a spectrum are all 0: write how often each eigenvalue is one"
            )
        object.__setattr__(self, "values", eigenvalues)
        object.__setattr__(self, "counts", times)
        object.__setattr__(self, "mean", norms)

    @property
    def trace(self) -> float:
        return float((self.counts * self.values).sum())

    @property
    def d(self) -> float:
        return float(self.counts.sum())

    @property
    def zeros(self) -> float:
        """How many eigenvalues are 0."""
        return float(self.counts[self.values == 0].sum())


def check_part(name: str, part: Tensor, k: int, signed: bool = False) -> None:
    """Raise UsageError unless `part` is k finite numbers, of 0 or more where not `signed`."""
    if part.shape != (k,):
        raise UsageError(
            f"a spectrum of {k} eigenvalues has {list(part.shape)} {name}: write one for each "
            "eigenvalue"
        )
    if not bool(part.isfinite().all()):
        first = int((~part.isfinite()).nonzero()[0]) + 1
        raise UsageError(f"the {name} of a spectrum must be finite; number {first} is not")
    if not signed and bool((part < 0).any()):
        raise UsageError(
            f"the {name} of a spectrum must be 0 or more; the smallest is {float(part.min()):.3g}"
        )


def moment(spectrum: Spectrum) -> Tensor:
    """m in each eigenspace [k], 0 where it is not said."""
    return torch.zeros_like(spectrum.values) if spectrum.mean is None else spectrum.mean


# the times of a run


def level(chart: Chart, t: float) -> tuple[float, float]:
    """sigma and scale at the time t of a chart."""
    sigma = chart.sigma(torch.tensor(t, dtype=torch.float64))
    return float(sigma), float(chart.scale(sigma))


def check_eps(chart: Chart, eps: float) -> None:
    if not 0 <= eps < chart.t_max:
        raise UsageError(
            f"eps={eps}: write 0 <= eps < {chart.t_max:g}, the time at which sampling stops"
        )


def levels(
    chart: Chart, points: int | None = None, eps: float = 0.0, steps: int | None = None
) -> Tensor:
    """The levels sigma [points], decreasing, of `points` equally spaced times from T = t_max to
    eps, both exactly; or of steps + 1.

    Raises UsageError on fewer than 2 points, both or neither of points and steps, and eps outside
    of [0, T).
    """
    if (points is None) == (steps is None):
        raise UsageError("a grid has points or steps: write one of the two")
    if points is None:
        if int(steps) != steps or steps < 1:
            raise UsageError(f"steps={steps}: write 1 or more")
        points = steps + 1
    elif int(points) != points or points < 2:
        raise UsageError(f"grid_points={points}: write 2 or more (steps=1 or more)")
    check_eps(chart, eps)
    t = chart.t_max - (chart.t_max - eps) * torch.arange(points, dtype=torch.float64) / (points - 1)
    t[-1] = eps
    return chart.sigma(t)


# the exact dynamics


def true(spectrum: Spectrum, chart: Chart, t: float) -> Law:
    """p_t."""
    sigma, scale = level(chart, t)
    mean = None if spectrum.mean is None else scale * spectrum.mean
    return Law(scale**2 * (spectrum.values + sigma**2), mean)


def initial(spectrum: Spectrum, chart: Chart, start: str) -> Law:
    """The law at T: p_T, or N(0, I) for "N_0". Raises UsageError on another word."""
    if start not in STARTS:
        raise UsageError(f"start={start}: write p_T (the exact law at T) or N_0 (the normal law)")
    exact = true(spectrum, chart, chart.t_max)
    if start == "p_T":
        return exact
    centre = None if exact.mean is None else torch.zeros_like(exact.mean)
    return Law(torch.ones_like(exact.variance), centre)


def propagator(values: Tensor, chart: Chart, eps: float, stochastic: bool) -> Tensor:
    """G or S, from T to eps, for each eigenvalue [k]."""
    first, scale_first = level(chart, chart.t_max)
    last, scale_last = level(chart, eps)
    # of variances in x: lambda^eps/lambda^T is scale_last^2/scale_first^2 times their ratio
    ratio = (values + last**2) / (values + first**2) * (scale_last / scale_first)
    if stochastic:
        return ratio
    return torch.sqrt(ratio * (scale_last / scale_first))


def continuous(spectrum: Spectrum, chart: Chart, eps: float, start: str, stochastic: bool) -> Law:
    """The law at eps of the exact reverse SDE, or probability flow, from a start "p_T" or "N_0":
    truncation, and initialization."""
    check_eps(chart, eps)
    first = true(spectrum, chart, chart.t_max)
    last = true(spectrum, chart, eps)
    begun = initial(spectrum, chart, start)
    if start == "p_T":
        return last
    g = propagator(spectrum.values, chart, eps, stochastic)
    mean = None if spectrum.mean is None else last.mean + g * (begun.mean - first.mean)
    return Law(last.variance + g**2 * (begun.variance - first.variance), mean)


def first_order(
    spectrum: Spectrum, chart: Chart, eps: float, eta: float | Tensor, stochastic: bool
) -> float:
    """W2 between the exact dynamics with the exact score and with a relative error eta (a number or
    [k]) in it, to first order in eta."""
    check_eps(chart, eps)
    high, _ = level(chart, chart.t_max)
    low, _ = level(chart, eps)
    values = spectrum.values
    # 2 I; weighed by the eigenvalue
    logarithm = torch.where(values > 0, torch.log1p((high**2 - low**2) / (values + low**2)), 0.0)
    weight = -torch.expm1(-logarithm) if stochastic else logarithm / 2
    return math.sqrt(float((spectrum.counts * values * (eta * weight) ** 2).sum()))


# the law that a sampler makes


def discrete(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    sigmas: Tensor,
    starts: Sequence[str] = STARTS,
    error: Dependent = 0.0,
    bias: Dependent | None = None,
    noise: Dependent | None = None,
) -> dict[tuple[str, str], Law]:
    """The laws, in the chart, at the end of runs of several samplers down one grid `sigmas`, from
    each start: {(name, start): Law}.

    With an inexact score s_t of x_t, in each eigen-direction,

        -(1 + error) (x_t - scale m)/lambda^t + bias + noise w,

    w standard normal and new in every evaluation. All three are a number, [k], or a function of
    sigma that returns either; a bias points along the mean.

    A scheme that takes the slope at the end of its steps takes it at sigma = 0 too, in the limit:
    on a singular Gaussian its variance is inf in the directions of eigenvalue 0.
    """
    if spectrum.mean is None and bias is not None:
        spectrum = replace(spectrum, mean=moment(spectrum))
    begun = [initial(spectrum, chart, start) for start in starts]
    runs, scale = ends(
        spectrum,
        chart,
        samplers,
        sigmas,
        variance=torch.stack([law.variance for law in begun]),
        mean=None if spectrum.mean is None else torch.stack([law.mean for law in begun]),
        error=error,
        bias=bias,
        noise=noise,
    )
    found = {}
    for name, run in zip(samplers, runs, strict=True):
        variance = run.variance
        mean = run.mean
        for i, start in enumerate(starts):
            centre = None if mean is None else scale * mean[0, i]
            found[name, start] = Law(scale**2 * variance[i], centre)
    return found


def tables_of(
    chart: Chart, samplers: Mapping[str, Sampler], sigmas: Tensor
) -> list[list[linear.Tableau]]:
    """The steps of each sampler down one grid."""
    *upper, last = sigmas.tolist()
    levels_of(chart).learn([*upper, last])
    tables = []
    for sampler in samplers.values():
        lowest = VANISHING if last == 0 and sampler.at_end else last
        tables.append(linear.tableaux(sampler, [*upper, lowest]))
    return tables


def ends(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    sigmas: Tensor,
    variance: Tensor,
    mean: Tensor | None,
    error: Dependent,
    bias: Dependent | None = None,
    noise: Dependent | None = None,
) -> tuple[list[linear.State], float]:
    """The run of each sampler from `variance` and `mean` of x_T, [*S,k], as an affine map of x; and
    the scale at the end."""
    *upper, last = sigmas.tolist()
    tables = tables_of(chart, samplers, sigmas)

    def scale(sigma: float) -> float:
        return float(chart.scale(torch.tensor(sigma, dtype=torch.float64)))

    def residual(value: Dependent | None) -> Dependent | None:
        """What an error of the score of x_t is in the denoiser's residual."""
        if value is None:
            return None
        return lambda sigma: -scale(sigma) * sigma**2 * linear.at(value, sigma)

    c = linear.gain(spectrum.values, error, residual(bias), residual(noise))
    first = scale(upper[0])
    state = linear.start(variance / first**2, None if mean is None else mean / first)
    centre = None if mean is None else moment(spectrum)
    return linear.laws(tables, c, state, centre), scale(last)
