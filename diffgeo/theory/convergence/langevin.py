"""Langevin dynamics: what a corrector gains and costs, and what it cannot do alone.

    regularization    in a time 1/sqrt(L) underdamped dynamics turn a distance in W2 into one in TV:
                      TV <= C sqrt(L) W2
    ulmc              its discretization leaves a bias in the stationary law, TV ~ sqrt(L d) h
    langevin          between separated modes it does not mix: the reverse process finds their
                      weights, Langevin keeps those it fell into

On N(0, 1/L) with gamma = 2 sqrt(L) (critically damped) the mean of z is m (1 + sqrt(L) u)
e^(-sqrt(L) u), at u = 1/sqrt(L) 2m/e, and the variance stays 1/L: TV = 2 Phi(sqrt(L) m/e) - 1, so C
= 2/(e sqrt(2 pi)) = .2935.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from diffgeo.sampler import Langevin, Underdamped
from diffgeo.sampler.correctors import underdamped
from diffgeo.theory.convergence.experiment import (
    SMOOTHNESS,
    Experiment,
    powers,
    sampler,
    series,
    tiled,
    uniform,
)
from diffgeo.theory.convergence.kernel import Modes, line, matrix, propagate, silence
from diffgeo.theory.distances import Law, tv
from diffgeo.theory.gaussian import Spectrum

SEPARATED = Modes((-6.0, 6.0), (0.2, 0.8))


def regularized(L: float, distance: float, steps: int = 400) -> float:
    """TV to N(0, 1/L) after underdamped dynamics for a time 1/sqrt(L) from N(distance, 1/L): the
    package's corrector at the level sigma^2 = 1/L of data at 0, in `steps` sub-steps. The mean is
    its run without noise; the variance stays but for O(1/steps)."""
    x = torch.full((1, 1), distance, dtype=torch.float64)

    def denoise(y: torch.Tensor, sigma, **cond) -> torch.Tensor:
        return torch.zeros_like(y)

    mean = Underdamped(1.0, steps)(denoise, x, L**-0.5, silence(x))
    return math.erf(math.sqrt(L) * float(mean) / math.sqrt(8))


def stationary(spectrum: Spectrum, L: float, h: float) -> Law:
    """The law of z that underdamped Langevin with gamma = 2 sqrt(L) and step h keeps, on N(0,
    spectrum): of (z, v) the fixed point of S = A S A^T + Q, by the package's own coefficients."""
    a, b, c, l, m, n = underdamped(2 * math.sqrt(L), h)
    noise = np.array([[l, m], [n, 0.0]])
    found = []
    for value in spectrum.values.tolist():
        step = np.array([[1 - c / value, b], [-b / value, a]])
        system = np.eye(4) - np.kron(step, step)
        found.append(np.linalg.solve(system, (noise @ noise.T).flatten())[0])
    return Law(torch.tensor(found, dtype=torch.float64))


def bias(spectrum: Spectrum, L: float, h: float) -> float:
    """TV of that law to N(0, spectrum)."""
    return tv(stationary(spectrum, L, h), Law(spectrum.values), spectrum.counts)


def regularization(full: bool = False) -> list[Experiment]:
    distances = powers(0.01, 2, 7 if full else 5)
    curvatures = (4.0, 16.0, 64.0)
    title = "TV after a time 1/sqrt(L) against sqrt(L) W2 before, N(m, 1/L) to N(0, 1/L)"
    note = (
        f"TV/(sqrt(L) W2) = {regularized(4.0, 0.005) / 0.01:.4f} at .01; in continuous time "
        f"2/(e sqrt(2 pi)) = {2 / math.e / math.sqrt(2 * math.pi):.4f} for every L"
    )
    curves = []
    for L in curvatures:
        after = [regularized(L, x / math.sqrt(L)) for x in distances]
        curves.append(series(f"L{L:g}", f"L = {L:g}", distances, after, 1.0))
    return [
        Experiment("regularization/w2", title, "sqrt(L) W2", tuple(distances), tuple(curves), note)
    ]


def ulmc(full: bool = False) -> list[Experiment]:
    h = powers(0.2, 0.5, 8 if full else 5)
    dims = powers(4, 4, 5)
    curvatures = powers(1, 4, 4)
    by_h = [bias(tiled(64.0), SMOOTHNESS, x) for x in h]
    by_d = [bias(tiled(d), SMOOTHNESS, 0.025) for d in dims]
    by_curvature = [bias(Spectrum([1 / L], [64.0]), L, 0.0125) for L in curvatures]
    return [
        Experiment(
            "ulmc/h",
            "stationary bias of underdamped Langevin, d = 64, L = 4",
            "h",
            tuple(h),
            (series("tv", "TV", h, by_h, 1.0),),
        ),
        Experiment(
            "ulmc/d", "the same, h = .025", "d", tuple(dims), (series("tv", "TV", dims, by_d, 0.5),)
        ),
        Experiment(
            "ulmc/L",
            "the same, all eigenvalues 1/L, d = 64, h = .0125",
            "L",
            tuple(curvatures),
            (series("tv", "TV", curvatures, by_curvature, 0.5),),
        ),
    ]


def alone(steps: int, h: float = 0.05, law: Modes = SEPARATED) -> float:
    """The weight left of 0 after `steps` of x <- x + h s + sqrt(2h) w from N(0, 1): the package's
    corrector on the law as its modes' centres noised to sigma = 1, its kernel raised to a power."""
    nodes = line(12.0, 401)
    atoms = Modes(law.means, law.weights, 0.0).denoiser()
    x = nodes[:, None]
    mean = Langevin(h)(atoms, x, 1.0, silence(x))[:, 0]
    kernel = matrix(mean, math.sqrt(2 * h), nodes)
    start = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return left(nodes, torch.linalg.matrix_power(kernel, steps) @ start)


def left(nodes: torch.Tensor, q: torch.Tensor) -> float:
    """The mass below 0; a node there counts half."""
    return float((q * ((nodes < 0) + 0.5 * (nodes == 0))).sum() * (nodes[1] - nodes[0]))


def reverse(steps: int, law: Modes = SEPARATED) -> float:
    """The same after `steps` of EI-DDPM."""
    nodes = line(12.0, 401)
    return left(nodes, propagate(law, sampler("EI"), uniform(steps), nodes).q)


def langevin(full: bool = False) -> list[Experiment]:
    counts = [int(n) for n in powers(200, 10, 6 if full else 3)]
    few = (50, 100, 200)
    kept = [alone(n) for n in counts]
    found = [reverse(n) for n in few]
    note = (
        "Langevin keeps the weights that its start falls into: between the modes lies a barrier of "
        "18 nats"
    )
    return [
        Experiment(
            "langevin/alone",
            "weight of the mode at -6 (true .2) after N Langevin steps h = .05 from N(0, 1)",
            "N",
            tuple(counts),
            (series("weight", "Langevin alone", counts, kept, fitted=False),),
            note,
        ),
        Experiment(
            "langevin/reverse",
            "the same after N steps of the reverse process",
            "N",
            few,
            (series("weight", "EI-DDPM", few, found, fitted=False),),
        ),
    ]
