"""One process at a time in a folder that is being written.

    FOLDER/.lock    held with flock(2) from the moment a folder is taken to the end of the job; it
                    says who holds it: process, host, command, since when

The kernel lets go of the lock when its process ends, however it ends: a `.lock` that a killed
process left holds nobody up. A file system that knows no locks is written without one, which is
said. The last act of a holder is to remove the file while it still holds it, so whoever has opened
it meanwhile finds that the name is gone, and begins again.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffgeo.errors import DiffgeoError

NAME = ".lock"
UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Held:
    """A folder that this process holds."""

    descriptor: int | None  # of the locked file; None where the file system knows no locks
    identity: tuple[int, int]  # of the folder: its device and its number on it
    made: bool  # whether the folder was not there before


_held: dict[Path, Held] = {}  # by what the folder is called without links


def take(folder: str | os.PathLike, wait: bool = False) -> bool:
    """Hold a folder, which is made where there is none, until `release` or the end of the process;
    nothing to do where it is held already. Whether another had to be waited for.

    Raises DiffgeoError, naming who holds it, unless it may `wait`; and where the folder cannot be
    written.
    """
    folder = Path(os.path.realpath(folder))
    if folder in _held:
        return False
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, waited = locked(folder, wait)
        status = folder.stat()
    except OSError as error:
        reason = error.strerror or error
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "it is a file, or lies below one, and a folder is wanted"
        raise DiffgeoError(
            f"cannot write into {folder}: {reason}; choose another folder"
        ) from error
    _held[folder] = Held(descriptor, (status.st_dev, status.st_ino), made)
    return waited


def locked(folder: Path, wait: bool) -> tuple[int | None, bool]:
    """The descriptor of the locked file of `folder`, and whether another had it before."""
    path = folder / NAME
    waited = False
    while True:
        # a link in a folder that somebody else made is not followed
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"{folder} is in use by {holder(descriptor)}"
            if not wait:
                os.close(descriptor)
                raise DiffgeoError(f"{told}: wait for it, or stop it") from None
            print(f"diffgeo: {told}; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            waited = True
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            if error.errno not in UNKNOWN:
                raise
            print(
                f"diffgeo: the file system of {folder} knows no locks ({error.strerror}): see to "
                "it that no other process writes this folder",
                file=sys.stderr,
            )
            return None, False
        if is_at(descriptor, path):
            sign(descriptor)
            return descriptor, waited
        os.close(descriptor)  # the holder before us has just removed it


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def sign(descriptor: int) -> None:
    """Write into the locked file who holds it."""
    who = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "command": sys.argv,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(who) + "\n").encode(), 0)


def holder(descriptor: int) -> str:
    """Who signed the file that another process has locked, in words."""
    try:
        who = json.loads(os.pread(descriptor, 1 << 16, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not signed yet
        return "another process"


def release(folder: Path) -> None:
    """Let go of a folder and leave nothing of the lock in it."""
    held = _held.pop(folder)
    with contextlib.suppress(OSError):
        if held.descriptor is not None:
            if is_at(held.descriptor, folder / NAME):
                (folder / NAME).unlink()
            os.close(held.descriptor)
    if held.made:
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


@contextlib.contextmanager
def job() -> Iterator[None]:
    """A job of a process: the folders that it takes are let go when it ends."""
    before = set(_held)
    try:
        yield
    finally:
        for folder in set(_held) - before:
            release(folder)


@contextlib.contextmanager
def held(folder: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
    """Hold a folder for a block; yields whether another had to be waited for."""
    with job():
        yield take(folder, wait)


@atexit.register
def release_all() -> None:
    for folder in list(_held):
        release(folder)


def forget() -> None:
    """Hold nothing any more, in a copy of the process that holds it: a worker that reads data would
    keep the lock of one that was killed."""
    for held in _held.values():
        if held.descriptor is not None:
            os.close(held.descriptor)
    _held.clear()


os.register_at_fork(after_in_child=forget)


def holding(path: str | os.PathLike) -> Path | None:
    """The folder of those held by this process in which `path` was written to lie, before the last
    links of it are followed; None where there is none. Raises DiffgeoError where that folder was
    removed, or another has its name."""
    if not _held:
        return None
    for parent in Path(os.path.abspath(path)).parents:
        folder = Path(os.path.realpath(parent))
        if folder in _held:
            check_there(folder, _held[folder])
            return folder
    return None


def check_there(folder: Path, held: Held) -> None:
    """Raise DiffgeoError unless the folder that was taken still has its name."""
    try:
        status = folder.stat()
    except OSError:
        status = None
    if status is None or (status.st_dev, status.st_ino) != held.identity:
        raise DiffgeoError(
            f"{folder} was removed or renamed while it was being written: what came after is lost; "
            "run the command again"
        )
