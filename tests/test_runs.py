"""What a line takes over from the runs that it names."""

import json
from shutil import copytree

import numpy as np
import pytest

QUICK = (
    "trainer.steps=20 trainer.batch=128 n=50 sampler.steps=4 metrics=quick figures=false "
    "net.width=8 net.depth=1"
)


@pytest.fixture(scope="module")
def all_runs(made):
    """Two of one kind, a and b, and one of another, c."""
    return made(
        f"train model=epsilon data=circle {QUICK} seed=0 hydra.run.dir=a",
        f"train model=epsilon data=circle {QUICK} seed=1 hydra.run.dir=b",
        f"train model=cem data=line {QUICK} hydra.run.dir=c",
    )


@pytest.fixture
def runs(all_runs, tmp_path):
    """A copy of them, for one test."""
    return copytree(all_runs, tmp_path, dirs_exist_ok=True)


def config(folder):
    from omegaconf import OmegaConf

    return OmegaConf.load(folder / "config.yaml")


def test_a_sweep_over_runs_of_one_kind_takes_their_law_and_their_model(inside, runs):
    done = inside("sample", "-m", "run=a,b", "sampler=euler")
    assert done.returncode == 0, done.stderr
    (sweep,) = (runs / "outputs/sweeps").iterdir()
    for job, run in (("0", "a"), ("1", "b")):
        made = config(sweep / job)
        assert "Circle" in str(made.data) and "Epsilon" in str(made.model) and made.run == run
        alone = inside(
            "sample", f"run={run}", "seed=0", "sampler=euler", f"hydra.run.dir=alone_{run}"
        )
        assert alone.returncode == 0, alone.stderr
        assert np.array_equal(
            np.load(sweep / job / "samples.npy"), np.load(runs / f"alone_{run}/samples.npy")
        )


def test_runs_of_different_kinds_are_refused_in_one_sweep(inside, runs):
    done = inside("sample", "-m", "run=a,c", "sampler=euler")
    assert done.returncode == 2 and "these runs differ in data" in done.line


def test_an_option_that_is_off_makes_no_other_run(tmp_path):
    """The folder of an older diffgeo goes on: it had no such option."""
    from diffgeo.run import RunFolder

    old = {"seed": 0, "data": {"low": -1.0}}
    now = {"seed": 0, "data": {"low": -1.0, "blur": 0.0}, "operator": None, "y": None}
    folder = RunFolder(tmp_path, "train", now)
    assert folder.differs_from(old) == []
    assert folder.differs_from(old | {"seed": 7}) == ["seed"]
    assert folder.differs_from(old | {"y": [1.2]}) == ["y"]
    assert folder.differs_from({"seed": 0}) == ["data.low"]


def test_the_run_of_another_command_is_refused_with_its_option():
    from diffgeo.config.strangers import check_kind
    from diffgeo.errors import UsageError

    check_kind(
        "r", ["data.blur", "schedule@sampler.schedule", "hydra.run.dir"], {"data", "schedule"}
    )
    with pytest.raises(UsageError, match="run=r was made with draws=, which this command does not"):
        check_kind("r", ["data", "draws"], {"data"})


def test_theory_takes_the_run_s_model_and_the_line_s_law(inside, runs):
    assert (
        inside(
            "theory",
            "admissibility",
            "run=a",
            "n=20",
            "sampler.steps=4",
            "figures=false",
            "hydra.run.dir=own",
        ).returncode
        == 0
    )
    assert (
        inside(
            "theory",
            "admissibility",
            "run=a",
            "data=line",
            "n=20",
            "sampler.steps=4",
            "figures=false",
            "hydra.run.dir=other",
        ).returncode
        == 0
    )
    own = config(runs / "own")
    other = config(runs / "other")
    assert "Epsilon" in str(own.model) and "Circle" in str(own.data)
    assert "Epsilon" in str(other.model) and "Line" in str(other.data)
    assert (
        inside(
            "theory",
            "admissibility",
            "run=c",
            "model=exact",
            "n=20",
            "sampler.steps=4",
            "figures=false",
            "hydra.run.dir=exact",
        ).returncode
        == 0
    )
    assert "exact" in config(runs / "exact").model._target_


def test_a_run_with_first_can_be_evaluated(inside, tmp_path):
    assert (
        inside(
            "sample",
            "model=exact",
            "data=circle",
            "first=5",
            "n=20",
            "metrics=quick",
            "figures=false",
            "hydra.run.dir=run",
        ).returncode
        == 0
    )
    done = inside("evaluate", "run=run", "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    values = [
        json.loads((tmp_path / f / "metrics.json").read_text())["distance/mean"]
        for f in ("run", "again")
    ]
    assert values[0] == values[1]
