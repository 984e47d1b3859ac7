"""`diffgeo compare`: one table and one picture of the runs below a folder, ranked: compare FOLDER

    diffgeo compare FOLDER [by=METRIC]
    diffgeo compare outputs/sweeps/FOLDER
    diffgeo compare outputs/sweeps/FOLDER by=flow/rms           ranked by another metric
    diffgeo compare outputs/sweeps/FOLDER figures.format=svg    the picture as svg

A row a job, in the order of the jobs: the settings in which the runs differ, and the metrics that
they have, of points or of images; one that did not finish is a row that says so. Below it the runs
are ranked by one metric, as mean and standard deviation over those that differ in nothing but the
seed, and the best within each number of network evaluations is named; then the noise floors. The
picture has a panel a metric: against the network evaluations when the runs differ in them, with a
line for each choice of the other settings; there is none where the runs share no metric. Writes
compare.csv, .md and .png into the folder, and sheets that show runs side by side: of restorations
of the same measurements restored-0.png, of pictures of the same prompts prompts-0.png.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from diffgeo.config.drawings import draws
from diffgeo.config.titles import names_of
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.plot.page import titled
from diffgeo.report import comparison, comparison_text
from diffgeo.report.gallery import galleries
from diffgeo.report.prompted import sheets
from diffgeo.report.strips import of_sweep
from diffgeo.run import read_config
from diffgeo.store.drawing import file_of, remove_figures
from diffgeo.store.files import write_text


def asked(arguments: list[str]) -> tuple[Path, str]:
    """The folder, and the metric to rank by ("": the first that all runs have)."""
    by = [a.removeprefix("by=") for a in arguments if a.startswith("by=")]
    folders = [a for a in arguments if not a.startswith(("by=", "-"))]
    if by == [""]:
        raise UsageError("by= is empty: write by=METRIC, or leave it out")
    if len(folders) != 1 or len(by) > 1 or len(folders) + len(by) < len(arguments):
        raise UsageError(
            "write diffgeo compare FOLDER [by=METRIC], a folder that holds finished runs"
        )
    return Path(folders[0]), "".join(by)


@draws
def main(arguments: list[str]) -> None:
    folder, by = asked(arguments)
    rows, problems = comparison.rows_below(folder)
    for problem in problems:
        print(f"diffgeo: {problem}; the other runs are compared", file=sys.stderr)
    text = comparison_text.report(rows, comparison.criterion(rows, by))
    write_text(folder / "compare.csv", comparison_text.table(rows))
    write_text(folder / "compare.md", text)
    print(text)
    picture = file_of(folder / "compare")
    with titled(about(folder, rows)):
        pictured = drawn(picture, rows)
    if not pictured:
        remove_figures(folder, "compare")
        print("no picture: there is no metric that the runs share")
    made = ["compare.csv", "compare.md"] + ([picture.name] if pictured else [])
    made += [path.name for path in galleries(folder, rows)]
    made += [path.name for path in sheets(folder, rows)]
    made += [path.name for path in of_sweep(folder, rows)]
    print(f"written: {folder}/{', '.join(made)}")


def drawn(path: Path, rows: Sequence[comparison.Row]) -> bool:
    """Draw the metrics that the runs have: against the evaluations where the runs differ in them.
    Whether there was anything to draw."""
    from diffgeo import plot

    groups = comparison.over_seeds(rows)
    against_work = comparison.named(rows, comparison.WORK)
    shared = comparison.common(rows)
    if comparison.differ(rows, comparison.NFE) and against_work:
        floors = comparison.floor_tops(rows, against_work)
        plot.work(path, groups, against_work, comparison.NFE, floors)
    elif shared:
        plot.comparison(path, groups, shared, comparison.floor_tops(rows, shared))
    else:
        return False
    return True


def about(folder: Path, rows: Sequence[comparison.Row]) -> str:
    """What the picture says above: how many runs, and what all of them share of law, model and
    sampler; "" where no config can be read."""
    finished = [row for row in rows if not row.status]
    place = folder / finished[0].name
    try:
        names = names_of(read_config(place if place.is_dir() else folder))
    except DiffgeoError:
        return ""
    differ = {re.split("[.@]", key)[0] for key in finished[0].settings}
    shared = [
        names.law * differ.isdisjoint({"data", "run", "y"}),
        names.model * differ.isdisjoint({"model", "run"}),
        names.sampler * differ.isdisjoint({"sampler", "run"}),
    ]
    return ", ".join([f"{len(finished)} runs", *filter(None, shared)])
