"""`diffgeo compare`: one table and one picture of the runs below a folder, ranked: compare FOLDER

    diffgeo compare FOLDER [by=METRIC]

A row a job: the settings in which the runs differ, and every metric that they share, with its
floor. Below it the runs are ranked by one metric, as mean and standard deviation over those that
differ in nothing but the seed, and the best within each number of network evaluations is named. The
picture has a panel a metric: against the network evaluations when the runs differ in them, with a
line for each choice of the other settings. Writes compare.csv, .md and .png into the folder.
"""

from __future__ import annotations

from pathlib import Path

from diffgeo.errors import UsageError
from diffgeo.report import comparison
from diffgeo.store.files import write_text


def asked(arguments: list[str]) -> tuple[Path, str]:
    """The folder, and the metric to rank by ("": the first that all runs have)."""
    by = [a.removeprefix("by=") for a in arguments if a.startswith("by=")]
    folders = [a for a in arguments if not a.startswith(("by=", "-"))]
    if len(folders) != 1 or len(by) > 1 or len(folders) + len(by) < len(arguments):
        raise UsageError(
            "write diffgeo compare FOLDER [by=METRIC], a folder that holds finished runs"
        )
    return Path(folders[0]), "".join(by)


def main(arguments: list[str]) -> None:
    from diffgeo import plot

    folder, by = asked(arguments)
    rows = comparison.rows_below(folder)
    text = comparison.report(rows, comparison.criterion(rows, by))
    write_text(folder / "compare.csv", comparison.table(rows))
    write_text(folder / "compare.md", text)
    groups = comparison.over_seeds(rows)
    if comparison.differ(rows, comparison.NFE):
        drawn = [k for k in comparison.WORK if any(k in row.metrics for row in rows)]
        plot.work(folder / "compare.png", groups, drawn, comparison.NFE)
    else:
        plot.comparison(folder / "compare.png", groups, comparison.common(rows))
    print(text)
    print(f"written: {folder}/compare.csv, compare.md, compare.png")
