"""The law that a sampler makes of a Gaussian, read from its own step: against the sampler run on
impulses, and on impulses of its own."""

import pytest
import torch

from diffgeo.config.named import names, sampler
from diffgeo.core import Step
from diffgeo.data import Gaussian
from diffgeo.errors import UsageError
from diffgeo.sampler import RK45, EulerMaruyama
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Exponential
from diffgeo.theory import linear
from diffgeo.theory.orders import EIGENVALUES, gaussian, impulse_response

GRID = VE(sigma_min=0.02, sigma_max=20, spacing=Exponential(), to_zero=False).grid(12)


@pytest.mark.parametrize("name", names("sampler"))
def test_law_of_every_sampler_is_that_of_its_impulse_response(name):
    """An adaptive method, whose steps follow the state, has none and is refused."""
    method = sampler(name, 12)
    if method.adaptive:
        with pytest.raises(UsageError, match="chooses its steps by the state"):
            linear.tableaux(method, GRID)
        return
    mean = torch.tensor([4.0, 3.5, -1.0, 0.0]).double()
    m = torch.full((4,), 3.0).double()
    if hasattr(method, "fit"):
        method = method.fit(
            gaussian(EIGENVALUES, 3.0), Gaussian([3.0] * 4, torch.diag(EIGENVALUES))
        )
    variance = EIGENVALUES + GRID[0] ** 2
    centre, response = impulse_response(
        method, gaussian(EIGENVALUES, 3.0), GRID, mean, variance.sqrt()
    )
    end = linear.law(
        linear.tableaux(method, GRID), linear.gain(EIGENVALUES), linear.start(variance, mean), m
    )
    torch.testing.assert_close(end.variance, response.square().sum(0), rtol=1e-11, atol=0)
    torch.testing.assert_close(end.mean[0], centre, rtol=1e-11, atol=1e-11)


def test_what_is_not_linear_is_refused():
    class Normalized(EulerMaruyama):
        def step(self, denoise, x, sigma, sigma_next, history, noise):
            return super().step(denoise, x / x.norm(), sigma, sigma_next, history, noise)

    with pytest.raises(UsageError, match="not linear"):
        linear.tableaux(Normalized(), GRID)
    with pytest.raises(UsageError, match="chooses its steps"):
        linear.tableaux(RK45(), GRID)


def test_a_step_that_asks_nothing_is_a_number():
    class Shrink(EulerMaruyama):
        def step(self, denoise, x, sigma, sigma_next, history, noise):
            return Step(x / 2 + noise(), sigma_next, x)

    end = linear.law(
        linear.tableaux(Shrink(), GRID),
        linear.gain(EIGENVALUES),
        linear.start(torch.ones(4).double()),
    )
    torch.testing.assert_close(
        end.variance,
        torch.full((4,), 0.25**12 + (1 - 0.25**12) / 0.75, dtype=torch.float64),
        rtol=1e-14,
        atol=0,
    )
