"""Sheets of images: every shown pixel is the pixel that was given, enlarged by whole numbers, and
files are whole."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from diffgeo import plot
from diffgeo.errors import UsageError
from diffgeo.plot.images import GAP, LINE, SIDE
from diffgeo.plot.prompted import font


def pictures(n, *shape, seed=0):
    return torch.randint(
        0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def shown(sheet, top, left, image):
    """The image as it stands in the sheet at (top, left), taken back to its own size; every pixel
    must be one square of one colour."""
    channels, height, width = image.shape
    times = -(-SIDE // min(height, width))
    part = sheet[top : top + times * height, left : left + times * width].reshape(
        height, times, width, times, 3
    )
    assert (part == part[:, :1, :, :1]).all()
    return torch.from_numpy(part[:, 0, :, 0].transpose(2, 0, 1)[:channels].copy())


@pytest.mark.parametrize(
    "shape, n, columns, across",
    [
        ((1, 8, 8), 7, None, 3),
        ((3, 32, 32), 6, 4, 4),
        ((3, 64, 64), 2, 9, 2),
        ((1, 28, 20), 1, None, 1),
    ],
)
def test_grid_shows_every_pixel(tmp_path, shape, n, columns, across):
    images = pictures(n, *shape)
    path = tmp_path / "new" / "grid.png"
    plot.grid(path, images, columns)
    sheet = read(path)
    times = -(-SIDE // min(shape[1:]))
    assert times * min(shape[1:]) >= 32 and list(path.parent.iterdir()) == [path]
    high = times * shape[1] + GAP
    wide = times * shape[2] + GAP
    assert sheet.shape == (GAP + -(-n // across) * high, GAP + across * wide, 3)
    for i, image in enumerate(images):
        assert torch.equal(
            shown(sheet, GAP + i // across * high, GAP + i % across * wide, image), image
        )
    if n < -(-n // across) * across:
        assert (sheet[-high:, -wide:] == 255).all()  # what is left of the last row is blank


def test_title_is_above_the_images(tmp_path):
    images = pictures(9, 1, 8, 8)
    plot.grid(tmp_path / "a.png", images)
    plot.grid(tmp_path / "b.png", images, title="nine")
    plain = read(tmp_path / "a.png")
    titled = read(tmp_path / "b.png")
    assert np.array_equal(titled[LINE:], plain) and (titled[:LINE] < 255).any()


def test_floats_are_rounded_as_samples_are(tmp_path):
    """-1 and 1 are black and white, what lies outside is clipped: the rounding of
    `Images.quantize`."""
    from diffgeo.data import Images

    x = torch.linspace(-1.3, 1.3, 64).view(1, 1, 8, 8)
    plot.grid(tmp_path / "grid.png", x)
    assert torch.equal(
        shown(read(tmp_path / "grid.png"), GAP, GAP, x[0]),
        Images(pictures(1, 1, 8, 8)).quantize(x.double())[0],
    )


def test_neighbours_stand_side_by_side(tmp_path):
    samples = pictures(10, 3, 16, 16)
    nearest = pictures(10, 3, 16, 16, seed=1)
    plot.neighbours(tmp_path / "n.png", samples, nearest, pairs=4)
    sheet = read(tmp_path / "n.png")
    wide = 3 * 16 + GAP
    for i in range(10):
        top = LINE + GAP + i // 4 * wide
        left = GAP + i % 4 * (2 * wide + 4 * GAP)
        assert torch.equal(shown(sheet, top, left, samples[i]), samples[i])
        assert torch.equal(shown(sheet, top, left + wide, nearest[i]), nearest[i])
        assert (
            sheet[top : top + wide - GAP, left + 2 * wide - GAP : left + 2 * wide + 3 * GAP] == 255
        ).all()


def test_denoised_has_a_row_for_each_and_a_column_a_level(tmp_path):
    rows = [pictures(3, 1, 28, 28, seed=i) for i in range(3)]
    path = tmp_path / "d.png"
    plot.denoised(path, *rows, sigmas=(0.1, 1, torch.tensor(12.0)))
    sheet = read(path)
    side = 2 * 28 + GAP
    left = sheet.shape[1] - 3 * side
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            assert torch.equal(
                shown(sheet, 2 * LINE + GAP + i * side, left + j * side, image), image
            )
        # the row's name
        assert (
            sheet[2 * LINE + GAP + i * side : 2 * LINE + GAP + (i + 1) * side, : left - GAP] < 255
        ).any()
    for j in range(3):
        # the column's level
        assert (sheet[LINE : 2 * LINE, left + j * side : left + (j + 1) * side] < 255).any()


def test_bad_input_leaves_the_old_file(tmp_path):
    path = tmp_path / "grid.png"
    path.write_text("old")
    for call in (
        lambda: plot.grid(path, torch.zeros(2, 3)),
        lambda: plot.grid(path, pictures(0, 1, 8, 8)),
        lambda: plot.grid(path, pictures(2, 2, 8, 8)),
        lambda: plot.neighbours(path, pictures(2, 1, 8, 8), pictures(3, 1, 8, 8)),
        lambda: plot.denoised(path, *[pictures(2, 1, 8, 8)] * 3, sigmas=(1, 2, 3)),
    ):
        with pytest.raises(UsageError):
            call()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_no_matplotlib_for_a_grid(tmp_path):
    code = (
        "import sys, torch, diffgeo.plot as p; p.grid(sys.argv[1], torch.zeros(2, 1, 8, 8)); "
        "sys.exit(any(m.startswith('matplotlib') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "grid.png")]).returncode == 0


def test_a_prompt_has_the_letters_of_its_language():
    """A letter that a font lacks is drawn as the box of a code point that is none."""
    box, *drawn = ["\U000e0fff", *"aüñżßжλ"]
    empty = bytes(font().getmask(box))
    masks = [bytes(font().getmask(letter)) for letter in drawn]
    assert empty not in masks and len(set(masks)) == len(drawn)
