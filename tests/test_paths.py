"""Paths: what is recorded, charts, and the numbers of spec section 3 to the printed digit."""

import math

import pytest
import torch
from simulations import collect

from diffgeo.data import Circle, Gaussian, Mixture, Points
from diffgeo.errors import UsageError
from diffgeo.geometry.charts import CHARTS, to_chart
from diffgeo.geometry.measure import Geometry, bend, measure, numbers_of
from diffgeo.geometry.paths import arc, chord, falls, rises, turning
from diffgeo.geometry.spread import Spread
from diffgeo.sampler import Euler, GradientEstimation, Heun, steps
from diffgeo.schedule import OU, VE, VP, Flow
from diffgeo.simulation import Simulation

SIGMAS = VE().grid(18)
G20 = VE(to_zero=False).grid(20)  # 80 to .002 with rho 7, no step to 0


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
        deviation, length = chord(collect(Heun(), denoise, 80 * unit(5, 4), SIGMAS).x)
        assert float((deviation / length).max()) < 1e-14


def test_chord_against_a_triangle():
    """From (0,0) over (1,3) to (4,0): the chord has length 4, the middle state is 3 away from it;
    with a second sample scaled by 2."""
    path = torch.tensor([[0.0, 0], [1, 3], [4, 0]], dtype=torch.float64)
    both = torch.stack([path, 2 * path], 1)
    deviation, length = chord(both)
    torch.testing.assert_close(
        deviation, torch.tensor([[0.0, 0], [3, 6], [0, 0]], dtype=torch.float64)
    )
    assert length.tolist() == [4, 8]
    sides = math.sqrt(10) + math.sqrt(18)
    torch.testing.assert_close(arc(both), torch.tensor([sides, 2 * sides], dtype=torch.float64))
    # from the direction (1,3) to (1,-1)
    angle = math.atan2(3, 1) + math.pi / 4
    torch.testing.assert_close(turning(both), torch.full((2,), angle, dtype=torch.float64))


def test_turning_leaves_out_steps_of_no_length():
    """A quarter circle in 90 chords turns by 89 degrees, whether it pauses on its way or not; a
    point that does not move has no direction."""
    angle = torch.deg2rad(torch.arange(91, dtype=torch.float64))
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    paused = torch.cat([circle[:1], circle[:40], circle[39:40], circle[39:]])
    for path in (circle, paused):
        assert float(turning(path[:, None])) == pytest.approx(math.radians(89), rel=1e-12)
    assert math.isnan(float(turning(torch.ones(5, 1, 2, dtype=torch.float64))))
    # nearly straight: an angle of 1e-9, where acos has no digits left
    bent = torch.tensor([[0.0, 0], [1, 0], [2, 1e-9]], dtype=torch.float64)
    assert float(turning(bent[:, None])) == pytest.approx(1e-9, rel=1e-6)


def test_monotone_but_for_rounding():
    series = torch.tensor([[3.0, 1.0, 1.0], [2.0, 2.0, 1.0 + 1e-15], [1.0, 3.0, 1.0]]).double()
    assert falls(series).tolist() == [True, False, True]
    assert rises(series).tolist() == [False, True, True]


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

    sigmas = VE(to_zero=False).grid(100)
    values = numbers_of(measure(Simulation(Heun(), denoise, sigmas, (32,)), range(40)))
    kappa = {chart: values[f"trajectory/{chart}/sampling/kappa"] for chart in CHARTS}
    assert 0.005 < kappa["ve"] < 0.015
    assert 8 < kappa["vp"] / kappa["ve"] < 25 and 8 < kappa["flow"] / kappa["ve"] < 25


# one path from (48, 64) at 80 down G20 by Euler: spec section 3, to the printed digit

MIX3 = Mixture(
    [[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]],
    [[[0.09, 0.0], [0.0, 0.09]]] * 3,
    [0.5, 0.3, 0.2],
)
TWO = Points([[1.0, 0.0], [-1.0, 0.0]])
NORMAL = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.25]])
START = (48.0, 64.0)


def one(law, start=START, sigmas=G20, sampler=Euler()) -> Geometry:
    """The geometry of the one path from `start`."""
    noise = torch.tensor([start], dtype=torch.float64) / float(sigmas[0])
    simulation = Simulation(sampler, law.denoiser(), sigmas, (2,), noise=noise)
    return measure(simulation, range(1))


def end_of(law, start=START):
    noise = torch.tensor([start], dtype=torch.float64) / 80
    return Simulation(Euler(), law.denoiser(), G20, (2,), noise=noise).draw(range(1)).samples[0]


@pytest.mark.parametrize(
    "law, ve, vp, flow, denoising, end, along",
    [
        (
            TWO,
            (0.71493476, 3.8811, 79.40321641, 0.00900385),
            0.12270134,
            0.37373361,
            (0.0, 0.99250014),
            (0.9991960313, 0.0016),
            (1.00389908, 1.10905610),
        ),
        (
            NORMAL,
            (0.49798545, 8.5888, 79.08441094, 0.00629689),
            0.08525012,
            0.37499427,
            (0.15715085, 1.09339110),
            (1.0676849219, 0.3470200578),
            (1.00065154, 0.45323497),
        ),
        (
            MIX3,
            (0.93844168, 3.8811, 78.65476190, 0.01193115),
            0.12616504,
            0.10707454,
            (0.14090222, 1.38097955),
            (1.8911275646, 0.2776063465),
            (1.00483249, 1.01327788),
        ),
        (
            Circle(1.0),
            (0.0, None, 79.00163437, 0.0),
            0.0,
            0.0,
            (0.0, 0.99373039),
            (0.5990193783, 0.7986925044),
            None,
        ),
    ],
    ids=["two points", "gaussian", "mix3", "circle"],
)
def test_a_path_as_printed(law, ve, vp, flow, denoising, end, along):
    geometry = one(law)
    deviation, sigma, chord_, kappa = ve
    found = bend(geometry, "x", "ve")
    assert found.deviation == pytest.approx(deviation, abs=6e-9)
    assert found.chord == pytest.approx(chord_, abs=6e-9)
    assert found.kappa == pytest.approx(kappa, abs=6e-9)
    assert sigma is None or found.sigma == pytest.approx(sigma, abs=6e-5)
    if along is not None:
        assert (found.arc_over_chord, found.turning) == pytest.approx(along, abs=6e-9)
    else:  # it passes the circle and comes back along its own line
        assert found.turning == pytest.approx(math.pi, rel=1e-12)
    assert bend(geometry, "x", "vp").kappa == pytest.approx(vp, abs=6e-9)
    assert bend(geometry, "x", "flow").kappa == pytest.approx(flow, abs=6e-9)
    r = bend(geometry, "r", "ve")
    assert (r.deviation, r.chord) == pytest.approx(denoising, abs=6e-9)
    assert end_of(law).tolist() == pytest.approx(end, abs=6e-11)


def test_the_exact_flow_as_printed():
    """x_i(s) = x_i(T) sqrt((l_i + s^2)/(l_i + T^2)) at the levels of G20."""
    variance = torch.tensor([4.0, 0.25], dtype=torch.float64)
    start = torch.tensor(START, dtype=torch.float64)
    gain = ((variance + G20[:, None] ** 2) / (variance + 80.0**2)).sqrt()
    deviation, length = chord((start * gain)[:, None])
    assert float(deviation.max()) == pytest.approx(0.5479678239, abs=6e-11)
    assert float(G20[deviation.argmax()]) == pytest.approx(8.5888, abs=6e-5)
    assert float(length) == pytest.approx(78.9635081176, abs=6e-11)
    assert (start * gain)[-1].tolist() == pytest.approx((1.1996257755, 0.3999953877), abs=6e-11)


def test_one_point_has_no_denoising_path():
    """Straight in VE and flow, a quarter ellipse in VP; where r has no chord there is no number,
    and no nan."""
    geometry = one(Points([[1.0, 0.0]]), (0.0, 80.0))
    found = bend(geometry, "x", "ve")
    assert found.deviation == pytest.approx(0, abs=1e-12)
    assert found.chord == pytest.approx(80.00424960, abs=6e-9)
    assert bend(geometry, "x", "vp").kappa == pytest.approx(0.20238663, abs=6e-9)
    assert bend(geometry, "x", "flow").kappa == pytest.approx(0, abs=1e-14)
    values = numbers_of(geometry)
    for number in ("deviation", "deviation_sigma", "kappa", "arc_over_chord", "turning"):
        assert values[f"trajectory/ve/denoising/{number}"] is None
    assert values["trajectory/ve/denoising/chord"] == 0
    assert end_of(Points([[1.0, 0.0]]), (0.0, 80.0)).tolist() == pytest.approx((0.999975, 0.002))


def test_a_quarter_circle_in_vp():
    """F6: |a| = |n|, a _|_ n, from noise alone to the point: kappa = (1 - 1/sqrt 2)/sqrt 2."""
    alpha = torch.linspace(0, 1, 2001, dtype=torch.float64)
    sigma = (1 - alpha**2).sqrt() / alpha.clamp(min=1e-9)
    states = torch.stack([torch.ones_like(sigma), sigma], 1)[:, None]  # a + sigma n
    scale = CHARTS["vp"].scale(sigma)[:, None, None]
    deviation, length = chord(states * scale)
    expected = (1 - 1 / math.sqrt(2)) / math.sqrt(2)
    assert float(deviation.max() / length) == pytest.approx(expected, abs=1e-7)
    assert expected == pytest.approx(0.207107, abs=6e-7)


def test_an_isotropic_gaussian_is_straight_in_vp_only_along_its_mean():
    """F6: N(m, I) is straight in VE for every m, in VP and flow only where m is along x - m."""
    law = Gaussian([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    along = one(law, (60.0, 0.0))
    aside = one(law, (0.0, 60.0))
    for chart in CHARTS:
        assert bend(along, "x", chart).kappa < 1e-13
    assert bend(aside, "x", "ve").kappa < 1e-13
    assert bend(aside, "x", "vp").kappa > 0.02 and bend(aside, "x", "flow").kappa > 0.2


def test_a_long_way_round_is_not_judged():
    """F3: three points in the flow chart have an arc much longer than their chord."""
    found = bend(one(MIX3, (-110.0, -110.0)), "x", "flow")
    assert found.arc_over_chord > 1.5 and not found.judged
    assert bend(one(MIX3), "x", "ve").judged


def test_the_bias_of_the_grid():
    """N(0, I) by 20 Euler steps ends with deviation .879 (each step multiplies by
    (1 + s s')/(1 + s^2))."""
    factor = torch.tensor(80.0, dtype=torch.float64)
    for high, low in zip(G20[:-1], G20[1:], strict=True):
        factor = factor * (1 + high * low) / (1 + high**2)
    assert float(factor) == pytest.approx(0.879, abs=6e-4)
    end = Simulation(
        Euler(), gaussian(), G20, (1,), noise=torch.ones(1, 1, dtype=torch.float64)
    ).draw(range(1))
    assert float(end.samples) == pytest.approx(float(factor), rel=1e-12)


# batches


def test_spread_is_that_of_all_values_together():
    """Of values far from 0, in uneven batches, with some missing."""
    values = 1e8 + unit(3, 50)
    values[1, 7:9] = torch.nan
    whole = Spread.of(values)
    parts = Spread.of(values[:, :7])
    for piece in (values[:, 7:9], values[:, 9:40], values[:, 40:]):
        parts = parts.merged(Spread.of(piece))
    assert parts.count.tolist() == [50, 48, 50]
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-15, atol=0)
    torch.testing.assert_close(parts.sd, whole.sd, rtol=1e-7, atol=0)
    there = values[1][~values[1].isnan()]
    assert float(whole.mean[1] - 1e8) == pytest.approx(float((there - 1e8).mean()), abs=3e-8)
    assert float(whole.sd[0]) == pytest.approx(float((values[0] - 1e8).std()), rel=1e-7)
    assert math.isnan(float(Spread.of(values[0, :1]).sd))  # one path has no deviation


@pytest.mark.parametrize("batch", [1, 3])
def test_no_number_depends_on_the_batch(batch):
    simulation = Simulation(Euler(), TWO.denoiser(), G20, (2,), seed=3)
    whole = measure(simulation, range(8))
    pieces = measure(simulation, range(8), batch=batch)
    assert whole.spreads.keys() == pieces.spreads.keys() and whole.atoms == pieces.atoms == 2
    for name, spread in whole.spreads.items():
        for ours, theirs in zip(spread, pieces.spreads[name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
