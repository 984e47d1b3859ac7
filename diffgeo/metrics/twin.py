"""The twin of a run: the law's own exact denoiser in the place of the network, under the same
sampler, levels, noise, classes and options of the loop.

What the twin has wrong is the sampler's, its levels' and its numbers'; what the run has wrong
beside it is the network's.

It costs what exact sampling costs, which is little where D is in closed form and much where it is a
quadrature. So only as many samples are drawn as about 5 s of a CPU give, counted and not timed
(`machine.effort`), and all where `exact` is true. Values that depend on how many samples there are,
such as a W2, are then left out where there are fewer (`Measure.steady`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from diffgeo.core import Data, Fitted, Known, Metric, Pictures, Run, generator
from diffgeo.errors import DiffgeoError
from diffgeo.machine.effort import effort
from diffgeo.metrics.base import Measure
from diffgeo.simulation import Simulation

EXACT = "_exact"  # what follows the key of a value of the twin
COUNT = "sampling/exact_n"  # of its samples, where they are fewer than the run's
BUDGET = 1 << 31  # of `machine.effort`
PROBE = 16  # rows a level by which the effort of one is measured
LEVELS = 4  # so many
PIECE = 500  # samples; their number is a multiple of it, so that no rounding changes it


def has_twin(run: Run, data: Data) -> bool:
    """Whether another denoiser than the law's own made the run, and the law's own is known."""
    return run.simulation is not None and not run.exact and isinstance(data, Known)


def affordable(simulation: Simulation, data: Known) -> int:
    """How many samples of the exact denoiser are worth their time; 0 where it is few."""
    exact = data.denoiser()
    levels = simulation.positive[torch.linspace(0, len(simulation.positive) - 1, LEVELS).long()]
    total = 0.0
    for sigma in levels.tolist():
        g = generator(0, *b"effort")
        x0 = data.sample(PROBE, g)
        x = x0 + sigma * torch.randn(x0.shape, generator=g, dtype=x0.dtype)
        total += effort(lambda x=x, sigma=sigma: exact(x, sigma))
    each = total / (LEVELS * PROBE)
    evaluations = 2 * (len(simulation.sigmas) - 1)  # of a method of two stages
    return int(BUDGET / (each * evaluations)) // PIECE * PIECE


def twin(run: Run, data: Data, exact: bool | str) -> Run | None:
    """The run of the exact denoiser: of all samples where `exact` is true, of as many as are worth
    their time where it is "auto". None where there is none, or it costs too much."""
    if not has_twin(run, data):
        return None
    simulation = run.simulation
    assert simulation is not None and isinstance(data, Known)
    n = len(run.samples)
    if exact is not True:
        n = min(n, affordable(simulation, data))
    if not n:
        return None
    own = data.denoiser()
    sampler = simulation.sampler
    if isinstance(sampler, Fitted):
        sampler = sampler.fit(own, data, simulation.seed)
    alone = replace(simulation, denoise=own, sampler=sampler)
    numbers = run.numbers[:n]
    drawn = alone.draw(numbers)
    samples = drawn.samples
    if isinstance(data, Pictures):
        samples = data.restore(data.store(samples))
    return Run(samples, run.seed, numbers, alone, exact=True, nfe=drawn.nfe)


def beside(
    metrics: Iterable[Metric],
    run: Run,
    data: Data,
    values: Mapping[str, float],
    exact: bool | str,
) -> dict[str, float]:
    """KEY_exact of every value of the metrics that has one; and of how many samples they are, where
    of fewer than the run has.

    A law whose exact denoiser diverges under this sampler is said on stderr, and has none.
    """
    try:
        other = twin(run, data, exact)
    except DiffgeoError as error:
        print(f"diffgeo: no column of the exact denoiser: {error}", file=sys.stderr)
        return {}
    if other is None:
        return {}
    n = len(other.samples)
    whole = n == len(run.samples)
    found: dict[str, float] = {}
    for metric in metrics:
        if metric.needs_run or metric.prefix is not None:  # it takes a run apart in its own words
            continue
        for key, value in metric(other, data).items():
            steady = whole or (isinstance(metric, Measure) and metric.steady(key, n))
            if key in values and steady and not key.endswith(("_se", "_sd")):
                found[key + EXACT] = value
    return found if whole or not found else found | {COUNT: n}
