"""The page around its parts: one file that asks no network.

Its Content-Security-Policy admits the script and the style of diffgeo by their digests and pictures
that are inside the page, and nothing else: should a name of a run folder ever come through as HTML,
the browser runs none of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from diffgeo import __version__
from diffgeo.report.page.html import Markup, element

HERE = Path(__file__).parent


@cache
def asset(name: str) -> str:
    """A file of this folder."""
    return (HERE / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a policy names an inline script or style by."""
    found = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(found).decode('ascii')}'"


def policy() -> str:
    """What the page may load and run."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "media-src data:",
            f"style-src {digest(asset('style.css'))}",
            f"script-src {digest(asset('script.js'))}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def document(title: str, about: str, parts: Sequence[tuple[str, str, Markup]]) -> str:
    """The whole page of some parts, (id, title, HTML) each, in this order."""
    links = [element("a", name, href=f"#{key}") for key, name, _ in parts]
    sections = []
    for key, name, content in parts:
        sections.append(element("section", element("h2", name), content, id=key))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(asset("style.css"))),
    ]
    body = [
        element("header", element("h1", title), element("p", about), element("nav", *links)),
        element("main", *sections),
        element("footer", f"made by diffgeo {__version__}: diffgeo report"),
        element("script", Markup(asset("script.js"))),
    ]
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"
