"""What `make docs` adds to docs/ while MkDocs builds the site (its hooks; see mkdocs.yml):

    reference/...   site_reference: the commands, the groups and their options, the Python names
    notebooks/...   site_notebooks: the notebooks of examples/notebooks as pages
    project/...     CHANGELOG.md and CONTRIBUTING.md

None of it is kept in docs/, so nothing there can be out of date. A page of docs/ is read on a
code-hosting site too: what only MkDocs understands is put in here, not written there.
"""

from __future__ import annotations

import re
from pathlib import Path

import site_notebooks
import site_reference
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PROJECT = {"project/changelog.md": "CHANGELOG.md", "project/contributing.md": "CONTRIBUTING.md"}
LONG = re.compile(r"^```sh long$", re.MULTILINE)


def on_config(config):
    """Put the generated pages into the navigation."""
    for tab in config.nav:
        if "Reference" in tab:
            tab["Reference"] = site_reference.navigation()
        if "Tutorial" in tab:
            tab["Tutorial"] += site_notebooks.navigation(ROOT)
    return config


def on_files(files: Files, config) -> Files:
    """Add the generated pages."""
    pages = site_reference.pages() | site_notebooks.pages(ROOT)
    for place, name in PROJECT.items():
        pages[place] = from_the_top((ROOT / name).read_text(encoding="utf-8"))
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """A long command is a command: `long` is a word for the tests."""
    return LONG.sub("```sh", markdown)


def from_the_top(text: str) -> str:
    """A page of the project's top folder with its links as they are seen from project/."""
    text = re.sub(r"\]\(docs/([\w./#-]+)\)", r"](../\1)", text)
    text = text.replace("](CHANGELOG.md)", "](changelog.md)")
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)")
    return re.sub(r"\[([^\]]+)\]\(LICENSE\)", r"\1", text)
