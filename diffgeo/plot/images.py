"""Pictures of images: plain PNG, without matplotlib. Small images are enlarged by whole numbers, so
that a pixel stays a square.

Images are uint8 [n,C,H,W], grey or colour, or floats in [-1,1], which are clipped and rounded.
Where a sheet goes, and in which format: `page.picture`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.plot.page import picture, title_now

# in pixels
SIDE = 48  # the least of a shown image
GAP = 1  # between images
LINE = 14  # the height of a line of text
LETTER = 6  # the width of a letter
WHITE = 255
INK = (60, 60, 60)


def grid(path, images: Tensor, columns: int | None = None, title: str | None = None) -> None:
    """The images [n,C,H,W] row by row, `columns` in a row (default: as square a sheet as n allows),
    under an optional title."""
    pixels = _bytes(images)
    columns = min(len(pixels), columns or math.ceil(math.sqrt(len(pixels))))
    _sheet(path, pixels.split(columns), title=title)


def neighbours(path, samples: Tensor, nearest: Tensor, pairs: int = 8) -> None:
    """Each sample beside its nearest training image, `pairs` pairs in a row: a copy shows as a
    twin."""
    left = _bytes(samples)
    right = _bytes(nearest)
    if left.shape != right.shape:
        raise UsageError(
            f"samples {list(left.shape)} and their neighbours {list(right.shape)} do not pair: "
            "give one neighbour a sample"
        )
    both = torch.stack([left, right], 1).flatten(0, 1)
    title = "each sample, and to its right the nearest training image"
    _sheet(path, both.split(2 * pairs), group=2, title=title)


def rows(
    path,
    images: Sequence[Tensor],
    names: Sequence[str],
    heads: Sequence[str],
    title: str | None = None,
) -> None:
    """Rows of images, [K,C,H,W] each, with a name to the left of each row and a head above each
    column."""
    shown = [_bytes(row) for row in images]
    if len(shown) != len(names) or any(len(row) != len(heads) for row in shown):
        raise UsageError(
            f"{len(names)} names and {len(heads)} heads need as many rows and columns, not rows of "
            f"{[len(row) for row in shown]} images"
        )
    _sheet(path, shown, names=names, heads=heads, title=title)


def denoised(
    path,
    noisy: Tensor,
    learned: Tensor,
    exact: Tensor,
    sigmas: Sequence[float],
    name: str = "learned",
) -> None:
    """Three rows, one column a noise level: x = x0 + sigma eps (clipped), D learned (or what else
    its `name` is), D exact; each [K,C,H,W] for K levels."""
    rows = [_bytes(row) for row in (noisy, learned, exact)]
    if any(len(row) != len(sigmas) for row in rows):
        raise UsageError(
            f"{len(sigmas)} noise levels need as many images in each row, not "
            f"{[len(row) for row in rows]}"
        )
    _sheet(
        path,
        rows,
        names=("noisy", name, "exact"),
        heads=[f"{float(s):.3g}" for s in sigmas],
        title="noise level sigma, by column",
    )


def _bytes(images: Tensor) -> Tensor:
    """uint8 [n,C,H,W] with C 1 or 3."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UsageError(
            f"a sheet shows images [n,1 or 3,H,W] and at least one, not {list(images.shape)}"
        )
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    return ((images.double() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)


def _sheet(
    path,
    rows: Sequence[Tensor],
    title: str | None = None,
    names: Sequence[str] = (),
    heads: Sequence[str] = (),
    group: int = 1,
) -> None:
    """Rows of images, `names` to their left, `heads` above the columns, a wider gap after every
    `group` images when that is not 1."""
    from PIL import Image, ImageDraw

    height, width = rows[0].shape[2:]
    times = max(1, math.ceil(SIDE / min(height, width)))
    high = times * height + GAP
    wide = times * width + GAP
    left = 7 * max(map(len, names)) + 8 if names else GAP
    titles = [line for line in (title_now(), title) if line]
    top = LINE * (len(titles) + bool(heads)) + GAP

    def place(column: int) -> int:
        """Where a column begins."""
        gaps = column // group * 4 * GAP if group > 1 else 0
        return left + column * wide + gaps

    most = max(len(row) for row in rows)
    across = max(place(most), LETTER * max(map(len, titles), default=0) + 2 * GAP)
    canvas = np.full((top + len(rows) * high, across, 3), WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row.permute(0, 2, 3, 1).numpy()):
            big = image.repeat(times, 0).repeat(times, 1)
            y = top + i * high
            x = place(j)
            # grey broadcasts into the three channels
            canvas[y : y + times * height, x : x + times * width] = big
    sheet = Image.fromarray(canvas)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(titles):
        draw.text((GAP + 1, 1 + i * LINE), line, fill=INK)
    for i, name in enumerate(names):
        draw.text((GAP + 1, top + i * high + (high - LINE) // 2), name, fill=INK)
    for j, head in enumerate(heads):
        draw.text((place(j), top - LINE), head, fill=INK)
    picture(path, sheet)
