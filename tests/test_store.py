"""The one writer: full disks, temporaries of the dead, links, devices, locks, UTF-8, no home."""

import ast
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import diffgeo as package
from diffgeo.data import prepared
from diffgeo.data.prepared import Blocks
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics import inception_weights
from diffgeo.plot.canvas import sheet
from diffgeo.store import caches, files, lock, npy, shards
from diffgeo.store.checkpoint import load_tensors, save_tensors
from diffgeo.store.files import append_text, atomic, sweep, write_json, write_text
from diffgeo.store.npy import write_array

ROOT = Path(package.__file__).parent


@pytest.fixture(autouse=True)
def no_lock_outlives_a_test():
    with lock.job():
        yield


@pytest.fixture
def small(tmp_path):
    """`small(size)` gives a disk of so many bytes, or skips where this user may mount none."""
    mounted = []

    def make(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=10)
        except OSError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip("this user may not mount a small disk")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Full disks.


def figure(path):
    with sheet(path, size=(3.0, 3.0)) as (_, axes):
        axes[0, 0].imshow(np.random.default_rng(0).random((300, 300)), interpolation="nearest")


def shards_of(folder: Path, n: int = 40) -> Path:
    """`n` samples [n,1,8,8] in two shards."""
    x = np.arange(n * 64, dtype=np.float32).reshape(n, 1, 8, 8)
    shards.write(folder, range(n // 2), x[: n // 2], 3.0)
    shards.write(folder, range(n // 2, n), x[n // 2 :], 3.0)
    return folder


def set_of_images(path):
    blocks = (np.full((10, 28, 28), i, np.uint8) for i in range(400))
    prepared.write(path.parent, {"train_images": Blocks((4000, 28, 28), blocks)}, name="set")


WRITERS = {
    "a.txt": lambda p: write_text(p, "x" * 3_000_000),
    "a.json": lambda p: write_json(p, ["x" * 3_000_000]),
    "a.npy": lambda p: write_array(p, np.zeros((750, 1000), np.float32)),
    "b.npy": lambda p: write_array(p, np.zeros((1000, 750), np.float32).T),
    "a.safetensors": lambda p: save_tensors(p, {"a": torch.zeros(750_000)}),
    "train_images.npy": set_of_images,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file_and_the_bytes(small, name):
    """2 MB for 3 MB: not one byte of it stays, and what was there is there."""
    disk = small(2_097_152)
    (disk / "before").write_text("kept")
    with pytest.raises(DiffgeoError, match=rf"cannot write .*{name}: the disk is full, \d+ of \d+"):
        WRITERS[name](disk / name)
    assert names(disk) == ["before"]


def test_the_bytes_that_are_missing_are_right(small):
    """Of a disk of 100 pages with one taken, 200 pages: 101 are missing."""
    disk = small(100 * 4096)
    (disk / "before").write_text("kept")
    with pytest.raises(DiffgeoError, match=f" {101 * 4096} of {200 * 4096} bytes are missing"):
        write_text(disk / "a", "x" * (200 * 4096))


def test_samples_are_assembled_on_a_full_disk_without_a_signal(small, tmp_path):
    place = shards_of(tmp_path / "shards", 2000)
    disk = small(420_000)
    with pytest.raises(DiffgeoError, match=r"samples.npy: the disk is full, \d+ of 512128 bytes"):
        shards.assemble(place, range(2000), disk / "samples.npy")
    assert names(disk) == []


def test_a_picture_and_a_log_on_a_full_disk(small):
    disk = small(16 * 4096)
    with pytest.raises(DiffgeoError, match="figure.png: the disk is full, .* bytes are missing"):
        figure(disk / "figure.png")
    log = disk / "metrics.jsonl"
    line = json.dumps({"text": "x" * 1000}) + "\n"
    with pytest.raises(DiffgeoError, match="metrics.jsonl: the disk is full"):
        for _ in range(100):
            append_text(log, line)
    assert names(disk) == ["metrics.jsonl"]
    assert set(log.read_text().splitlines(keepends=True)) == {line}  # no half line


def test_a_file_may_be_too_large(tmp_path):
    """Without a disk to fill: files may not pass 50 kB here."""
    place = shards_of(tmp_path / "shards", 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for name, write in WRITERS.items():
            with pytest.raises(DiffgeoError, match=f"cannot write .*{name}: "):
                write(tmp_path / "out" / name)
        with pytest.raises(DiffgeoError, match="cannot write .*samples.npy: File too large"):
            shards.assemble(place, range(400), tmp_path / "out" / "samples.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "out") == []


def test_space_is_allocated_before_a_row_is_written(tmp_path, monkeypatch):
    """A disk that fills up later cannot end in the middle of an array."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    begun = []

    def blocks():
        begun.append(True)
        yield np.zeros((4, 8, 8), np.uint8)

    with pytest.raises(DiffgeoError, match="the disk is full"):
        prepared.write_array(tmp_path / "a.npy", Blocks((4, 8, 8), blocks()))
    assert begun == [] and names(tmp_path) == []


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.arange(24, dtype=">i2").reshape(4, 6).T,
        np.zeros((0, 3), np.float32),
        np.asarray(2.5),
        np.arange(10)[::2],
    ],
    ids=["C", "Fortran", "empty", "scalar", "strided"],
)
def test_arrays_have_the_bytes_of_numpy(tmp_path, array):
    write_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
    with pytest.raises(ValueError, match="Python objects"):
        write_array(tmp_path / "ours.npy", np.asarray([object()]))


def test_rows_have_the_bytes_of_a_memory_map(tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    with npy.rows(tmp_path / "ours.npy", x.shape, "float32") as append:
        append(x[:4])
        append(x[4:].astype(np.float64))
    theirs = np.lib.format.open_memmap(tmp_path / "theirs.npy", "w+", np.float32, x.shape)
    theirs[...] = x
    theirs.flush()
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
    with pytest.raises(DiffgeoError, match="6 of its 7 rows"):
        with npy.rows(tmp_path / "short.npy", x.shape, "float32") as append:
            append(x[:6])
    with pytest.raises(DiffgeoError, match=r"a row of it is \[3\]"):
        with npy.rows(tmp_path / "short.npy", x.shape, "float32") as append:
            append(x[:, :1])
    assert names(tmp_path) == ["ours.npy", "theirs.npy"]


# What killed processes leave behind.

KILLED = """
import os, signal, sys
from pathlib import Path
from diffgeo.store.files import atomic, atomic_folder
folder = Path(sys.argv[1])
with atomic(folder / "samples.npy") as a, atomic(folder / "checkpoint" / "state.json") as b:
    with atomic_folder(folder / "samples") as c:
        for path in (a, b, c / "0.png"):
            path.write_text("half")
        if sys.argv[2] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("ready", flush=True)
        sys.stdin.read()
"""


def other(folder: Path, how: str) -> subprocess.Popen:
    """Another process that writes three things in `folder`, and dies or waits in the middle."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
    )


def test_the_dead_are_swept_and_the_living_are_not(tmp_path):
    with other(tmp_path, "wait") as first, other(tmp_path, "wait") as second:
        for process in (first, second):  # of one name: neither writes into the other's file
            process.stdout.readline()
        for process in (first, second):
            process.kill()
    left = [path for path in tmp_path.rglob(".*")]
    assert len(left) == 6
    with other(tmp_path, "wait") as living:
        living.stdout.readline()
        theirs = [".yours.txt", ".samples.1234.npy", ".config.new-x"]
        for name in theirs:
            (tmp_path / name).write_text("not ours")
        with atomic(tmp_path / "mine") as temporary:
            temporary.write_text("x")
            sweep(tmp_path)
        assert not any(path.exists() for path in left)
        assert len(list(tmp_path.rglob(".*.new-*-*"))) == 3
        living.stdin.close()
    assert sorted(path.name for path in tmp_path.rglob(".*")) == sorted(theirs)
    assert (tmp_path / "samples" / "0.png").exists() and (tmp_path / "mine").exists()


def test_a_folder_that_nobody_takes_is_swept_by_its_next_write(tmp_path):
    """The folder of out=FILE, a cache."""
    assert other(tmp_path, "die").wait() == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*"))) == 2
    write_text(tmp_path / "table.csv", "x")
    assert names(tmp_path) == ["checkpoint", "table.csv"]


def test_other_hosts_have_a_day(tmp_path):
    fresh = tmp_path / ".a.new-elsewhere-1-0123abcd.npy"
    stale = tmp_path / ".b.new-elsewhere-1-0123abcd.npy"
    for path in (fresh, stale):
        path.write_text("half")
    os.utime(stale, (time.time() - 2 * files.STALE,) * 2)
    sweep(tmp_path)
    assert names(tmp_path) == [fresh.name]


def test_a_number_that_comes_again_is_an_earlier_process(tmp_path):
    """Process 1 of a container that was started again."""
    left = tmp_path / f".a.new-{files.host()}-{os.getpid()}-0123abcd.npy"
    left.write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == []


# Links, devices, pipes.


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link.csv").symlink_to("far/real.csv")  # where nothing is yet
    for text in ("first", "second"):
        write_text(tmp_path / "link.csv", text)
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "far" / "real.csv").read_text() == text
    assert names(tmp_path) == ["far", "link.csv"] and names(tmp_path / "far") == ["real.csv"]


def test_a_link_does_not_lead_out_of_a_folder_that_is_held(tmp_path):
    """A stranger's run folder: its metrics.json is a link to a file of ours."""
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "precious").write_text("mine")
    (run / "metrics.json").symlink_to("../precious")
    (run / "speed.jsonl").symlink_to("../precious")
    (run / "checkpoint").symlink_to(tmp_path)
    (tmp_path / "called").symlink_to(run)  # the folder itself may be called by a link
    lock.take(tmp_path / "called")
    for write in (write_text, append_text):
        for name in ("metrics.json", "speed.jsonl", "checkpoint/state.json"):
            with pytest.raises(DiffgeoError, match=f"{name} is a link to .*, out of the folder"):
                write(tmp_path / "called" / name, "x")
    write_text(tmp_path / "called" / "config.yaml", "x")
    assert (tmp_path / "precious").read_text() == "mine" and (run / "config.yaml").exists()
    assert not (tmp_path / "state.json").exists()


def test_a_device_is_written_and_stays_a_device(tmp_path):
    write_text("/dev/null", "x")
    save_tensors("/dev/null", {"a": torch.zeros(3)})
    assert Path("/dev/null").is_char_device()
    with pytest.raises(DiffgeoError, match="^cannot write /dev/full: No space left on device$"):
        write_text("/dev/full", "x")
    assert Path("/dev/full").is_char_device()


def test_a_pipe_gets_the_bytes(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(tmp_path / "out", "wb") as out, subprocess.Popen(["cat", pipe], stdout=out) as reader:
        write_text(pipe, "x" * 200_000)
        assert reader.wait(10) == 0
    assert (tmp_path / "out").read_text() == "x" * 200_000 and names(tmp_path) == ["out", "pipe"]
    with open(tmp_path / "out", "wb") as out, subprocess.Popen(["cat", pipe], stdout=out) as reader:
        save_tensors(pipe, {"a": torch.arange(3.0)})  # by a library that writes files itself
        assert reader.wait(10) == 0
    assert torch.equal(load_tensors(tmp_path / "out")[0]["a"], torch.arange(3.0))


def test_stdout_is_a_place_for_a_table(tmp_path):
    """... also where it is a file: what is printed before and after stays in it."""
    code = (
        "from diffgeo.store.files import write_text\n"
        "print('before'); write_text('/dev/stdout', 'table\\n'); print('after')"
    )
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True, cwd=ROOT.parent)
    assert (tmp_path / "log").read_text() == "before\ntable\nafter\n"


def test_a_folder_is_not_a_file_nor_a_file_a_folder(tmp_path):
    with pytest.raises(DiffgeoError, match="it is a folder, and a file is wanted"):
        write_text(tmp_path, "x")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(DiffgeoError, match="is a file, or lies below one, and a folder is"):
            write_text(path, "x")
        with pytest.raises(DiffgeoError, match="it is a file, or lies below one, and a folder is"):
            lock.take(path.parent)
    with pytest.raises(UsageError, match="^data.root=.* is a file: write the folder of"):
        prepared.data_root(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_out_is_written_through_a_link_and_straight_to_a_device(inside, tmp_path):
    (tmp_path / "link.csv").symlink_to("real.csv")
    line = [
        "theory",
        "gaussian",
        "data=gaussian",
        "figures=false",
        "schemes=[EM]",
        "grid_points=[5]",
        "eps=[0]",
    ]
    done = inside(*line, "out=link.csv", "hydra.run.dir=g")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "g" / "table.csv").read_bytes()
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_bytes() == table
    full = inside(*line, "out=/dev/full", "hydra.run.dir=full")
    assert full.returncode == 1 and full.line == (
        "diffgeo: cannot write /dev/full: No space left on device"
    )
    assert Path("/dev/full").is_char_device() and not list(tmp_path.rglob(".*"))


# One process at a time.

HOLDS = """
import sys
from diffgeo.store import lock
lock.take(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT.parent,
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_the_second_is_refused_by_the_name_of_the_first(tmp_path, holder):
    run = tmp_path / "run"
    told = f"^{run} is in use by process {holder.pid} on {os.uname().nodename} since .*: wait for"
    with pytest.raises(DiffgeoError, match=told) as refused:
        lock.take(run)
    assert refused.value.status == 1 and names(run) == [lock.NAME]
    holder.kill()  # the kernel lets go, and the file that is left holds nobody up
    holder.wait()
    assert names(run) == [lock.NAME]
    with lock.job():
        lock.take(run)
        lock.take(run)  # of the same process
        (run / "a").write_text("x")
    assert names(run) == ["a"]


def test_the_second_may_wait(tmp_path, holder, capfd):
    read, write = os.pipe()
    waiting = os.fork()
    if waiting == 0:
        with lock.held(tmp_path / "run", wait=True) as waited:
            os.write(write, b"waited" if waited else b"first")
        os._exit(0)
    deadline = time.monotonic() + 10
    while "waiting for it" not in capfd.readouterr().err and time.monotonic() < deadline:
        time.sleep(0.01)
    holder.kill()
    assert os.read(read, 10) == b"waited"
    os.waitpid(waiting, 0)
    assert not (tmp_path / "run" / lock.NAME).exists()


def test_a_worker_does_not_keep_the_lock_of_a_killed_process(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from diffgeo.store import lock\n"
        "lock.take(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "signal.pause()"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT.parent) as process:
        worker = int(process.stdout.readline())
        try:
            with pytest.raises(DiffgeoError, match="is in use by"):
                lock.take(run)
            process.kill()
            process.wait(10)
            lock.take(run)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_folder_that_was_made_for_a_lock_goes_with_it(tmp_path):
    with lock.held(tmp_path / "run"):
        assert names(tmp_path / "run") == [lock.NAME]
    assert names(tmp_path) == []


def test_a_disk_without_locks_is_written_with_a_word(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", unknown)
    lock.take(tmp_path / "run")
    write_text(tmp_path / "run" / "a", "x")
    assert "knows no locks (No locks available)" in capsys.readouterr().err
    assert names(tmp_path / "run") == ["a"]


def test_a_link_for_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.NAME).symlink_to("../precious")
    with pytest.raises(DiffgeoError, match="cannot write into"):
        lock.take(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_that_is_removed_is_not_made_again(tmp_path):
    lock.take(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "away")
    for again in (False, True):
        if again:  # somebody else's of the same name
            (tmp_path / "run").mkdir()
        with pytest.raises(DiffgeoError, match="run was removed or renamed while"):
            write_text(tmp_path / "run" / "checkpoint" / "state.json", "x")
        with pytest.raises(DiffgeoError, match="run was removed or renamed while"):
            append_text(tmp_path / "run" / "metrics.jsonl", "x")
    assert names(tmp_path / "run") == []


def test_two_processes_do_not_resume_one_folder(inside, tmp_path, holder):
    train = [
        "train",
        "model=cem",
        "data=circle",
        "trainer.steps=3",
        "trainer.batch=8",
        "trainer.pool=1",
        "net.width=8",
    ]
    done = inside(*train, "n=8", "figures=false", "metrics=none", "hydra.run.dir=run")
    assert done.returncode == 1
    assert done.line.startswith(f"diffgeo: {tmp_path / 'run'} is in use by process {holder.pid} on")
    assert names(tmp_path / "run") == [lock.NAME]
    holder.stdin.close()
    holder.wait()
    done = inside(*train, "n=8", "figures=false", "metrics=none", "hydra.run.dir=run")
    assert done.returncode == 0 and not list(tmp_path.rglob(".*"))


def test_a_set_is_prepared_by_one_process(tmp_path, holder, capsys):
    """The second waits, and takes what the first has made."""
    from diffgeo.data.sources import Idx

    made = []

    class Set(Idx):
        def arrays(self, root, download):
            made.append(True)
            return {"train_images": Blocks((4, 8, 8), [np.zeros((4, 8, 8), np.uint8)])}

    source = Set("run", "MNIST", "", "")
    assert source.prepare(tmp_path / "other")["name"] == "run"  # nobody in the way
    # the holder prepares it, and is done
    arrays = source.arrays(tmp_path, False)
    prepared.write(tmp_path / "run", arrays, **source.facts(), by="the other")
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        os.kill(holder.pid, signal.SIGTERM)
        os._exit(0)
    assert source.prepare(tmp_path)["by"] == "the other"
    os.waitpid(pid, 0)
    assert "waiting for it" in capsys.readouterr().err


# UTF-8, whatever the locale.


def text_opens(tree: ast.AST) -> list[int]:
    """The lines that open a file for text and name no encoding: open(path, ...), path.open(...),
    path.read_text(), path.write_text(text). What Image, os or a source open is told by its first
    argument, which is no mode."""
    wrong = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        modes = node.args[1:2] if name == "open" else node.args[:1]
        modes += [word.value for word in node.keywords if word.arg == "mode"]
        told = [mode.value if isinstance(mode, ast.Constant) else None for mode in modes]
        text = all(mode is not None and "b" not in str(mode) for mode in told)
        if (
            (method == "read_text" and not node.args)
            or (method == "write_text" and len(node.args) < 2)
            or ((name == "open" or method == "open") and text)
        ):
            wrong.append(node.lineno)
    return wrong


def test_every_text_names_its_encoding():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = text_opens(ast.parse(source)) if re.search(r"open\(|_text\(", source) else []
        wrong += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    assert wrong == []
    seen = "open(a)\na.read_text()\na.open('w')\nopen(a, 'rb')\na.read_text(encoding='ascii')"
    assert text_opens(ast.parse(seen)) == [1, 2, 3]


C = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_path_that_is_not_ascii_in_the_locale_c(inside, diffgeo, tmp_path):
    line = ["sample", "model=exact", "data=circle", "n=10", "metrics=none", "figures=false"]
    assert inside(*line, "hydra.run.dir=été ü").returncode == 0
    done = diffgeo("evaluate", "run=été ü", "metrics=none", "figures=false", "hydra.run.dir=é", **C)
    assert done.returncode == 0, done.stderr
    assert f"run folder: {tmp_path}/é\n" in done.stdout
    assert "run: été ü" in (tmp_path / "é" / "config.yaml").read_text(encoding="utf-8")


# No home, no user.


def test_a_user_without_a_name_gets_one(monkeypatch):
    import getpass
    import pwd

    from diffgeo.machine import user

    def nobody(*_):
        raise KeyError("getpwuid(): uid not found")

    for name in user.NAMES:
        monkeypatch.delenv(name, raising=False)
    user.ensure()
    assert "LOGNAME" not in os.environ  # this one has a name
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(KeyError):
        getpass.getuser()
    monkeypatch.setenv("LOGNAME", "")
    user.ensure()
    assert getpass.getuser() == f"user{os.getuid()}"


def test_without_a_home_caches_lie_in_a_folder_of_ours(tmp_path, monkeypatch, capsys):
    import pwd

    def nobody(*_):
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "DIFFGEO_CACHE", "DIFFGEO_DATA", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    caches.temporary.cache_clear()
    folder = tmp_path / f"diffgeo-{os.getuid()}"
    assert caches.cache_folder() == folder / "diffgeo"
    assert prepared.data_root() == folder / "diffgeo" / "data"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err.count("there is no home folder: caches lie in") == 1
    with pytest.raises(UsageError, match="^data.root=~/x: there is no such home folder"):
        prepared.data_root("~/x")
    folder.chmod(0o777)  # somebody may have put things there
    caches.temporary.cache_clear()
    assert caches.cache_folder().parent != folder
    folder.rmdir()
    folder.symlink_to(tmp_path)
    caches.temporary.cache_clear()
    assert caches.cache_folder().parent not in (folder, tmp_path)
    folder.unlink()
    caches.temporary.cache_clear()
    monkeypatch.setenv("HOME", "")  # put back as it was
    assert inception_weights.hub() == folder / ".cache" / "torch" / "hub" / "checkpoints"
    assert os.environ["HOME"] == str(folder)
    caches.temporary.cache_clear()
