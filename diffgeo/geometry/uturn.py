"""U-turns: noise up to s, then a model's own way back, and whether the class is what it was.

Of the exact stochastic reverse process the share that returns is phi(s), known without integrating
(`geometry.phases`). A network's, or a solver's on a coarse grid, is measured here: x_s = x0 + s eps
at the top, the levels of the simulation below s, and the class of the training point that is
nearest to the end.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffgeo.analytic.exact import Finite
from diffgeo.core import Data, ImageSet
from diffgeo.errors import UsageError
from diffgeo.geometry.phases import density_of, draws
from diffgeo.simulation import Simulation, fitting, ranges
from diffgeo.simulation.flow import end
from diffgeo.simulation.noise import Streams, keys
from diffgeo.simulation.simulation import Start, check_finite

NEAR = 1e-3  # of the law's deviation: noise at which the posterior is the nearest point


def check(simulation: Simulation, data: Data) -> None:
    """Raise UsageError where a U-turn cannot be told: without labels, or by an adaptive sampler."""
    if not isinstance(data, ImageSet) or data.labels is None:
        raise UsageError(
            "uturn=true asks for the class that comes back, and this law has no labels: write "
            "data=mnist or another labelled set of images, or uturn=false"
        )
    if simulation.sampler.adaptive:
        raise UsageError("uturn=true needs a sampler of fixed levels: write sampler=heun")


def uturn(
    simulation: Simulation,
    data: Data,
    n: int,
    levels: Tensor,
    seed: int = 0,
    batch: int | None = None,
) -> Tensor:
    """Whether each of n points has its class again after a U-turn at each level [L], 0 or 1, [L,n];
    points and noise are those of `phases`."""
    drawn = draws(data, n, seed)
    assert drawn.labels is not None
    nearest = density_of(data)
    assert isinstance(nearest, Finite)
    found = torch.empty(len(levels), n, dtype=torch.float64)
    for part in ranges(range(n), batch or fitting(data.shape)):
        x0 = drawn.x0[part.start : part.stop].to(simulation.device, torch.float64)
        labels = drawn.labels[part.start : part.stop]
        eps = Streams(keys(seed, part, simulation.device), tuple(data.shape))()
        for k, level in enumerate(levels.tolist()):
            samples = back(simulation, x0 + level * eps, level, part)
            posterior = nearest.posterior(samples, NEAR * data.std)
            assert posterior.classes is not None
            again = posterior.classes.argmax(1).cpu() == labels
            found[k, part.start : part.stop] = again.double()
    return found


@torch.no_grad()
def back(simulation: Simulation, x: Tensor, level: float, numbers: range) -> Tensor:
    """The simulation from states x [n,*D] at `level`, down its own levels below that. Raises
    DiffgeoError where it diverges."""
    below = simulation.sigmas[simulation.sigmas < level]
    top = simulation.sigmas.new_tensor([level])
    turned = replace(simulation, sigmas=torch.cat([top, below]), noise=None, initial=None)
    noise = Streams(keys(simulation.seed, numbers, simulation.device), simulation.shape)
    unit = noise()
    start = turned.start(numbers)
    state = Start(x, unit, noise, start.denoise, start.counted, start.method)
    samples = turned.kept(end(turned.steps(state), x))
    check_finite(samples)
    return samples
