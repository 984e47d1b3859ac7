"""Sweeps as a user types them: the jobs, the table and the picture at their end, the ranking, and
the same line a second time."""

import csv
import json

import pytest
from test_cli import QUICK


def read(text: str) -> list[dict[str, str]]:
    """The rows of a printed table."""
    header, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    )
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_a_sweep_ends_in_one_table_and_finds_its_jobs_again(inside, tmp_path):
    line = ["train", "-m", *QUICK, "model=cem,score", "seed=0,1"]
    done = inside(*line)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    rows = list(csv.DictReader((sweep / "compare.csv").open()))
    assert sorted((r["model"], r["seed"]) for r in rows) == [
        ("cem", "0"),
        ("cem", "1"),
        ("score", "0"),
        ("score", "1"),
    ]
    for row in rows:
        (job,) = (
            f
            for f in sweep.glob("*/metrics.json")
            if f"model={row['model']}\n" in (f.parent / "overrides.yaml").read_text()
            and f"seed={row['seed']}\n" in (f.parent / "overrides.yaml").read_text()
        )
        assert float(row["distance/mean"]) == json.loads(job.read_text())["distance/mean"]
    assert (sweep / "compare.png").is_file() and "mean +- standard deviation over seeds" in (
        sweep / "compare.md"
    ).read_text()
    again = inside(*line)
    assert again.returncode == 0 and again.stdout.count("is finished") == 4
    printed = inside("compare", str(sweep))
    assert printed.returncode == 0 and "| model" in printed.stdout


def test_a_sweep_over_samplers_loads_its_model_once_and_ranks(inside, tmp_path, monkeypatch):
    """Evaluations as they must be; errors that fall with steps and order; the ranking is by them;
    no figures but the sweep's own."""
    from diffgeo import run

    made = []
    monkeypatch.setattr(
        run,
        "make",
        lambda cfg, device, make=run.make: made.append(cfg.sampler.steps) or make(cfg, device),
    )
    line = [
        "sample",
        "-m",
        "model=exact",
        "data=normal",
        "sampler=euler,heun,ddpm",
        "sampler.steps=8,16",
        "n=300",
        "metrics=quick",
    ]
    done = inside(*line)
    assert done.returncode == 0, done.stderr
    assert made == [8]
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    assert not list(sweep.rglob("figures")) and (sweep / "compare.png").is_file()
    rows = {
        (r["sampler"], int(r["sampler.steps"])): r
        for r in csv.DictReader((sweep / "compare.csv").open())
    }
    assert {k: float(r["sampling/nfe"]) for k, r in rows.items()} == {
        (name, n): 2 * n - 1 if name == "heun" else n
        for name in ("euler", "heun", "ddpm")
        for n in (8, 16)
    }
    error = {k: float(r["flow/rms"]) for k, r in rows.items() if r["flow/rms"]}
    # ddpm draws noise: it follows no flow
    assert set(error) == {(name, n) for name in ("euler", "heun") for n in (8, 16)}
    assert error["euler", 8] > error["euler", 16] > error["heun", 16]
    ranking, best = (
        inside("compare", str(sweep), "by=flow/rms")
        .stdout.partition("ranked by flow/rms")[2]
        .split("best flow/rms within")
    )
    ranks = read(ranking)
    names = lambda table: [(r["sampler"], int(r["sampler.steps"])) for r in table]
    assert names(ranks[:4]) == sorted(error, key=error.get) and [r["rank"] for r in ranks[:4]] == [
        "1",
        "2",
        "3",
        "4",
    ]
    nfe = {k: 2 * k[1] - 1 if k[0] == "heun" else k[1] for k in error}
    firsts = [
        min((k for k in error if nfe[k] <= budget), key=error.get)
        for budget in sorted(nfe.values())
    ]
    assert names(read(best)) == list(dict.fromkeys(firsts))
    assert "write one of" in inside("compare", str(sweep), "by=flow/mean").line


@pytest.mark.slow
def test_several_processes_draw_the_same_samples(diffgeo, tmp_path):
    """hydra/launcher=joblib: the same folders, the same bytes as one process."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = [
        "sample",
        "-m",
        "model=exact",
        "data=points4",
        "sampler=ddpm,heun",
        "sampler.steps=5,9",
        "n=200",
        "metrics=quick",
    ]
    assert diffgeo(*line, "hydra.sweep.dir=one").returncode == 0
    done = diffgeo(*line, "hydra.sweep.dir=two", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    for job in range(4):
        for name in ("samples.npy", "metrics.json"):
            assert (tmp_path / f"one/{job}/{name}").read_bytes() == (
                tmp_path / f"two/{job}/{name}"
            ).read_bytes()
    assert "ranked by" in done.stdout and (tmp_path / "two/compare.png").is_file()
