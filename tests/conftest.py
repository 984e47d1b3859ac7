"""Shared test settings: one thread, a private cache, no Weights & Biases key; and how the tests are
shared out to several processes (`make test`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from here import run_here

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


# what takes longest to run begins first, so that no process is left with it at the end
LONG = (
    "test_reproduce_gauss",
    "test_orders",
    "test_reproduce",
    "test_cli",
    "test_distributed",
    "test_analytic_curve",
    "test_exact_sampling",
    "test_analytic_images",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Of `-n auto`: as many processes as this one may use cores, at a gigabyte each."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, 8)


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def private_surroundings(tmp_path_factory):
    os.environ["DIFFGEO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "HYDRA_FULL_ERROR"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The root of the real data sets (MNIST, CIFAR-10, Inception weights, statistics), where they
    are to be had: unpacked once for all processes of a test run."""
    import fcntl

    if held := os.environ.get("DIFFGEO_TEST_DATA"):
        return Path(held)
    unpack = Path(__file__).resolve().parents[2] / "shared" / "tools" / "unpack_data"
    if not unpack.exists():
        pytest.skip(
            "the real data sets are not here: no ../shared, and DIFFGEO_TEST_DATA names no folder "
            "of theirs"
        )
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    root = common / "real"
    with (common / "real.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            partial = common / "real.partial"
            command = [sys.executable, str(unpack), str(partial)]
            subprocess.run(command, check=True, capture_output=True)
            partial.rename(root)
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

    root = str(Path(__file__).resolve().parent.parent)

    def run(*arguments: str, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "diffgeo", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"PYTHONPATH": root} | environment,
        )
        return Result(done.args, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def inside(tmp_path, monkeypatch, capfd):
    """`diffgeo ...` in this process, in an empty folder: the same entry point without the seconds
    of a new interpreter."""

    def run(*arguments: str) -> Result:
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        status = run_here(tmp_path, arguments)
        out, err = capfd.readouterr()
        return Result(arguments, status, out, err)

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(line, ...)` runs `diffgeo ...` for all tests of a module, in one folder, which it
    returns; each must succeed."""
    folder = tmp_path_factory.mktemp("made")

    def run(*lines: str) -> Path:
        for line in lines:
            assert run_here(folder, line.split()) == 0, line
        return folder

    return run
