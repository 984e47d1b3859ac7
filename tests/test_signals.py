"""Ctrl-C, SIGTERM and SIGUSR1: what is done ends in a checkpoint or in whole files, one line says
how to go on, and what goes on ends in the same bytes."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from test_train import training

from diffgeo.machine import signals
from diffgeo.machine.distributed import World
from diffgeo.machine.signals import Stopped, deferred, handled
from diffgeo.store import shards
from diffgeo.store.checkpoint import load_state, save_state
from diffgeo.training import Training
from diffgeo.training.stop import Stop

POINTS = (
    "train model=cem data=circle net.width=8 net.depth=1 trainer.steps=60 trainer.batch=128 "
    "trainer.log_every=20 trainer.warmup=0 preview.every=30 preview.metrics=20 n=50 "
    "sampler.steps=3 metrics=quick figures=false"
)
DIGITS = (
    "train data=digits model=edm net=unet_8 net.channels=8 net.dropout=0.1 trainer=images "
    "schedule=images trainer.steps=6 trainer.batch=8 trainer.log_every=3 n=12 batch=3 "
    "sampler=euler schedule@sampler.schedule=karras sampler.steps=3 metrics=images_quick "
    "figures=false png=true"
)


def send(number: int) -> None:
    """A signal from outside, to this process."""
    os.kill(os.getpid(), number)


def on_call(monkeypatch, owner, name: str, count: int, number: int) -> None:
    """Send a signal from within the call number `count` of a function."""
    calls = []
    plain = vars(owner)[name]

    def called(*arguments, **options):
        calls.append(1)
        if len(calls) == count:
            send(number)
        return plain(*arguments, **options)

    monkeypatch.setattr(owner, name, called)


def held(folder: Path) -> dict[str, bytes]:
    """What a run has made, by name, but for what was typed and what a clock has measured."""
    others = ("provenance.json", "speed.jsonl", "clock.json", "config.yaml", "overrides.yaml")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in others]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def hidden(folder: Path) -> list[str]:
    """Temporary files and locks."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".")]


# the handlers


@pytest.mark.parametrize("number, status", [("INT", 130), ("TERM", 143), ("USR1", 143)])
def test_a_signal_ends_the_work_and_leaves_the_handlers_as_they_were(number, status):
    number = signal.Signals[f"SIG{number}"]
    before = [signal.getsignal(each) for each in signals.SIGNALS]
    with pytest.raises(Stopped) as stop, handled():
        signals.begin()
        signals.advise("the first advice")
        signals.advise("the second")
        send(number)
    assert [signal.getsignal(each) for each in signals.SIGNALS] == before
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert signals.told(stop.value) == (f"{word}; the first advice", status)


def test_a_deferred_signal_waits_and_a_second_one_does_not(monkeypatch):
    done = []
    with handled():
        signals.begin()
        with pytest.raises(Stopped), deferred():
            send(signal.SIGTERM)
            done.append(signals.asked())
            send(signal.SIGTERM)  # the same, handed on by a launcher
            done.append("to the end")
    assert done == [signal.SIGTERM, "to the end"]
    monkeypatch.setattr(signals, "ECHO", 0.0)
    with handled(), pytest.raises(Stopped), deferred():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        done.append("not reached")
    assert done == [signal.SIGTERM, "to the end"]


def test_what_was_to_be_ignored_stays_ignored_and_a_thread_has_no_signals():
    plain = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with handled():
            send(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, plain)
    failed = []

    def inside() -> None:
        try:
            with handled():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert not failed


def test_a_signal_waits_for_the_end_of_the_start_up():
    """An import that is broken off halfway is a library that cannot be imported again."""
    done = []
    with handled(), pytest.raises(Stopped):
        send(signal.SIGINT)
        done.append("imported")
        signals.begin()
        done.append("not reached")
    assert done == ["imported"]


def test_what_a_library_makes_of_a_signal_is_still_the_signal(inside, monkeypatch):
    """Where code that is broken off raises an error of its own while it cleans up."""

    def broken(arguments):
        try:
            send(signal.SIGTERM)
        finally:
            raise AttributeError("half of me is missing")

    monkeypatch.setattr("diffgeo.commands.data.list.main", broken)
    done = inside("data", "list")
    assert done.returncode == 143
    assert done.line == "diffgeo: terminated; the same line begins again"


# between two steps


@pytest.mark.parametrize("stop", [7, 33])
def test_a_training_stopped_after_any_step_repeats_the_undisturbed_one(tmp_path, stop):
    """Inside a chunk of batches, and between two reports, whose losses are those of all steps."""
    options = {"steps": 40, "batch": 4096, "log_every": 20, "ema": 0.9}
    whole = training(**options)
    reports = list(whole.run())
    first = training(**options)
    seen = list(first.run(lambda: first.step == stop))
    save_state(tmp_path, first.state(), first.step, first.weights(), 1.0, 2.0)
    second = training(**options)
    second.restore(*load_state(tmp_path, "cpu")[:2])
    seen += second.run()
    assert first.step == stop and seen == reports
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_an_older_checkpoint_holds_no_loss(tmp_path):
    t = training(steps=40, batch=64, log_every=20)
    report = next(t.run())
    state = t.state()
    del state["total"]
    again = training(steps=40, batch=64, log_every=20)
    again.restore(state, report.step)
    assert float(again.total) == 0 and [p.step for p in again.run()] == [40]


def test_several_processes_look_together_about_every_second(monkeypatch):
    """A step takes 10 ms: after a first look they look after 100 steps, whatever each measures."""
    now = [0.0]
    looks = []
    monkeypatch.setattr("diffgeo.training.stop.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        World, "most", lambda self, *numbers: looks.append(numbers) or list(numbers)
    )
    stop = Stop(World(1, 2))
    for _ in range(450):
        now[0] += 0.01
        assert not stop()
    assert len(looks) == 5 and all(99 <= wanted <= 101 for _, wanted in looks)
    monkeypatch.setattr(World, "most", lambda self, *numbers: [signal.SIGUSR1, 100])
    told = []
    for _ in range(101):
        now[0] += 0.01
        told.append(stop())
    assert told[-1] and stop.number == signal.SIGUSR1


# commands


@pytest.mark.parametrize("line, count, steps", [(POINTS, 33, 60), (DIGITS, 4, 6)])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    inside, tmp_path, monkeypatch, line, count, steps
):
    monkeypatch.setattr("diffgeo.training.fit.peak", lambda device, precision: 1e12)
    assert inside(*line.split(), "hydra.run.dir=whole").returncode == 0
    with monkeypatch.context() as patch:
        on_call(patch, Training, "update", count, signal.SIGUSR1)
        done = inside(*line.split(), "hydra.run.dir=stopped")
    assert done.returncode == 143
    go_on = f"go on with: diffgeo train resume={tmp_path}/stopped"
    assert done.line == f"diffgeo: terminated at step {count} of {steps}; {go_on}"
    assert not hidden(tmp_path / "stopped")
    # then while it is sampled, or measured
    with monkeypatch.context() as patch:
        patch.setattr("diffgeo.report.finish.measure", lambda *a, **o: send(signal.SIGINT))
        done = inside("train", "resume=stopped")
    assert done.returncode == 130 and done.line == f"diffgeo: interrupted; {go_on}"
    assert not hidden(tmp_path / "stopped")
    assert inside("train", "resume=stopped").returncode == 0
    assert held(tmp_path / "stopped") == held(tmp_path / "whole")


def test_a_stopped_sampling_goes_on_from_its_shards(inside, tmp_path, monkeypatch):
    line = (
        "sample model=exact data=digits n=12 batch=3 sampler=euler sampler.steps=3 png=true "
        "schedule@sampler.schedule=karras metrics=images_quick figures=false"
    ).split()
    assert inside(*line, "hydra.run.dir=whole").returncode == 0
    with monkeypatch.context() as patch:
        on_call(patch, shards, "write", 3, signal.SIGTERM)
        done = inside(*line, "hydra.run.dir=stopped")
    path = tmp_path / "stopped"
    assert done.returncode == 143
    assert done.line == f"diffgeo: terminated; the same line with hydra.run.dir={path} goes on"
    assert len(list((path / "shards").iterdir())) == 2 and not hidden(path)
    drawn = []
    write = shards.write
    monkeypatch.setattr(shards, "write", lambda *a: drawn.append(a[1]) or write(*a))
    assert inside(*line, "hydra.run.dir=stopped").returncode == 0
    assert drawn == [range(6, 9), range(9, 12)]
    whole = held(tmp_path / "whole")
    assert held(path) == whole and len([name for name in whole if name.endswith(".png")]) == 12


def test_a_signal_stops_a_sweep_and_the_same_line_goes_on(inside, tmp_path, monkeypatch):
    line = [*POINTS.split(), "preview.every=0", "-m", "seed=0,1"]
    with monkeypatch.context() as patch:
        on_call(patch, Training, "update", 60 + 7, signal.SIGTERM)
        done = inside(*line)
    assert done.returncode == 143
    assert done.line == "diffgeo: terminated at step 7 of 60; the same line goes on"
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    assert {p.name for p in sweep.iterdir() if p.is_dir()} == {"0", "1"}
    done = inside(*line)
    assert done.returncode == 0 and done.stdout.count("is finished") == 1
    assert (sweep / "1/metrics.json").exists()


@pytest.mark.parametrize(
    "line, where, advice",
    [
        ("reproduce lee/rates", "diffgeo.commands.reproduce.engine.spec_of", "goes on"),
        ("data list", "diffgeo.commands.data.list.main", "begins again"),
    ],
)
def test_a_command_without_a_folder_says_what_to_type(inside, monkeypatch, line, where, advice):
    monkeypatch.setattr(where, lambda *arguments: send(signal.SIGTERM))
    done = inside(*line.split())
    assert done.returncode == 143 and done.line == f"diffgeo: terminated; the same line {advice}"


# several processes

ROOT = Path(__file__).resolve().parent.parent


def pair(folder: Path, line: str) -> list[subprocess.Popen]:
    """`diffgeo ...` in two processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    world |= {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    started = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-m", "diffgeo", *line.split()]
        started.append(
            subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | world | place,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ended(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Their statuses, and the lines that any of them has to say."""
    said = []
    for process in processes:
        _, err = process.communicate(timeout=120)
        said += [line for line in err.splitlines() if line.startswith("diffgeo:")]
    return [process.returncode for process in processes], said


@pytest.mark.slow
def test_two_processes_stop_after_the_same_step_whichever_is_told(tmp_path):
    """One of them has the signal. Both stop, one says so, and they go on to the bytes of two that
    nobody disturbed: weights, moments, and the losses of the report that was cut in two."""
    line = POINTS.replace("steps=60", "steps=3000").replace("log_every=20", "log_every=400")
    assert ended(pair(tmp_path, f"{line} hydra.run.dir=whole"))[0] == [0, 0]
    processes = pair(tmp_path, f"{line} hydra.run.dir=stopped")
    while not (tmp_path / "stopped/speed.jsonl").exists():
        assert processes[0].poll() is None
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    statuses, said = ended(processes)
    assert statuses == [143, 143] and len(said) == 1
    step = re.search(r"terminated at step (\d+) of 3000; go on with: ", said[0])
    assert step and load_state(tmp_path / "stopped/checkpoint", "cpu")[1] == int(step[1])
    assert int(step[1]) % 400 and int(step[1]) < 3000
    assert not hidden(tmp_path / "stopped")
    assert ended(pair(tmp_path, "train resume=stopped"))[0] == [0, 0]
    for name in ("checkpoint/model.safetensors", "checkpoint/state.safetensors", "samples.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "stopped" / name
        ).read_bytes()
