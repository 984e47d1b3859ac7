"""Pictures and the prompts that they were made for: plain PNG, without matplotlib.

    under_each   a grid of pictures, under each its prompt, cut to the width of a column
    side_by_side a row a prompt, a column a run, as in Permenter and Yuan (2024), figure 1

Pictures are uint8 [n,C,H,W]. Small ones are enlarged by whole numbers, large ones are averaged over
whole squares, so that a column is 128 to 256 pixels wide.
"""

from __future__ import annotations

import importlib.util
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.plot.page import picture, title_now

# in pixels
NARROW = 128  # the least width of a column
WIDE = 256  # the most
GAP = 4
LINE = 14  # the height of a line of text
LEFT = 150  # of a prompt beside its row
SIZE = 10  # of a letter
FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # lies in matplotlib, which is not imported for it
WHITE = (255, 255, 255)
INK = (40, 40, 40)
EMPTY = "(no words)"  # the empty prompt


def sized(images: Tensor) -> Tensor:
    """Pictures [n,C,H,W] as they are shown, uint8 [n,C,h,w] with w between 128 and 256 where whole
    numbers allow it."""
    width = images.shape[-1]
    if width > WIDE:
        times = math.ceil(width / WIDE)
        return (F.avg_pool2d(images.float(), times) + 0.5).to(images.dtype)
    times = math.ceil(NARROW / width)
    return images.repeat_interleave(times, -1).repeat_interleave(times, -2)


def under_each(path, images: Tensor, prompts: Sequence[str]) -> None:
    """A grid of pictures [n,C,H,W], as square as n allows, under each its prompt."""
    if len(images) != len(prompts) or not len(images):
        raise UsageError(f"{len(images)} pictures need as many prompts, not {len(prompts)}")
    shown = sized(images)
    columns = math.ceil(math.sqrt(len(shown)))
    high = shown.shape[2] + LINE + GAP
    wide = shown.shape[3] + GAP
    title = title_now()
    head = GAP + (LINE if title else 0)
    page = Page(GAP + columns * wide, head + math.ceil(len(shown) / columns) * high)
    page.line(title, GAP, 1, page.width - 2 * GAP)
    for i, (image, prompt) in enumerate(zip(shown, prompts, strict=True)):
        row, column = divmod(i, columns)
        left = GAP + column * wide
        top = head + row * high
        page.picture(image, left, top)
        page.line(prompt or EMPTY, left, top + image.shape[1] + 1, image.shape[2])
    page.save(path)


def side_by_side(
    path, rows: Sequence[Tensor], prompts: Sequence[str], heads: Sequence[str], title: str = ""
) -> None:
    """A row a prompt, pictures [K,C,H,W] of K runs each, whose names stand above them."""
    if len(rows) != len(prompts) or any(len(row) != len(heads) for row in rows):
        raise UsageError(
            f"{len(prompts)} prompts and {len(heads)} runs need as many rows and columns, not rows "
            f"of {[len(row) for row in rows]} pictures"
        )
    shown = [sized(row) for row in rows]
    high = shown[0].shape[2] + GAP
    wide = shown[0].shape[3] + GAP
    top = LINE * (1 + bool(title)) + GAP
    page = Page(LEFT + len(heads) * wide, top + len(rows) * high)
    if title:
        page.line(title, GAP, 1, page.width - 2 * GAP)
    for j, head in enumerate(heads):
        page.line(head, LEFT + j * wide, top - LINE - 1, wide - GAP)
    for i, (row, prompt) in enumerate(zip(shown, prompts, strict=True)):
        page.block(prompt or EMPTY, GAP, top + i * high, LEFT - 2 * GAP, high - GAP)
        for j, image in enumerate(row):
            page.picture(image, LEFT + j * wide, top + i * high)
    page.save(path)


class Page:
    """A white sheet that pictures and words are put on, in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        from PIL import Image, ImageDraw

        self.width = width
        self.sheet = Image.new("RGB", (width, height), WHITE)
        self.draw = ImageDraw.Draw(self.sheet)
        self.draw.font = font()

    def picture(self, image: Tensor, left: int, top: int) -> None:
        """A picture, uint8 [1 or 3,h,w]."""
        from PIL import Image

        pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
        self.sheet.paste(Image.fromarray(pixels), (left, top))

    def fits(self, text: str, width: int) -> bool:
        return self.draw.textlength(text) <= width

    def cut(self, text: str, width: int) -> str:
        """As much of a line as fits, with dots where some is missing."""
        if self.fits(text, width):
            return text
        while text and not self.fits(f"{text}...", width):
            text = text[:-1]
        return f"{text.rstrip()}..."

    def line(self, text: str, left: int, top: int, width: int) -> None:
        """One line of words, cut to the width."""
        self.draw.text((left, top), self.cut(" ".join(text.split()), width), fill=INK)

    def block(self, text: str, left: int, top: int, width: int, height: int) -> None:
        """Words in as many lines as fit; the last is cut where there are more."""
        letters = len(text)
        while letters > 8 and not all(self.fits(part, width) for part in wrapped(text, letters)):
            letters -= 1
        lines = wrapped(text, letters)
        most = max(1, height // LINE)
        if len(lines) > most:
            lines = [*lines[: most - 1], self.cut(" ".join(lines[most - 1 :]), width)]
        for i, words in enumerate(lines):
            self.draw.text((left, top + i * LINE), words, fill=INK)

    def save(self, path) -> None:
        picture(path, self.sheet)


def font():
    """The font of all words: DejaVu, which has the Latin, Greek and Cyrillic letters of prompts;
    Pillow's own, which has those of English alone, where matplotlib comes without it."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / FONT
        if file.is_file():
            return ImageFont.truetype(file, SIZE)
    return ImageFont.load_default()


def wrapped(text: str, letters: int) -> list[str]:
    """A text in lines of at most so many letters."""
    return textwrap.wrap(text, letters) or [""]
