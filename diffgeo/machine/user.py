"""A user without a name: in a container the number of the user need not have an entry, and the
environment need not name a home. torch's compiler asks for the name when it is imported, and dies
of KeyError."""

from __future__ import annotations

import os
import pwd

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where getpass.getuser looks, in its order


def ensure() -> None:
    """Name the user after his number, for this process and those that it starts, where nothing else
    names him."""
    if any(os.environ.get(name) for name in NAMES):
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["LOGNAME"] = f"user{os.getuid()}"
