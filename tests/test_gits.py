"""GITS: costs against a closed form, plans against every plan there is, and what they are for: a
smaller error at the same steps."""

import itertools
import json
import math
from dataclasses import dataclass

import pytest
import torch
from simulations import collect

from diffgeo.core import Step
from diffgeo.data import Circle, random_points
from diffgeo.errors import UsageError
from diffgeo.sampler import Euler, Heun
from diffgeo.sampler.base import Method
from diffgeo.schedule import VE
from diffgeo.schedule.listed import Planned
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation import Simulation
from diffgeo.store.files import write_json
from diffgeo.theory.gits import costs, fit, plan

V = 0.7  # of the Gaussian whose flow is x sqrt((V + s'^2)/(V + s^2))
GRID = VE(sigma_max=20, sigma_min=0.02, to_zero=False).grid(12)


def gaussian(x, sigma):
    return V / (V + sigma**2) * x


@dataclass(frozen=True)
class Exact(Method):
    """The flow of N(0, V) itself."""

    order = 99

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        return Step(
            x * math.sqrt((V + sigma_next**2) / (V + sigma**2)), sigma_next, denoise(x, sigma)
        )


@pytest.mark.parametrize("norm, p", [("l2", 2), ("l1", 1)])
def test_costs_of_a_gaussian_in_closed_form(norm, p):
    x = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cost = costs(collect(Exact(), gaussian, x, GRID), norm)
    s = GRID[:, None]
    jump = 1 + (GRID - s) * s / (V + s**2)  # Euler's factor from level i (row) to level j (column)
    flow = torch.sqrt((V + GRID**2) / (V + s**2))
    size = (
        torch.sqrt((V + s**2) / (V + GRID[0] ** 2))
        * torch.linalg.vector_norm(x.flatten(1), p, dim=1).mean()
    )
    exact = size * (jump - flow).abs()
    upper = torch.ones_like(exact, dtype=torch.bool).triu(1)
    torch.testing.assert_close(cost[upper], exact[upper], rtol=1e-9, atol=1e-12)
    assert bool(torch.isinf(cost[~upper]).all())


def test_the_costs_of_an_euler_teacher_vanish_next_to_the_diagonal():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cost = costs(collect(Euler(), gaussian, x, GRID))
    assert cost.diagonal(1).max() < 1e-13 < cost.diagonal(2).min()


def best(cost, k, coeff):
    """The cheapest of all plans with k jumps, each of them tried."""
    last = len(cost) - 1
    plans = [(0, *middle, last) for middle in itertools.combinations(range(1, last), k - 1)]
    return min(
        (sum(coeff**m * cost[i][j] for m, (i, j) in enumerate(itertools.pairwise(path))), path)
        for path in plans
    )


@pytest.mark.parametrize("coeff", [0.8, 1.0, 1.15])
@pytest.mark.parametrize("seed", [0, 1])
def test_plans_against_every_plan_there_is(coeff, seed):
    cost = torch.rand(11, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cost = torch.where(torch.ones(11, 11).triu(1) > 0, cost, torch.inf)
    plans = plan(cost, 10, coeff)
    assert list(plans) == list(range(1, 11))
    for k, (value, path) in plans.items():
        expected, where = best(cost.tolist(), k, coeff)
        assert value == pytest.approx(expected, rel=1e-12) and path == where
    assert plans[10].path == tuple(range(11)) and plans[1].path == (0, 10)


def fitted(seed=0, **options):
    circle = Circle()
    teacher = Simulation(Heun(), circle.denoiser(), VE(to_zero=False).grid(60), circle.shape, seed)
    return fit(teacher, range(64), steps=12, law="circle", **options)


@pytest.fixture(scope="module")
def planned():
    return fitted()


def test_a_fit_is_read_back_as_a_schedule(planned, tmp_path):
    write_json(tmp_path / "gits.json", planned)
    schedule = Planned(file=str(tmp_path / "gits.json"))
    levels = set(VE(to_zero=False).grid(60).tolist())
    for steps in range(1, 13):
        grid = schedule.grid(steps)
        assert grid.tolist() == planned["levels"][str(steps)] and levels.issuperset(grid.tolist())
        assert (float(grid[0]), float(grid[-1])) == (80, 0.002)
    assert json.loads((tmp_path / "gits.json").read_text()) == planned
    assert {k: planned[k] for k in ("teacher", "law", "n", "seed", "coeff", "norm", "nfe")} == {
        "teacher": "Heun()",
        "law": "circle",
        "n": 64,
        "seed": 0,
        "coeff": 1.15,
        "norm": "l2",
        "nfe": 120,
    }
    with pytest.raises(UsageError, match="steps=13"):
        schedule.grid(13)


def test_a_fit_repeats_and_more_steps_cost_less(planned):
    assert fitted() == planned
    cost = [planned["cost"][str(k)] for k in range(1, 13)]
    assert all(a > b for a, b in itertools.pairwise(cost))
    assert fitted(seed=1)["cost"] != planned["cost"]


def errors(law, planned, steps):
    """The mean distance of Euler's end states from the exact ones, on planned and on the two common
    levels, from noise of another seed."""
    denoise = law.denoiser()
    noise = 80 * torch.randn(
        100, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )

    def end(sampler, grid):
        return collect(sampler, denoise, noise, grid).x[-1]

    truth = end(Heun(), VE(to_zero=False).grid(500))
    grids = {
        "planned": torch.tensor(planned["levels"][str(steps)], dtype=torch.float64),
        "karras": VE(to_zero=False).grid(steps),
        "loglinear": VE(spacing=Geometric(), to_zero=False).grid(steps),
    }
    return {
        name: float((end(Euler(), grid) - truth).norm(dim=1).mean()) for name, grid in grids.items()
    }


def test_eulers_error_is_smaller_on_planned_levels():
    """On five points in the plane, whose flow bends: at 8 steps .023 against .061 and .062."""
    law = random_points(count=5, n=2, seed=0)
    planned = fit(
        Simulation(Heun(), law.denoiser(), VE(to_zero=False).grid(60), law.shape),
        range(256),
        steps=10,
    )
    for steps in (5, 8, 10):
        found = errors(law, planned, steps)
        assert found["planned"] < 0.75 * min(found["karras"], found["loglinear"]), found


def test_a_plan_does_not_see_what_the_flow_contracts(planned):
    """On the circle the flow is radial and forgives every early error; the plan, which counts them
    all alike, loses to both."""
    found = errors(Circle(), planned, 8)
    assert found["planned"] > 1.5 * max(found["karras"], found["loglinear"]), found


def test_the_published_plan_lies_on_a_grid_of_61_rho_7_levels():
    """CIFAR-10 in 6 steps (Chen et al. 2024); it cannot be planned here without the network, but
    its levels are levels of ours."""
    published = [80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002]
    grid = VE(to_zero=False).grid(60)
    assert all(float((grid - level).abs().min()) < 5.1e-5 for level in published)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: plan(torch.rand(5, 5), 5), "plans for 1 to 4"),
        (lambda: plan(torch.rand(5, 5), 0), "steps=0"),
        (lambda: plan(torch.rand(5, 5), 2, coeff=0), "coeff=0"),
        (lambda: fitted(norm="l3"), "norm=l3"),
    ],
)
def test_bad_options_say_what_to_write(make, says):
    with pytest.raises(UsageError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value) and "write" in str(caught.value)
