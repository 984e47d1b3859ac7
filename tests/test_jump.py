"""ODE-Jump: what a jump is, what it costs and how near it comes, against closed forms."""

import json
import math

import pytest
import torch

from diffgeo.config.named import sampler
from diffgeo.data import Circle, Points
from diffgeo.data.gaussian import Gaussian
from diffgeo.data.sets import image_set
from diffgeo.errors import UsageError
from diffgeo.geometry.jump import evaluations, jumps, shorter
from diffgeo.sampler import RK45, Euler, Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Loop, Simulation

G20 = VE(to_zero=False).grid(20)


def of(law, method=Euler(), sigmas=G20, **options):
    return Simulation(method, law.denoiser(), sigmas, law.shape, 3, **options)


def test_every_jump_from_a_point_lands_on_it_and_the_states_come_in_straight():
    """D = a wherever it is asked; x_k - x_K = (sigma_k - sigma_K)(x_0 - a)/sigma_0."""
    a = torch.tensor([3.0, -4.0], dtype=torch.float64)
    found = jumps(of(Points([a.tolist()])), range(5))
    assert torch.equal(found.denoised, a.expand(21, 5, 2))
    away = (G20 - G20[-1])[:, None] / 80 * (found.states[0] - a).norm(dim=1)
    expected = away / found.end.norm(dim=1)
    torch.testing.assert_close(found.remaining_of_states(), expected, rtol=1e-12, atol=1e-13)
    last = 0.002 / 80 * (found.states[0] - a).norm(dim=1) / found.end.norm(dim=1)
    torch.testing.assert_close(found.remaining(), last.expand(21, 5), rtol=1e-9, atol=0)


def test_jumps_of_a_gaussian_follow_euler_s_own_product():
    """Of N(0, s^2 I) a step is x' = (1 - (1 - q)(1 - g)) x, q = sigma'/sigma, g = s^2/(s^2 +
    sigma^2), and r = g x: every sample has the same |r - x_K|/|x_K|."""
    law = Gaussian([0.0, 0.0], [[0.49, 0.0], [0.0, 0.49]])
    found = jumps(of(law), range(4))
    gain = 0.49 / (0.49 + G20**2)
    ratio = G20[1:] / G20[:-1]
    steps = 1 - (1 - ratio) * (1 - gain[:-1])
    to_end = torch.cat([steps.flip(0).cumprod(0).flip(0), torch.ones(1, dtype=torch.float64)])
    expected = (gain / to_end - 1).abs()[:, None].expand(21, 4)
    torch.testing.assert_close(found.remaining(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "method, to_zero, loop, taken, whole",
    [
        (Euler(), True, Loop(), [1, 2, 3, 4], 4),
        (Euler(), False, Loop(), [1, 2, 3, 4, 5], 4),
        (Euler(), True, Loop(afs=1.0), [0, 1, 2, 3], 3),
        (Heun(), True, Loop(), [1, 3, 5, 7], 7),
        (Heun(), False, Loop(), [1, 3, 5, 7, 9], 8),
        (sampler("dpmpp_2m", 4), True, Loop(), [1, 2, 3, 4], 4),
        (sampler("rk4", 4), False, Loop(), [1, 5, 9, 13, 17], 16),
    ],
)
def test_a_jump_costs_what_the_path_took_until_its_estimate_was_known(
    method, to_zero, loop, taken, whole
):
    simulation = of(Circle(), method, VE(to_zero=to_zero).grid(4), loop=loop)
    found = jumps(simulation, range(3))
    assert found.evaluations == taken and found.whole == whole
    assert evaluations(simulation) == whole == simulation.draw(range(3)).nfe


def test_the_last_jump_of_euler_on_a_grid_to_zero_is_the_sample_itself():
    simulation = of(Circle(), sigmas=VE().grid(6), loop=Loop(ball=0.9))
    found = jumps(simulation, range(9))
    assert torch.equal(found.end, simulation.draw(range(9)).samples)
    torch.testing.assert_close(found.denoised[-1], found.end, rtol=0, atol=1e-15)


def test_jumps_do_not_depend_on_the_batch_and_belong_to_their_samples():
    simulation = of(Circle(), Heun())
    both = jumps(simulation, range(8))
    first = jumps(simulation, range(3))
    second = jumps(simulation, range(3, 8))
    assert torch.equal(both.denoised, torch.cat([first.denoised, second.denoised], 1))
    assert torch.equal(both.end, simulation.draw(range(8)).samples)


def test_shorter_runs_take_what_they_say():
    """Heun to 0 takes 2K - 1 evaluations: of 8 there are 1, 2, 3 and 4 steps."""
    choice = shorter(of(Circle(), Heun()), VE().grid, 8)
    assert [taken for taken, _ in choice] == [1, 3, 5, 7]
    for steps, (taken, other) in enumerate(choice, 1):
        assert torch.equal(other.sigmas, VE().grid(steps))
        assert other.draw(range(2)).nfe == taken


def test_an_adaptive_sampler_has_no_levels_to_jump_from():
    with pytest.raises(UsageError, match="RK45 is an adaptive sampler.*write sampler=euler"):
        jumps(of(Circle(), RK45()), range(2))


def test_the_command_says_what_the_maths_does(inside, tmp_path):
    line = "trajectory jump data=circle n=40 sampler.steps=6 metrics=quick figures=false".split()
    done = inside(*line, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "exact denoiser of circle in R^2, Euler, grid G6" in done.stdout
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    grid = VE(to_zero=False).grid(6)
    found = jumps(Simulation(Euler(), Circle().denoiser(), grid, (2,)), range(40))
    for level, left in zip(grid.tolist(), found.remaining().mean(1).tolist(), strict=True):
        assert values[f"jump/left@{level:.4g}"] == pytest.approx(left, rel=1e-12)
    distance = Circle().distance(found.denoised[3]).mean()
    assert values["jump/distance/mean@4"] == pytest.approx(float(distance), rel=1e-9)
    fresh = Simulation(Euler(), Circle().denoiser(), VE(to_zero=False).grid(4), (2,))
    distance = Circle().distance(fresh.draw(range(40)).samples).mean()
    assert values["continued/distance/mean@4"] == pytest.approx(float(distance), rel=1e-9)
    refused = inside(*line, "sampler=rk45", "hydra.run.dir=other")
    assert refused.returncode == 2 and "adaptive sampler" in refused.line
    assert not (tmp_path / "other").exists()


# 64 paths of another seed: geometry.md, section 5
PUBLISHED = {0: 0.906, 7: 0.681, 8: 0.574, 9: 0.338, 10: 0.102, 11: 0.006}


@pytest.mark.slow
def test_jumps_of_cifar10(real):
    """|r - x_0|/|x_0| at 80, 8.6, 5.8, 3.9, 2.5 and 1.6, within the sampling error of two means of
    64; below it is the last step's .002 |eps|/|x_0|. x itself is within a tenth of its end from
    level 17 on."""
    data = image_set(name="cifar10", root=str(real), flip=False)
    found = jumps(Simulation(Euler(), data.denoiser(), G20, data.shape), range(64))
    left = found.remaining()
    for level, expected in PUBLISHED.items():
        error = math.sqrt(2) * float(left[level].std()) / 8
        assert abs(float(left[level].mean()) - expected) < 3 * error, level
    assert float(left[12:].mean(1).max()) < 0.005
    states = found.remaining_of_states().mean(1)
    assert (states < 0.1).nonzero()[0].item() == 17
