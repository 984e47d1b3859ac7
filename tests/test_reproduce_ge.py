"""`reproduce ge/...` and the two `theory` commands, run as the engine runs them."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from diffgeo.commands.reproduce.engine import execute, reproduce
from diffgeo.errors import UsageError
from diffgeo.schedule.discrete import Discrete


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_schedules_come_out_as_published(tmp_path, capsys):
    """Timesteps digit for digit, and every certificate of distance.md, A3, beside ours."""
    reproduce("ge/schedules", "quick", tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert text.count("| as published |") == 4 and "published: " not in text
    rows = [row for row in csv.DictReader((tmp_path / "table.csv").open()) if row["published"]]
    assert len(rows) == 28
    for row in rows:
        published = float(row["published"])
        measured = float(row["measured"])
        assert measured == pytest.approx(published, rel=2e-3, abs=5.1e-3), row
    assert "16.86" in text and "13.55" in text
    assert "| nu_min_but_last@0.09 published |" in text and "certificate/" not in text


@pytest.mark.parametrize(
    "line, times",
    [
        # ten steps, the tenth into 0
        (
            "ddim sampler.schedule.to_zero=true sampler.steps=10",
            [999 * k // 9 for k in range(9, -1, -1)],
        ),
        ("ge_edm sampler.schedule.rounding=none sampler.steps=50", None),
    ],
)
def test_timesteps_are_those_of_the_levels(line, times, tmp_path, capsys):
    """Where the grid is not the published list: a step into 0, and times between the trained ones,
    several of them to a whole one."""
    execute(f"theory certify sampler.schedule={line}", tmp_path)
    rows = list(csv.DictReader((tmp_path / "levels.csv").open()))
    found = [row["timestep"] for row in rows]
    if times:
        assert found == [str(t) for t in times]
        return
    sigma = Discrete().sigma(torch.tensor([float(t) for t in found], dtype=torch.float64))
    np.testing.assert_allclose(sigma, [float(row["sigma"]) for row in rows], rtol=2e-5)
    assert (
        len(set(found)) == len(rows) > len({t.partition(".")[0] for t in found})
        and found[-1] == "0"
    )


def test_certify_one_eta_and_a_continuous_schedule(tmp_path, capsys):
    execute(
        "theory certify sampler.schedule=plane sampler.steps=11 eta=0.05 figures=false", tmp_path
    )
    # ten log-linear steps from 200 to .01, then 0
    values = metrics(tmp_path)
    beta = 1 - 20000 ** (-1 / 10)
    expected = ((1 - beta) / (1 - 1.05 * beta)) ** 10
    assert values["certificate/nu_min@0.05"] == pytest.approx(expected, rel=1e-9)
    assert (
        values["certificate/beta_max"] == pytest.approx(beta)
        and values["certificate/sigma_last"] == 0.01
    )
    assert "timestep" not in (tmp_path / "levels.csv").read_text()


def test_admissibility_of_the_curve(tmp_path, capsys):
    execute(
        "theory admissibility data=curve data.ambient=64 n=300 sampler.steps=20", tmp_path / "a"
    )
    values = metrics(tmp_path / "a")
    out = capsys.readouterr().out
    assert (
        values["admissibility/met"] == 1
        and values["admissibility/violations"] == 0
        and "assumption met" in out
    )
    assert {p.stem for p in (tmp_path / "a/figures").glob("*.png")} == {
        "noise_norm",
        "noise_error",
        "relative_error",
        "distance_bounds",
        "distance_estimators",
    }
    rows = list(csv.reader((tmp_path / "a/levels.csv").open()))
    assert len(rows) == 21 and float(rows[1][0]) == 200 and math.isclose(float(rows[-1][0]), 0.01)
    assert max(float(r[3]) for r in rows[1:]) == pytest.approx(
        values["admissibility/eta"], rel=1e-3
    )


@pytest.mark.slow
def test_admissibility_of_a_run(tmp_path, capsys):
    execute(
        "train data=circle data.ambient=8 model=epsilon trainer.steps=20 n=10 metrics=none "
        "figures=false",
        tmp_path / "net",
    )
    execute(
        f"theory admissibility run={tmp_path / 'net'} n=50 sampler.steps=10 figures=false",
        tmp_path / "b",
    )
    learned = metrics(tmp_path / "b")
    out = capsys.readouterr().out
    assert (
        learned["admissibility/violations"] == 0
        and learned["admissibility/met"] == 0
        and "not " in out
    )
    assert OmegaConf.load(tmp_path / "b/config.yaml").data.ambient == 8  # the law is the run's
    execute(
        "theory admissibility data=circle data.ambient=8 n=50 sampler.steps=10 figures=false",
        tmp_path / "c",
    )
    assert (
        metrics(tmp_path / "c")["admissibility/eta_median_peak"]
        < learned["admissibility/eta_median_peak"]
    )


@pytest.mark.parametrize(
    "line, message",
    [
        ("data=square", "fills R"),
        ("data=circle quantile=2", "quantile=2"),
        ("data=circle nu=1", "nu=1"),
    ],
)
def test_what_cannot_be_measured_writes_nothing(line, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        execute(f"theory admissibility {line} n=5", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_figures_show_what_was_measured(tmp_path, monkeypatch):
    """The bound is drawn only where the assumption is met; the estimators' medians are those of the
    table."""
    import contextlib

    import matplotlib
    from matplotlib.figure import Figure

    from diffgeo.plot import theory
    from diffgeo.theory.admissibility import Measured
    from diffgeo.theory.verdict import Verdict

    matplotlib.use("Agg")
    kept = []

    @contextlib.contextmanager
    def sheet(path, rows=1, columns=1, size=(4, 4), **options):
        figure = Figure()
        kept.append(figure.subplots(rows, columns, squeeze=False, **options))
        yield figure, kept[-1]

    monkeypatch.setattr(theory, "sheet", sheet)
    sigma = torch.tensor([10.0, 8.0, 6.4, 0.0], dtype=torch.float64)
    ones = torch.ones(3, 4, dtype=torch.float64)
    fall = sigma.clamp(min=1e-3)[:, None] * torch.ones(4, 4, dtype=torch.float64)
    for eta, lines in ((0.1, 6), (1.5, 2)):
        verdict = Verdict(Measured(sigma, fall, eta * ones, ones, ones, torch.zeros(3), True))
        theory.distance_bounds(None, verdict.sigmas, fall, verdict.bounds(), verdict.fails)
        ax = kept[-1][0, 0]
        assert len(ax.lines) == lines and ("not met" in ax.get_title()) == (eta > 1)
    upper = 1 + 0.2 * (0.1 - 1)
    assert np.allclose(kept[0][0, 0].lines[2].get_ydata(), [1, upper, upper**2])
    assert np.allclose(kept[0][0, 0].lines[3].get_ydata(), [1, 1 - 0.2 * 1.1, (1 - 0.2 * 1.1) ** 2])
    theory.distance_estimators(None, sigma[:3], {"exact": 2 * ones, "half": ones})
    assert np.allclose(kept[-1][0, 0].lines[1].get_ydata(), 0.5)
    assert np.allclose(theory.edges(np.array([1.0, 100.0])), [0.1, 10, 1000])
