"""Docstrings as the site shows them (an extension of griffe, which mkdocstrings reads with).

Docstrings here are laid out for the eye of someone who reads the file: formulas, tables, lists of
arguments, each where it stands. So the first paragraph becomes prose, and what follows keeps its
lines.
"""

from __future__ import annotations

import re

import griffe


def as_markdown(text: str) -> str:
    """A docstring as Markdown that shows it as it is written."""
    summary, _, rest = text.strip().partition("\n\n")
    parts = [prose(summary)]
    if rest.strip():
        parts.append(f"```text\n{rest.strip(chr(10))}\n```")
    return "\n\n".join(parts)


def prose(text: str) -> str:
    """Words whose stars and brackets are meant as such; `code` stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    for number, part in enumerate(parts):
        if not part.startswith("`"):
            parts[number] = re.sub(r"([\\*_<\[\]])", r"\\\1", part)
    return "".join(parts)


class Laid(griffe.Extension):
    """Rewrites every docstring once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
