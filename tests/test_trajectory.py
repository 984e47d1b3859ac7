"""Trajectories: what is recorded, changes of chart, and deviations from the chord with known
values."""

import math

import pytest
import torch
from simulations import collect

from diffgeo.errors import UsageError
from diffgeo.geometry import chord, straightness, to_chart
from diffgeo.sampler import Euler, GradientEstimation, Heun, steps
from diffgeo.schedule import OU, VE, VP, Flow

SIGMAS = VE().grid(18)


def unit(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(variance=1.0):
    return lambda x, sigma: x * (variance / (variance + sigma**2))


def test_collect_keeps_every_state_and_counts_evaluations():
    x = 80 * unit(7, 2, 3)
    run = collect(Heun(), gaussian(), x, SIGMAS)
    assert (
        run.x.shape == (19, 7, 2, 3)
        and run.denoised.shape == (18, 7, 2, 3)
        and run.nfe == 35
        and run.chart == "ve"
    )
    assert torch.equal(run.x[0], x) and torch.equal(run.sigma, SIGMAS)
    for k, step in enumerate(steps(Heun(), gaussian(), x, SIGMAS, None)):
        assert torch.equal(run.x[k + 1], step.x)
        torch.testing.assert_close(
            run.denoised[k], gaussian()(run.x[k], float(SIGMAS[k])), rtol=0, atol=0
        )


def test_recorded_states_do_not_alias_the_callers():
    x = unit(3, 2)
    run = collect(GradientEstimation(), gaussian(), x, SIGMAS)
    x.zero_()
    assert bool((run.x[0] != 0).all())


def test_one_point_and_isotropic_gaussian_are_straight_in_ve():
    for denoise in (gaussian(0.5), lambda x, sigma: torch.ones_like(x)):
        deviation, length = chord(collect(Heun(), denoise, 80 * unit(5, 4), SIGMAS))
        assert float((deviation / length).max()) < 1e-14


def test_chord_against_a_triangle():
    """From (0,0) over (1,3) to (4,0): the chord has length 4, the middle state is 3 away from it;
    with a second sample scaled by 2."""
    path = torch.tensor([[0.0, 0], [1, 3], [4, 0]], dtype=torch.float64)
    run = collect(Euler(), gaussian(), unit(2, 2), SIGMAS[-3:])._replace(
        x=torch.stack([path, 2 * path], 1)
    )
    deviation, length = chord(run)
    torch.testing.assert_close(
        deviation, torch.tensor([[0.0, 0], [3, 6], [0, 0]], dtype=torch.float64)
    )
    assert length.tolist() == [4, 8]
    assert straightness(run) == pytest.approx(
        {
            "trajectory/ve/deviation": 4.5,
            "trajectory/ve/chord": 6.0,
            "trajectory/ve/curvature": 0.75,
        }
    )


@pytest.mark.parametrize(
    "schedule, scale",
    [
        (OU(), lambda s: 1 / math.hypot(1, s)),
        (VP(), lambda s: 1 / math.hypot(1, s)),
        (Flow(), lambda s: 1 / (1 + s)),
        (VE(), lambda s: 1),
    ],
)
def test_change_of_chart(schedule, scale):
    run = collect(Heun(), gaussian(2.0), 80 * unit(5, 4), SIGMAS)
    moved = to_chart(run, schedule)
    for k, sigma in enumerate(SIGMAS.tolist()):
        torch.testing.assert_close(moved.x[k], scale(sigma) * run.x[k], rtol=1e-14, atol=0)
    assert (
        torch.equal(moved.denoised, run.denoised) and moved.chart == type(schedule).__name__.lower()
    )


def test_a_second_change_of_chart_is_refused():
    with pytest.raises(UsageError, match="already"):
        to_chart(to_chart(collect(Euler(), gaussian(), unit(2, 2), SIGMAS), OU()), VP())


def test_the_same_trajectories_are_straight_in_ve_and_bent_in_vp_and_flow():
    """DESIGN.md: 64 points in R^32, 80 to .002, deviate by about 1 % of the chord in VE and by ten
    to twenty times as much in VP, flow."""
    points = unit(64, 32, seed=1)

    def denoise(x, sigma):
        return torch.softmax(-(torch.cdist(x, points) ** 2) / (2 * sigma**2), -1) @ points

    run = collect(Heun(), denoise, 80 * unit(40, 32, seed=2), VE(to_zero=False).grid(100))
    curvature = {
        name: straightness(chart)[f"trajectory/{name}/curvature"]
        for name, chart in (
            ("ve", run),
            ("vp", to_chart(run, VP())),
            ("flow", to_chart(run, Flow())),
        )
    }
    assert 0.005 < curvature["ve"] < 0.015
    assert (
        8 < curvature["vp"] / curvature["ve"] < 25 and 8 < curvature["flow"] / curvature["ve"] < 25
    )
