"""Between latents: norms to the printed digit of geometry.md, F7 and F8, and slerp by a second
way."""

import json
import math

import pytest
import torch
from scipy.integrate import quad

from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.geometry.interpolation import (
    WAYS,
    Pairs,
    length,
    mean_norm,
    norm_variance,
    slerp_square,
    way,
)
from diffgeo.sampler import Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation


@pytest.mark.parametrize(
    "d, mean, variance",
    [
        (64, "7.968812222", "0.498032"),
        (784, "27.991072854", "0.499840"),
        (3072, "55.421115477", "0.499959"),
    ],
)
def test_the_thin_shell(d, mean, variance):
    assert f"{mean_norm(d):.9f}" == mean and f"{norm_variance(d):.6f}" == variance


@pytest.mark.parametrize("d", [199, 200, 784, 3072, 10**6])
def test_the_variance_of_a_norm_keeps_its_digits(d):
    """Against forty digits."""
    import mpmath

    with mpmath.workdps(40):
        half = mpmath.mpf(d) / 2
        ratio = mpmath.gammaprod([half + 0.5], [half])
        exact = float(d - 2 * ratio**2)
    assert norm_variance(d) == pytest.approx(exact, rel=2e-11)


def test_norms_of_latents_as_printed():
    assert f"{length('linear', 3072, 0.25).mean:.6f}" == "43.814239"
    assert f"{length('linear', 3072, 0.5).mean:.6f}" == "39.188647"
    assert f"{length('rescaled', 3072, 0.5).mean:.6f}" == "55.421115"
    for d, printed in ((8, "2.845470"), (784, "28.000011"), (3072, "55.425627")):
        assert f"{math.sqrt(length('slerp', d, 0.5).square):.6f}" == printed
    assert [length("slerp", d, 0.5).square for d in (1, 2, 3)] == [math.inf] * 3
    assert [length("slerp", 3, at).square for at in (0, 1)] == [3, 3]


@pytest.mark.parametrize("d", [4, 5, 9])
@pytest.mark.parametrize("at", [0.1, 0.25, 0.5, 0.8])
def test_slerp_s_second_moment_by_quadrature(d, at):
    """E|.|^2 = m^2 + Var E[(sin^2((1-l)psi) + sin^2(l psi))/sin^2 psi]."""
    whole = quad(lambda psi: math.sin(psi) ** (d - 2), 0, math.pi)[0]

    def both(psi):
        return math.sin((1 - at) * psi) ** 2 + math.sin(at * psi) ** 2

    share = quad(lambda psi: both(psi) * math.sin(psi) ** (d - 4), 0, math.pi)[0] / whole
    expected = mean_norm(d) ** 2 + norm_variance(d) * share
    assert slerp_square(d, at) == pytest.approx(expected, rel=1e-12)


def test_slerp_of_drawn_latents_has_that_second_moment():
    a, b = torch.randn(2, 200_000, 8, generator=torch.Generator().manual_seed(0)).double()
    for kind in WAYS:
        square = way(kind)(a, b, 0.3).square().sum(1)
        error = float(square.std()) / math.sqrt(len(square))
        assert abs(float(square.mean()) - length(kind, 8, 0.3).square) < 3 * error


def test_ways_begin_and_end_in_the_latents_and_keep_what_they_keep():
    a = torch.tensor([[3.0, 0, 4.0], [0, 2.0, 0]], dtype=torch.float64)
    b = torch.tensor([[0, 5.0, 0], [0, 4.0, 0]], dtype=torch.float64)  # at a right angle; beside
    for kind in WAYS:
        torch.testing.assert_close(way(kind)(a, b, 0.0), a, rtol=0, atol=1e-15)
        torch.testing.assert_close(way(kind)(a, b, 1.0), b, rtol=0, atol=1e-15)
    arc = WAYS["slerp"](a, b, 1 / 3)
    root = math.sqrt(3) / 2
    torch.testing.assert_close(arc[0], root * a[0] + 0.5 * b[0], rtol=1e-15, atol=0)
    torch.testing.assert_close(arc[1], 2 / 3 * a[1] + 1 / 3 * b[1], rtol=1e-15, atol=0)
    assert float(WAYS["rescaled"](a, b, 0.2)[0].norm()) == pytest.approx(5, rel=1e-15)
    with pytest.raises(UsageError, match="kind=cubic: write some of linear, slerp, rescaled"):
        way("cubic")


def test_pairs_are_the_simulation_s_own_samples_and_those_after_them():
    simulation = Simulation(Heun(), Circle().denoiser(), VE().grid(5), (2,), 7)
    pairs = Pairs(simulation, 10)
    numbers = range(2, 6)
    for kind in WAYS:
        begun = pairs.between(kind, 0.0, numbers)
        torch.testing.assert_close(
            begun.draw(numbers).samples, simulation.draw(numbers).samples, rtol=1e-13, atol=1e-14
        )
        ended = pairs.between(kind, 1.0, numbers)
        torch.testing.assert_close(
            ended.start(numbers).unit, simulation.start(range(12, 16)).unit, rtol=0, atol=1e-15
        )


def test_the_command_measures_the_ways(inside, tmp_path):
    """Of 60 pairs: E|z|^2 by hand, and samples of latent 0 that are those of `sample`."""
    line = (
        "trajectory interpolate data=circle kind=linear,rescaled lambda=[0,.5] n=60 figures=false"
    )
    done = inside(*line.split(), "sampler.steps=5", "metrics=quick", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    simulation = Simulation(Heun(), Circle().denoiser(), VE().grid(1), (2,))
    a = simulation.start(range(60)).unit
    b = simulation.start(range(60, 120)).unit
    middle = ((a + b) / 2).norm(dim=1)
    assert values["interpolate/linear/norm@0.5"] == pytest.approx(float(middle.mean()), rel=1e-12)
    expected = float((2**0.5 * middle).square().mean().sqrt())
    assert values["interpolate/rescaled/norm_rms@0.5"] == pytest.approx(expected, rel=1e-12)
    assert values["interpolate/linear/norm_exact@0.5"] == pytest.approx(math.sqrt(math.pi) / 2)
    for name in ("distance/mean", "magnitude"):
        one = values[f"interpolate/linear/{name}@0"]
        assert one == values[f"interpolate/rescaled/{name}@0"]
    refused = inside(*line.split(), "lambda=[0,2]", "hydra.run.dir=other")
    assert refused.returncode == 2 and "lambda=2: write places on the way" in refused.line
    assert not (tmp_path / "other").exists()
