"""Shared test settings: one thread, a private cache, no Weights & Biases key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session", autouse=True)
def private_surroundings(tmp_path_factory):
    os.environ["DIFFGEO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "HYDRA_FULL_ERROR"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The root of the real data sets (MNIST, CIFAR-10, Inception weights, statistics), where they
    are to be had."""
    if held := os.environ.get("DIFFGEO_TEST_DATA"):
        return Path(held)
    unpack = Path(__file__).resolve().parents[2] / "shared" / "tools" / "unpack_data"
    if not unpack.exists():
        pytest.skip(
            "the real data sets are not here: no ../shared, and DIFFGEO_TEST_DATA names no folder "
            "of theirs"
        )
    root = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(unpack), str(root)], check=True, capture_output=True)
    return root


class Result(subprocess.CompletedProcess):
    @property
    def line(self) -> str:
        """The one line of an error message; fails when there are more, or a traceback."""
        lines = [x for x in self.stderr.splitlines() if x.strip() and not x.startswith("train:")]
        assert len(lines) == 1 and "Traceback" not in self.stderr, self.stderr
        return lines[0]


@pytest.fixture
def diffgeo(tmp_path):
    """Run `diffgeo ...` as a user would, in an empty folder; returns code, stdout and stderr."""

    def run(*arguments: str, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "diffgeo", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
                **environment,
            },
        )
        return Result(done.args, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def inside(tmp_path, monkeypatch, capfd):
    """`diffgeo ...` in this process, in an empty folder: the same entry point without the seconds
    of a new interpreter."""

    def run(*arguments: str) -> Result:
        from diffgeo.cli import main

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["diffgeo", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return Result(arguments, stop.value.code or 0, out, err)

    return run
