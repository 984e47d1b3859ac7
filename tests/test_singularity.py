"""The score's singularity (Theorem 3.5 of the CEM paper) against closed forms, on laws of every
codimension, and the control whose score stays bounded."""

import json

import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.data import Circle, Line, Points, normal
from diffgeo.data.flat import Square
from diffgeo.data.law import Ambient, Blurred
from diffgeo.errors import UsageError
from diffgeo.theory import singularity as theory

POINTS = Points([[-2, 0], [-1.2, 1.6], [0, 2], [1.2, -1.6], [2, 0]])
T = theory.times(1e-7, 1.0, 15, 1e-3)
TIME = torch.tensor(0.3, dtype=torch.float64)


def rates(law, n=400, t=T, name="score"):
    """Fitted, of the rms of one quantity in both clouds."""
    found = theory.measure(law.denoiser(), law, t, n, 0)
    return [norms.rates(1e-3)[name].rms.slope for norms in found]


def proved(law, n=400):
    return theory.expected(law.denoiser(), law, T, n, 0)


def test_the_four_quantities_of_the_line_by_its_closed_form():
    """f = (e^(-t/2) x1, 0), S = (-x1, -x2/s2), b = x/2 + S, epsilon = s2^(1/2) S (62)."""
    x = torch.tensor([[1.0, -0.1], [0.3, 2.0]], dtype=torch.float64)
    found = theory.quantities(Line().denoiser(), x, TIME)
    s2 = 1 - np.exp(-0.3)
    score = np.stack([-x[:, 0], -x[:, 1] / s2], 1)
    by_hand = {
        "score": score,
        "drift": x.numpy() / 2 + score,
        "epsilon": s2**0.5 * score,
        "f": np.stack([np.exp(-0.15) * x[:, 0], 0 * x[:, 0]], 1),
    }
    for name, vector in by_hand.items():
        np.testing.assert_allclose(found[name], np.linalg.norm(vector, axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    "law",
    [Line(), POINTS, Circle(), Ambient(Circle(), 5)],
    ids=["line", "points", "circle", "circle in R^5"],
)
def test_off_the_support_the_rate_is_1_at_a_fixed_point_and_a_half_at_samples(law):
    said = proved(law)
    assert (said.fixed, said.sampled) == (-1, -0.5)
    assert said.codimension == pytest.approx(law.shape[0] - law.dim, abs=1e-3)
    assert rates(law) == pytest.approx([-1, -0.5], abs=1e-3)
    assert rates(law, name="epsilon") == pytest.approx([-0.5, 0], abs=1e-3)
    assert rates(law, name="f") == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize("law", [normal(2), Blurred(Circle(), 0.5)], ids=["normal", "blurred"])
def test_the_control_a_density_on_the_whole_space_has_a_bounded_score(law):
    """Theorem 3.7 for the blurred one, once 1 - e^-t is small against the blur^2, here 1/4: with
    less blur the rate at t = .001 is still -t/(t + blur^2)."""
    said = proved(law)
    assert (said.fixed, said.sampled) == (0, 0) and said.codimension < 1e-3
    assert rates(law) == pytest.approx([0, 0], abs=2e-3)
    assert rates(law, name="epsilon") == pytest.approx([0.5, 0.5], abs=2e-3)


def test_at_the_edge_of_a_square_the_rate_of_samples_is_a_quarter():
    """E|S|^2 of one half line is s2^(-1/2) int g^2/G over the layer: only the power is asked. Few
    samples see the edge, so that many are needed."""
    law = Square()
    t = theory.times(1e-5, 1.0, 9, 1e-3)
    assert (proved(law).fixed, proved(law).sampled) == (-1, -0.25)
    fixed, sampled = rates(law, 40_000, t)
    assert fixed == pytest.approx(-1, abs=0.02) and sampled == pytest.approx(-0.25, abs=0.02)


def test_the_limit_is_the_distance_to_the_nearest_point():
    """s2 |S| -> |x - y_x|; on the line s2 S_2 = -x2 exactly, so that the limit is there at once."""
    ratio = theory.limit(POINTS.denoiser(), POINTS, T, 200, 0)
    assert len(ratio) == 200
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)


def test_s2_times_the_square_of_the_score_is_the_codimension_that_the_trace_tells():
    """s2 E|S|^2 = d - E tr(dD/dx) at every t, by the heat equation: t = .3, within four standard
    errors of the mean over 20 000 samples."""
    law = Circle()
    x = theory.noised(*theory.drawn(law, 20_000, 1), TIME)
    denoise = law.denoiser()
    s2 = -torch.expm1(-TIME)
    square = s2 * theory.quantities(denoise, x, TIME)["score"] ** 2
    left = 2 - denoise.trace(x * torch.exp(TIME / 2), float(torch.expm1(TIME).sqrt()))
    difference = square - left
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 20_000**0.5


def test_a_fitted_rate_and_its_error_are_those_of_least_squares():
    s2 = torch.logspace(-6, 0, 9, dtype=torch.float64)
    noise = 0.1 * torch.randn(9, generator=generator(3), dtype=torch.float64)
    norm = 3 * s2**-0.7 * noise.exp()
    slope, covariance = np.polyfit(s2.log(), norm.log(), 1, cov=True)
    rate = theory.fitted(s2, norm)
    assert rate.slope == pytest.approx(slope[0], rel=1e-10)
    assert rate.error == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-8)
    assert theory.fitted(s2[:2], norm[:2]).error is None


def test_a_distance_that_is_a_rounding_is_none():
    """A mixture that lies along lines of the plane has projections that round."""
    law = Line()
    x = torch.tensor([[0.5, 1e-17], [0.5, 1e-3]], dtype=torch.float64)
    assert theory.distances(law, x).tolist() == [0, 1e-3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((0.0, 1.0, 9, 0.1), "two times"), ((1e-3, 1.0, 9, 1e-4), "fewer than three")],
)
def test_times_that_leave_nothing_to_fit_are_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        theory.times(*arguments)


def test_the_command_prints_the_rates_beside_the_proved_ones(inside, tmp_path):
    line = ["theory", "singularity", "data=points8", "n=50", "levels=8", "figures=false"]
    done = inside(*line, "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "a" / "metrics.json").read_text())
    fixed = "singularity/exact/fixed_x/score"
    assert values[f"{fixed}/proved"] == -1
    assert values[f"{fixed}/rate"] == pytest.approx(-1, abs=1e-3)
    assert values["singularity/limit"] == pytest.approx(1, abs=1e-3)
    with (tmp_path / "a" / "levels.csv").open() as file:
        assert len(file.readlines()) == 1 + 2 * 4 * 8
    refused = inside(*line[:3], "t=1e-7", "hydra.run.dir=b")
    assert refused.returncode == 2 and "write two times" in refused.line
    assert not (tmp_path / "b").exists()
