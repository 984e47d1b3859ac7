"""Algorithms that are a rule for D^, under the sampler of `sampler=`."""

from __future__ import annotations

from diffgeo.inverse import rules
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.steps import Renoise


def exact(zeta: float | None = None) -> Algorithm:
    """The exact posterior of the law: no approximation but the sampler's own.

    zeta: take the step of DiffPIR with this share of fresh noise, not that of `sampler=`.
    """
    return Algorithm(rules.Exact(), None if zeta is None else Renoise(zeta))


def mmps(iterations: int | None = None) -> Algorithm:
    """`rules.MMPS`: exact on a Gaussian prior."""
    return Algorithm(rules.MMPS(iterations))


def pigdm(t: float = 1.0) -> Algorithm:
    """`rules.PiGDM`: exact on N(m, t^2 I)."""
    return Algorithm(rules.PiGDM(t))


def jfps(t: float = 1.0) -> Algorithm:
    """`rules.JFPS`: exact on N(m, t^2 I), without a Jacobian."""
    return Algorithm(rules.JFPS(t))


def prox(lam: float = 1.0) -> Algorithm:
    """`rules.Prox`: the data term of DiffPIR under any sampler."""
    return Algorithm(rules.Prox(lam))


def dps_likelihood(zeta: float = 1.0) -> Algorithm:
    """`rules.Likelihood`: DPS with the noise level of y."""
    return Algorithm(rules.Likelihood(zeta))


def ddnm() -> Algorithm:
    """`rules.NullSpace`: what is measured replaced, for sigma_n = 0."""
    return Algorithm(rules.NullSpace())
