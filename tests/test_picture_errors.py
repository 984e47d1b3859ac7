"""Files that are no pictures, or more than one; links and what is hidden: one line each, with the
name of the file."""

import io

import numpy as np
import pytest
from PIL import Image
from test_pictures import png, saved, surroundings  # noqa: F401

from diffgeo.data import read_images
from diffgeo.data.pictures import decode, listing
from diffgeo.errors import DiffgeoError

RNG = np.random.default_rng(0)


def refused(folder, message: str):
    with pytest.raises(DiffgeoError, match=message) as found:
        read_images(folder, "samples")
    assert "\n" not in str(found.value)


def test_damaged_and_foreign_files(tmp_path):
    """Each is one line with the name of the file."""
    folder = tmp_path / "in"
    folder.mkdir()
    noise = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "webp", "bmp", "ppm", "tif"):
        page = io.BytesIO()
        noise.save(page, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
        content = page.getvalue()
        for left in (0, 10, len(content) // 2):
            (folder / f"a.{suffix}").write_bytes(content[:left])
            refused(folder, f"a.{suffix} cannot be read as an image: ")
        (folder / f"a.{suffix}").unlink()
    (folder / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n")
    refused(folder, "a.png cannot be read as an image: it is no PNG, JPEG, .* or GIF file")
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(folder / "a.png")
    refused(folder, "a.png cannot be read as an image: there is no such file")


def test_more_pixels_than_memory_has_room_for(tmp_path):
    """A decompression bomb, and one that Pillow only warns of; nothing is decoded."""
    for name, side in (("bomb", 40_000), ("large", 10_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(np.zeros((1, 9), np.uint8), 8, 0, (side, side)))
        refused(tmp_path / name, "a.png cannot be read as an image: ")


def test_several_pictures_in_one_file(tmp_path):
    """Which of them would be meant?"""
    frames = [Image.new("L", (4, 4), value) for value in (0, 100, 200)]
    for suffix in ("png", "tif", "webp"):
        folder = tmp_path / suffix
        folder.mkdir()
        frames[0].save(folder / f"a.{suffix}", save_all=True, append_images=frames[1:])
        refused(folder, f"a.{suffix} cannot be read as an image: it holds several pictures")
    file = saved(tmp_path / "a.jpg", frames[1], format="MPO", save_all=True, append_images=frames)
    assert np.abs(decode(file, 1).astype(int) - 100).max() <= 1  # the first of a stereo pair


def test_a_folder_with_links_and_hidden_files(tmp_path):
    picture = Image.new("L", (4, 4))
    for name in ("set/a", "set/.hidden", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        picture.save(tmp_path / name / "x.png")
    picture.save(tmp_path / "set/._x.png")
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    found = [str(path.relative_to(tmp_path / "set")) for path in listing(tmp_path / "set")]
    assert found == ["a/x.png", "linked/x.png"] and listing(tmp_path / "none") == []
    (tmp_path / "set/a/round").symlink_to(tmp_path / "set")
    refused(tmp_path / "set", "round is a link to a folder that it lies in: remove the link")
