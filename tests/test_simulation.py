"""Whatever looks at a run looks at that run: trajectories end in its own samples, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffgeo.commands.reproduce.engine import execute
from diffgeo.config.named import names, sampler
from diffgeo.core import Fitted
from diffgeo.data import Circle, Mixture
from diffgeo.errors import UsageError
from diffgeo.run import load
from diffgeo.sampler import DPUM, EDMChurn, Euler
from diffgeo.schedule import VE
from diffgeo.schedule.stages import Stages
from diffgeo.simulation import ClassLabel, Loop, Simulation

GRID = VE().grid(9)
LAW = Mixture([[-1, 0.5], [2, 0]], [[[0.1, 0], [0, 0.3]], [[0.5, 0.2], [0.2, 0.2]]], [0.3, 0.7])
LOOP = Loop(afs=1.0, lower_order_final=True, threshold=0.9, clip=2.0, ball=1.5)


@pytest.mark.parametrize("loop", [Loop(), LOOP], ids=["plain", "loop"])
@pytest.mark.parametrize("name", names("sampler"))
def test_a_trajectory_ends_in_the_samples(name, loop):
    method = sampler(name, 9)
    if isinstance(method, Fitted):
        method = method.fit(LAW.denoiser(), LAW)
    noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for given in (None, noise):
        simulation = Simulation(method, LAW.denoiser(), GRID, (2,), 3, loop, noise=given, first=5)
        numbers = range(7, 15)
        path = simulation.trajectory(numbers)
        assert torch.equal(path.x[-1], simulation.draw(numbers).samples)
        assert torch.equal(path.x[0], simulation.start(numbers).x)


def test_classes_follow_the_numbers_of_the_samples():
    """D is the class of the row: sample i of label=all ends in i mod 3, whoever asks for it."""
    denoise = lambda x, sigma, label=None: label[:, None].double().expand(x.shape)
    simulation = Simulation(Euler(), denoise, GRID, (2,), condition=ClassLabel("all", classes=3))
    numbers = range(4, 10)
    assert simulation.trajectory(numbers).x[-1][:, 0].tolist() == [1, 2, 0, 1, 2, 0]
    assert torch.equal(simulation.trajectory(numbers).x[-1], simulation.draw(numbers, 4).samples)


def test_given_noise_belongs_to_the_samples_that_it_was_given_for():
    unit = torch.arange(6, dtype=torch.float64).view(3, 2)
    simulation = Simulation(Euler(), Circle().denoiser(), GRID, (2,), noise=unit, first=10)
    assert torch.equal(simulation.start(range(11, 13)).x, 80 * unit[1:])
    for numbers in (range(9, 11), range(11, 14)):
        with pytest.raises(UsageError, match="noise is given for 10 to 12"):
            simulation.start(numbers)


def test_samplers_that_must_know_their_grid_are_told_it():
    """S_churn is shared among the steps of the grid, and DPUM's sub-steps are as long as its grid's
    steps of time."""
    churned = Simulation(EDMChurn(s_churn=4.0), Circle().denoiser(), GRID, (2,))
    assert churned.method == EDMChurn(s_churn=4.0, n=9) and EDMChurn(n=3).on(GRID).n == 3
    assert replace(churned, sigmas=VE().grid(20)).method.n == 20
    stages = Stages(L=4, t_max=3)
    for steps in (None, 12, 60):
        method = DPUM(stages).on(stages.grid(steps))
        assert method.corrector.steps == round(0.5 / stages.h(steps))


def drawn_and_shown(tmp_path, monkeypatch, command):
    """The samples of a command, and the trajectories in its picture."""
    shown = []
    monkeypatch.setattr("diffgeo.plot.trajectories", lambda path, paths, *rest: shown.append(paths))
    for other in ("samples", "fields"):
        monkeypatch.setattr(f"diffgeo.plot.{other}", lambda *given, **named: None)
    folder = tmp_path / str(abs(hash(command)))
    execute(command, folder)
    return np.load(folder / "samples.npy"), shown[0], folder


@pytest.mark.parametrize(
    "options",
    [
        "sampler=dpmpp_3m loop.lower_order_final=true",
        "sampler=ddpm first=9",
        "sampler=euler loop.ball=.5",
        "noise={noise}",
        "noise={noise} first=3 sampler=edm_churn",
    ],
)
def test_the_picture_of_a_run_shows_its_own_samples(tmp_path, monkeypatch, options):
    """noise: one row, repeated. The picture used to show 64 other paths."""
    noise = tmp_path / "one.npy"
    np.save(noise, np.tile([[0.3, -1.2]], (50, 1)))
    common = "sample model=exact data=circle sampler.steps=6 n=50 metrics=none"
    command = f"{common} {options.format(noise=noise)}"
    samples, paths, folder = drawn_and_shown(tmp_path, monkeypatch, command)
    assert np.array_equal(paths.x[-1].numpy(), samples)
    again = load(folder)
    assert np.array_equal(again.simulation.trajectory(again.numbers).x[-1].numpy(), samples)


def test_evaluate_looks_at_the_run_s_own_samples(tmp_path, monkeypatch):
    """The budget and the picture of `evaluate run=` follow the noise and the numbers of the run."""
    noise = tmp_path / "one.npy"
    np.save(noise, np.tile([[0.3, -1.2]], (32, 1)))
    _, _, folder = drawn_and_shown(
        tmp_path,
        monkeypatch,
        "sample model=exact data=circle sampler=heun sampler.steps=6 metrics=none first=4 "
        f"noise={noise}",
    )
    from diffgeo.store.files import read_json

    shown = []
    monkeypatch.setattr("diffgeo.plot.trajectories", lambda path, paths, *rest: shown.append(paths))
    execute(
        f"evaluate run={folder} metrics=budget metrics.budget.n=16 metrics.budget.fine=8 "
        "metrics.budget.steps=[]",
        tmp_path / "evaluated",
    )
    assert np.array_equal(shown[0].x[-1].numpy(), np.load(folder / "samples.npy"))
    assert read_json(tmp_path / "evaluated" / "metrics.json")["budget/rerun"] == 0
