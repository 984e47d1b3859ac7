"""The one writer: files that are either whole or absent.

A file is written under a temporary name in its own folder, its space allocated first, flushed, and
renamed:

    .samples.new-HOST-PID-RANDOM.npy  ->  samples.npy

HOST and PID are the writer's, so that what a killed process left behind can be told from what a
living one is writing: `sweep` removes it when a folder is taken, and every write in a folder that
nobody takes, a cache's or that of out=FILE. A link is written through, unless it leads out of a
folder that this process holds (`lock`), which may have come from a stranger. A device, a pipe and
the process's own stdout cannot be replaced: they are written straight. Text is UTF-8 whatever the
locale.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path

from diffgeo.errors import DiffgeoError
from diffgeo.store import lock
from diffgeo.store.digest import verified

TEMPORARY = re.compile(r"\..*\.new-(?P<host>[^\W_]*)-(?P<pid>\d+)-[0-9a-f]{8}(\.[^.]*)?")
STALE = 24 * 3600.0  # seconds after which another host's temporary counts as left behind
FULL = (errno.ENOSPC, errno.EDQUOT)
# of a file system that cannot allocate: what is missing shows when it is written
CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
ADVICE = "choose another folder (hydra.run.dir=, data.root=)"

_own: set[str] = set()  # the names of the temporaries that this process is writing now


# Files that replace what was there.


@contextlib.contextmanager
def atomic(path: str | os.PathLike, size: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, otherwise
    it is removed. What cannot be replaced is written when the block has ended.

    size: bytes that will be written, as far as that is known: a full disk is told what it lacks.
    Raises DiffgeoError, naming the file, when it cannot be written or the disk is full.
    """
    if cannot_be_replaced(path):
        with tempfile.TemporaryDirectory(prefix="diffgeo-") as folder:
            temporary = Path(folder) / Path(path).name
            yield temporary
            with open(temporary, "rb") as content:
                pour(path, iter(partial(content.read, 1 << 20), b""))
        return
    target = target_of(path)
    if lock.holding(path) is None:
        clear(target.parent)
    with writing(path, size), reserved(target) as temporary:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, where there is none yet; when the block ends well it
    becomes `path`, otherwise it is removed. Raises DiffgeoError, naming the folder."""
    target = target_of(path)
    with writing(path), reserved(target) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, target)


@contextlib.contextmanager
def reserved(target: Path) -> Iterator[Path]:
    """A temporary name beside `target`; what it names is gone when the block ends."""
    # keeps the suffix: numpy and matplotlib look at it
    name = f".{target.stem[:40]}.new-{host()}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    _own.add(name)
    try:
        yield target.with_name(name)
    finally:
        remove(target.with_name(name))
        _own.discard(name)


@contextlib.contextmanager
def writing(path: str | os.PathLike, size: int = 0) -> Iterator[None]:
    """Turn what the system says against writing `size` bytes at `path` into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            reason = f"the disk is full{lacking(path, size)}; free space, or"
        elif isinstance(error, FileExistsError | NotADirectoryError):
            reason = f"{Path(path).parent} is a file, or lies below one, and a folder is wanted;"
        else:
            reason = f"{error.strerror or error};"
        raise DiffgeoError(f"cannot write {path}: {reason} {ADVICE}") from error


def lacking(path: str | os.PathLike, size: int) -> str:
    """How many of `size` bytes the disk has no room for, in words; "" where that is not known."""
    try:
        disk = os.statvfs(os.path.dirname(os.path.realpath(path)))
    except OSError:
        return ""
    blocks = -(-size // disk.f_frsize)
    missing = (blocks - disk.f_bavail) * disk.f_frsize
    if missing > 0:
        return f", {missing} of {size} bytes are missing"
    return f", {size} bytes are needed" if size else ""  # a quota, or somebody made room since


def target_of(path: str | os.PathLike) -> Path:
    """The file that `path` names, at the end of its links. Raises DiffgeoError where it lies in a
    folder that this process holds, which is no more there, or out of which a link leads."""
    target = Path(os.path.realpath(path))
    folder = lock.holding(path)
    if folder is not None and folder not in target.parents:
        raise DiffgeoError(
            f"{path} is a link to {target}, out of the folder that is being written: remove it"
        )
    return target


# What is no file of ours to replace.


def cannot_be_replaced(path: str | os.PathLike) -> bool:
    """Whether there is no regular file at `path` but a device or a pipe, or a file that this or
    another process has open under a number. Raises DiffgeoError on a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        raise DiffgeoError(f"cannot write {path}: it is a folder, and a file is wanted")
    place = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    return not stat.S_ISREG(mode) or place.startswith("/proc/") or own_stream(path) is not None


def own_stream(path: str | os.PathLike) -> int | None:
    """1 or 2 where `path` is what this process has as its stdout or stderr."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def pour(path: str | os.PathLike, parts: Iterable[bytes | memoryview]) -> None:
    """Write bytes into what cannot be replaced. Raises DiffgeoError."""
    try:
        number = own_stream(path)
        if number is None:
            stream = open(path, "wb", buffering=0)
        else:  # after what is printed already
            sys.stdout.flush()
            stream = open(os.dup(number), "wb", buffering=0)
        with stream:
            for part in parts:
                put(stream, part)
    except OSError as error:
        raise DiffgeoError(f"cannot write {path}: {error.strerror or error}") from error


def put(stream: FileIO, block: bytes | memoryview) -> None:
    """Write all of a block: a system may take less at once."""
    left = memoryview(block).cast("B")
    while left:
        left = left[stream.write(left) :]


# What killed processes leave behind.


def host() -> str:
    """The name of this machine, its letters and digits alone."""
    return re.sub(r"[\W_]", "", os.uname().nodename)[:20]


def take(folder: str | os.PathLike) -> None:
    """Hold a folder, so that no other process writes it, until the job ends (`lock`); what dead
    processes left half written in it is removed. Raises DiffgeoError, naming who holds it."""
    lock.take(folder)
    sweep(folder)


def sweep(folder: str | os.PathLike) -> None:
    """Remove the temporaries of dead processes from a folder and from those right below it."""
    clear(folder)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                clear(entry)


def clear(folder: str | os.PathLike) -> None:
    """Remove the temporaries of dead processes from a folder."""
    with contextlib.suppress(OSError):  # it is gone, or not ours to read
        for entry in os.scandir(folder):
            if is_left_behind(entry):
                remove(Path(entry.path))


def tidy(folder: str | os.PathLike) -> None:
    """Remove from a finished folder what a process left that was killed in its last moment; not
    where it cannot be written, or another process is at it."""
    with contextlib.suppress(DiffgeoError), lock.held(folder):
        sweep(folder)


def is_left_behind(entry: os.DirEntry) -> bool:
    """Whether an entry is the temporary of a process that is no more: of this host where no such
    process runs, of another where it has not changed for a day."""
    name = TEMPORARY.fullmatch(entry.name)
    if name is None or entry.name in _own:
        return False
    if name["host"] == host() and not runs(int(name["pid"])):
        return True
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE


def runs(process: int) -> bool:
    """Whether another process of this number runs on this host; its own number means an earlier
    process that had the same."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def remove(path: Path) -> None:
    """Remove a temporary file or folder, if it is there."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# Bytes, text, JSON.


def allocate(stream: FileIO, size: int) -> None:
    """Let the disk set aside the first `size` bytes of a new file. Raises OSError where it has not
    as many: a file that is written into space that is not there ends in SIGBUS."""
    if sys.platform != "linux" or not size:
        return
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno not in CANNOT_ALLOCATE:
            raise


def write_bytes(path: str | os.PathLike, *parts: bytes | memoryview) -> None:
    """Replace a file by `parts`, one after the other."""
    if cannot_be_replaced(path):
        pour(path, parts)
        return
    size = sum(memoryview(part).nbytes for part in parts)
    with atomic(path, size) as temporary, open(temporary, "wb", buffering=0) as stream:
        allocate(stream, size)
        for part in parts:
            put(stream, part)


def write_text(path: str | os.PathLike, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def append_text(path: str | os.PathLike, text: str) -> None:
    """Append to a file, all of `text` or, where the disk is full, nothing. Raises DiffgeoError,
    naming the file."""
    added = text.encode("utf-8")
    target = target_of(path)
    with writing(path, len(added)), open(target, "ab", buffering=0) as stream:
        end = os.fstat(stream.fileno()).st_size
        try:
            put(stream, added)
        except OSError:
            stream.truncate(end)
            raise


def json_text(value) -> str:
    """Sorted keys and shortest round-trip floats: equal values give equal text."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def write_json(path: str | os.PathLike, value) -> None:
    write_text(path, json_text(value))


def read_json(path: str | os.PathLike):
    """The value of a JSON file. Raises DiffgeoError where it cannot be read, or is not what its run
    folder was finished with."""
    try:
        return json.loads(verified(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DiffgeoError(f"cannot read {path}: {error}") from error
