"""Where numbers are kept that can be computed again, and data that can be prepared again."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

from diffgeo.errors import UsageError


def cache_folder() -> Path:
    """$DIFFGEO_CACHE, else ${XDG_CACHE_HOME:-~/.cache}/diffgeo, else, in a container that knows
    neither a home nor a user, a folder of ours in the temporary one."""
    named = os.environ.get("DIFFGEO_CACHE")
    return Path(named) if named else user_caches() / "diffgeo"


def user_caches() -> Path:
    """${XDG_CACHE_HOME:-~/.cache}, or what stands in for it."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    own = home()
    return temporary() if own is None else own / ".cache"


def home() -> Path | None:
    """The home folder; None where HOME is empty, or missing and the user has no entry."""
    if os.environ.get("HOME") == "":
        return None
    try:
        return Path.home()
    except RuntimeError:
        return None


def need_home() -> None:
    """Give this process a home folder where it has none: to be called before what will not do
    without one (matplotlib, Weights & Biases, torch's downloads)."""
    if home() is None:
        os.environ["HOME"] = str(temporary())


@cache
def temporary() -> Path:
    """A folder in the temporary one that only this user can read and write: the one of his earlier
    processes, or a new one where somebody else has its name. It is said."""
    folder = Path(tempfile.gettempdir()) / f"diffgeo-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = is_private(folder)
    except OSError:
        ours = False
    if not ours:
        folder = Path(tempfile.mkdtemp(prefix="diffgeo-"))
    print(
        f"diffgeo: there is no home folder: caches lie in {folder}; set DIFFGEO_CACHE=FOLDER, or "
        "HOME, to keep them",
        file=sys.stderr,
    )
    return folder


def is_private(folder: Path) -> bool:
    """Whether a folder is a real one, this user's, and closed to everybody else."""
    status = folder.lstat()
    others = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not others


def at_home(path: str | os.PathLike, option: str) -> Path:
    """A path that was typed, ~ in front of it for the home folder. Raises UsageError, naming
    `option`, where nobody knows that folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{option}={path}: there is no such home folder here: write the path without ~"
        ) from None
