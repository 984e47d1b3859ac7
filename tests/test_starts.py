"""Late starts: what they are made of, the grids they go down, and what they cost, to the printed
digit of geometry.md, F10."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import composed, every

from diffgeo.commands.reproduce.engine import execute
from diffgeo.config.beginning import beginning
from diffgeo.config.build import build, grid_of
from diffgeo.data import Circle, Gaussian, Mixture, Points
from diffgeo.data.reference import gaussian
from diffgeo.errors import UsageError
from diffgeo.geometry.late_start import (
    Affine,
    affine,
    coupled_w2,
    exact_w2,
    line_of,
    share_below,
)
from diffgeo.metrics import Budget
from diffgeo.run import load
from diffgeo.sampler import ChartEuler, Euler, Heun
from diffgeo.schedule import VE, VP
from diffgeo.schedule.below import below
from diffgeo.schedule.discrete import Discrete, EvenTimesteps
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow
from diffgeo.simulation.initial import GaussianAt, Prior, Teleport

LAW = Mixture([[-2.0], [1.0]], [[[0.04]], [[0.09]]], [0.3, 0.7])
LINE = line_of(LAW)
FITTED = gaussian(LAW)
PLANE = Mixture([[-1, 0.5], [2, 0]], [[[0.1, 0], [0, 0.3]], [[0.5, 0.2], [0.2, 0.2]]], [0.3, 0.7])
F10 = [
    (0.5, "0.2954972", "0.3096878", "1.0309910"),
    (1, "0.2065474", "0.3112060", "0.6008647"),
    (2, "0.1136636", "0.3045548", "0.2562308"),
    (4, "0.0446369", "0.3009748", "0.0533729"),
    (8, "0.0144379", "0.3001515", "0.0632150"),
    (16, "0.0042425", "0.3000207", "0.0577888"),
    (80, "0.0001871", "0.3000002", "0.0263057"),
]


# on the line


@pytest.mark.parametrize("sigma, matched, below_gap, prior", F10)
def test_the_exact_cost_of_a_late_start(sigma, matched, below_gap, prior):
    start = affine(GaussianAt(FITTED), sigma)
    assert start.mean == pytest.approx(0.1) and start.deviation**2 - sigma**2 == pytest.approx(
        1.965
    )
    assert f"{exact_w2(LINE, start, sigma):.7f}" == matched
    assert f"{share_below(LINE, start, sigma)[0]:.7f}" == below_gap
    assert f"{exact_w2(LINE, affine(Prior(), sigma), sigma):.7f}" == prior


@pytest.mark.parametrize("kind", ["gaussian_at", "teleport", "prior"])
def test_samples_of_a_late_start_cost_what_the_integral_says(kind):
    """Noise at the middles of equal shares, so that nothing is chance; Heun's steps are fine."""
    made = {
        "gaussian_at": GaussianAt(FITTED),
        "teleport": Teleport(FITTED, Heun(), 20.0),
        "prior": Prior(),
    }
    u = (torch.arange(8_000, dtype=torch.float64) + 0.5) / 8_000
    unit = torch.special.ndtri(u)[:, None]
    grid = VE(sigma_min=0.01, sigma_max=20.0).below(2.0).grid(60)
    simulation = Simulation(Heun(), LAW.denoiser(), grid, (1,), noise=unit, initial=made[kind])
    numbers = range(len(u))
    samples = simulation.draw(numbers).samples
    found, _ = coupled_w2(LINE, samples, simulation.start(numbers).unit)
    expected = exact_w2(LINE, affine(made[kind], 2.0), 2.0)
    assert found == pytest.approx(expected, rel=0.01)


def test_a_gaussian_is_moved_in_closed_form():
    """T is a line there: a prior's mean becomes m (1 - r), its deviation sigma r, r^2 = v/(v +
    sigma^2)."""
    law = Gaussian([0.7], [[0.36]])
    line = line_of(law)
    assert exact_w2(line, affine(GaussianAt(gaussian(law)), 3.0), 3.0) < 1e-14
    r = math.sqrt(0.36 / (0.36 + 9))
    expected = math.hypot(0.7 * r, 0.6 - 3 * r)
    assert exact_w2(line, affine(Prior(), 3.0), 3.0) == pytest.approx(expected, rel=1e-13)


def test_two_points_cost_their_distance_times_the_share_on_the_wrong_side():
    line = line_of(Points([[-1.0], [1.0]], [0.25, 0.75]))
    start = Affine(0.0, 1.5)
    share = float(share_below(line, start, 1.5)[0])
    # the middle of the two at sigma: where the weighted densities meet, F = 1/4 is elsewhere
    assert exact_w2(line, start, 1.5) ** 2 == pytest.approx(4 * abs(share - 0.25), rel=1e-11)
    assert exact_w2(line_of(Points([[-1.0], [1.0]])), start, 1.5) < 1e-12


def test_what_has_no_line():
    assert line_of(Circle()) is None and line_of(PLANE) is None


# what a start is made of


def test_gaussian_at_has_the_covariance_of_its_level_and_the_symmetric_root():
    made = GaussianAt(gaussian(PLANE))
    mean = made(torch.zeros(1, 2).double(), 3.0)[0]
    root = (made(torch.eye(2).double(), 3.0) - mean).mT
    torch.testing.assert_close(mean, PLANE.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(root, root.mT, rtol=1e-13, atol=0)
    apart = PLANE.means - PLANE.mean
    covariance = torch.einsum("k,kij->ij", PLANE.components, PLANE.covariances)
    covariance = covariance + (apart.mT * PLANE.components) @ apart
    torch.testing.assert_close(
        root @ root.mT, covariance + 9 * torch.eye(2).double(), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("method", [Euler(), ChartEuler(VP())], ids=["plain", "chart"])
def test_teleport_is_the_gaussian_s_flow_from_the_sampler_s_own_start(method):
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)).double()
    fitted = gaussian(PLANE)
    made = Teleport(fitted, method, 50.0)(z, 2.0)
    expected = flow(fitted, method.start(z, 50.0), 50.0, 2.0, 200)
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)


def test_starts_of_one_sample_share_its_noise_and_its_later_draws():
    simulation = Simulation(Euler(), PLANE.denoiser(), VE().grid(4), (2,), 5)
    own = simulation.start(range(3))
    for initial in (Prior(), GaussianAt(gaussian(PLANE))):
        other = replace(simulation, initial=initial).start(range(3))
        assert torch.equal(other.unit, own.unit) and torch.equal(other.noise(), own.noise())
        simulation.start(range(3))
        own = simulation.start(range(3))
    assert torch.equal(replace(simulation, initial=Prior()).start(range(3)).x, own.x)


# the grid from there down


def test_every_schedule_is_laid_from_a_level_of_its_own_by_its_own_rule():
    for name, node in every("schedule", "folder.folder=null").items():
        if name in ("gits", "levels", "diffusers", "folder"):
            continue
        schedule = build(node)
        whole = schedule.grid(12)
        at = float(whole[4]) * 1.02
        grid = below(schedule, whole, at).grid(12)
        assert float(grid[0]) == pytest.approx(at, rel=0.01), name
        assert grid[-1] == whole[-1] and bool((grid.diff() < 0).all()), name
        if not isinstance(schedule, Discrete):
            assert float(grid[0]) == at or name == "stages"
        assert below(schedule, whole, float(whole[0])) is schedule


def test_levels_are_equally_far_apart_in_the_schedule_s_own_coordinate():
    karras = VE().below(8.0).grid(6)[:-1] ** (1 / 7)
    torch.testing.assert_close(karras.diff(), karras.diff()[:1].expand(5), rtol=1e-11, atol=0)
    assert VE().below(8.0).grid(6)[0] == 8
    vp = VP(to_zero=False)
    t = vp.t(vp.below(3.0).grid(7))
    torch.testing.assert_close(t.diff(), t.diff()[:1].expand(7), rtol=1e-9, atol=0)


def test_a_discrete_late_start_is_linspace_from_its_timestep():
    """seq = int(linspace(0, T', n)) of the published code, down to t = 0."""
    schedule = Discrete(timesteps=EvenTimesteps())
    at = float(schedule.levels[500]) * 1.0005
    found = below(schedule, schedule.grid(10), at).grid(10)
    expected = schedule.levels[np.linspace(0, 500, 11).astype(int)[::-1].copy()]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


# the options


def asked(*words):
    cfg = composed("sample", "data=mixture", "sampler=euler", "sampler.steps=8", *words)
    chart, sigmas = grid_of(cfg.sampler)
    return beginning(cfg, build(cfg.data), Euler(), chart, sigmas)


def test_left_open_nothing_is_changed():
    found = asked()
    assert found.initial is None and torch.equal(found.sigmas, found.chart.grid(8))
    at_top = asked("init=prior", "at=200")
    assert torch.equal(at_top.sigmas, found.sigmas) and at_top.chart == found.chart


@pytest.mark.parametrize(
    "words, message",
    [
        (["init=middle"], "init=middle: write null, or one of prior, gaussian_at, teleport"),
        (["at=201"], "at=201 is above the first level of the grid, 200: write at=200 or less"),
        (["at=0"], "at=0: write a level above 0"),
        (["at=.01"], "at=0.01 is not above the last positive level of the grid, 0.01"),
        (["at=soon"], "at=soon is not a number or null"),
        (
            [
                "at=50",
                "schedule@sampler.schedule=levels",
                "sampler.schedule.sigmas=[80,10,0]",
                "sampler.steps=2",
            ],
            "at=50: Levels lists its levels",
        ),
    ],
)
def test_a_start_that_there_is_not(words, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        asked(*words)


def test_whoever_looks_at_a_late_started_run_sees_its_own_samples(tmp_path, capsys):
    run = tmp_path / "run"
    execute(
        "sample model=exact data=mixture sampler=heun sampler.steps=6 n=16 metrics=none "
        "figures=false init=teleport at=3",
        run,
    )
    samples = torch.from_numpy(np.load(run / "samples.npy"))
    again = load(run)
    assert float(again.simulation.sigmas[0]) == 3
    path = again.simulation.trajectory(again.numbers)
    assert torch.equal(path.x[-1], samples)
    unit = again.simulation.start(range(16)).unit
    begun = Teleport(gaussian(again.data), Heun(), 200.0)(unit, 3.0)
    torch.testing.assert_close(path.x[0], begun, rtol=1e-14, atol=0)
    # an error budget looks at other numbers of steps from the same level on
    grids = Budget(steps=[3], schedule=VE()).grids(again.simulation)
    assert [float(grid[0]) for grid in grids.values()] == [3, 3] and list(grids) == [6, 3]


def test_start_compares_starts_and_prints_the_exact_distance(inside, tmp_path):
    law = (
        "data=mixture",
        "data.means=[[-2],[1]]",
        "data.covariances=[[[.04]],[[.09]]]",
        "data.weights=[.3,.7]",
    )
    line = ("trajectory", "start", *law, "n=30", "metrics=quick", "figures=false")
    done = inside(*line, "init=gaussian_at,prior", "at=2,8", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    for _, matched, _, prior in (F10[2], F10[4]):
        assert matched in done.stdout and prior in done.stdout
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"{values['prior/start/w2_exact@8']:.7f}" == F10[4][3]
    assert values["gaussian_at/sampling/nfe@2"] == 39
    assert "plain/start/w2_exact@200" in values
    refused = inside(*line, "at=2,800", "hydra.run.dir=other")
    assert refused.returncode == 2 and "at=800 is above the first level" in refused.line
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_sweep_of_starts_ends_in_one_table(inside, tmp_path):
    """Nine jobs, of one start each, whose numbers are called as `sample` calls them."""
    line = "trajectory start init=gaussian_at,teleport,prior at=16,8,4 -m data=mixture n=100"
    done = inside(*line.split(), "figures=false", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "sweep" / "compare.md").read_text().splitlines()
    assert sum(row.startswith(("| 16 ", "| 8 ", "| 4 ")) for row in rows[:12]) == 9
    one = json.loads((tmp_path / "sweep" / "0" / "metrics.json").read_text())
    execute(
        "sample model=exact data=mixture n=100 sampler.steps=20 init=gaussian_at at=16 "
        "figures=false",
        tmp_path / "sampled",
    )
    other = json.loads((tmp_path / "sampled" / "metrics.json").read_text())
    assert one["transport/w2"] == other["transport/w2"]
