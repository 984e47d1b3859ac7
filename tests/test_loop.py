"""What is done around any sampler: histories, final orders, analytical first steps, thresholds; and
noise that belongs to a sample."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from simulations import draw, made_by

from diffgeo.commands.reproduce.engine import execute
from diffgeo.config.named import names, sampler
from diffgeo.core import Fitted, Past, Run
from diffgeo.data import Circle, Mixture
from diffgeo.denoiser import AnalyticFirst, Clipped, Counted, Thresholded
from diffgeo.errors import UsageError
from diffgeo.metrics import FlowError, flow
from diffgeo.sampler import DDPM, DPMpp2M, Euler, GradientEstimation, Heun, steps
from diffgeo.schedule import VE
from diffgeo.schedule.discrete import Discrete, LinearBetas
from diffgeo.schedule.spacing import Exponential
from diffgeo.simulation import Loop, Simulation
from diffgeo.theory.orders import correlated_gaussian

LAW = Circle()
GRID = VE().grid(9)
f64 = torch.float64


def end(sampler, x, sigmas, **options):
    for step in steps(sampler, LAW.denoiser(), x, sigmas, None, **options):
        x = step.x
    return x


def points(n=20):
    return 80 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=f64)


def test_a_run_taken_up_from_its_history_is_the_undisturbed_run():
    grid = VE(to_zero=False).grid(12)
    x = points()
    history = []
    for k, step in enumerate(steps(DPMpp2M(), LAW.denoiser(), x, grid, None)):
        if k == 5:
            break
        history.append(Past(float(grid[k]), x, step.denoised))
        x = step.x
    assert torch.equal(end(DPMpp2M(), x, grid[5:], history=history), end(DPMpp2M(), points(), grid))
    assert not torch.equal(end(DPMpp2M(), x, grid[5:]), end(DPMpp2M(), points(), grid))


def test_lower_order_final_makes_the_last_step_plain():
    grid = VE(to_zero=False).grid(8)
    x = points()
    for step in steps(DPMpp2M(), LAW.denoiser(), x, grid[:-1], None):
        x = step.x
    last = end(Euler(), x, grid[-2:])
    assert torch.equal(end(DPMpp2M(), points(), grid, lower_order_final=True), last)
    assert (end(DPMpp2M(), points(), grid) - last).norm() > 1e-6


def test_lower_order_final_counts_down():
    """With memory 3 and 6 steps the method is shown 0, 1, 2, 2, 1, 0 earlier steps: as many as are
    left after this one, at most."""
    seen = []

    class Spy(GradientEstimation):
        memory = 3

        def step(self, denoise, x, sigma, sigma_next, history, noise):
            seen.append([past.sigma for past in history])
            return super().step(denoise, x, sigma, sigma_next, history, noise)

    grid = VE(to_zero=False).grid(6)
    end(Spy(), points(), grid, lower_order_final=True)
    levels = grid.tolist()
    assert seen == [[], levels[:1], levels[:2], levels[1:3], levels[3:4], []]


def test_the_analytical_first_step_saves_one_evaluation_and_is_exact_on_a_normal_law():
    std = 1.7
    normal = lambda x, sigma: x * std**2 / (std**2 + sigma**2)
    counted = Counted(normal)
    first = AnalyticFirst(counted, 80.0, std)
    x = points()
    torch.testing.assert_close(first(x, 80.0), normal(x, 80.0), rtol=1e-14, atol=0)
    assert counted.nfe == 0
    assert torch.equal(first(x, 79.0), normal(x, 79.0)) and counted.nfe == 1
    published = x / (1 + 80.0**2) ** 0.5  # eps = x/sqrt(1 + sigma^2)
    torch.testing.assert_close(
        (x - AnalyticFirst(normal, 80.0)(x, 80.0)) / 80, published, rtol=1.0 / 80**2, atol=0
    )
    plain, saved = (
        draw(Euler(), LAW.denoiser(), GRID, (2,), 50, loop=Loop(afs=afs)) for afs in (None, 1.0)
    )
    assert (plain.nfe, saved.nfe) == (9, 8) and 0 < (
        plain.samples - saved.samples
    ).abs().max() < 0.05


def test_dynamic_thresholding_against_its_definition():
    d = torch.tensor([[0.5, -0.25, 0.1], [4.0, -2.0, 1.0]], dtype=f64)
    out = Thresholded(lambda x, sigma: d, quantile=0.5)(d, 1.0)
    # s = 1 (at least), s = 2
    torch.testing.assert_close(out, torch.tensor([[0.5, -0.25, 0.1], [1.0, -1.0, 0.5]], dtype=f64))
    assert torch.equal(Clipped(lambda x, sigma: d, 1.5)(d, 1.0), d.clamp(-1.5, 1.5))


def test_the_history_of_a_clipped_run_holds_clipped_estimates():
    clipped = Clipped(LAW.denoiser(), 0.5)
    x = points()
    found = [step.denoised for step in steps(GradientEstimation(), clipped, x, GRID, None)]
    assert all(d.abs().max() <= 0.5 for d in found) and found[-1].abs().max() == 0.5
    drawn = draw(GradientEstimation(), LAW.denoiser(), GRID, (2,), 5, loop=Loop(clip=0.5)).samples
    assert drawn.abs().max() > 0.5  # gamma = 2 extrapolates past the clip


def test_a_discrete_network_is_asked_at_its_own_levels_only():
    trained = Discrete(betas=LinearBetas())
    asked = []
    exact = LAW.denoiser()
    denoise = Loop(rounding="nearest", trained=trained).around(
        lambda x, sigma: asked.append(float(sigma)) or exact(x, sigma), 80.0
    )
    end = draw(Heun(), denoise, VE(sigma_min=0.02).grid(6), (2,), 5)
    levels = trained.levels.tolist()
    assert len(asked) == end.nfe == 11 and all(
        min(abs(a - s) for s in levels) < 1e-12 * a for a in asked
    )


def test_samples_are_projected_on_a_ball():
    """Radially, and only those outside: images too."""
    normal = lambda x, sigma: x / (1 + sigma**2)
    free, inside = (
        draw(Euler(), normal, GRID, (2,), 50, loop=Loop(ball=ball)).samples for ball in (None, 1.0)
    )
    size = free.norm(dim=1, keepdim=True)
    assert 10 < int((size > 1).sum()) < 40
    torch.testing.assert_close(inside, torch.where(size > 1, free / size, free), rtol=1e-14, atol=0)
    images = torch.full((3, 1, 2, 2), 5.0, dtype=f64)
    images[0] = 0
    assert Loop(ball=2.0).kept(images).flatten(1).norm(dim=1).tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    "option",
    [
        {"afs": 0},
        {"afs": -1.0},
        {"threshold": 1.5},
        {"clip": 0.0},
        {"clip": "all"},
        {"ball": -1},
        {"rounding": "up"},
    ],
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(UsageError, match=f"loop.{next(iter(option))}="):
        Loop(**option)


@pytest.mark.parametrize("name", names("sampler"))
def test_a_sample_depends_on_its_seed_and_number_alone(name):
    """Not on the batch, nor on which others are drawn, nor on how a run is shared out: for every
    sampler of conf/sampler."""
    method = sampler(name, 9)
    law = Mixture([[-1, 0.5], [2, 0]], [[[0.1, 0], [0, 0.3]], [[0.5, 0.2], [0.2, 0.2]]], [0.3, 0.7])
    if isinstance(method, Fitted):
        method = method.fit(law.denoiser(), law)
    whole = draw(method, law.denoiser(), GRID, (2,), 40, seed=3).samples
    batched = draw(method, law.denoiser(), GRID, (2,), 40, seed=3, batch=7).samples
    part = draw(method, law.denoiser(), GRID, (2,), 5, seed=3, first=17).samples
    # the last bits are the vector units' own
    same = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    same(whole, batched)
    same(whole[17:22], part)
    assert (whole - draw(method, law.denoiser(), GRID, (2,), 40, seed=4).samples).abs().max() > 0.1


def test_flow_error_against_the_closed_form():
    """On a Gaussian, where the flow is known; the teacher's own error is below a thousandth of what
    it measures."""
    problem = correlated_gaussian()
    grid = VE(sigma_min=0.02, sigma_max=20, spacing=Exponential(), to_zero=False).grid(30)
    unit = problem.x / 20
    x = problem.x
    for step in steps(Heun(), problem.denoise, x, grid, None):
        x = step.x
    run = made_by(problem.denoise, x, sampler=Heun(), sigmas=grid, noise=unit, nfe=59)
    truth = (x - problem.end).square().sum(1).mean().sqrt()
    assert FlowError()(run, None)["flow/rms"] == pytest.approx(float(truth), rel=1e-3)
    assert FlowError(n=5)(run, None)["flow/rms"] == pytest.approx(
        float((x - problem.end)[:5].square().sum(1).mean().sqrt()), rel=1e-3
    )
    # read from a file
    assert FlowError()(run._replace(nfe=None), None) == {} == FlowError()(Run(x), None)
    stochastic = made_by(problem.denoise, x, sampler=DDPM(), sigmas=grid, noise=unit, nfe=30)
    assert FlowError()(stochastic, None) == {}


def test_flow_error_of_one_step_into_zero():
    """The flow from the first level to itself is none at all: X = D(x), which is Euler's step."""
    grid = VE().grid(1)
    drawn = draw(Euler(), LAW.denoiser(), grid, (2,), 5)
    run = made_by(LAW.denoiser(), drawn.samples, sigmas=grid, nfe=1)
    assert grid.tolist() == [80, 0] and FlowError()(run, None) == {"flow/rms": 0}
    assert FlowError()(run._replace(samples=drawn.samples + 3), None)["flow/rms"] == pytest.approx(
        math.sqrt(18)
    )


def test_one_denoiser_s_flow_is_kept_and_no_other(monkeypatch):
    """A sweep asks for the same few ends again and again; an earlier run's network is let go."""
    computed = []
    monkeypatch.setattr(
        flow, "flow", lambda denoise, x, first, last, *rest: computed.append((denoise, last)) or x
    )
    one = LAW.denoiser()
    other = lambda x, sigma: x
    x = points()
    ask = lambda denoise, low: FlowError()(
        made_by(denoise, x, sigmas=torch.tensor([2.0, low]), noise=x, nfe=1), None
    )
    for denoise, low in (
        (one, 0.5),
        (one, 0.25),
        (one, 0.5),
        (one, 0.25),
        (other, 0.5),
        (other, 0.5),
        (one, 0.5),
    ):
        ask(denoise, low)
    assert computed == [(one, 0.5), (one, 0.25), (other, 0.5), (one, 0.5)]
    assert flow._held.denoise is one and len(flow._held.ends) == 1


def test_the_trajectories_drawn_end_in_the_samples(tmp_path, monkeypatch):
    """With the options of the loop, the last orders among them."""
    drawn = []
    monkeypatch.setattr("diffgeo.plot.trajectories", lambda path, paths, *rest: drawn.append(paths))
    for other in ("samples", "fields"):
        monkeypatch.setattr(f"diffgeo.plot.{other}", lambda *given, **named: None)
    for options in ("", " loop.lower_order_final=true"):
        execute(
            "sample model=exact data=circle sampler=dpmpp_3m sampler.steps=6 n=70 metrics=none"
            + options,
            tmp_path / str(len(drawn)),
        )
    for i, paths in enumerate(drawn):
        np.testing.assert_allclose(
            paths.x[-1], np.load(tmp_path / str(i) / "samples.npy")[:64], rtol=1e-10, atol=1e-12
        )
    assert (drawn[0].x[-1] - drawn[1].x[-1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", names("sampler"))
def test_a_sampler_is_deterministic_where_it_draws_no_noise(name):
    """As a run tells: with other noise after the start the end is another one, or it is not."""
    method = sampler(name, 9)
    if isinstance(method, Fitted):
        method = method.fit(LAW.denoiser(), LAW)
    simulation = Simulation(method, LAW.denoiser(), GRID, (2,))
    start = simulation.start(range(5))
    other = replace(simulation, seed=1).start(range(5)).noise
    one, two = (
        simulation.path(start._replace(noise=noise)).x[-1] for noise in (start.noise, other)
    )
    assert simulation.deterministic == torch.equal(one, two)
