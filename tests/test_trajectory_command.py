"""`diffgeo trajectory`: its grid, its files, what it says and what it refuses."""

import csv
import json

import numpy as np
import pytest
import torch
from configs import composed

from diffgeo.analytic.images import ImageDenoiser
from diffgeo.config.build import grid_of
from diffgeo.config.line import prepare
from diffgeo.geometry.charts import CHARTS
from diffgeo.geometry.measure import measure, numbers_of
from diffgeo.geometry.observations import observations
from diffgeo.sampler import Euler
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

G20 = VE(to_zero=False).grid(20)
NUMBERS = ("deviation", "deviation_sigma", "chord", "kappa", "arc_over_chord", "turning")
TWO = ("data=points2", "data.points=[[1,0],[-1,0]]")


# the grid


@pytest.mark.parametrize("data", ["cifar10"])
def test_the_grid_is_the_published_one_whatever_the_law_would_choose(data):
    _, sigmas = grid_of(composed("trajectory", f"data={data}").sampler)
    torch.testing.assert_close(sigmas, G20, rtol=1e-14, atol=0)


def test_a_typed_grid_comes_before_both():
    line = prepare("trajectory", ["data=cifar10", "sampler.schedule=karras", "sampler.steps=7"])
    _, sigmas = grid_of(composed("trajectory", *line).sampler)
    torch.testing.assert_close(sigmas, VE().grid(7), rtol=1e-14, atol=0)
    assert float(sigmas[-1]) == 0


# the files


def test_one_path_digit_by_digit(inside, tmp_path):
    """noise=FILE gives the path of spec section 3; one path has no deviation, and the tables say
    nothing where there is nothing; no nan is written."""
    np.save(tmp_path / "start.npy", np.array([[48.0, 64.0]]) / 80)
    done = inside(
        "trajectory", *TWO, "noise=start.npy", "keep=true", "figures=false", "hydra.run.dir=one",
        "against=gaussian",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "one/metrics.json").read_text())
    keys = set()
    for chart in CHARTS:
        for path in ("sampling", "denoising"):
            keys |= {f"trajectory/{chart}/{path}/{number}" for number in NUMBERS}
    assert set(values) == keys
    assert values["trajectory/ve/sampling/deviation"] == pytest.approx(0.71493476, abs=6e-9)
    assert values["trajectory/ve/sampling/deviation_sigma"] == pytest.approx(3.8811, abs=6e-5)
    assert values["trajectory/vp/sampling/kappa"] == pytest.approx(0.12270134, abs=6e-9)
    assert values["trajectory/flow/denoising/chord"] == pytest.approx(0.99250014, abs=6e-9)
    assert values["trajectory/ve/denoising/deviation_sigma"] is None  # of a straight path

    paths = np.load(tmp_path / "one/paths.npy")
    assert paths.shape == (1, 21, 2) and paths[0, 0].tolist() == [48.0, 64.0]
    assert paths[0, -1].tolist() == pytest.approx((0.9991960313, 0.0016), abs=6e-11)

    with (tmp_path / "one/trajectory.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["series", "chart", "sigma", "mean", "sd", "n"]
    assert {row["sd"] for row in table} == {""} and {row["n"] for row in table} == {"1"}
    distance = [row for row in table if row["series"] == "x/distance" and row["chart"] == "ve"]
    for row, state in zip(distance, paths[0], strict=True):
        # at full precision
        assert float(row["mean"]) == pytest.approx(np.linalg.norm(state - paths[0, -1]), rel=1e-14)
    text = (tmp_path / "one/trajectory.json").read_text()
    assert "NaN" not in text and json.loads(text)["paths"]["ve/sampling"]["spread"] is None

    lines = done.stdout.splitlines()
    assert sum(line.startswith("|") for line in lines) <= 20
    said = [line for line in lines if line.startswith("Observation")]
    assert [line.split(":")[0] for line in said] == [
        "Observation 1 (chart ve)",
        "Observation 2 (chart ve)",
        "Observation 3 (chart ve)",
        "Observation 4 (every chart)",
        "Observation 5 (chart ve)",
    ]
    title = next(line for line in lines if "denoiser of" in line)
    for word in ("exact denoiser of points2", "Euler", "G20", "no step to 0", "n = 1", "chart ve"):
        assert word in title
    assert any(line.startswith("beside gaussian") for line in lines)


@pytest.mark.slow
def test_pictures_are_drawn_and_the_same_line_gives_the_same_bytes(inside, tmp_path):
    """With references, in another chart, by a method that draws noise, which is said."""
    line = (
        "trajectory", "data=mixture", "model=gaussian", "against=exact,identity", "n=8", "chart=vp",
        "sampler=euler_ancestral", "sampler.steps=6",
    )  # fmt: skip
    first = inside(*line, "hydra.run.dir=a")
    again = inside(*line, "hydra.run.dir=b", "batch=3", "figures=false")
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "which are not the flow's" in first.stdout
    assert "D(x) is nearest to" in first.stdout
    drawn = {path.stem for path in (tmp_path / "a/figures").glob("*.png")}
    assert drawn >= {"deviation", "magnitude", "distances", "cosine", "charts", "projection"}
    assert drawn >= {"four_series", "nearest"}
    a = json.loads((tmp_path / "a/metrics.json").read_text())
    b = json.loads((tmp_path / "b/metrics.json").read_text())
    assert a == pytest.approx(b, rel=1e-12)


REFUSED = ((("data=points2", "against=exact"), "against=exact is the model itself"),)
ALSO_REFUSED = (
    (("data=points2", "sampler=rk45"), "chooses its own levels"),
    (("data=digits", "keep=true", "n=2000000000"), "bytes, and the disk has"),
    (("data=points2", "against=best"), "write some of exact, gaussian"),
    (("data=points2", "chart=ou"), "write one of ve, vp, flow"),
    (("data=points2", "sampler.steps=2"), "write sampler.steps=3 or more"),
    (("data=points2", "window=3"), "a cubic needs 4 levels"),
    (("data=points2", "against=gaussian_classes"), "needs a law with classes"),
)


@pytest.mark.parametrize("words, said", REFUSED)
def test_what_is_refused_is_refused_in_a_line_and_nothing_is_written(inside, tmp_path, words, said):
    done = inside("trajectory", *words)
    assert done.returncode == 2 and said in done.line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words, said", ALSO_REFUSED)
def test_what_else_is_refused(inside, tmp_path, words, said):
    test_what_is_refused_is_refused_in_a_line_and_nothing_is_written(inside, tmp_path, words, said)


def test_one_image_has_no_denoising_path():
    """Nor nan, nor a verdict on how straight it is."""
    pixels = torch.randint(256, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    law = ImageDenoiser(pixels.to(torch.uint8))
    geometry = measure(Simulation(Euler(), law, G20, (1, 4, 4)), range(2))
    values = numbers_of(geometry)
    assert values["trajectory/ve/denoising/kappa"] is None
    assert values["trajectory/ve/denoising/chord"] == 0
    assert observations(geometry, "ve")[0].holds is None and geometry.atoms == 1
