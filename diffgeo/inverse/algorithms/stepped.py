"""Algorithms with a step of their own; of `sampler=` they take the levels only."""

from __future__ import annotations

from diffgeo.inverse import steps
from diffgeo.inverse.algorithm import Algorithm


def diffpir(zeta: float = 0.3, lam: float = 1.0) -> Algorithm:
    """`steps.DiffPIR`: the prox of the data at D, and fresh noise."""
    return Algorithm(step=steps.DiffPIR(zeta, lam))


def dps(zeta: float = 0.3) -> Algorithm:
    """`steps.DPS`: a step of DDPM, then one down the gradient of |y - A D|."""
    return Algorithm(step=steps.DPS(zeta))


def mcg(zeta: float = 0.3) -> Algorithm:
    """`steps.DPS`, then what is measured replaced."""
    return Algorithm(step=steps.DPS(zeta, projected=True))


def dps_yt(lam: float = 1.0, implicit: bool = True, damping: float = 1.0) -> Algorithm:
    """`steps.MeasuredPath`: the state moved towards the noised data."""
    return Algorithm(step=steps.MeasuredPath(lam, implicit, damping))


def projection() -> Algorithm:
    """`steps.Replacement`: the noised data put in."""
    return Algorithm(step=steps.Replacement())


def repaint(repeats: int = 10) -> Algorithm:
    """`steps.Replacement`, each step several times; for inpainting."""
    return Algorithm(step=steps.Replacement(repeats))


def ddrm(eta: float = 0.85, eta_b: float = 1.0, informed: bool = True) -> Algorithm:
    """`steps.DDRM`: the noise of y counted in each singular vector."""
    return Algorithm(step=steps.DDRM(eta, eta_b, informed))


def ddnm_plus(eta: float = 0.85, corrected: bool = False) -> Algorithm:
    """`steps.DDNMPlus`: DDNM that counts with noise."""
    return Algorithm(step=steps.DDNMPlus(eta, corrected))


def daps(
    flow: int = 0,
    euler: bool = False,
    langevin: int = 0,
    size: float = 0.5,
    curvature: float = 1.0,
) -> Algorithm:
    """`steps.DAPS`: a fresh draw of x0 at every level."""
    return Algorithm(step=steps.DAPS(flow, euler, langevin, size, curvature))
