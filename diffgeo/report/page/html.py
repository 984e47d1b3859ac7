"""HTML from words: whatever is not `Markup` is escaped, so that a name or a number of a run folder,
which may be a stranger's, is text on the page and nothing else.

    element("td", "a < b", class_="name")   ->   <td class="name">a &lt; b</td>
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable

VOID = ("img", "input", "link", "meta")  # elements that hold nothing and are not closed
# what no page shows as it is: control characters, halves of a surrogate pair (no UTF-8 has them),
# and the marks that turn the direction of the text after them
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class Markup(str):
    """Text that is HTML already."""


def clean(text: str) -> str:
    """Text in which what is not to be seen stands as a replacement character."""
    return UNSEEN.sub("\ufffd", text)


def escaped(text: object) -> Markup:
    """Any text as HTML; Markup as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(clean(str(text)), quote=True))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """One element. An attribute's name may end in _ (class_), and _ inside it is a hyphen; one
    that is None or False is left out, one that is True stands without a value."""
    opening = [tag]
    for key, value in attributes.items():
        shown = key.rstrip("_").replace("_", "-")
        if value is True:
            opening.append(shown)
        elif value is not None and value is not False:
            opening.append(f'{shown}="{escaped(value)}"')
    start = f"<{' '.join(opening)}>"
    if tag in VOID:
        return Markup(start)
    return Markup(f"{start}{joined(children)}</{tag}>")


def joined(children: Iterable[object]) -> Markup:
    """Several children, one after the other."""
    return Markup("".join(escaped(child) for child in children))


def folded(title: object, *children: object, **attributes: object) -> Markup:
    """What opens by a click on its title."""
    return element("details", element("summary", title), *children, **attributes)


def data_block(name: str, value: object) -> Markup:
    """JSON for the page's script, which finds it by `name`. It is never run: no < is left in it
    that could end the block. Raises ValueError on a number that is not finite."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":  # json has escaped all that is not ASCII
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{escaped(name)}">{text}</script>')
