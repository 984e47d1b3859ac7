"""Tables of words: markdown for a person, CSV for a program, aligned columns for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterable, Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads as plain text too: padded columns."""
    width = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.ljust(w) for cell, w in zip(cells, width, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) for w in width) + "|"
    return "\n".join([line(header), rule, *map(line, rows)]) + "\n"


def csv_text(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """The same as comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def aligned(lines: Sequence[Sequence[str]], left: Container[int] = (0,)) -> list[str]:
    """Lines of a table without rules, its header first: the columns of these numbers to the left,
    the others to the right. A column without an entry is left out."""
    padded = []
    for number, column in enumerate(zip(*lines, strict=True)):
        if not any(column[1:]):
            continue
        width = max(map(len, column))
        pad = str.ljust if number in left else str.rjust
        padded.append([pad(cell, width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
