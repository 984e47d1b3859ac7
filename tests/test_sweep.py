"""Sweeps as a user types them: the jobs, the table and the picture at their end, the ranking, and
the same line a second time."""

import csv
import json
import math

import pytest
from test_cli import QUICK

from diffgeo.report.comparison import Row, by_problem, criterion, over_seeds


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


def folder_of(sweep, name: str, typed: list[str], metrics: dict | str | None) -> None:
    """A run folder as a command leaves it: metrics as they are, as text, or none yet."""
    run = sweep / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("# diffgeo\n")
    (run / "overrides.yaml").write_text(json.dumps(typed))
    if metrics is not None:
        text = metrics if isinstance(metrics, str) else json.dumps(metrics)
        (run / "metrics.json").write_text(text)


def compared(inside, tmp_path, *words: str):
    """`compare sweep`: what it answers, and the rows of compare.csv."""
    done = inside("compare", "sweep", *words)
    assert done.returncode == 0, done.stderr
    return done, list(csv.DictReader((tmp_path / "sweep/compare.csv").open()))


def test_an_image_sweep_is_compared_by_its_own_metrics(inside, tmp_path):
    """Jobs 0 to 11 in the order of their numbers, ranked and drawn by what images have; what stands
    beside a metric (kid_sd, a floor) is none."""
    for job in range(12):
        steps = job + 2
        values = {"fid_1k": 90.0 - job, "kid": 0.1, "kid_sd": 0.01, "sampling/nfe": steps}
        values |= {"frechet/pixels": 3 + (job - 4) ** 2, "frechet/pixels_floor": 2.0}
        folder_of(tmp_path / "sweep", str(job), [f"sampler.steps={steps}"], values)
    done, rows = compared(inside, tmp_path, "by=frechet/pixels")
    assert [row["sampler.steps"] for row in rows] == [str(job + 2) for job in range(12)]
    first, ranks = done.stdout.split("ranked by frechet/pixels")
    shown = read(first)[0]
    assert list(shown) == ["sampler.steps", "sampling/nfe", "fid_1k", "frechet/pixels", "kid"]
    assert read(ranks.split("best")[0])[0]["sampler.steps"] == "6"  # job 4
    assert (tmp_path / "sweep/compare.png").is_file()
    assert "ranked by fid_1k" in compared(inside, tmp_path)[0].stdout


def test_runs_without_a_metric_to_draw_have_a_table_and_no_picture(inside, tmp_path):
    for job, nfe in enumerate((3, 5)):
        line = [f"sampler.steps={nfe}", "metrics=none"]
        folder_of(tmp_path / "sweep", str(job), line, {"sampling/nfe": nfe})
    (tmp_path / "sweep/compare.png").write_text("of another time")
    done, rows = compared(inside, tmp_path)
    assert [row["sampling/nfe"] for row in rows] == ["3", "5"]
    assert "no picture" in done.stdout and not (tmp_path / "sweep/compare.png").exists()
    assert inside("compare", "sweep", "by=fid").line.endswith("write one of sampling/nfe")


def test_several_evaluations_of_unlike_metrics_leave_blanks(inside, tmp_path):
    """No evaluations of a network, and no metric that all have: the table has every number."""
    line = ["samples=a.npy", "metrics=none"]
    folder_of(tmp_path / "sweep", "a", line, {"atoms/chi2": 3.0, "mine/x": math.inf})
    line = ["samples=b.npy", "metrics=none"]
    folder_of(tmp_path / "sweep", "b", line, {"fid": 4.0, "mine/x": 2.0})
    done, rows = compared(inside, tmp_path)
    assert [(row["atoms/chi2"], row["fid"]) for row in rows] == [("3.0", ""), ("", "4.0")]
    assert (tmp_path / "sweep/compare.png").is_file()  # of mine/x, which both have
    assert read(done.stdout)[0]["mine/x"] == "inf"


def test_what_failed_is_a_row_and_what_cannot_be_read_one_line(inside, tmp_path):
    sweep = tmp_path / "sweep"
    for seed, value in enumerate((1.0, 3.0)):
        line = ["model=cem", f"seed={seed}"]
        folder_of(sweep, str(seed), line, {"distance/mean": value, "tangential/w2": value})
    folder_of(sweep, "2", ["model=score", "seed=0"], None)
    folder_of(sweep, "3", ["model=score", "seed=1"], '{"distance/mean": [1')
    folder_of(sweep, "4", ["model=v", "seed=0"], {"distance/mean": "1", "x": {}})
    folder_of(sweep, "10", ["model=v", "seed=1"], {"distance/mean": 7.0})
    done, rows = compared(inside, tmp_path)
    assert [row["status"] for row in rows] == ["", "", "not finished", "not read", "not read", ""]
    said = done.stderr.splitlines()
    assert len(said) == 2 and "3/metrics.json" in said[0] and "4/metrics.json" in said[1]
    ranks = read(done.stdout.split("ranked by distance/mean")[1])
    assert [(row["model"], row["runs"], row["distance/mean"]) for row in ranks] == [
        ("cem", "2", f"2 +- {math.sqrt(2):.2g}"),
        ("v", "1", "7"),  # of one run there is no deviation
    ]
    for job in ("0", "1", "10"):
        (sweep / job / "metrics.json").write_text("[]")
    assert "no other run is there" in inside("compare", "sweep").line


def test_a_sweep_says_each_failure_once(inside):
    done = inside("sample", "-m", "model=exact", "data=points4", "sampler.steps=-1,-2", "n=9")
    said = done.stderr.splitlines()
    assert done.returncode == 2 and len(said) == 3
    assert "sampler.steps=-1:" in said[0] and "sampler.steps=-2:" in said[1]
    assert said[2] == "diffgeo: 2 jobs of the sweep failed, as said above"


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


def test_rivals_are_ranked_within_their_problem_and_by_what_is_good():
    """PSNR is better the larger, a misfit the nearer to 1; a run on another operator is no
    rival."""
    rows = []
    for operator, algorithm, psnr, misfit in (
        ("pool", "exact", 16.0, 0.98),
        ("pool", "dps", 9.0, 12.0),
        ("pool", "ddrm", 13.0, 0.2),
        ("blur", "dps", 18.0, 3.0),
        ("blur", "ddrm", 19.0, 5.0),
    ):
        settings = {"algorithm": algorithm, "operator": operator}
        rows.append(Row(f"{len(rows)}", settings, {"restore/psnr": psnr, "restore/misfit": misfit}))
    groups = over_seeds(rows)
    pool, blur = by_problem(groups, "restore/psnr").values()
    assert [group.settings["algorithm"] for group in pool] == ["exact", "ddrm", "dps"]
    assert [group.settings["algorithm"] for group in blur] == ["ddrm", "dps"]
    pool, blur = by_problem(groups, "restore/misfit").values()
    assert [group.settings["algorithm"] for group in pool] == ["exact", "ddrm", "dps"]
    assert [group.settings["algorithm"] for group in blur] == ["dps", "ddrm"]


def test_the_error_of_a_sampler_alone_ranks_no_denoisers():
    """A bad network whose flow is easy to follow is not better than the exact denoiser."""
    errors = {"flow/rms": 0.1, "distance/mean": 0.6}, {"flow/rms": 0.3, "distance/mean": 1e-5}
    for key, by in (
        ("sampler", "flow/rms"),
        ("sampler.steps", "flow/rms"),
        ("data", "flow/rms"),
        ("model", "distance/mean"),
        ("trainer.steps", "distance/mean"),
        ("run", "distance/mean"),
    ):
        rows = [Row(f"{i}", {key: f"{i}"}, numbers) for i, numbers in enumerate(errors)]
        assert criterion(rows, "") == by
        assert criterion(rows, "flow/rms") == "flow/rms"
    rows = [Row(f"{i}", {"model": f"{i}"}, {"flow/rms": 0.1}) for i in range(2)]
    assert criterion(rows, "") == "flow/rms"  # they have no other
