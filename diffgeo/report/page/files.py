"""What a page reads of a folder, which may be a stranger's: only files that lie in it (a link that
leads out of it would put a private file on a page that is handed on), only of the size that such a
file has, and pictures only if their first bytes say that they are one."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffgeo.errors import DiffgeoError
from diffgeo.report.page.html import Markup, element, folded
from diffgeo.report.page.tables import table
from diffgeo.store.digest import verified

TEXT_MOST = 4 << 20  # bytes of a table or of a text
PICTURE_MOST = 24 << 20  # bytes of one picture
PAGE_MOST = 96 << 20  # bytes of all pictures of a page
ROWS_SHOWN = 500  # of a table
ROWS_OPEN = 25  # of a table that is not folded
# how a file of each kind begins, at which byte; and the type that the page gives it
BEGINNINGS = {
    ".png": (0, (b"\x89PNG\r\n\x1a\n",), "image/png"),
    ".gif": (0, (b"GIF87a", b"GIF89a"), "image/gif"),
    ".jpg": (0, (b"\xff\xd8\xff",), "image/jpeg"),
    ".svg": (0, (b"<?xml", b"<svg"), "image/svg+xml"),
    ".mp4": (4, (b"ftyp",), "video/mp4"),
    ".pdf": (0, (b"%PDF-",), "application/pdf"),
}


def inside(folder: Path, path: Path) -> bool:
    """Whether `path` is a file that lies in `folder`, at the end of its links too."""
    return path.is_file() and folder.resolve() in path.resolve().parents


def text_of(folder: Path, path: Path, most: int = TEXT_MOST) -> str | None:
    """The text of a file of a folder as it was written; None where there is none. Raises
    DiffgeoError where it is too large, no text, or not what the run wrote."""
    if not inside(folder, path):
        return None
    size = path.stat().st_size
    if size > most:
        raise DiffgeoError(f"{path} has {size} bytes, and a page shows at most {most} of a file")
    try:
        return verified(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DiffgeoError(f"{path} cannot be read: {error}") from None


def csv_table(folder: Path, path: Path) -> Markup:
    """A file of comma-separated values as a table; of a long one the first rows. Raises
    DiffgeoError."""
    text = text_of(folder, path) or ""
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except csv.Error as error:
        raise DiffgeoError(f"{path} is no table: {error}") from None
    if not lines:
        return element("p", f"{path.name} is empty", class_="note")
    header, *rows = lines
    told = path.name
    if len(rows) > ROWS_SHOWN:
        told = f"{path.name}, the first {ROWS_SHOWN} of {len(rows)} rows"
    shown = []
    for row in rows[:ROWS_SHOWN]:
        shown.append((row + [""] * len(header))[: len(header)])
    made = table(header, shown, "" if len(rows) > ROWS_OPEN else told)
    return folded(told, made) if len(rows) > ROWS_OPEN else made


def first_rows(folder: Path, path: Path, n: int) -> np.ndarray | None:
    """The first n rows of a .npy file of a folder; None where there is none. Nothing is unpickled.
    Raises DiffgeoError where it is damaged."""
    if not inside(folder, path):
        return None
    try:
        found = np.load(verified(path), mmap_mode="r", allow_pickle=False)
        if found.dtype.kind not in "iuf":
            raise ValueError(f"it holds {found.dtype}")
        return np.array(found[:n])
    except (ValueError, OSError, IndexError, TypeError, EOFError, SyntaxError) as error:
        raise DiffgeoError(f"{path} cannot be read: {error}") from None


class Budget:
    """How many bytes of pictures a page has room for."""

    def __init__(self, left: int = PAGE_MOST):
        self.left = left

    def takes(self, size: int) -> bool:
        """Whether so many bytes fit; if so, they are taken."""
        if size > min(self.left, PICTURE_MOST):
            return False
        self.left -= size
        return True


class Picture(NamedTuple):
    """A picture file, and its first bytes looked at."""

    path: Path
    type: str


def pictures_in(folder: Path, root: Path) -> list[Picture]:
    """The pictures right in a folder, by their names; `root` is what they have to lie in."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        kind = BEGINNINGS.get(path.suffix.lower().replace(".jpeg", ".jpg"))
        if kind is None or path.name.startswith(".") or not inside(root, path):
            continue
        begin, beginnings, type_ = kind
        with path.open("rb") as file:
            first = file.read(16)[begin:]
        if first.startswith(beginnings):
            found.append(Picture(path, type_))
    return found


def gallery(found: Iterable[Picture], budget: Budget) -> Markup:
    """Pictures inside the page, each with its name; of one that is too large the name alone."""
    return element("div", *(shown(picture, budget) for picture in found), class_="gallery")


def shown(picture: Picture, budget: Budget) -> Markup:
    """One picture. A PDF is there to be saved: browsers show none inside a page."""
    path = picture.path
    size = path.stat().st_size
    if not budget.takes(size):
        words = f"{path.name}: {size / 1e6:.1f} MB, too large for this page"
        return element("figure", element("figcaption", words))
    link = data_uri(path.read_bytes(), picture.type)
    caption = element("figcaption", path.stem)
    if picture.type == "application/pdf":
        saved = element("a", f"save {path.name}", href=link, download=path.name)
        return element("figure", element("figcaption", saved))
    if picture.type.startswith("video/"):
        return element("figure", element("video", src=link, controls=True, loop=True), caption)
    return element("figure", element("img", src=link, alt=path.stem), caption)


def data_uri(content: bytes, type_: str) -> Markup:
    """Bytes as an address that holds them."""
    return Markup(f"data:{type_};base64,{base64.b64encode(content).decode('ascii')}")
