"""Streams, environment and folders: what a run is started in ends none half done, and what cannot
be is one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffgeo.config.folders import forget, note, remove_empty
from diffgeo.config.line import conf_dir
from diffgeo.config.mistakes import check, groups_of, message
from diffgeo.errors import UsageError
from diffgeo.machine import environment, memory
from diffgeo.machine.streams import Lasting

SMALL = "sample model=exact data=circle n=7 sampler.steps=3 metrics=none figures=false".split()
ROOT = str(Path(__file__).resolve().parent.parent)
DIFFGEO = f"{sys.executable} -m diffgeo"


def shell(folder: Path, line: str) -> str:
    """What bash prints to a line, its stdout."""
    here = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=here, capture_output=True, text=True
    )
    return done.stdout


def test_work_is_done_though_nobody_reads_what_is_printed(inside, tmp_path):
    """A reader that left, closed streams: the same samples as with both open; a full disk behind
    stdout too, and then it is told."""
    words = " ".join(SMALL)
    assert inside(*SMALL, "hydra.run.dir=read").returncode == 0
    ways = {
        "piped": "| true",
        "closed": "<&- >&- 2>&-",
        "full": "2>err > /dev/full",
    }
    statuses = {}
    for name, end in ways.items():
        line = f"{DIFFGEO} {words} hydra.run.dir={name} {end}; echo status ${{PIPESTATUS[0]}}"
        statuses[name] = shell(tmp_path, line).split()[-1]
    assert statuses == {"piped": "0", "closed": "0", "full": "1"}
    told = (tmp_path / "err").read_text()
    assert told == (
        "diffgeo: the work is done, but stdout could not be written: No space left on device\n"
    )
    wanted = np.load(tmp_path / "read/samples.npy")
    for name in ways:
        assert np.array_equal(np.load(tmp_path / name / "samples.npy"), wanted)
        assert (tmp_path / name / "metrics.json").is_file()


def test_a_descriptor_goes_on_into_nothing_after_its_first_failure():
    reading, writing = os.pipe()
    os.close(reading)
    stream = Lasting(writing, "w", closefd=False)
    assert stream.write(b"lost") == 4 and isinstance(stream.failure, BrokenPipeError)
    assert os.write(writing, b"nothing") == 7  # it is /dev/null now
    os.close(writing)


@pytest.mark.parametrize(
    "variables, says",
    [
        ({"RANK": "1"}, "RANK=1 in the environment stands without WORLD_SIZE"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK=one in the environment is not a whole number"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1 in the environment is not a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 in the environment is not below WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 in the environment stands without RANK"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE=0 in the environment is not a whole number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x in the environment is not a whole number"),
        (
            {"RANK": "0", "WORLD_SIZE": "2"},
            "WORLD_SIZE=2 in the environment stands without MASTER",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "http"},
            "MASTER_PORT=http in the environment is not a whole number from 1 to 65535",
        ),
        ({"OMP_NUM_THREADS": "9" * 12}, "OMP_NUM_THREADS=999999999999 in the environment: write"),
    ],
)
def test_half_of_torchrun_is_one_line(inside, monkeypatch, tmp_path, variables, says):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for words in (SMALL, ["theory", "orders", "euler"]):
        done = inside(*words)
        assert done.returncode == 2 and done.line.startswith(f"diffgeo: {says}")
    assert list(tmp_path.iterdir()) == []
    assert inside("--help").returncode == 0


def test_a_place_is_read_and_threads_fall_back(monkeypatch):
    world = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "h"}
    for name, value in (world | {"MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)
    assert environment.place() == (3, 4, 1)
    for text, threads in (("4", 4), ("4,2", 4), ("many", None), ("0", None), ("", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert environment.threads() == threads


def test_a_working_directory_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    from diffgeo.cli import hydra_command
    from diffgeo.config.catalogue import commands

    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working directory is gone"):
        hydra_command(commands()["train"], ["n=3"])


def test_a_refused_command_leaves_no_folder_and_takes_none_away(inside, tmp_path):
    assert inside("train", "n=0").returncode == 2
    assert inside("sample", "-m", "model=exact", "n=0,-1").returncode == 2
    assert inside("sample", *SMALL[1:], "hydra.run.dir=a/b/c", "label=3").returncode == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    assert inside("train", "n=0", "hydra.run.dir=mine/new").returncode == 2
    assert inside("train", "n=0", "hydra.run.dir=mine").returncode == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    (tmp_path / "file").write_text("in the way")
    done = inside("train", "n=1", "hydra.run.dir=file")
    assert done.returncode == 2 and done.line.startswith("diffgeo: hydra.run.dir=file: ")
    assert (tmp_path / "file").read_text() == "in the way"


def test_only_what_was_not_there_and_is_empty_is_removed(tmp_path):
    forget()
    (tmp_path / "old").mkdir()
    note(tmp_path / "old/new/deep")
    (tmp_path / "old/new/deep").mkdir(parents=True)
    (tmp_path / "old/new/kept").write_text("")
    remove_empty()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "new", "old"]


@pytest.mark.parametrize(
    "line, says",
    [
        (["=3"], "'=3' names no option: write OPTION=VALUE"),
        (["n="], "n= is empty: write n=VALUE"),
        (["n"], "'n' sets nothing"),
        (["n==3"], "'n==3' has two =: write n=3"),
        (["a key=3"], "'a key' is no name of an option"),
        (["ünï=3"], "'ünï' is no name of an option"),
        (["data=a\0b"], "holds control characters"),
        (
            ["logger=null"],
            "there is no logger=null; write logger= one of auto, jsonl, tensorboard, wandb",
        ),
        (
            ["+logger=[a]"],
            r"there is no \+logger=\[a\]; write \+logger= one of auto, jsonl, tensorboard, wandb",
        ),
        (["sampler/corrector=3"], "there is no sampler/corrector=3; write sampler/corrector= one"),
        (["-m", "n=1"], "-m has nothing to sweep over"),
        (["-m", "--cfg", "job", "n=1,2"], "-m and --cfg exclude each other"),
        (["--cfg", "foo"], "--cfg foo: write --cfg and one of job, hydra, all"),
        (["--config-dir", ""], "--config-dir stands without a value"),
    ],
)
def test_a_line_is_checked_before_hydra_reads_it(line, says):
    flags = [word for word in line if word in ("-m", "--cfg", "--config-dir", "job", "foo", "")]
    words = [word for word in line if word not in flags]
    with pytest.raises(UsageError, match=f"^.{{0,20}}{says}"):
        check(flags, words, groups_of(conf_dir()))


def test_lines_that_are_right_pass():
    groups = groups_of(conf_dir())
    for words in (["n=3", "data=line"], ["~data.x", "+a.b=c"], ["noise=a b/é=1.npy", "data=2d"]):
        check([], words, {**groups, "data": ["line", "2d"]})
    for word in ("seed=0,1", "sampler.schedule=choice(karras,edm)", "n=range(1,5)", "experiment=x"):
        check(["-m"], [word], groups)


def test_a_network_is_weighed_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 4 * 1000)
    with memory.Bounded("net.width=9", "write less"):
        made = torch.nn.Linear(9, 100)
    assert made.weight.shape == (100, 9)
    too_large = r"^net.width=9: a network of 1.8e\+03 weights needs 7.2e-06 GB of memory, and this"
    with pytest.raises(UsageError, match=too_large), memory.Bounded("net.width=9", "write less"):
        for _ in range(2):
            torch.nn.Linear(9, 100, bias=False)
            torch.nn.Linear(9, 100, bias=False)


@pytest.mark.parametrize(
    "line, says",
    [
        ("train net.width=100000000", "net.width=100000000 is too large: write at most 1000000"),
        ("train net.width=1000 net.depth=1000000", "net.depth=1000000: a network of 1e+12 weights"),
        ("sample n=2000000000 data=sphere data.n=900 model=exact", "n=2000000000 needs"),
        ("train trainer.betas=[0.9]", "trainer.betas=[0.9] is not a list of 2 numbers"),
        ("train preview=null", "preview=null builds nothing"),
        ("train ~trainer", "trainer is not set"),
        ("train n=true", "n=true: write a whole number from 1 to 2147483647"),
        ("train sampler.steps=true", "sampler.steps=true: write a whole number from 1 to 1000000"),
        ("train sampler.steps=2000000000", "sampler.steps=2000000000: write a whole number from 1"),
        ("train sigma_data=inf", "sigma_data=inf: write the standard deviation of the data"),
        ("train loop=3", "loop=3: write its options"),
        ("train device=null", "device=null is not a word"),
        ("train max_seconds=-1", "max_seconds=-1: write 0 or more"),
        ("theory gaussian data=circle grid_points=[1000000000]", "grid_points=1000000000: write"),
        ("theory gits data=line most=2000000000", "most=2000000000: write a whole number from 1"),
        ("train logger=wandb logger.mode=online", "logger.mode=online needs a key"),
        ("train logger=wandb logger.mode=nosuch", "logger.mode=nosuch is unknown"),
        ("compare . by=", "by= is empty: write by=METRIC"),
        ("theory certify seed=-1", "seed=-1: write a whole number from 0 to 2147483647"),
        ("theory gits data=line teacher=null", "teacher=null builds nothing: leave teacher= out"),
        ("sample model=exact data=circle data.radius=inf", "data.radius=inf"),
        ("sample model=exact data=tree data.depth=99", "data.branching=4, data.depth=99: write 1"),
        ("sample model=exact data=spiral data.arms=0", "data.arms=0, data.turns=1.5, data.radius"),
        ("sample model=exact data=circle metrics.distance=3", "metrics.distance=3 is not a node"),
        ("sample model=exact data=circle loop.afs=inf", "loop.afs=inf: write a deviation"),
        ("train data=circle net.bandwidth=inf", "net.bandwidth=inf: write a finite number"),
        ("train data=digits net.head=0", "net.head=0: write 1 or more"),
        ("train weighting=edm weighting.sigma_data=0", "weighting.sigma_data=0: write the"),
        ("theory gits data=line teacher.steps=null", "teacher.steps=null: write a whole number"),
    ],
)
def test_what_is_too_large_or_of_no_kind_is_refused_at_once(inside, tmp_path, line, says):
    done = inside(*line.split())
    assert done.returncode == 2 and done.line.startswith(f"diffgeo: {says}")
    assert list(tmp_path.iterdir()) == []


def test_a_lack_of_memory_names_the_number_that_asked_for_it():
    error = RuntimeError(
        "DefaultCPUAllocator: you tried to allocate 8000000000 bytes: not enough memory"
    )
    told, status = message(error, ["n=5", "schedule.training.steps=1000000000"])
    assert status == 1 and told.startswith(
        "out of memory (8 GB asked for at once): schedule.training.steps=1000000000 may be too "
    )
