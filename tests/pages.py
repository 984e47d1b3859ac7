"""The commands of README.md, CONTRIBUTING.md and docs/: what stands in their fences.

```sh          commands that a test runs, a page from top to bottom in one folder
```sh long     commands that take longer, or need a folder, weights or data of the reader's
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<info>.*)$")


class Fence(NamedTuple):
    page: Path
    line: int  # of its first line in the page
    info: str  # what stands behind the ticks: sh, sh long, python, yaml, text
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return top + sorted((ROOT / "docs").rglob("*.md"))


def fences(page: Path) -> list[Fence]:
    """The fenced blocks of a page, in its order. Raises ValueError on one that does not end."""
    found: list[Fence] = []
    begun = None
    held: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = FENCE.match(line)
        if begun is None and mark:
            begun, start = mark, number + 1
            held = []
        elif begun is not None and line.strip() == begun["ticks"]:
            found.append(Fence(page, start, begun["info"].strip(), "\n".join(held)))
            begun = None
        else:
            held.append(line)
    if begun is not None:
        raise ValueError(f"{page}:{start}: a fence that does not end")
    return found


def outside(page: Path) -> list[str]:
    """The lines of a page that stand in no fence."""
    kept = []
    ticks = None
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = FENCE.match(line)
        if ticks is None and mark:
            ticks = mark["ticks"]
        elif ticks is not None and line.strip() == ticks:
            ticks = None
        elif ticks is None:
            kept.append(line)
    return kept


def commands_in(fence: Fence) -> list[list[str]]:
    """The words of each command of a fence, as a shell reads them: lines that end in a backslash
    go on, # begins a comment."""
    joined = re.sub(r"\\\n\s*", " ", fence.text)
    found = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for words in found if words]
