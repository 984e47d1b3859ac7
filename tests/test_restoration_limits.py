"""Restoration in one and two dimensions: finite steps to 8 digits, and the closed forms that many
steps tend to, by Richardson's extrapolation in 1/steps."""

import math

import pytest
import torch
from inverse_cases import LINE, ONE, daps_by_flow, f64, geometric, limit, measured

from diffgeo.data import Gaussian
from diffgeo.inverse import algorithms
from diffgeo.sampler import DDPM, Euler
from diffgeo.schedule import VE
from diffgeo.theory import restoration

# one dimension: N(0, 1), y = x0 + .5 n = 1, posterior (.8, .2)


def moments(algorithm, sampler, sigmas, measurement=ONE, start=None) -> torch.Tensor:
    """(mean, variance) of the restorations."""
    law = restoration.restored(LINE, measurement, algorithm, sampler, sigmas, start)
    return torch.cat([law.mean, law.covariance[0]])


@pytest.mark.parametrize(
    ("algorithm", "sampler", "twenty", "hundred"),
    [
        (algorithms.exact(), Euler(), (0.79615838, 0.14758044), (0.79565653, 0.18865768)),
        (algorithms.exact(), DDPM(), (0.79997500, 0.11359420), (0.79997500, 0.17710126)),
        (algorithms.diffpir(1.0), Euler(), (0.83752974, 0.06722658), (0.80845319, 0.09140839)),
        (algorithms.diffpir(0.3), Euler(), (0.87241100, 0.10767719), (0.83642238, 0.15719959)),
        (
            algorithms.ddrm(informed=False),
            Euler(),
            (0.77269740, 0.06772191),
            (0.90089299, 0.02337315),
        ),
    ],
    ids=["exact+DDIM", "exact+DDPM", "DiffPIR1", "DiffPIR.3", "DDRM"],
)
def test_finite_steps_in_one_dimension(algorithm, sampler, twenty, hundred):
    for steps, expected in ((20, twenty), (100, hundred)):
        found = moments(algorithm, sampler, VE().grid(steps))
        torch.testing.assert_close(found, torch.tensor(expected, dtype=f64), rtol=0, atol=5.1e-9)


def renoised(kappa: float, lam: float, zeta: float) -> tuple[float, float]:
    """The limit of DiffPIR at a fixed zeta > 0, c = h = y = 1: the posterior with noise lambda s^2,
    its variance times (1 + sqrt(1 - zeta))/2."""
    counted = kappa / lam
    return counted / (1 + counted), (1 + math.sqrt(1 - zeta)) / 2 / (1 + counted)


LIMITS = {
    "exact": (algorithms.exact(), DDPM(), (0.8, 0.2)),
    "PiGDM": (algorithms.pigdm(), DDPM(), (0.8, 0.2)),  # the prior is N(0, t^2)
    "JFPS": (algorithms.jfps(), DDPM(), (0.8, 0.2)),
    "DAPS": (algorithms.daps(), Euler(), (0.8, 0.2)),
    "DPS+DDPM": (
        algorithms.dps_likelihood(),
        DDPM(),
        (1 - math.exp(-4), (1 - math.exp(-8)) / 8),
    ),
    "DPS.5+DDPM": (
        algorithms.dps_likelihood(0.5),
        DDPM(),
        (1 - math.exp(-2), (1 - math.exp(-4)) / 4),
    ),
    "DiffPIR1": (algorithms.diffpir(1.0), Euler(), renoised(4, 1, 1)),
    "DiffPIR.3": (algorithms.diffpir(0.3), Euler(), renoised(4, 1, 0.3)),
    "DiffPIR1,lambda.25": (algorithms.diffpir(1.0, 0.25), Euler(), renoised(4, 0.25, 1)),
    "exact+Renoise1": (algorithms.exact(1.0), Euler(), renoised(4, 1, 1)),
    "exact+Renoise.3": (algorithms.exact(0.3), Euler(), renoised(4, 1, 0.3)),
    "DPS-y_t": (algorithms.dps_yt(), Euler(), (0.8, 1 / 9)),
}
PRINTED = {
    "DPS+DDPM": (0.981684, 0.124958),
    "DPS.5+DDPM": (0.864665, 0.245421),
    "DiffPIR1": (0.8, 0.1),
    "DiffPIR.3": (0.8, 0.183666),
    "DiffPIR1,lambda.25": (0.941176, 0.029412),
    "DPS-y_t": (0.8, 0.111111),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_formulas_are_the_printed_limits(name):
    _, _, expected = LIMITS[name]
    assert expected == pytest.approx(PRINTED[name], abs=5.1e-7)


def limit_of(name: str, first: int, highest: float) -> torch.Tensor:
    """(mean, variance) of many steps, from runs of first, 2 first, 4 first and 8 first levels."""
    algorithm, sampler, _ = LIMITS[name]
    runs = lambda steps: moments(algorithm, sampler, geometric(steps, highest))
    return limit(runs, first, 4)


def test_half_of_the_variance_is_lost():
    """DiffPIR at zeta = 1 in the limit of many steps: (.8, .1) for (.8, .2)."""
    found = limit_of("DiffPIR1", 30, 80)
    torch.testing.assert_close(found, torch.tensor([0.8, 0.1], dtype=f64), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_of_many_steps(name):
    slow = name == "DiffPIR.3"  # forgets more slowly, in which powers of 1/N come late
    found = limit_of(name, 400 if slow else 100, 1000)
    expected = torch.tensor(LIMITS[name][2], dtype=f64)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.slow
def test_the_limits_of_ddim():
    """prox + DDIM: c kappa^(-kappa/(kappa-1)); DPS + DDIM: c exp(-kappa).

    The mean of the first is .8788903 from a start at infinity, by an ODE of scipy's as well; from
    N(0, 1000^2) it is .8784935, which the specification prints (.8785).
    """
    many = lambda algorithm: limit(
        lambda steps: moments(algorithm, Euler(), geometric(steps, 1000)), 200, 4
    )
    mean, variance = many(algorithms.diffpir(0.0)).tolist()
    assert variance == pytest.approx(4 ** (-4 / 3), abs=1e-6)
    assert mean == pytest.approx(0.8784935, abs=1e-6)
    _, variance = many(algorithms.dps_likelihood()).tolist()
    assert variance == pytest.approx(math.exp(-4), abs=1e-6)
    assert f"{4 ** (-4 / 3):.6f} {math.exp(-4):.6f}" == "0.157490 0.018316"


@pytest.mark.slow
def test_the_limit_of_prox_under_ddpm():
    found = limit(lambda steps: moments(algorithms.prox(), DDPM(), geometric(steps, 1000)), 200, 4)
    assert found.tolist() == pytest.approx([0.8425, 0.1801], abs=1e-4)


@pytest.mark.slow
def test_the_limit_of_ddrm_forgets_the_prior():
    """Mean y/h, variance 0: the distances to them fall with every doubling of the steps."""
    runs = [moments(algorithms.ddrm(), Euler(), geometric(steps, 80)) for steps in (400, 800, 1600)]
    for coarse, fine in zip(runs, runs[1:], strict=False):
        assert 0.4 < float((1 - fine[0]) / (1 - coarse[0])) < 0.65
        assert 0.4 < float(fine[1] / coarse[1]) < 0.65


@pytest.mark.slow
def test_the_limit_of_daps_with_the_flow_map():
    """The prior counts half: precision 1/2c + h^2/s^2, here 4.5."""

    def runs(steps: int) -> torch.Tensor:
        law = daps_by_flow(LINE, ONE, geometric(steps, 80))
        return torch.cat([law.mean, law.covariance[0]])

    expected = torch.tensor([8 / 9, 2 / 9], dtype=f64)
    torch.testing.assert_close(limit(runs, 50, 4), expected, rtol=0, atol=1e-5)


PLANE = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
FIRST = measured([[1, 0]], [1], 0.0)  # of two coordinates of correlation r = .8, one is known


def other(algorithm, sigmas) -> torch.Tensor:
    """(mean, variance) of the coordinate that is not measured."""
    law = restoration.restored(PLANE, FIRST, algorithm, Euler(), sigmas)
    assert law.mean[0] == pytest.approx(1, abs=1e-12)
    return torch.stack([law.mean[1], law.covariance[1, 1]])


@pytest.mark.slow
def test_replacement_forgets_what_is_measured():
    """Mean y (1 - sqrt(1-r^2))/r, variance (1-r^2) atanh(r)/r, for .8 and .36."""
    found = limit(lambda steps: other(algorithms.projection(), geometric(steps, 80)), 40, 4)
    expected = torch.tensor([0.5, 0.36 * math.atanh(0.8) / 0.8], dtype=f64)
    assert float(expected[1]) == pytest.approx(0.494376, abs=5.1e-7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_repaint_repairs_replacement():
    """The mean goes to the posterior's with the repeats. (The variance on so few levels is that of
    DDPM, too small; many repeats on many levels repair it too.)"""
    right = torch.tensor([0.8, 0.36], dtype=f64)
    sigmas = geometric(12, 80)
    once = (other(algorithms.projection(), sigmas) - right).abs()
    few = (other(algorithms.repaint(4), sigmas) - right).abs()
    many = (other(algorithms.repaint(32), sigmas) - right).abs()
    assert float(once[0]) > 0.29
    assert float(few[0]) < 0.5 * float(once[0])
    assert float(many[0]) < 0.1 * float(once[0])
