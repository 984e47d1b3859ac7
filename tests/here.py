"""`diffgeo ...` in the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def run_here(folder: Path, arguments: Sequence[str]) -> int:
    """The status of `diffgeo ...` in this process."""
    from diffgeo.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["diffgeo", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
    return stop.value.code or 0
