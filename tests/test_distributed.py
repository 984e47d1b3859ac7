"""Two gloo processes against one: the same weights, the same samples, one voice."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffgeo.machine.distributed import ALONE, World
from diffgeo.store.checkpoint import load_tensors

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import sys
import torch
from diffgeo.store.checkpoint import save_tensors
from diffgeo.cli import guarded
from diffgeo.core import generator
from diffgeo.denoiser import Network
from diffgeo.machine.distributed import joined
from diffgeo.errors import DiffgeoError
from diffgeo.nn import MLP
from diffgeo.parameterization import EDM
from diffgeo.schedule import VE
from diffgeo.training import Trainer, Training
from diffgeo.training.weighting import Power

class Normal:
    shape, std = (2,), 1.0
    def sample(self, n, g):
        return torch.randn(n, 2, generator=g, dtype=torch.float64)

what, out = sys.argv[1:]
def main():
    with joined(torch.device("cpu")) as world:
        torch.manual_seed(world.rank)  # weights that differ, as on processes that went astray
        model = Network(MLP((2,), width=16, depth=1), EDM())
        trainer = Trainer(steps=30, batch=37, accumulate=2, clip=0.5, log_every=10)
        t = Training(trainer, model, Normal(), VE(), Power(2), 5, world)
        losses = []
        for progress in t.run():
            losses.append(progress.loss)
            print(progress.step)
            if what in ("0", "1") and world.rank == int(what):
                raise DiffgeoError(f"rank {what} has had enough")
            if what == "both":
                raise DiffgeoError("all have had enough")
        if world.first:
            save_tensors(out, {"average": t.average, "losses": torch.tensor(losses)})
sys.exit(guarded(main))
"""


def together(size: int, *arguments: str) -> list[subprocess.CompletedProcess]:
    """The script in `size` processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *outputs)
        for p in started
        for outputs in [p.communicate(timeout=120)]
    ]


def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch):
    """37 rows, 19 and 18 of them, in two passes each, clipped: weights and losses to 1e-5; rank 0
    alone prints."""
    two = tmp_path / "two.safetensors"
    one = tmp_path / "one.safetensors"
    done = together(2, "train", str(two))
    assert [d.returncode for d in done] == [0, 0], done[0].stderr + done[1].stderr
    assert done[0].stdout.split() == ["10", "20", "30"] and not done[1].stdout
    monkeypatch.setattr(sys, "argv", ["script", "train", str(one)])
    with pytest.raises(SystemExit, match="0"):
        exec(compile(SCRIPT, "script", "exec"), {"__name__": "script"})
    for name, value in load_tensors(one)[0].items():
        torch.testing.assert_close(load_tensors(two)[0][name], value, rtol=1e-5, atol=1e-5)


# the other rank and both take the same way
@pytest.mark.parametrize(
    "who",
    ["0", pytest.param("1", marks=pytest.mark.slow), pytest.param("both", marks=pytest.mark.slow)],
)
def test_a_rank_that_fails_ends_the_others_with_one_line(tmp_path, who):
    """Whoever fails, and if all do: the first to fail tells it, the others, whose connection
    breaks, are silent."""
    done = together(2, who, str(tmp_path / "none"))
    assert [d.returncode for d in done] == [1, 1]
    told = (
        "diffgeo: all have had enough" if who == "both" else f"diffgeo: rank {who} has had enough"
    )
    assert [
        line for d in done for line in d.stderr.splitlines() if line.startswith("diffgeo:")
    ] == [told]
    assert "Traceback" not in done[0].stderr + done[1].stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize("size, n", [(1, 5), (2, 37), (3, 2), (4, 128)])
def test_rows_are_shared_without_a_gap(size, n):
    rows = [i for rank in range(size) for i in range(n)[World(rank, size).rows(n)]]
    assert rows == list(range(n))


def test_alone_nothing_is_sent(tmp_path):
    x = torch.ones(2)
    assert (
        ALONE.sum_(x) is x
        and ALONE.copy_(x) is x
        and ALONE.text("a") == "a"
        and ALONE.once(lambda: True)
        and not ALONE.agree(False)
    )
    assert ALONE.folder(tmp_path) == tmp_path and tmp_path.exists()


def test_a_process_looks_at_its_own_gpu_alone(monkeypatch):
    """device=auto under torchrun: no empty tensor on GPU 0, which would open a context there."""
    from diffgeo.config import build

    touched = []
    for name, value in (("is_available", lambda: True), ("device_count", lambda: 4)):
        monkeypatch.setattr(f"torch.cuda.{name}", value)
    for name, value in (
        ("WORLD_SIZE", "4"),
        ("RANK", "3"),
        ("LOCAL_RANK", "3"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "29500"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(build.torch, "empty", lambda n, device: touched.append(device))
    assert build.device_of("auto") == torch.device("cuda", 3)
    assert touched == [torch.device("cuda", 3)]


TINY = [
    "data=digits",
    "net=unet_8",
    "net.channels=8",
    "model=edm",
    "trainer=images",
    "schedule=images",
    "trainer.steps=5",
    "trainer.batch=15",
    "trainer.log_every=2",
    "trainer.warmup=0",
    "metrics=images_quick",
    "sampler=heun",
    "schedule@sampler.schedule=karras",
    "sampler.steps=4",
    "n=21",
    "batch=4",
    "figures=false",
]


def launched(tmp_path, size: int, *arguments: str) -> subprocess.CompletedProcess:
    """`torchrun --standalone --nproc-per-node SIZE -m diffgeo ...`; without torchrun for one
    process."""
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
        if size > 1
        else []
    )
    return subprocess.run(
        [sys.executable, *torchrun, "-m", "diffgeo", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_torchrun_trains_and_samples_as_one_process_does(tmp_path):
    done = launched(tmp_path, 2, "train", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder:") == 1 == done.stdout.count("written:")
    (two,) = (tmp_path / "outputs/train").iterdir()  # rank 1's own stamp is gone
    assert launched(tmp_path, 1, "train", *TINY, "hydra.run.dir=one").returncode == 0
    one = tmp_path / "one"
    weights = [load_tensors(f / "checkpoint/model.safetensors")[0] for f in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)
    samples = [np.load(f / "samples.npy").astype(int) for f in (one, two)]
    assert np.abs(samples[0] - samples[1]).max() <= 1 and (samples[0] != samples[1]).mean() < 0.01
    assert not (two / "shards").exists()
    done = launched(tmp_path, 2, "sample", f"run={two}", "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    for name in ("samples.npy", "metrics.json"):
        assert (tmp_path / "again" / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.slow
def test_torchrun_on_points_and_on_a_bad_line(tmp_path):
    """Points go through shards too, and every metric is there; a mistake is told once."""
    line = [
        "sample",
        "model=exact",
        "data=circle",
        "n=50",
        "batch=8",
        "sampler.steps=5",
        "metrics=quick",
        "figures=false",
    ]
    assert launched(tmp_path, 2, *line, "hydra.run.dir=two").returncode == 0
    assert launched(tmp_path, 1, *line, "hydra.run.dir=one").returncode == 0
    for name in ("samples.npy", "metrics.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    # joined; not yet
    for mistake, says in (
        ("trainer.batch=1", "less than one row"),
        ("net.nosuch=1", "there is no option net.nosuch"),
        ("trainer.lr=1e30", "the loss became"),
    ):
        done = launched(tmp_path, 2, "train", *TINY, mistake, f"hydra.run.dir={mistake[:10]}")
        assert done.returncode != 0 and done.stderr.count("diffgeo: ") == 1 and says in done.stderr
