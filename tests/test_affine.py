"""The law of a run read from its steps: against the tableau's law of every kind of sampler, against
draws, and what is refused because it has no such law."""

import pytest
import torch
from inverse_cases import FOUR, G4, f64

from diffgeo.config import named
from diffgeo.errors import UsageError
from diffgeo.inverse import algorithms
from diffgeo.inverse.condition import Measured
from diffgeo.sampler import (
    DDPM,
    DEIS,
    RK45,
    DPMpp2M,
    DPMppSDE,
    Euler,
    Heun,
    SASolver,
    UniPC,
)
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.theory import affine, linear, linear_dense, restoration

GRID = VE().grid(8)


@pytest.mark.parametrize(
    "sampler",
    [Heun(), DDPM(), DPMpp2M(), UniPC(), DEIS(), DPMppSDE(), SASolver()],
    ids=lambda s: type(s).__name__,
)
def test_without_a_measurement_it_is_the_law_of_the_tableau(sampler):
    """theory.linear_dense reads the same steps by linear forms, once a step whatever d is."""
    found = affine.law(sampler, G4.denoiser(), GRID, (4,))
    begun = 80.0**2 * torch.eye(4, dtype=f64)
    table = linear.tableaux(sampler, GRID)
    zero = torch.zeros(4, dtype=f64)
    known = linear_dense.law(table, linear_dense.Gain(G4.covariance), zero, begun, G4.mean)
    torch.testing.assert_close(found.mean, known.mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.covariance, known.covariance, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "algorithm",
    [algorithms.ddrm(), algorithms.daps(), algorithms.dps_yt()],
    ids=["ddrm", "daps", "dps_yt"],
)
def test_it_is_the_law_of_the_draws(algorithm):
    """4000 restorations of one y: every moment within 5 standard errors."""
    n = 4000
    condition = Measured(FOUR, algorithm, G4)
    simulation = Simulation(Euler(), G4.denoiser(), GRID, (4,), condition=condition)
    samples = simulation.draw(range(n)).samples
    law = restoration.restored(G4, FOUR, algorithm, Euler(), GRID)
    error = (law.covariance.diagonal() / n).sqrt()
    assert bool(((samples.mean(0) - law.mean).abs() < 5 * error).all())
    spread = law.covariance.diagonal()
    products = spread[:, None] * spread + law.covariance**2
    off = (torch.cov(samples.mT) - law.covariance).abs()
    assert bool((off < 5 * (products / n).sqrt()).all())


def test_a_run_that_is_not_affine_is_refused():
    for name in ("dps", "tds", "reddiff"):
        algorithm = named.algorithm(name)
        with pytest.raises(UsageError, match="no closed form"):
            restoration.restored(G4, FOUR, algorithm, Euler(), GRID)
    with pytest.raises(UsageError, match="by the state"):
        restoration.restored(G4, FOUR, algorithms.exact(), RK45(), GRID)


def test_a_change_of_sign_far_away_is_seen():
    """A denoiser that is affine for every basis row, and not beyond."""

    def bent(x, sigma, **cond):
        return 0.5 * x.clamp(min=-2)

    with pytest.raises(UsageError, match="not affine"):
        affine.law(Euler(), bent, GRID, (2,))


def test_a_diverged_run_is_infinitely_far():
    """Its moments overflow; a sampler's own rows do not."""
    algorithm = algorithms.dps_yt(implicit=False, lam=1e-9)
    law = restoration.restored(G4, FOUR, algorithm, Euler(), VE().grid(40))
    assert restoration.gap(law, G4.mean, G4.covariance).w2 == float("inf")
