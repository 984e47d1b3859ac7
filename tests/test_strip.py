"""The estimates of x0 on the way to a sample: values of an independent computation for two points,
and the pictures of a run and of a sweep."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffgeo.core import Run, Trajectory
from diffgeo.data import image_set
from diffgeo.data.points import Points
from diffgeo.geometry.strip import aims, strip
from diffgeo.report.comparison import Row
from diffgeo.report.figures import View
from diffgeo.report.strips import draw, of_sweep, shows
from diffgeo.sampler import DDPM, Euler, GradientEstimation
from diffgeo.simulation import Simulation

LEVELS = torch.tensor([40.0, 8.63, 1.85, 0.398, 0.0858, 0.01], dtype=torch.float64)

BELIEVED = {
    "ddim": ["0.007500", "0.034827", "0.168891", "0.925986", "1.000000"],
    "ge": ["0.007500", "0.034827", "0.174979", "0.979163", "1.000000"],
}
ENDS = {"ddim": "0.974593", "ge": "0.572701"}
AIMED = ["0.007500", "0.062155", "0.293661", "1.690197", "0.463086"]


def way(sampler) -> Trajectory:
    """From x = 12 at sigma = 40, with +-1 in R for the law."""
    unit = torch.tensor([[12.0 / 40.0]], dtype=torch.float64)
    simulation = Simulation(sampler, Points([[1.0], [-1.0]]).denoiser(), LEVELS, (1,), noise=unit)
    return simulation.trajectory(range(1))


def shown(values) -> list[str]:
    return [f"{value:.6f}" for value in values.flatten().tolist()]


@pytest.mark.parametrize("name, sampler", [("ddim", Euler()), ("ge", GradientEstimation())])
def test_two_points_in_r(name, sampler):
    found = strip(way(sampler))
    assert shown(found.columns) == [*BELIEVED[name], ENDS[name]]
    assert found.levels.tolist() == LEVELS[:-1].tolist()


def test_gradient_estimation_aims_beyond_the_law_where_its_dimension_is_low():
    found = strip(way(GradientEstimation()), aimed=True)
    assert shown(found.columns) == [*AIMED, ENDS["ge"]]


def test_ddim_aims_at_what_it_believes():
    paths = way(Euler())
    assert torch.allclose(aims(paths), paths.denoised, atol=1e-12)


def test_the_last_aim_of_a_run_to_zero_is_its_sample():
    law = Points([[1.0, 0.0], [-1.0, 0.5]])
    sigmas = torch.tensor([5.0, 1.0, 0.2, 0.0], dtype=torch.float64)
    paths = Simulation(DDPM(), law.denoiser(), sigmas, (2,)).trajectory(range(3))
    assert torch.equal(aims(paths)[-1], paths.x[-1])


def test_a_long_way_keeps_its_ends():
    x = torch.arange(21.0).view(21, 1, 1)
    sigma = torch.linspace(20, 0, 21)
    found = strip(Trajectory(x, 100 + x[:-1], sigma, 20), most=5)
    assert found.columns.flatten().tolist() == [100, 105, 110, 114, 119, 20]
    assert found.levels.tolist() == [20, 15, 10, 6, 1]


def test_runs_of_pictures_are_rows_of_one_sheet(tmp_path):
    """Those that have a strip; one of other pictures makes no sheet."""
    rows = []
    for number, sampler in enumerate((Euler(), GradientEstimation())):
        law = image_set("digits")
        simulation = Simulation(sampler, law.denoiser(), LEVELS, tuple(law.shape))
        run = Run(simulation.draw(range(1)).samples, numbers=range(1), simulation=simulation)
        folder = tmp_path / str(number)
        view = View(SimpleNamespace(data=law, figures=("strip",)), run, {}, folder)
        draw(folder / "figures" / "strip.png", view)
        columns = np.load(folder / "strip.npy")
        assert columns.dtype == np.uint8 and columns.shape == (6, 1, 8, 8)
        assert np.array_equal(columns[-1], law.quantize(run.samples)[0].numpy())
        rows.append(Row(str(number), {"sampler": str(number)}))
    rows.append(Row("none", {"sampler": "none"}, status="not finished"))
    assert of_sweep(tmp_path, rows) == [tmp_path / "strip.png"]
    assert of_sweep(tmp_path, rows[:1]) == [] and not (tmp_path / "strip.png").exists()
    np.save(tmp_path / "1" / "strip.npy", np.zeros((6, 3, 9, 9), np.uint8))
    assert of_sweep(tmp_path, rows) == []


@pytest.mark.slow
def test_a_sweep_has_a_row_a_sampler(inside, tmp_path):
    done = inside(
        *("sample", "model=exact", "data=digits", "n=2", "sampler=ddim,gradient_estimation"),
        *("sampler.steps=3", "figures=[strip]", "metrics=none", "-m", "hydra.sweep.dir=sweep"),
    )
    assert done.returncode == 0, done.stderr
    assert "strip.png" in done.stdout
    for job in ("0", "1"):
        folder = tmp_path / "sweep" / job
        columns = np.load(folder / "strip.npy")
        assert columns.dtype == np.uint8 and columns.shape == (4, 1, 8, 8)
        assert np.array_equal(columns[-1], np.load(folder / "samples.npy")[:1])
        told = json.loads((folder / "strip.json").read_text())
        assert len(told["levels"]) == 3 and told["truth"] is None
        assert (folder / "figures" / "strip.png").exists()
    assert (tmp_path / "sweep" / "strip.png").stat().st_size > 3000


def test_points_are_drawn_over_their_law_and_only_by_name(tmp_path):
    law = Points([[1.0, 0.0], [-1.0, 0.5]])
    simulation = Simulation(Euler(), law.denoiser(), LEVELS, (2,))
    samples = simulation.draw(range(20)).samples
    run = Run(samples, numbers=range(20), simulation=simulation)
    asked = SimpleNamespace(data=law, figures=("strip_aim",))
    view = View(asked, run, {}, tmp_path)
    assert shows(view)
    draw(tmp_path / "figures" / "strip_aim.png", view)
    columns = np.load(tmp_path / "strip_aim.npy")
    assert columns.shape == (6, 20, 2)
    assert np.allclose(columns[-1], samples.numpy())
    truth = json.loads((tmp_path / "strip_aim.json").read_text())["truth"]
    assert {tuple(point) for point in truth} == {(1.0, 0.0), (-1.0, 0.5)}
    every = SimpleNamespace(data=law, figures=True)
    assert not shows(view._replace(experiment=every))
    assert not shows(view._replace(run=run._replace(simulation=None)))
