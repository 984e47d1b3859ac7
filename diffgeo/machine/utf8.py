"""UTF-8, whatever the locale.

Python takes the names of files from the locale, and under C (with PYTHONUTF8=0) or ISO-8859-1 a
path in a config that was written elsewhere has other bytes, or none. So such a process begins again
in Python's UTF-8 mode, before it has done anything.
"""

from __future__ import annotations

import io
import os
import sys


def ensure() -> None:
    """Begin the process again in UTF-8 mode, unless it is in it, or its locale is UTF-8; and let
    stdout, where PYTHONIOENCODING names another encoding, escape what that cannot say."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        sys.stdout.flush()
        os.environ["PYTHONUTF8"] = "1"  # of the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in (
            "utf-8",
            "utf8",
        ):
            stream.reconfigure(errors="backslashreplace")
