"""Mixed directions: the dense law against the diagonal one in a turned basis, and against a sampler
run with the wrong score."""

import pytest
import torch

from diffgeo.core import generator
from diffgeo.sampler import DPMpp2M, DPMppSDE, EulerMaruyama, Heun, steps
from diffgeo.schedule import VP
from diffgeo.theory import gaussian, linear, linear_dense

VALUES = torch.tensor([4.0, 1.0, 0.05, 0.0], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
TURN = torch.linalg.qr(torch.randn(4, 4, generator=generator(1), dtype=torch.float64)).Q
GRID = gaussian.levels(VP(), 13, 1e-3)


@pytest.mark.parametrize(
    "sampler", [EulerMaruyama(VP()), Heun(), DPMpp2M(), DPMppSDE()], ids=lambda s: type(s).__name__
)
def test_in_the_eigenbasis_it_is_the_diagonal_law(sampler):
    error = torch.tensor([0.1, -0.2, 0.05, 0.0]).double()
    begun = 2 + torch.arange(4.0).double()
    table = linear.tableaux(sampler, GRID)
    thin = linear.law(table, linear.gain(VALUES, error), linear.start(begun, 0 * MEAN), MEAN)
    turned = lambda v: TURN @ torch.diag(v) @ TURN.mT
    full = linear_dense.law(
        table,
        linear_dense.Gain(turned(VALUES), turned(error)),
        0 * MEAN,
        turned(begun),
        TURN @ MEAN,
    )
    torch.testing.assert_close(full.covariance, turned(thin.variance), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(full.mean, TURN @ thin.mean[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "sampler", [EulerMaruyama(VP()), DPMppSDE()], ids=lambda s: type(s).__name__
)
def test_mixing_errors_make_the_law_of_the_draws(sampler):
    """2e5 draws of the sampler itself, whose score is wrong by a matrix that does not commute:
    every moment within 4.5 standard errors (14 moments: one test in 10 000 fails by chance)."""
    n = 200_000
    grid = GRID[::2]
    error = 0.2 * torch.randn(4, 4, generator=generator(2), dtype=torch.float64)
    c = linear_dense.Gain(torch.diag(VALUES), error)
    law = linear_dense.law(
        linear.tableaux(sampler, grid),
        c,
        0 * MEAN,
        torch.eye(4, dtype=torch.float64) * (1 + grid[0] ** 2),
        MEAN,
    )
    g = generator(3)
    draw = lambda: torch.randn(n, 4, generator=g, dtype=torch.float64)
    x = draw() * torch.sqrt(1 + grid[0] ** 2)
    # D - x = -sigma^2 (Sigma + sigma^2)^-1 (I + E) (x - m)
    wrong = torch.eye(4, dtype=torch.float64) + error
    for step in steps(
        sampler,
        lambda x, sigma: x - sigma**2 / (VALUES + sigma**2) * ((x - MEAN) @ wrong.mT),
        x,
        grid,
        draw,
    ):
        x = step.x
    v = law.covariance
    assert float(((x.mean(0) - law.mean) / (v.diagonal() / n).sqrt()).abs().max()) < 4.5
    assert (
        float(
            ((x.T.cov() - v) / ((v**2 + torch.outer(v.diagonal(), v.diagonal())) / n).sqrt())
            .abs()
            .max()
        )
        < 4.5
    )
    # it does mix
    assert (
        float((v - torch.diag(v.diagonal())).abs().max())
        > 100 * float(v.diagonal().max()) / n**0.5 / 10
    )
