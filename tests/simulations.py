"""Samples and trajectories of a `Simulation` in one call, and runs as a metric sees them."""

import torch

from diffgeo.core import Run
from diffgeo.sampler import Euler
from diffgeo.simulation import Simulation


def draw(sampler, denoise, sigmas, shape, n, seed=0, *, batch=None, first=0, **options):
    """Samples first .. first+n-1."""
    simulation = Simulation(sampler, denoise, sigmas, shape, seed, first=first, **options)
    return simulation.draw(range(first, first + n), batch)


def collect(sampler, denoise, x, sigmas):
    """The trajectory from the states x [n,*D] at sigmas[0]."""
    simulation = Simulation(sampler, denoise, sigmas, tuple(x.shape[1:]))
    return simulation.path(simulation.start(range(len(x)))._replace(x=x))


def made_by(
    denoise, samples, *, sampler=Euler(), sigmas=None, noise=None, exact=False, seed=0, nfe=None
):
    """A run of `samples` that came from `denoise`, as a metric sees it; by `sampler` down `sigmas`,
    where it matters."""
    grid = torch.tensor([1.0, 0.5]) if sigmas is None else sigmas
    simulation = Simulation(sampler, denoise, grid, tuple(samples.shape[1:]), seed, noise=noise)
    return Run(samples, seed, range(len(samples)), simulation, exact, nfe)
