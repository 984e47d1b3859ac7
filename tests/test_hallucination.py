"""Paths as metrics of any sampling, and the flag of samples that were made up."""

import math

import pytest
import torch
from configs import composed

from diffgeo.config.build import build
from diffgeo.core import Run
from diffgeo.data import Points
from diffgeo.geometry.measure import measure, numbers_of
from diffgeo.metrics.trajectory import Hallucination, Paths, area, between, flags
from diffgeo.sampler import Euler, Heun
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation import Simulation

G20 = VE(to_zero=False).grid(20)
POINTS8 = Points(
    [[-2, 0], [-1.2, 1.6], [-1.2, -1.6], [0, 2], [0, -2], [1.2, 1.6], [1.2, -1.6], [2, 0]]
)


# metrics


def run_of(denoise, law, sampler=Euler(), sigmas=G20, n=40):
    simulation = Simulation(sampler, denoise, sigmas, tuple(law.shape))
    drawn = simulation.draw(range(n))
    return Run(drawn.samples, 0, range(n), simulation, True, drawn.nfe)


def test_the_metric_says_what_the_command_says():
    law = POINTS8
    run = run_of(law.denoiser(), law)
    found = Paths(n=30)(run, law)
    expected = numbers_of(measure(run.simulation, range(30)))
    assert found == {key: value for key, value in expected.items() if value is not None}
    assert found["trajectory/ve/sampling/kappa"] > 1e-3
    assert Paths()(Run(run.samples), law) == {} == Hallucination()(Run(run.samples), law)
    suite = build(composed(None, "+metrics=trajectory").metrics)
    assert suite(run, law).keys() >= found.keys()


def test_the_area_is_the_chance_of_a_larger_score():
    g = torch.Generator().manual_seed(1)
    positive = torch.randint(6, (31,), generator=g).double() + 1
    negative = torch.randint(6, (57,), generator=g).double()
    pairs = positive[:, None] - negative
    expected = float(((pairs > 0).double() + 0.5 * (pairs == 0)).mean())
    auc, error = area(positive, negative)
    assert auc == pytest.approx(expected, rel=1e-12)
    assert 0.02 < error < 0.08
    # of two normal laws one deviation apart the area is Phi(1/sqrt 2)
    clouds = torch.randn(2, 4000, generator=g, dtype=torch.float64)
    auc, error = area(clouds[0] + 1, clouds[1])
    assert auc == pytest.approx(0.5 * math.erfc(-0.5), abs=4 * error) and error < 0.01


def test_the_flag_is_the_spread_of_the_late_estimates():
    law = POINTS8
    run = run_of(law.denoiser(), law, n=7)
    late = run.simulation.trajectory(range(7)).denoised[13:]  # 7 of 20 steps
    expected = late.var(0, correction=0).sum(1).sqrt()
    found = flags(run.simulation, range(7))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_the_flag_finds_samples_between_the_modes():
    """A denoiser that knows nothing below a level, D(x; max(sigma, 1/2)), leaves a few of points8's
    samples between its modes, still on their way in the last third of a grid that is even in log
    sigma. The exact one leaves none, and none is flagged."""
    law = POINTS8
    exact = law.denoiser()
    sigmas = VE(sigma_min=0.01, sigma_max=200, spacing=Geometric()).grid(18)
    blunt = run_of(lambda x, s, **_: exact(x, max(float(s), 0.5)), law, Heun(), sigmas, n=4000)
    found = Hallucination(n=4000)(blunt, law)
    assert 0.005 < found["hallucination/between"] < 0.03
    assert found["hallucination/auc"] - 4 * found["hallucination/auc_se"] > 0.5
    assert found["hallucination/auc"] == pytest.approx(0.81, abs=4 * 0.04)
    sharp = Hallucination(n=500)(run_of(exact, law, Heun(), sigmas, n=500), law)
    assert sharp["hallucination/between"] == 0 and "hallucination/auc" not in sharp
    assert sharp["hallucination/flagged"] < 0.01
    off = torch.tensor([[2.0, 0.0], [1.7, 0.0], [1.6, 0.0]], dtype=torch.float64)
    # a quarter of the distance 1.265 of the nearest two is .316
    assert between(off, law.atoms).tolist() == [False, False, True]
