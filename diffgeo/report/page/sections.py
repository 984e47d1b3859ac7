"""The parts that pages have in common: a run's metrics, its pictures, its tables, the slider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diffgeo.errors import DiffgeoError
from diffgeo.metrics.better import legend, mark
from diffgeo.metrics.table import (
    ERROR,
    FLOOR,
    FLOOR_ERROR,
    NOISE,
    SPREAD,
    exact_lines,
    floor_line,
    pairs_of_floors,
    stands_beside,
    star_line,
    within_floor,
)
from diffgeo.metrics.twin import EXACT
from diffgeo.report.page.files import Budget, csv_table, gallery, pictures_in, text_of
from diffgeo.report.page.html import Markup, data_block, element, folded, joined
from diffgeo.report.page.layout import asset
from diffgeo.report.page.settings import command_of, config_section, provenance_section
from diffgeo.report.page.tables import table
from diffgeo.report.page.text import rendered

TABLES_SHOWN = 12  # files of a folder
MOST_TEXT = 1 << 18  # bytes of a text that is shown as such


def problem(error: Exception | str) -> Markup:
    """What could not be shown, in a line."""
    return element("p", f"not shown: {error}", class_="note")


def attempted(make, *arguments) -> Markup:
    """What `make` makes; where it raises DiffgeoError, the line that it says."""
    try:
        return make(*arguments)
    except DiffgeoError as error:
        return problem(error)


def metrics_table(values: Mapping[str, float]) -> Markup:
    """A row a metric: which way it is better, the value with its standard error, * within the
    floor, what the exact denoiser gives, the floor with its own error, the deviation of one cloud
    about it, what the last step's noise costs; and below them what the marks mean."""
    header = ["metric", "better", "value", "± se", "*", "exact", "floor", "± se", "sd"]
    keys = [key for key in values if not stands_beside(values, key)]
    rows = []
    for key in keys:
        beside = [values.get(key + side) for side in (EXACT, FLOOR, FLOOR_ERROR, SPREAD, NOISE)]
        star = "*" if within_floor(values, key) else ""
        rows.append([key, mark(key), values[key], values.get(key + ERROR), star, *beside])
    below = [legend(mark(key) for key in keys)]
    starred = [key for key in keys if within_floor(values, key)]
    if starred:
        below.append(star_line(pairs_of_floors(values, starred)))
    below.append(floor_line(values, keys))
    if any(key + EXACT in values for key in keys):
        below += exact_lines(values)
    notes = [element("p", line, class_="note") for line in below if line]
    return joined([table([*header, "last step's noise"], rows), *notes])


def pictures(folder: Path, root: Path, budget: Budget) -> Markup:
    """The pictures in a folder and in its figures/."""
    found = [*pictures_in(folder, root), *pictures_in(folder / "figures", root)]
    return gallery(found, budget) if found else Markup("")


def tables(folder: Path, besides: Iterable[str] = ()) -> Markup:
    """The tables (.csv) and the texts (.md) that lie in a folder, but for some."""
    shown = []
    files = [*sorted(folder.glob("*.md")), *sorted(folder.glob("*.csv"))]
    files = [path for path in files if path.name not in besides]
    for path in files[:TABLES_SHOWN]:
        make = markdown_file if path.suffix == ".md" else csv_table
        shown.append(attempted(make, folder, path))
    if len(files) > TABLES_SHOWN:
        names = ", ".join(path.name for path in files[TABLES_SHOWN:])
        shown.append(element("p", f"other tables: {names}", class_="note"))
    return joined(shown)


def markdown_file(folder: Path, path: Path) -> Markup:
    """A text of diffgeo's as HTML. Raises DiffgeoError."""
    return rendered(text_of(folder, path, MOST_TEXT) or "")


def command(folder: Path) -> Markup:
    """The command that made a run. Raises DiffgeoError."""
    typed = command_of(folder)
    return element("pre", typed) if typed else Markup("")


def one_below(
    name: str, folder: Path, root: Path, values: Mapping[str, float], budget: Budget
) -> Markup:
    """A run of several, folded: its command, metrics, pictures, config, provenance."""
    parts = [
        attempted(command, folder),
        metrics_table(values) if values else "",
        attempted(pictures, folder, root, budget),
        folded("config", attempted(config_section, folder)),
        folded("provenance", attempted(provenance_section, folder)),
    ]
    return folded(name, *parts, class_="run")


def motion_section(motions: Sequence[tuple[str, dict]], notes: Sequence[str]) -> Markup:
    """The slider over sigma, for each (name, numbers) of `motions`; and why there is none of a
    run."""
    said = [element("p", note, class_="note") for note in notes]
    if not motions:
        return joined(said)
    options = [element("option", name) for name, _ in motions]
    choice = element("label", "run ", element("select", *options, id="which"))
    if len(motions) == 1:
        choice = element("span", choice, hidden=True)
    slider = Markup(asset("slider.html").replace("<!-- which run -->", choice))
    numbers = data_block("motions", [numbers for _, numbers in motions])
    wanted = element("noscript", element("p", "the slider needs JavaScript", class_="note"))
    return joined([wanted, element("div", slider, id="moving", hidden=True), *said, numbers])
