"""`metrics=budget` from the command line, on a network trained for a moment: tables, numbers,
picture, refusals."""

import json

import pytest

TINY = (
    "data=line",
    "model=cem",
    "trainer.steps=30",
    "n=64",
    "figures=false",
    "metrics=none",
    "sampler.steps=16",
)
SMALL = ("metrics.budget.n=64", "metrics.budget.fine=16")


def test_evaluate_prints_writes_and_draws_the_budget(inside, tmp_path):
    trained = "trained"
    assert inside("train", *TINY, "hydra.run.dir=trained").returncode == 0
    done = inside(
        "evaluate",
        f"run={trained}",
        "metrics=budget",
        *SMALL,
        "figures=[budget]",
        "hydra.run.dir=measured",
    )
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    rows = ("truncation", "initialization", "discretization", "score", "interaction")
    assert sum(values[f"budget/{row}_part"] for row in rows) == pytest.approx(
        values["budget/total"], rel=1e-12
    )
    # it is the run's own samples
    assert values["budget/rerun"] < 1e-6 * values["budget/total"] and values["budget/steps"] == 16
    assert values["budget/score"] > 2 * values["budget/discretization"]  # thirty steps teach little
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("error budget at 16 steps, by displacement of samples of the same noise")
        for line in lines
    )
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == ["4", "8", "16", "32", "64"]
    score = " ".join(next(line for line in lines if line.startswith("score ")).split())
    assert score.startswith(
        f"score {values['budget/score_part']:.3g} +- {values['budget/score_part_se']:.1g} "
    )
    assert not any(line.startswith("budget/") for line in lines)
    assert (tmp_path / "measured/figures/budget.png").stat().st_size > 5000
    sampled = inside(
        "sample",
        f"run={trained}",
        "sampler=ddpm",
        "sampler.steps=8",
        "metrics=budget",
        *SMALL,
        "metrics.budget.steps=[]",
        "hydra.run.dir=sampled",
    )
    assert (
        sampled.returncode == 0 and "by means and deviations, W2 of Gaussians" in sampled.stdout
    ), sampled.stderr
    values = json.loads((tmp_path / "sampled" / "metrics.json").read_text())
    assert values["budget/rerun"] < 1e-6 and "budget/16/score_part" not in values
    for words, message in (
        (("samples=trained/samples.npy", "data=line"), "takes a run apart"),
        ((f"run={trained}", "metrics.budget.n=9"), "a multiple of groups"),
        ((f"run={trained}", "metrics.budget.steps=[0]"), "whole numbers of steps"),
        ((f"run={trained}", "metrics.budget.by=laws"), "auto, paths, w2, moments"),
        ((f"run={trained}", "metrics.budget.fine=many"), "not a whole number"),
    ):
        done = inside("evaluate", *words, "metrics=budget", "hydra.run.dir=refused")
        assert done.returncode == 2 and message in done.line, (done.returncode, done.stderr)
        assert not any((tmp_path / "refused").glob("*"))
