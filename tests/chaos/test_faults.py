"""A full, a closed or a damaged disk, file, stream or folder: the right bytes, or one line and
status 1 or 2; never a wrong number, and never half a file."""

import os
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from faults import DAMAGES, KINDS, found, furnished, outcome
from forks import Process, content, leftovers, same, surroundings
from inputs import POINTS, SMALL
from kills import furnish, next_line, scene, undisturbed

# in every run
QUICK = {
    "stopped/checkpoint/state.safetensors": "flipped",
    "run/checkpoint/model.safetensors": "flipped",
    "run/samples.npy": "flipped",
}
# a folder without one of its pictures is another set, half a table is a table
NO_DAMAGE = [("pictures/*.png", "removed"), ("cloud.csv", "truncated")]
LINE = f"sample {POINTS} hydra.run.dir=run"


@pytest.fixture(scope="session")
def place(forks, inputs, tmp_path_factory):
    """`place(kind)`: where its file lies; to be copied."""
    known = {}

    def made(kind):
        if kind not in known:
            known[kind] = furnished(forks, inputs, kind, tmp_path_factory.mktemp("furnished"))
        return known[kind]

    return made


@pytest.fixture(scope="session")
def right(forks, place, tmp_path_factory):
    """`right(kind)`: what its line ends in where nothing is damaged."""
    known = {}

    def run(kind):
        if kind not in known:
            whole = tmp_path_factory.mktemp("right") / "place"
            shutil.copytree(place(kind), whole)
            forks.good(kind.line, whole, DIFFGEO_CACHE=str(whole / "cache"))
            known[kind] = content(whole / kind.result)
        return known[kind]

    return run


@pytest.fixture(scope="session")
def points(forks, tmp_path_factory):
    """What LINE ends in."""
    place = tmp_path_factory.mktemp("points")
    forks.good(LINE, place)
    return content(place / "run")


def damages() -> list:
    cases = []
    for kind, name in product(KINDS, DAMAGES):
        if (kind.file, name) not in NO_DAMAGE:
            marks = [] if QUICK.get(kind.file) == name else [pytest.mark.slow]
            cases.append(pytest.param(kind, name, id=f"{kind.file} {name}", marks=marks))
    return cases


@pytest.mark.parametrize("kind, name", damages())
def test_a_damaged_file(forks, place, right, tmp_path, kind, name):
    own = tmp_path / "place"
    shutil.copytree(place(kind), own)
    DAMAGES[name](found(own, kind))
    done = forks.run(kind.line, own, DIFFGEO_CACHE=str(own / "cache"))
    outcome(done, kind, own, lambda: right(kind))


# Disks.

SIZES = [8, 24, 64, 160, 320]  # kB
FILLERS = {
    "points": "sample model=exact data=circle n=20000 sampler.steps=2 metrics=none figures=false "
    "hydra.run.dir=disk/run",
    "images": "sample data=digits model=exact n=2500 batch=500 sampler=euler sampler.steps=1 "
    "metrics=none figures=false hydra.run.dir=disk/run",
    "training": f"train {SMALL} net.width=128 net.depth=3 hydra.run.dir=disk/run",
    "preparing": "data prepare folder data.path=pictures data.size=64 data.root=disk",
}


def full_disks() -> list:
    cases = []
    for size in SIZES:
        for name in FILLERS:
            marks = [] if (name, size) == ("images", 160) else [pytest.mark.slow]
            cases.append(pytest.param(name, size, id=f"{name}-{size}kB", marks=marks))
    return cases


def seen(folder: Path) -> list[str]:
    """What of a run must not be left on a full disk; its shards may be."""
    return [name for name in leftovers(folder) if "shards" not in name or name.count(".") > 1]


@pytest.mark.parametrize("name, size", full_disks())
def test_a_full_disk(forks, work, name, size):
    """One line with the file; nothing half written; and with more room the same line ends well."""
    if not forks.mounts:
        pytest.skip("this machine gives no mounts of our own (unshare -m, unshare -rm)")
    furnish(work)
    with forks.disk(work / "disk", size << 10) as disk:
        done = forks.run(FILLERS[name], work)
        assert done.status == 1 and "disk" in done.complaint and "full" in done.complaint, done.told
        assert not seen(disk), (seen(disk), done.told)
        forks.system("mount", "-o", "remount,size=64M", str(work / "disk"))
        forks.good(FILLERS[name], work)
        resumed = content(disk)
        assert not leftovers(disk), leftovers(disk)
    forks.good(FILLERS[name], work)
    assert not same(resumed, content(work / "disk"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "line, status",
    [
        ("sample model=exact data=circle n=20 hydra.run.dir=disk/new", 1),
        ("train resume=disk/run", 1),
        ("compare disk/run", 1),
        ("data prepare folder data.path=pictures data.size=8 data.root=disk/roots", 2),
        ("sample run=disk/run n=20 metrics=quick figures=false hydra.run.dir=made", 0),
        ("evaluate run=disk/run metrics=quick figures=false hydra.run.dir=made", 0),
    ],
)
def test_a_disk_that_is_not_ours_to_write(forks, inputs, work, line, status):
    if not forks.mounts:
        pytest.skip("this machine gives no mounts of our own (unshare -m, unshare -rm)")
    furnish(work)
    disk = work / "disk"
    shutil.copytree(inputs / "run", disk / "run")
    (disk / "run" / "metrics.json").unlink() if "resume" in line else None
    forks.system("mount", "--bind", str(disk), str(disk))
    forks.system("mount", "-o", "remount,ro,bind", str(disk))
    try:
        done = forks.run(line, work)
    finally:
        forks.system("umount", "-l", str(disk))
    assert done.status == status, done.told
    assert not status or "ead-only" in done.complaint, done.told


@pytest.mark.slow
def test_a_device_is_written_and_not_replaced(forks, work):
    """/dev/full is full; a pipe is written straight."""
    line = "theory gaussian spectrum=power d=4 grid_points=[5] figures=false hydra.run.dir=run out="
    done = forks.run(line + "/dev/full", work)
    assert done.status == 1 and "/dev/full" in done.complaint, done.told
    assert Path("/dev/full").is_char_device()
    forks.good(line + "table.csv hydra.run.dir=again", work)
    done = forks.good(line + "/dev/stdout hydra.run.dir=third", work)
    assert (work / "table.csv").read_text() in done.out


# Streams and surroundings: in processes of their own.


def shell(script: str, work: Path, home: Path, **env) -> subprocess.CompletedProcess:
    """`script` with $D for diffgeo, in a folder."""
    environment = surroundings(home) | {"D": f"{sys.executable} -m diffgeo"} | env
    command = ["bash", "-c", script]
    return subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        f"$D {LINE} >&-",
        f"$D {LINE} 2>&-",
        f"$D {LINE} >&- 2>&- <&-",
        f"$D {LINE} | true; exit ${{PIPESTATUS[0]}}",
        f"$D {LINE} 2>&1 | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}",
    ],
)
def test_a_stream_that_is_closed(forks, work, points, script):
    """As with /dev/null: everything is done."""
    done = shell(script, work, forks.home)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done
    assert not same(content(work / "run"), points), done
    assert done.returncode in (0, 1), done


@pytest.mark.slow
def test_a_stream_that_is_full(forks, work, points):
    done = shell(f"$D {LINE} > /dev/full", work, forks.home)
    assert len(done.stderr.splitlines()) <= 1 and "Traceback" not in done.stderr, done
    assert done.returncode == 1 or not same(content(work / "run"), points)


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        {"HOME": None, "DIFFGEO_CACHE": None},
        {"HOME": "/nowhere", "DIFFGEO_CACHE": None},
        {"HOME": "/proc", "DIFFGEO_CACHE": None},
        {"DIFFGEO_CACHE": "/proc/nowhere"},
        {"DIFFGEO_CACHE": "/dev/null"},
    ],
    ids=str,
)
def test_a_home_that_is_not_there(forks, work, env):
    line = "sample model=exact data=circle n=50 sampler.steps=4 metrics.pairs=2 figures=false "
    forks.good(line + "hydra.run.dir=run", work)
    forks.good(line + "hydra.run.dir=again", work, **env)
    ours, theirs = (content(work / name, ["overrides.yaml"]) for name in ("run", "again"))
    assert ours["metrics.json"] == theirs["metrics.json"]
    assert ours["samples.npy"] == theirs["samples.npy"]


@pytest.mark.slow
def test_a_locale_without_letters(forks, work, points):
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = "größe π"
    line = ["sample", *POINTS.split(), f"hydra.run.dir='{folder}'"]
    done = Process(line, work, forks.home, **plain).end()
    assert done.status == 0, done.told
    made = content(work / folder)
    assert made["samples.npy"] == points["samples.npy"]
    done = Process(["compare", folder], work, forks.home, **plain).end()
    assert done.status == 0, done.told


@pytest.mark.slow
def test_a_working_folder_that_is_gone(forks, work):
    done = shell(f"mkdir x; cd x; rmdir ../x; exec $D {LINE}", work, forks.home)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done
    assert done.stderr.startswith("diffgeo: ") and not list(work.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["short training", "shards"])
def test_two_processes_in_one_folder(forks, tmp_path, work, name):
    """The second waits, or refuses by the name of the first; what is there is whole."""
    told = scene(name)
    whole = undisturbed(forks, told, tmp_path / "whole")
    furnish(work)
    first = forks.start(next_line(told, work), work)
    second = forks.start(told.line, work)
    pids = {str(first.pid), str(second.pid)}
    ends = [first.end(), second.end()]
    assert sorted(done.status for done in ends)[0] == 0, [done.told for done in ends]
    for done in ends:
        if done.status:
            assert done.status == 1 and pids & set(done.complaint.split()), done.told
    assert not same(content(work), whole.files) and not leftovers(work)


@pytest.mark.slow
def test_a_folder_that_is_removed_on_the_way(forks, work):
    """The samples of a folder that is gone are lost; that is said."""
    told = scene("shards")
    furnish(work)
    running = forks.start(told.line, work)
    while not (work / "run" / "shards").is_dir():
        os.sched_yield()
    shutil.rmtree(work / "run", ignore_errors=True)
    done = running.end()
    assert done.status in (0, 1) and done.status != -signal.SIGKILL, done.told
    if done.status:
        assert done.complaint
    else:
        assert (work / "run" / "metrics.json").exists(), done.told
