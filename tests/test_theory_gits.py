"""`diffgeo theory gits`: planned levels through the command line, into a sampler, and what they
gain."""

import json

import pytest
import torch

from diffgeo.data import Mixture
from diffgeo.sampler import IPNDM
from diffgeo.schedule import VE
from diffgeo.schedule.listed import Planned
from diffgeo.simulation import Simulation
from diffgeo.theory.gits import fit

MIXTURE = Mixture(
    [[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]],
    [[[0.1, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.0, 0.5]], [[0.2, 0.1], [0.1, 0.2]]],
)
QUICK = ("figures=false", "metrics=quick")


def flow_rms(done):
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("flow/rms"))
    return float(row.replace("↓", " ").split()[1])


def test_planned_levels_beat_karras_at_the_same_evaluations(inside, tmp_path):
    planned = inside("theory", "gits", "data=mixture", "most=10", "hydra.run.dir=plan")
    assert planned.returncode == 0, planned.stderr
    stored = json.loads((tmp_path / "plan" / "gits.json").read_text())
    teacher = Simulation(IPNDM(), MIXTURE.denoiser(), VE().grid(61), (2,))
    direct = fit(teacher, range(256), steps=10)
    assert stored["levels"] == direct["levels"] and stored["cost"] == direct["cost"]
    assert (
        json.loads((tmp_path / "plan" / "metrics.json").read_text())["gits/cost@10"]
        == stored["cost"]["10"]
    )
    assert sum(line.startswith("| 10 ") for line in planned.stdout.splitlines()) == 1
    torch.testing.assert_close(
        Planned(file=str(tmp_path / "plan" / "gits.json")).grid(10),
        torch.tensor(stored["levels"]["10"]).double(),
    )

    line = (
        "sample",
        "model=exact",
        "data=mixture",
        "sampler=euler",
        "sampler.steps=10",
        "n=400",
        *QUICK,
    )
    gits = flow_rms(
        inside(
            *line,
            "sampler.schedule=gits",
            "sampler.schedule.file=plan/gits.json",
            "hydra.run.dir=a",
        )
    )
    karras = flow_rms(inside(*line, "sampler.schedule=karras", "hydra.run.dir=b"))
    assert gits < 0.6 * karras


def test_the_plan_of_a_trained_network_is_of_its_own_trajectories(inside, tmp_path):
    trained = inside(
        "train",
        "data=points2",
        "model=edm",
        "trainer.steps=20",
        "n=50",
        *QUICK,
        "sampler.steps=3",
        "hydra.run.dir=net",
    )
    assert trained.returncode == 0, trained.stderr
    for name, model in ("learned", ["run=net"]), ("exact", ["data=points2"]):
        done = inside(
            "theory", "gits", *model, "most=4", "teacher.steps=20", "n=32", f"hydra.run.dir={name}"
        )
        assert done.returncode == 0, done.stderr
    learned, exact = (
        json.loads((tmp_path / name / "gits.json").read_text()) for name in ("learned", "exact")
    )
    assert len(learned["grid"]) == len(exact["grid"]) == 21  # the run's own sampler is no teacher
    assert learned["cost"]["4"] != pytest.approx(exact["cost"]["4"], rel=1e-3)


@pytest.mark.parametrize(
    "words, expected",
    [
        (["most=20", "teacher.steps=10"], "a teacher with 10 steps has plans for 1 to 10"),
        (["norm=l3"], "norm=l3"),
        (["sampler@teacher=nothing"], "there is no"),
    ],
)
def test_one_line_on_a_wrong_option_and_nothing_written(inside, tmp_path, words, expected):
    done = inside("theory", "gits", "data=normal", "n=4", *words, "hydra.run.dir=plan")
    assert done.returncode != 0 and expected in done.line
    assert not (tmp_path / "plan" / "config.yaml").exists()
