"""Mistakes on the command line: each is one clear line and a status, and nothing is left half
written."""

import re
import resource
import shlex

import numpy as np
import pytest
import torch
from test_cli import QUICK

from diffgeo import cli
from diffgeo.config.line import of_runs
from diffgeo.errors import UsageError
from diffgeo.training import Training

EXACT = ["model=exact", "data=line"]
MISTAKES = [
    (
        ["train", "model=foo"],
        2,
        "there is no model=foo; `diffgeo help model` lists the ",
    ),
    (["train", "data.nosuch=1"], 2, "there is no option data.nosuch"),
    (["train", "data=imagenet"], 2, "there is no data=imagenet; `diffgeo help data` lists the "),
    (["train", "sampler.schedule=nosuch"], 2, "there is no schedule nosuch; `diffgeo help sche"),
    (["train", "sampler=dpmpp2m"], 2, "there is no sampler=dpmpp2m: did you mean dpmpp_2m, dpm"),
    (["train", "smapler=heun"], 2, "there is no option smapler: did you mean sampler?"),
    (["train", "trainer.setps=5"], 2, "there is no option trainer.setps: did you mean trainer.st"),
    (["train", "sampler.gamma=2"], 2, "sampler.gamma here: it is one of sampler=gradient_estim"),
    (
        ["train", "steps=5"],
        2,
        "there is no option steps: did you mean trainer.steps, sampler.",
    ),
    (["trian"], 2, "there is no command 'trian': did you mean train?"),
    (["theory", "gausian"], 2, "'theory gausian': did you mean theory gaussian?"),
    (["orders"], 2, "there is no command 'orders': did you mean theory orders?"),
    (["train", "sampler.steps=0"], 2, "sampler.steps=0: write a whole number from 1"),
    (
        ["train", "sampler.steps=abc"],
        2,
        "sampler.steps=abc: write a whole number from 1 to 1000000",
    ),
    (["train", "sampler.steps=2.5"], 2, "sampler.steps=2.5: write a whole number"),
    (["train", "metrics.transport.n=0"], 2, "metrics.transport.n=0"),
    (["train", "trainer.lr=-1"], 2, "trainer.lr=-1"),
    (["train", "trainer.steps=many"], 2, "trainer.steps=many is not a whole number"),
    (["train", "trainer.steps=10.5"], 2, "trainer.steps=10.5 is not a whole number"),
    (["train", "trainer.betas=[1,2]"], 2, "trainer.betas=[1, 2]"),
    (["train", "seed=abc"], 2, "seed=abc"),
    (["train", "seed=5000000000"], 2, "seed=5000000000"),
    (["train", "threads=0"], 2, "threads=0"),
    (["train", "resume="], 2, "resume= is empty"),
    (["train", "model=exact"], 2, "nothing to train"),
    (["train", "resume=nowhere"], 2, "resume=nowhere is not a run folder"),
    (["train", "device=cuda:9"], 2, "device=cuda:9 is not available"),
    (["train", "net._target_=os.system"], 2, "is not offered here"),
    (["train", "n=0", "trainer.steps=1"], 2, "n=0"),
    (["train", "weighting=expression", "weighting.expression='1/(t-t)'"], 2, "training time"),
    (
        ["train", "weighting=expression", "weighting.expression='__import__(1)'"],
        2,
        "write arithmetic",
    ),
    (["train", "weighting=expression", "weighting.of=nothing"], 2, "weighting.of=nothing"),
    (["train", "logger=wandb", "logger.mode=online"], 2, "needs a key"),
    (["sample", "model=cem"], 2, "run=FOLDER"),
    (["sample", "run=nowhere"], 2, "run=nowhere is not a run folder"),
    (["sample", "model=exact", "noise=nowhere.npy"], 2, "noise=nowhere.npy"),
    (["evaluate"], 2, "samples=FILE"),
    (["evaluate", "samples=nowhere.npy"], 2, "there is no such file"),
    (["reproduce", "nosuch"], 2, "there is no reproduction 'nosuch'"),
    (["reproduce", "cem/line", "budget=all"], 2, "budget=all"),
    (["compare", "nowhere"], 2, "no such folder"),
    (["nosuch"], 2, "there is no command 'nosuch'"),
    (
        ["sample", *EXACT, "sampler=gradient_estimation", "sampler.gamma=abc"],
        2,
        "sampler.gamma=abc is not a number; write one for Grad",
    ),
    (
        ["sample", *EXACT, "sampler=gradient_estimation", "sampler.gamma=null"],
        2,
        "sampler.gamma=null is not a number",
    ),
    (
        ["sample", *EXACT, "sampler=unipc", "sampler.points=2.0"],
        2,
        "sampler.points=2.0 is not a whole number; write one for UniPC",
    ),
    (
        ["sample", *EXACT, "sampler=deis", "sampler.points=true"],
        2,
        "sampler.points=true is not a whole number",
    ),
    (
        ["sample", *EXACT, "sampler=deis", "sampler.chart=abc"],
        2,
        "sampler.chart=abc is not a node with a _target_; write one for DEIS",
    ),
    (
        ["sample", *EXACT, "sampler=langevin", "sampler.corrector.steps=1.5"],
        2,
        "sampler.corrector.steps=1.5 is not a whole number",
    ),
    (
        ["sample", *EXACT, "sampler=edm_churn", "sampler.steps=null"],
        2,
        "sampler.steps=null: write a whole number from 1 to 1000000",
    ),
    (
        ["sample", *EXACT, "sampler.schedule=ddim", "sampler.schedule.timesteps.start=abc"],
        2,
        "sampler.schedule.timesteps.start=abc is not a number or null; write one for EvenTimesteps",
    ),
    (
        ["sample", *EXACT, "sampler=dpmpp_2m_sde", "sampler.eta=1000", "sampler.steps=5"],
        2,
        "write less noise, or more steps",
    ),
    (
        ["sample", *EXACT, "loop.lower_order_final=maybe"],
        2,
        "loop.lower_order_final=maybe is not true or false",
    ),
    (
        ["sample", *EXACT, "+loop.foo=1"],
        2,
        "there is no option loop.foo; Loop takes afs, lower_order_final, threshold",
    ),
    (["sample", *EXACT, "+sampler.foo=1"], 2, "there is no option sampler.foo; Heun takes none"),
    (["theory", "certify", "eta=abc"], 2, "eta=abc is not a number"),
    (["theory", "certify", "eta=[]"], 2, "eta=[] is empty; write a number"),
    (["theory", "certify", "nu=null"], 2, "nu=null is not a number"),
    (["theory", "admissibility", "data=circle", "quantile=abc"], 2, "quantile=abc is not a number"),
    (["theory", "admissibility", "data=circle", "nu=abc"], 2, "nu=abc is not a number"),
    (["theory", "gits", "data=line", "coeff=abc"], 2, "coeff=abc is not a number"),
    (["theory", "gits", "data=line", "most=2.5"], 2, "most=2.5: write a whole number from 1 to"),
]


@pytest.mark.parametrize(
    "line, status, says", MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_a_mistake_is_one_clear_line(inside, line, status, says):
    done = inside(*line, *(["data=line"] if line[0] == "train" and "data" not in line[1] else []))
    assert done.returncode == status, done.stderr
    assert says in done.line


def test_a_mistake_in_a_new_process_too(diffgeo):
    done = diffgeo("train", "model=foo")
    assert done.returncode == 2 and "there is no model=foo" in done.line


def test_the_traceback_is_there_for_those_who_ask(diffgeo):
    done = diffgeo("train", "model=exact", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_unwritable_outputs_and_wrong_clouds(inside, tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    done = inside("train", *QUICK)
    assert done.returncode == 1 and "outputs" in done.line
    np.save(tmp_path / "wide.npy", np.zeros((5, 3)))
    np.save(tmp_path / "nan.npy", np.full((5, 2), np.nan))
    (tmp_path / "text.npy").write_text("not an array")
    for name, says in (
        ("wide", "has shape (5, 3)"),
        ("nan", "not finite"),
        ("text", "cannot be read"),
    ):
        done = inside("evaluate", f"samples={name}.npy", "data=line", "hydra.run.dir=e")
        assert done.returncode == 2 and says in done.line


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path):
    """Files may not pass 50 kB here: every writer says so, keeps what was there and removes what it
    began."""
    from diffgeo.errors import DiffgeoError
    from diffgeo.store.checkpoint import save_tensors
    from diffgeo.store.files import write_text
    from diffgeo.store.npy import write_array

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in (
        ("a.txt", lambda p: write_text(p, "x" * 100_000)),
        ("a.npy", lambda p: write_array(p, np.zeros(100_000))),
        ("a.safetensors", lambda p: save_tensors(p, {"a": torch.zeros(100_000)})),
    ):
        path = tmp_path / name
        path.write_text("what was there")
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(DiffgeoError, match=f"cannot write .*{name}: "):
                write(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (
            path.read_text() == "what was there"
            and [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []
        )


CLASSES = ["data=digits", "net=unet_8", "net.channels=8"]
SAMPLING = [
    (["label=3"], "label=3: this model knows no classes"),
    (["label=all"], "knows no classes"),
    (["guidance=2"], "guidance=2 leads towards"),
    (["guidance=abc"], "guidance=abc is not a number"),
    (["precision=fp8"], "precision=fp8 is unknown"),
    (["png=maybe"], "png=maybe is not true or false"),
    (["figures=maybe"], "figures=maybe is not true or false"),
    ([*CLASSES, "net.classes=10", "label=all", "sampler=rk45"], "label=all: an adaptive sampler"),
    ([*CLASSES, "net.classes=3"], "net.classes=3, but data= has 10 classes"),
]


@pytest.mark.parametrize(
    "options, says", SAMPLING, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_what_sampling_cannot_do_is_said_before_anything_is_trained(
    inside, tmp_path, options, says
):
    """Nothing is begun: the corrected line finds an empty folder."""
    data = [] if "data=digits" in options else ["data=line", "metrics=quick"]
    done = inside("train", *data, *options, "trainer.steps=5", "hydra.run.dir=run")
    assert done.returncode == 2 and says in done.line
    assert not (tmp_path / "run/config.yaml").exists()
    if "classes=" not in says:
        done = inside(
            "sample",
            "model=exact",
            *data,
            *[o for o in options if not o.startswith("net")],
            "hydra.run.dir=sampled",
        )
        assert not (tmp_path / "sampled/config.yaml").exists() and done.returncode == 2


def test_a_pretrained_model_has_nothing_to_train(inside, tmp_path):
    from test_pretrained import network

    network(sample_size=8, in_channels=1, out_channels=1).save_pretrained(tmp_path / "net")
    done = inside(
        "train", "data=digits", "model=diffusers", "model.folder=net", "hydra.run.dir=run"
    )
    assert (
        done.returncode == 2
        and "a pretrained model has nothing to train: write `diffgeo sample`" in done.line
    )
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    "rank, first, told",
    [("0", None, True), ("1", None, False), ("1", True, True), ("0", False, False)],
)
def test_one_process_tells_an_error(monkeypatch, capsys, rank, first, told):
    """The one that failed first, if they had joined; rank 0 otherwise."""
    error = UsageError("a mistake")
    if first is not None:
        error.first = first

    def fails():
        raise error

    world = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    assert cli.guarded(fails) == 2 and capsys.readouterr().err == (
        "diffgeo: a mistake\n" if told else ""
    )


def test_runs_of_one_sweep_may_differ_in_their_surroundings(tmp_path):
    """What a run was watched, drawn and computed with is no part of what it is."""
    shared = ["data=circle", "model=cem", "n=50"]
    own = [
        ["preview.every=5", "figures=false", "png=true", "batch=3"],
        ["logger=jsonl", "device=cpu", "threads=2", "trainer.steps=9", "seed=4"],
    ]
    for name, options in zip("ab", own, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("# diffgeo\n")
        (tmp_path / name / "overrides.yaml").write_text(
            "\n".join(f"- {o}" for o in [*options[:2], *shared, *options[2:]])
        )
    both = f"{tmp_path / 'a'},{tmp_path / 'b'}"
    assert of_runs(both, []) == shared
    (tmp_path / "b" / "overrides.yaml").write_text("- data=line")
    with pytest.raises(UsageError, match="these runs differ in data"):
        of_runs(both, [])
    (tmp_path / "a" / "config.yaml").write_text("seed: 0\n")  # no version in its first line
    with pytest.raises(UsageError, match="a is from an older diffgeo"):
        of_runs(both, [])


def test_a_lack_of_memory_in_training_says_what_goes_on_with_less(inside, tmp_path, monkeypatch):
    """The line that it advises is one that works: `trainer.accumulate` may differ in a run that is
    taken up again."""

    def fails(self, *batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "gradient", fails)
        told = inside("train", *QUICK, "hydra.run.dir=run").line
    assert "out of memory" in told and "begin a new run with trainer.batch=64" in told
    advised = shlex.split(re.search("`diffgeo (.*?)`", told)[1])
    assert advised == ["train", f"resume={tmp_path / 'run'}", "trainer.accumulate=2"]
    assert "differs in trainer.lr" in inside("train", "resume=run", "trainer.lr=1").line
    assert inside(*advised).returncode == 0 and (tmp_path / "run/metrics.json").exists()


def test_no_sampling_begins_after_max_seconds(inside, tmp_path, monkeypatch):
    """The last report comes in time, the end of the training does not: the run stops there, and
    resumed it only samples."""
    from diffgeo.commands import train

    fit = train.fit
    monkeypatch.setattr(
        train,
        "fit",
        lambda *a: (
            fit(*a[:-1]) and monkeypatch.setattr("time.monotonic", lambda: float("inf")) is None
        ),
    )
    done = inside("train", *QUICK, "max_seconds=1000", "hydra.run.dir=run")
    assert done.returncode == 0 and "stopped at step 60 of 60 by max_seconds=1000" in done.stdout
    assert (tmp_path / "run/checkpoint/state.safetensors").exists() and not (
        tmp_path / "run/samples.npy"
    ).exists()
    monkeypatch.undo()
    assert (
        inside("train", "resume=run").returncode == 0 and (tmp_path / "run/metrics.json").exists()
    )
