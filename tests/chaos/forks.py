"""Lines of diffgeo run one after another in forks of one warm process, with what each printed, cost
and left behind; and the same as processes of their own, for what happens at start-up."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MEMORY = 6 << 30  # address space of a fork; libraries reserve most of the first two


class Done(NamedTuple):
    """How a line ended. status: its exit status, below 0 the signal that killed it."""

    line: str
    status: int
    out: str
    err: str
    cpu_s: float = 0.0
    resident: int = 0  # bytes, at most

    @property
    def complaint(self) -> str:
        """The one line that a refused or failed line prints on stderr; fails where there are more,
        or it is not ours."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.told
        assert lines[0].startswith("diffgeo: ") and "Traceback" not in self.err, self.told
        return lines[0]

    @property
    def told(self) -> str:
        return f"diffgeo {self.line}\nstatus {self.status}\n{self.out[-800:]}\n{self.err[-1500:]}"


def surroundings(home: Path) -> dict[str, str]:
    """The environment of every line: nothing of the caller's but where programs are."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DIFFGEO_CACHE": str(home / "cache"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "LANG": "C.UTF-8",
    }


def own_mounts() -> list[str]:
    """What to write in front of a command that shall have mounts of its own; nothing where this
    machine gives none."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*words, "true"], capture_output=True).returncode == 0:
                return words
    return []


class Running:
    """A line on its way in a fork."""

    def __init__(self, forks: Forks, line: str, pid: int, out: Path, err: Path) -> None:
        self.forks = forks
        self.line = line
        self.pid = pid
        self.out = out
        self.err = err

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)  # not waited for yet: nobody else has this number

    def end(self, seconds: float = 120.0) -> Done:
        """Wait for it; after `seconds` it is killed, which fails every expectation."""
        watch = threading.Timer(seconds, self.kill)
        watch.start()
        told = self.forks.ask(do="wait", pid=self.pid)
        watch.cancel()
        out, err = (p.read_text(errors="replace") for p in (self.out, self.err))
        return Done(self.line, told["status"], out, err, told["cpu_s"], told["resident"])


class Forks:
    """The warm process. home: a folder for what lines keep outside their working folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "cache").mkdir(parents=True, exist_ok=True)
        self.mounts = own_mounts()
        self.count = 0
        self.server = subprocess.Popen(
            [*self.mounts, sys.executable, str(HERE / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=surroundings(home),
        )
        self.answer()

    def answer(self) -> dict:
        line = self.server.stdout.readline()
        assert line, "the warm process ended"
        return json.loads(line)

    def ask(self, **request) -> dict:
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(10)
        self.server.stdout.close()

    def start(
        self, line: str | Sequence[str], cwd: Path, *, deadly: int = 0, memory: int = MEMORY, **env
    ) -> Running:
        """Start `diffgeo LINE`. deadly: it is killed right before that call of those that change
        the disk, 0 for none. env: beside `surroundings`; None takes a variable away."""
        self.count += 1
        out, err = (self.home / f"{self.count}.{name}" for name in ("out", "err"))
        words = shlex.split(line) if isinstance(line, str) else list(line)
        environment = surroundings(self.home) | env
        told = self.ask(
            do="start",
            argv=words,
            cwd=str(cwd),
            env={key: value for key, value in environment.items() if value is not None},
            out=str(out),
            err=str(err),
            memory=memory,
            die_at=deadly,
        )
        return Running(self, shlex.join(words), told["pid"], out, err)

    def run(self, line: str | Sequence[str], cwd: Path, **options) -> Done:
        return self.start(line, cwd, **options).end()

    def good(self, line: str | Sequence[str], cwd: Path, **options) -> Done:
        """Run a line that must succeed."""
        done = self.run(line, cwd, **options)
        assert done.status == 0, done.told
        return done

    @contextlib.contextmanager
    def disk(self, folder: Path, size: int) -> Iterator[Path]:
        """A disk of `size` bytes in the place of a folder, for the lines only; the path under which
        this process sees what is on it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.system("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        try:
            yield Path(f"/proc/{self.server.pid}/root{folder}")
        finally:
            self.system("umount", "-l", str(folder))

    def system(self, *words: str) -> None:
        done = self.ask(do="system", argv=words)
        assert done["status"] == 0, f"{words}: {done['text']}"


class Process:
    """A line as a process of its own, started anew: for what happens in the first seconds."""

    def __init__(self, line: str | Sequence[str], cwd: Path, home: Path, **env) -> None:
        self.words = shlex.split(line) if isinstance(line, str) else list(line)
        environment = surroundings(home) | env
        self.process = subprocess.Popen(
            [sys.executable, "-m", "diffgeo", *self.words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={key: value for key, value in environment.items() if value is not None},
        )

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 120.0) -> Done:
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
        line = shlex.join(self.words)
        return Done(
            line,
            self.process.returncode,
            out.decode(errors="replace"),
            err.decode(errors="replace"),
        )


# what differs from run to run: times and rates, whether it was taken up again, and Hydra's own
NOT_THE_SAME = ("provenance.json", "clock.json", "speed.jsonl", "config.yaml", "multirun.yaml")


def content(folder: Path, without: Sequence[str] = NOT_THE_SAME) -> dict[str, bytes]:
    """Every file below a folder but those that hold times, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name not in without}


def leftovers(folder: Path) -> list[str]:
    """What no finished command may leave: temporary files, shards, locks."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.name
        hidden = name.startswith(".") or name.endswith((".tmp", ".lock", ".partial"))
        if hidden or name in ("lock", "shards"):
            found.append(str(path.relative_to(folder)))
    return found


def same(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The files in which two folders differ."""
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def later(seconds: float) -> None:
    time.sleep(seconds)
