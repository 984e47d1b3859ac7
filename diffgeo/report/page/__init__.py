"""`page(folder)`: what a folder of diffgeo's holds, as one page of HTML that is one file.

    a run            config.yaml or metrics.json      metrics, pictures, motion, config, provenance
    a reproduction   table.md and table.csv           its report, the same of every cell
    a sweep          finished runs below it           a table of all jobs, the same of every job
    anything else    tables and pictures              those

    html.py  tables.py  text.py    HTML from words, escaped; tables that sort; Markdown
    files.py  settings.py          what is read of a folder; command, config, provenance
    motion.py                      the numbers behind the slider over sigma
    sections.py  layout.py         the parts of a page, and the page around them
    script.js  style.css  slider.html    the page's own

The folder may be a stranger's: all of it is text on the page, and nothing of it runs there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.report import comparison, comparison_text
from diffgeo.report.page.files import BEGINNINGS, Budget, csv_table
from diffgeo.report.page.html import Markup, element, joined
from diffgeo.report.page.layout import document
from diffgeo.report.page.motion import motion_of
from diffgeo.report.page.sections import (
    markdown_file,
    metrics_table,
    motion_section,
    one_below,
    pictures,
    tables,
)
from diffgeo.report.page.settings import command_of, config_section, name_of, provenance_section
from diffgeo.report.page.tables import table
from diffgeo.report.page.text import rendered
from diffgeo.run import load

MOVING = ("train", "sample", "trajectory")  # commands that leave samples which a simulation draws
MOTIONS = 12  # runs of a page that are drawn in motion
RUNS = 200  # runs of a page whose own parts are shown
COMPARED = ("compare.csv", "compare.md")
REPRODUCED = ("table.csv", "table.md")


Part = tuple[str, str, Markup]  # of a page: the address in it, the heading, the content


class Below(NamedTuple):
    """A finished run of several: what it is called on the page, its folder, its metrics."""

    title: str
    folder: Path
    metrics: Mapping[str, float]


class Page(NamedTuple):
    """A page, and what it lacks, a line each."""

    html: str
    lacking: list[str]


def page(folder: Path, slider: bool = True) -> Page:
    """The page of a folder. `slider`: whether the runs are loaded and drawn again for the slider
    over sigma.

    Raises UsageError where there is nothing to show, DiffgeoError where a run cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"report {folder}: there is no such folder; write the folder of a run")
    if any((folder / name).is_file() for name in ("config.yaml", "metrics.json")):
        return of_run(folder, slider)
    below = {path.parent for path in folder.rglob("metrics.json")}
    if all((folder / name).is_file() for name in REPRODUCED):
        return of_reproduction(folder, sorted(below), slider)
    if below:
        return of_sweep(folder, slider)
    return of_tables(folder)


# the four kinds


def of_run(folder: Path, slider: bool) -> Page:
    """The page of one run."""
    values = comparison.metrics_of(folder) if (folder / "metrics.json").is_file() else {}
    typed = command_of(folder)
    budget = Budget()
    unfinished = element("p", "this run is not finished: it has no metrics yet", class_="note")
    parts = [
        ("command", "Command", element("pre", typed)),
        ("metrics", "Metrics", metrics_table(values) if values else unfinished),
    ]
    lacking: list[str] = []
    if slider and values:
        moving, lacking = in_motion([Below(folder.resolve().name, folder, values)])
        parts += filled("motion", "In motion", moving)
    parts += filled("pictures", "Pictures", pictures(folder, folder, budget))
    parts += filled("tables", "Tables", tables(folder))
    parts += [
        ("config", "Config", config_section(folder)),
        ("provenance", "Provenance", provenance_section(folder)),
    ]
    return whole(folder, f"one run of diffgeo {name_of(typed) or ''}".rstrip(), parts, lacking)


def of_sweep(folder: Path, slider: bool) -> Page:
    """The page of the finished runs below a folder."""
    rows, problems = comparison.rows_below(folder)
    budget = Budget()
    parts = [("runs", "Runs", joined([jobs(rows), *map(note, problems)]))]
    report = comparison_text.report(rows, comparison.criterion(rows, ""))
    _, _, ranked = report.partition("\n\n")  # the table of jobs comes first
    parts += filled("ranking", "Ranking", rendered(ranked))
    parts += filled("pictures", "Pictures", pictures(folder, folder, budget))
    runs = []
    for row in rows:
        if not row.status:
            runs.append(Below(titled(row), folder / row.name, row.metrics))
    more, lacking = each_run(folder, runs, budget, slider)
    parts += more
    parts += filled("tables", "Tables", tables(folder, COMPARED))
    return whole(folder, f"{len(rows)} runs side by side", parts, [*problems, *lacking])


def of_reproduction(folder: Path, below: Sequence[Path], slider: bool) -> Page:
    """The page of a published table beside what was measured."""
    budget = Budget()
    every = csv_table(folder, folder / "table.csv")
    report = joined([markdown_file(folder, folder / "table.md"), every])
    parts = [("report", "Report", report)]
    parts += filled("pictures", "Pictures", pictures(folder, folder, budget))
    runs = []
    damaged = []
    for path in below:
        try:
            metrics = comparison.metrics_of(path)
            runs.append(Below(str(path.relative_to(folder)), path, metrics))
        except DiffgeoError as error:
            damaged.append(str(error))
    more, lacking = each_run(folder, runs, budget, slider)
    parts += more
    parts += filled("damaged", "Not read", joined(map(note, damaged)))
    parts += filled("tables", "Tables", tables(folder, REPRODUCED))
    return whole(folder, "published numbers beside measured ones", parts, [*damaged, *lacking])


def of_tables(folder: Path) -> Page:
    """The page of a folder of tables and pictures, as a command of theory leaves one."""
    parts = filled("tables", "Tables", tables(folder))
    parts += filled("pictures", "Pictures", pictures(folder, folder, Budget()))
    if not parts:
        kinds = ", ".join(BEGINNINGS)
        raise UsageError(
            f"report {folder}: there is nothing to show in it (no metrics.json in it or below, no "
            f".csv, .md, {kinds}): write the folder of a run, of a sweep or of a reproduction"
        )
    return whole(folder, "tables and pictures", parts, [])


# their parts


def whole(folder: Path, about: str, parts: Sequence[Part], lacking: list[str]) -> Page:
    """The page of a folder, under its own name."""
    return Page(document(folder.resolve().name, about, parts), lacking)


def filled(key: str, title: str, content: Markup) -> list[Part]:
    """A part of the page, if there is anything in it."""
    return [(key, title, content)] if content else []


def note(text: str) -> Markup:
    return element("p", text, class_="note")


def jobs(rows: Sequence[comparison.Row]) -> Markup:
    """A row a job: its folder, what it set, every metric, the ones that a reader looks at first
    before the others."""
    settings = [name for name in rows[0].settings if name != "run"]
    first = [comparison.NFE, *comparison.named(rows, comparison.SHOWN)]
    keys = list(dict.fromkeys([*first, *comparison.named(rows, ("*",))]))
    lines = []
    for row in rows:
        set_here = [row.settings[name] for name in settings]
        lines.append([row.name, *set_here, *(row.metrics.get(key) for key in keys), row.status])
    return table(["run", *settings, *keys, "status"], lines)


def titled(row: comparison.Row) -> str:
    """The name of a job, with what it set."""
    settings = [f"{key}={value}" for key, value in row.settings.items() if key != "run" and value]
    return f"{row.name}: {' '.join(settings)}" if settings else row.name


def each_run(
    folder: Path, runs: Sequence[Below], budget: Budget, slider: bool
) -> tuple[list[Part], list[str]]:
    """The motion of the first of some runs, and the parts of each; and what is lacking."""
    parts: list[Part] = []
    lacking: list[str] = []
    if slider and runs:
        moving, lacking = in_motion(runs)
        parts += filled("motion", "In motion", moving)
    details = []
    for run in runs[:RUNS]:
        details.append(one_below(run.title, run.folder, folder, run.metrics, budget))
    if len(runs) > RUNS:
        words = f"the other {len(runs) - RUNS} have pages of their own: diffgeo report FOLDER/NAME"
        details.append(note(words))
    parts += filled("each", "Run by run", joined(details))
    return parts, lacking


def in_motion(runs: Sequence[Below]) -> tuple[Markup, list[str]]:
    """The slider of those runs that have paths; and what it lacks, a line each."""
    shown = []
    lacking: list[str] = []
    with progress.bar(len(runs[:MOTIONS]), "slider", "run") as bar:
        for run in runs[:MOTIONS]:
            try:
                if name_of(command_of(run.folder)) in MOVING:
                    numbers, notes = motion_of(load(run.folder), run.folder)
                    shown.append((run.title, numbers))
                    lacking += [f"{run.title}: {words}" for words in notes]
            except DiffgeoError as error:
                lacking.append(f"{run.title}: no slider: {error}")
            bar.update(1)
    if len(runs) > MOTIONS:
        lacking.append(f"the slider shows the first {MOTIONS} of {len(runs)} runs")
    return motion_section(shown, lacking), lacking
