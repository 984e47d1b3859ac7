"""The little of Markdown that diffgeo writes (table.md, compare.md), as HTML: headings, tables,
lists, paragraphs, `words as typed`. Everything is escaped first; there are no links and no HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diffgeo.report.page.html import Markup, element, joined
from diffgeo.report.page.tables import table

RULE = re.compile(r"\|?[\s:|-]+\|?")  # the line below the head of a table


def rendered(text: str) -> Markup:
    """A text as HTML."""
    return joined(block(lines) for lines in blocks(text))


def blocks(text: str) -> Iterator[list[str]]:
    """The lines that belong together: of one table, of one list, of one paragraph; a heading is
    alone."""
    kept: list[str] = []
    for line in [*text.splitlines(), ""]:
        if kept and (not line.strip() or kind(line) != kind(kept[0]) or kind(line) == "heading"):
            yield kept
            kept = []
        if line.strip():
            kept.append(line.strip())


def kind(line: str) -> str:
    """What a line is, by how it begins."""
    begins = {"#": "heading", "|": "table", "- ": "list"}
    for sign, name in begins.items():
        if line.strip().startswith(sign):
            return name
    return "paragraph"


def block(lines: Sequence[str]) -> Markup:
    """One block as HTML."""
    what = kind(lines[0])
    if what == "heading":
        return element("h3", lines[0].lstrip("# "))
    if what == "table":
        return of_table(lines)
    if what == "list":
        return element("ul", *(element("li", typed(line[2:])) for line in lines))
    return element("p", typed(" ".join(lines)))


def of_table(lines: Sequence[str]) -> Markup:
    """A table: its head, and the rows, each made as long as the head."""
    told = [cells(line) for line in lines if not RULE.fullmatch(line)]
    if not told:
        return element("p", " ".join(lines))
    header, *others = told
    rows = [(row + [""] * len(header))[: len(header)] for row in others]
    return table(header, rows)


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def typed(text: str) -> Markup:
    """A line in which what stands between ` is set as code."""
    parts = text.split("`")
    shown = [element("code", part) if n % 2 else part for n, part in enumerate(parts)]
    if len(parts) % 2 == 0:  # the last ` has no partner
        shown[-1] = "`" + parts[-1]
    return joined(shown)
