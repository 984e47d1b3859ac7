"""The command line as a user types it: every command, killed and resumed runs. Mistakes are in
test_cli_mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from diffgeo.config.line import prepare, unquoted
from diffgeo.errors import UsageError

QUICK = [
    "data=line",
    "net.width=16",
    "trainer.steps=60",
    "trainer.batch=128",
    "trainer.log_every=5",
    "trainer.checkpoint_every=10",
    "n=400",
    "sampler.steps=6",
    "metrics=quick",
    "figures=false",
    "logger=jsonl",
]
RUN = "hydra.run.dir=run"


def test_bare_help_imports_neither_hydra_nor_torch():
    code = (
        "import sys; sys.argv=['diffgeo']\ntry:\n import diffgeo.cli; diffgeo.cli.main()\nexcept "
        "SystemExit as e: assert not e.code\n"
        "assert not {'hydra', 'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "sample", "evaluate", "reproduce", "compare"):
        assert f"\n  {command} " in done.stdout


def test_hydra_flags_work_on_every_command(inside):
    assert "== Flags ==" in inside("sample", "--hydra-help").stdout
    for command in ("train", "sample", "evaluate"):
        shown = inside(command, "data=line", "sampler.schedule=vp", "--cfg", "job")
        assert shown.returncode == 0 and "diffgeo.schedule.VP" in shown.stdout
    code = (
        "import sys; sys.argv=['diffgeo','train','--cfg','job']\ntry:\n import diffgeo.cli; "
        "diffgeo.cli.main()\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_completion_drops_the_command(diffgeo):
    assert diffgeo("-sc", "query=bash", COMP_LINE="diffgeo ev").stdout.split() == ["evaluate"]
    offered = diffgeo("-sc", "query=bash", COMP_LINE="diffgeo train model=e").stdout.split()
    assert set(offered) == {"model=edm", "model=edm_checkpoint", "model=epsilon", "model=exact"}
    assert "-F hydra_bash_completion diffgeo" in diffgeo("-sc", "install=bash").stdout


def test_train_leaves_a_whole_run_folder_and_a_finished_run_says_so(inside, tmp_path):
    done = inside("train", "model=cem", *QUICK, RUN)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    for name in (
        "config.yaml",
        "overrides.yaml",
        "metrics.jsonl",
        "metrics.json",
        "samples.npy",
        "provenance.json",
        "checkpoint/model.safetensors",
        "checkpoint/state.safetensors",
    ):
        assert (run / name).is_file(), name
    metrics, provenance = (
        json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "provenance")
    )
    samples = np.load(run / "samples.npy")
    assert samples.shape == (400, 2) and metrics["distance/mean"] == pytest.approx(
        np.abs(samples[:, 1]).mean(), rel=1e-12
    )
    assert metrics["sampling/nfe"] == 11 and provenance["training_cpu_s"] > 0  # Heun: 2*6 - 1
    assert not any(word in key for key in metrics for word in ("cpu", "wall", "seconds"))
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(5, 61, 5))
    again = inside("train", "resume=run")
    assert again.returncode == 0 and "is finished" in again.stdout

    (run / "checkpoint/model.safetensors").write_bytes(
        (run / "checkpoint/model.safetensors").read_bytes()[:100]
    )
    broken = inside("sample", "run=run")
    assert broken.returncode == 1 and "damaged" in broken.line
    assert np.array_equal(samples, np.load(run / "samples.npy"))  # nothing lost


def test_sampling_a_run_repeats_its_samples_and_takes_another_sampler(inside, tmp_path):
    assert inside("train", "model=epsilon", *QUICK, RUN).returncode == 0
    assert inside("sample", "run=run", "hydra.run.dir=again").returncode == 0
    assert np.array_equal(
        np.load(tmp_path / "run/samples.npy"), np.load(tmp_path / "again/samples.npy")
    )
    done = inside("sample", "run=run", "sampler=euler", "n=7", "seed=3", "hydra.run.dir=other")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "other/samples.npy").shape == (7, 2)
    assert "Euler" in (tmp_path / "other/config.yaml").read_text()
    measured = inside("evaluate", "run=run", "hydra.run.dir=measured")
    assert measured.returncode == 0, measured.stderr
    both = [
        json.loads((tmp_path / f / "metrics.json").read_text())["distance/mean"]
        for f in ("run", "measured")
    ]
    assert both[0] == both[1]


def test_exact_sampling_from_given_noise(inside, tmp_path):
    """x = sigma_max * noise through the exact flow of the line: x1 = noise
    sqrt(1/(1+1/sigma_max^2)) up to the solver, x2 = 0."""
    noise = np.random.default_rng(0).standard_normal((50, 2))
    np.save(tmp_path / "noise.npy", noise)
    done = inside(
        "sample",
        "model=exact",
        "data=line",
        "sampler=heun",
        "sampler.steps=200",
        "noise=noise.npy",
        "metrics=quick",
        "figures=false",
        RUN,
    )
    assert done.returncode == 0, done.stderr
    samples = np.load(tmp_path / "run/samples.npy")
    assert samples.shape == (50, 2)
    np.testing.assert_allclose(samples[:, 0], noise[:, 0] / np.sqrt(1 + 200.0**-2), atol=2e-3)
    assert np.abs(samples[:, 1]).max() < 1e-10
    assert json.loads((tmp_path / "run/metrics.json").read_text())["sampling/nfe"] == 399


def test_the_first_samples_do_not_depend_on_how_many(inside, tmp_path):
    common = [
        "sample",
        "model=exact",
        "data=points4",
        "sampler=ddpm",
        "sampler.steps=12",
        "metrics=none",
        "figures=false",
    ]
    assert inside(*common, "n=10", "hydra.run.dir=a").returncode == 0
    assert inside(*common, "n=300", "hydra.run.dir=b").returncode == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "a/samples.npy"), np.load(tmp_path / "b/samples.npy")[:10], rtol=1e-12
    )


def test_a_run_shared_out_is_the_run(inside, tmp_path):
    """Samples 0..9 in one go, and 0..5 and 6..9 by two processes: the same bytes."""
    common = [
        "sample",
        "model=exact",
        "data=points4",
        "sampler=ddpm",
        "sampler.steps=12",
        "metrics=none",
        "figures=false",
    ]
    for folder, options in (("whole", ["n=10"]), ("head", ["n=6"]), ("tail", ["n=4", "first=6"])):
        assert inside(*common, *options, f"hydra.run.dir={folder}").returncode == 0
    whole, head, tail = (np.load(tmp_path / f / "samples.npy") for f in ("whole", "head", "tail"))
    np.testing.assert_allclose(np.concatenate([head, tail]), whole, rtol=1e-12)
    assert "first=-1" in inside(*common, "first=-1").line


def test_folders_with_awkward_names(inside, tmp_path):
    """Spaces, =, commas and a trailing slash in the names of runs; a run sampled from a run is
    followed to its weights."""
    odd = "odd name/seed=0,model=cem"
    assert inside("train", "model=cem", *QUICK, f"hydra.run.dir='{odd}'").returncode == 0
    for option, command in (
        (f"run={odd}", "sample"),
        (f"run={odd}/", "evaluate"),
        (f"resume={odd}", "train"),
    ):
        done = inside(
            command, option, *([f"hydra.run.dir={command}"] if command != "train" else [])
        )
        assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout
    done = inside("sample", "run=sample", "n=9", "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(
        np.load(tmp_path / "second/samples.npy"), np.load(tmp_path / odd / "samples.npy")[:9]
    )


def test_a_folder_takes_only_its_own_run(inside, tmp_path):
    assert inside("train", "model=cem", *QUICK, RUN).returncode == 0
    before = {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}
    for line in (
        ["train", "model=epsilon", *QUICK, RUN],
        ["train", "resume=run", "net.width=32"],
        ["train", "resume=run", "seed=7"],
    ):
        done = inside(*line)
        assert done.returncode == 2 and "run holds another run (it differs in" in done.line
    assert before == {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}


def test_another_sampler_for_the_run_of_an_experiment(inside, tmp_path):
    assert inside("train", "experiment=line_best", *QUICK, RUN).returncode == 0
    done = inside(
        "sample",
        "run=run",
        "sampler=ddpm",
        "sampler.schedule=ou",
        "sampler.steps=9",
        "hydra.run.dir=other",
    )
    assert done.returncode == 0, done.stderr
    config = (tmp_path / "other/config.yaml").read_text()
    assert "DDPM" in config and "diffgeo.schedule.OU" in config
    assert json.loads((tmp_path / "other/provenance.json").read_text())["command"].startswith(
        "diffgeo sample experiment=line_best"
    )


def test_a_nan_leaves_the_last_good_checkpoint(inside, tmp_path):
    """The rate explodes after the warm-up: the run stops with one line, and its checkpoint is the
    last finite one."""
    done = inside(
        "train",
        "model=cem",
        *QUICK,
        RUN,
        "trainer=adam",
        "trainer.lr=1e38",
        "trainer.warmup=1000000000",
        "trainer.steps=4000",
        "trainer.batch=128",
        "trainer.log_every=1",
        "trainer.checkpoint_every=1",
    )
    assert done.returncode == 1 and (
        "the loss became" in done.line or "the weights became" in done.line
    )
    from diffgeo.store.checkpoint import is_finite, load_state

    if (tmp_path / "run/checkpoint/state.safetensors").exists():
        state, step, _ = load_state(tmp_path / "run/checkpoint", "cpu")
        assert is_finite(state) and step >= 1
    assert not (tmp_path / "run/metrics.json").exists()


def finish(tmp_path: Path, run: str) -> dict[str, bytes]:
    return {
        name: (tmp_path / run / name).read_bytes()
        for name in ("metrics.json", "samples.npy", "checkpoint/model.safetensors", "metrics.jsonl")
    }


def kill_and_resume(tmp_path, inside, delays: list[float], options: list[str]):
    whole = inside("train", *options, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    line = ["train", *options, "hydra.run.dir=killed"]
    for delay in delays:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffgeo", *line],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (tmp_path / "killed/config.yaml").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        line = ["train", "resume=killed"]
    done = inside("train", "resume=killed")
    assert done.returncode == 0, done.stderr
    assert finish(tmp_path, "whole") == finish(tmp_path, "killed")


def test_a_killed_run_resumes_to_the_same_bytes(inside, tmp_path):
    kill_and_resume(
        tmp_path, inside, [0.3, 0.9], [*QUICK, "trainer.steps=600", "trainer.batch=1024"]
    )


@pytest.mark.slow
def test_ten_kills_at_random_moments(inside, tmp_path):
    delays = np.random.default_rng().uniform(0, 3, 10).tolist()
    kill_and_resume(
        tmp_path,
        inside,
        delays,
        [*QUICK, "trainer.steps=8000", "trainer.batch=1024", "metrics=default", "n=2000"],
    )


def test_lines_are_prepared_for_hydra():
    assert (
        prepare("train", ["sampler.schedule=vp"])
        == prepare("train", ["sampler.schedule='vp'"])
        == ["schedule@sampler.schedule=vp"]
    )
    assert prepare("sample", ["sampler.corrector=ulmc", "sampler.corrector=false"]) == [
        "sampler/corrector=ulmc",
        "sampler.corrector=false",
    ]
    assert prepare("train", ["data=line", "-m", "seed=0,1"])[0] == "-m"
    assert prepare("train", ["seed=1", "--cfg", "job"]) == ["--cfg", "job", "seed=1"]
    assert prepare("sample", ["noise=a=b, c.npy"]) == ["noise='a=b, c.npy'"]
    assert prepare("sample", ["sampler.schedule.file=my plans, 2/a=b.json"]) == [
        "sampler.schedule.file='my plans, 2/a=b.json'"
    ]
    for typed, path in (
        (r"b\s", r"b\s"),
        (r"'b\s'", r"b\s"),
        (r"\\host\it's", r"\\host\it's"),
        ("ends\\", "ends\\"),
        (r"\'", r"\'"),
    ):
        (word,) = prepare("evaluate", [f"samples={typed}"])
        assert (
            OverridesParser.create().parse_override(word).value()
            == unquoted(word.partition("=")[2])
            == path
        )
    assert prepare("train", ["resume=null"]) == ["resume=null"]
    with pytest.raises(UsageError, match="resume= is empty"):
        prepare("train", ["resume="])
    assert "figures=false" in prepare(
        "sample", ["-m", "seed=0,1"]
    ) and "figures=false" not in prepare("sample", ["seed=0"])
    assert "figures=false" not in prepare("sample", ["-m", "seed=0,1", "figures=true"])
    a, b, c = (
        prepare("train", ["-m", *line])[-1] for line in (["seed=0,1"], ["seed=0,1"], ["seed=0,2"])
    )
    assert a == b != c and a.startswith("hydra.sweep.dir=outputs/sweeps/train-")


@pytest.mark.parametrize("command", ["theory gaussian", "trajectory dimension"])
def test_an_experiment_brings_its_law_to_a_command_that_chooses_another(command):
    """Else the network of a run of the experiment would meet the command's own law."""
    assert "data=digits" in prepare(command, ["experiment=digits"])
    named = prepare(command, ["experiment=digits", "data=mnist"])
    assert [word for word in named if word.startswith("data=")] == ["data=mnist"]
    assert not any(word.startswith("data=") for word in prepare("sample", ["experiment=digits"]))
