"""The checkout that the program is run from."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str | None:
    """The commit of the checkout that this package is run from; None for an installed package."""
    source = Path(__file__).resolve().parent.parent.parent
    if not (source / ".git").exists():  # it may lie inside somebody else's repository
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
