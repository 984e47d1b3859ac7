"""What a user waits for before anything happens, in CPU seconds of the whole process."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Row

FIRST = [
    "train",
    "data=line",
    "trainer.steps=1",
    "n=1",
    "metrics=none",
    "figures=false",
    "logger=jsonl",
]


def command(*line: str) -> float:
    """CPU seconds (user and system) of `diffgeo LINE` as a fresh process. Raises CalledProcessError
    when it fails."""
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    call = [sys.executable, "-m", "diffgeo", *line]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(call, cwd=folder, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median(*line: str, rounds: int = 3) -> float:
    command(*line)  # the byte code is compiled once
    return statistics.median(command(*line) for _ in range(rounds))


def rows() -> list[Row]:
    nan = float("nan")
    return [
        Row("diffgeo --help", "CPU s", median("--help"), nan, 0.1),
        Row("diffgeo train --cfg job", "CPU s", median("train", "--cfg", "job"), nan, 0.5),
        Row("diffgeo train, a whole run of one step", "CPU s", median(*FIRST), nan, 4.0),
    ]
