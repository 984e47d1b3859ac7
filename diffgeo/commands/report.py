"""`diffgeo report`: one HTML page of a run, a sweep or a reproduction: report FOLDER

    diffgeo report FOLDER [out=FILE.html] [slider=false]
    diffgeo report outputs/train/FOLDER
    diffgeo report outputs/sweeps/FOLDER slider=false
    diffgeo report outputs/reproduce/cem/line out=line.html

The page is one file that needs no network: tables that sort by a click, the pictures, the config
and in what it differs from the default, the command, the provenance; and for runs of train and
sample a slider over the noise level, with the samples on their way and the field of the denoiser.
Written to FOLDER/report.html unless out= says where.

    out=FILE.html    where the page goes
    slider=false     nothing of the runs is computed again: quicker, and no slider
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffgeo.config import words
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.report.page import page
from diffgeo.store.files import write_text

NAME = "report.html"
OPTIONS = {"out": words.PATH, "slider": words.TRUTH}


def asked(arguments: list[str]) -> tuple[Path, Path, bool]:
    """The folder, where the page goes, and whether it has a slider. Raises UsageError."""
    starts = tuple(f"{key}=" for key in OPTIONS)
    folders = [word for word in arguments if not word.startswith(starts)]
    if len(folders) != 1 or folders[0].startswith("-"):
        raise UsageError(
            "write diffgeo report FOLDER [out=FILE.html] [slider=false], one folder of a run, of a "
            "sweep or of a reproduction"
        )
    given = [word for word in arguments if word.startswith(starts)]
    options = words.options("report", given, OPTIONS)
    folder = Path(folders[0])
    return folder, options.get("out", folder / NAME), options.get("slider", True)


def main(arguments: list[str]) -> None:
    folder, out, slider = asked(arguments)
    if out == folder / NAME and out.is_symlink():  # of a stranger's folder: it may lead anywhere
        raise DiffgeoError(f"{out} is a link: remove it, or write out=FILE.html")
    if out.is_dir():
        raise UsageError(f"out={out} is a folder: write a file, as out={out / NAME}")
    made = page(folder, slider)
    for line in made.lacking:
        print(f"diffgeo: {line}", file=sys.stderr)
    write_text(out, made.html)
    print(f"written: {out}")
