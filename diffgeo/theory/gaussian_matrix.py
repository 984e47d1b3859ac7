"""Sampling a Gaussian from a start that does not commute with it: theory/gaussian.py with a mean
and a covariance in place of a spectrum.

The dynamics are diagonal in the data's eigenvectors, exact or in steps, whatever the start is: a
run takes x_T to R x_T + b + N(0, A), R and A diagonal there, so  Cov x = R Cov x_T R + A.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffgeo.core import Chart, Sampler
from diffgeo.theory.gaussian import Spectrum, check_eps, ends, level, propagator, true
from diffgeo.theory.linear import Dependent


def directions(covariance: Tensor, mean: Tensor | None) -> tuple[Spectrum, Tensor]:
    """The spectrum of N(mean, covariance), each eigenvector an eigenspace, eigenvalues that are
    rounding 0; and the eigenvectors [d,d]."""
    values, basis = torch.linalg.eigh(covariance)
    rounding = len(values) * torch.finfo(torch.float64).eps * values.abs().max()
    values = torch.where(values > rounding, values, 0.0)
    turned = torch.zeros_like(values) if mean is None else basis.mT @ mean
    return Spectrum(values, mean=turned), basis


def continuous_matrix(
    covariance: Tensor,
    chart: Chart,
    eps: float,
    start: Tensor,
    stochastic: bool,
    mean: Tensor | None = None,
    start_mean: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean [d] and covariance [d,d] at eps of the exact reverse dynamics from N(start_mean, start)
    at T, both in the chart.

    Data N(mean, covariance), means 0 if None; `start` [d,d] need not commute with `covariance`,
    which may be singular.
    """
    check_eps(chart, eps)
    spectrum, basis = directions(covariance, mean)
    first = true(spectrum, chart, chart.t_max)
    last = true(spectrum, chart, eps)
    g = propagator(spectrum.values, chart, eps, stochastic)
    excess = basis.mT @ start @ basis - torch.diag(first.variance)
    begun = 0.0 if start_mean is None else basis.mT @ start_mean
    end_mean = last.mean + g * (begun - first.mean)
    end_covariance = torch.diag(last.variance) + g[:, None] * excess * g
    return basis @ end_mean, basis @ end_covariance @ basis.mT


def discrete_matrix(
    covariance: Tensor,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    sigmas: Tensor,
    start: Tensor,
    mean: Tensor | None = None,
    start_mean: Tensor | None = None,
    error: Dependent = 0.0,
) -> dict[str, tuple[Tensor, Tensor]]:
    """`continuous_matrix` for samplers: mean [d] and covariance [d,d], in the chart, at the end of
    each run down `sigmas`.

    error: of the score, relative, in the order of torch.linalg.eigh's eigenvalues.
    """
    spectrum, basis = directions(covariance, mean)
    nothing = torch.zeros_like(spectrum.values)
    begun = nothing if start_mean is None else basis.mT @ start_mean
    runs, scale = ends(spectrum, chart, samplers, sigmas, torch.ones_like(nothing), begun, error)
    turned = basis.mT @ start @ basis / level(chart, chart.t_max)[1] ** 2
    found = {}
    for name, run in zip(samplers, runs, strict=True):
        r = run.response[0]
        added = nothing if run.added is None else run.added[0, 0]
        inner = r[:, None] * turned * r + torch.diag(added)
        found[name] = scale * basis @ run.mean[0], scale**2 * basis @ inner @ basis.mT
    return found
