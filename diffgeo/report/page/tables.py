"""A table of the page: a click on a heading sorts by that column.

A cell is text or a number. A number is shown with four digits and carries all of them, which it is
sorted by; what is empty or no number stays at the end, whichever way a column is sorted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from diffgeo.report.page.html import Markup, element

ROUNDING = 1e-12
ABSENT = "-"  # what stands in a table of diffgeo's for a number that is not there
# the number that a cell of text begins with: 12, .5, 1.2e-05, "0.18 +- 0.02", "0.3 *"
LEADING = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?=$|\s)", re.IGNORECASE)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> Markup:
    """A table that sorts; columns in which no row has anything are left out."""
    filled = [n for n in range(len(header)) if any(row[n] not in ("", None) for row in rows)]
    headings = []
    sides = {}  # by the column: to the right where all of it is numbers
    for n in filled:
        entries = [row[n] for row in rows if row[n] not in ("", None, ABSENT)]
        sides[n] = "number" if all(number_in(entry) is not None for entry in entries) else None
        button = element("button", header[n], type="button")
        headings.append(element("th", button, class_=sides[n]))
    lines = []
    for row in rows:
        lines.append(element("tr", *(cell(row[n], sides[n]) for n in filled)))
    parts = [
        element("caption", caption) if caption else "",
        element("thead", element("tr", *headings)),
        element("tbody", *lines),
    ]
    return element("div", element("table", *parts, class_="sorts"), class_="wide")


def number_in(value: object) -> float | None:
    """The number that a cell is, or that its text begins with; None where there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.inf if value > 0 else -math.inf
    leading = LEADING.match(str(value).strip())
    return float(leading[0]) if leading else None


def cell(value: object, side: str | None) -> Markup:
    """One cell, with the number that it is sorted by."""
    number = number_in(value)
    if value is None or number is None:
        return element("td", "" if value is None else value, class_=side)
    shown = value if isinstance(value, str) else written(number)
    exact = repr(number) if math.isfinite(number) else None
    return element("td", shown, data_value=exact, class_=side)


def written(number: float) -> str:
    """Four digits of a number; a distance of 1e-17 is rounding."""
    return f"{0.0 if abs(number) <= ROUNDING else number:.4g}"


def facts(pairs: Sequence[tuple[str, object]]) -> Markup:
    """Names and what they are, a line each: a table without headings."""
    lines = [element("tr", element("th", name), element("td", value)) for name, value in pairs]
    return element("div", element("table", *lines, class_="facts"), class_="wide")
