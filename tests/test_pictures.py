"""Pictures as a viewer shows them: orientation, alpha, palettes, 16 bits, grey saved in three
channels; and files that are no pictures."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffgeo.data import image_set, read_images
from diffgeo.data.pictures import WHITE, background_of, decode, facts, listing, said_of
from diffgeo.errors import UsageError

RNG = np.random.default_rng(0)
RED, GREEN = (255, 0, 0), (0, 255, 0)
# a picture [2,3] as it is stored, and as it lies under each orientation of EXIF: the corner that is
# the first row and first column says it (Exif 2.3, tag 274)
STORED = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
SHOWN = {
    1: STORED,
    2: [[100, 50, 0], [250, 200, 150]],
    3: [[250, 200, 150], [100, 50, 0]],
    4: [[150, 200, 250], [0, 50, 100]],
    5: [[0, 150], [50, 200], [100, 250]],
    6: [[150, 0], [200, 50], [250, 100]],
    7: [[250, 100], [200, 50], [150, 0]],
    8: [[100, 250], [50, 200], [0, 150]],
}


@pytest.fixture(scope="module")
def cases() -> Path:
    """Small folders of pictures as they are met in the wild, which lie beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("the cases are not here: no ../shared")
    return folder


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# orientation


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize(
    "suffix, options", [("png", {}), ("webp", {"lossless": True}), ("tif", {})]
)
def test_a_picture_lies_as_its_exif_says(tmp_path, orientation, suffix, options):
    image = Image.fromarray(STORED).convert("RGB" if suffix == "webp" else "L")
    file = saved(tmp_path / f"a.{suffix}", image, exif=exif(orientation), **options)
    right = np.array(SHOWN[orientation])
    assert facts(file)[:2] == right.shape
    assert np.array_equal(decode(file, 1), right)


def test_a_photograph_that_was_taken_upright(tmp_path):
    """Orientation 6 of a JPEG: what is stored at the left lies on top."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = RED
    file = saved(tmp_path / "a.jpg", Image.fromarray(stored), exif=exif(6), quality=95)
    shown = decode(file, 3)
    assert facts(file) == (32, 16, 3, False) and shown.shape == (32, 16, 3)
    assert (shown[:14, :, 0] > 240).all() and (shown[18:] < 12).all()


def test_16_bits_are_turned_too(tmp_path):
    wide = STORED.astype(np.uint16) * 257
    file = saved(tmp_path / "a.png", Image.fromarray(wide), exif=exif(6))
    assert facts(file) == (3, 2, 1, False) and np.array_equal(decode(file, 1), SHOWN[6])


# alpha


def test_what_is_transparent_shows_the_background(tmp_path, cases):
    """A red square; around it alpha 0 hides green, which no viewer shows."""
    hidden = read_images(cases / "alpha/img", "samples")
    assert not (hidden == GREEN).all(-1).any() and (hidden == RED).all(-1).any()
    for colour in (WHITE, (0, 0, 0), (10, 20, 30)):
        shown = read_images(cases / "alpha/img", "samples", background=colour)
        red = (shown == RED).all(-1)
        assert (red | (shown == colour).all(-1)).all() and 0 < red.mean() < 1
    dropped = read_images(cases / "alpha/img", "samples", background=None)
    assert ((dropped == RED).all(-1) | (dropped == GREEN).all(-1)).all()


def test_alpha_is_a_share_and_opaque_pixels_are_themselves(tmp_path):
    levels = np.arange(256, dtype=np.uint8)[None]
    for alpha in (255, 128, 0):
        held = np.stack([levels, np.full_like(levels, alpha)], -1)
        file = saved(tmp_path / "a.png", Image.fromarray(held, "LA"))
        share = alpha / 255
        for background, value in ((WHITE, 255), ((0, 0, 0), 0)):
            shown = decode(file, 1, background=background).astype(float)
            assert np.abs(shown - (share * levels + (1 - share) * value)).max() < 1
            assert alpha != 255 or np.array_equal(shown, levels)
        assert facts(file) == (1, 256, 1, True)
        assert np.array_equal(decode(file, 1, background=None), levels)
    assert facts(file, (9, 8, 7)).channels == 3  # grey on a colour is in colour


def test_one_colour_that_is_transparent(tmp_path):
    """tRNS of a palette, of grey and of colour: its pixels show the background."""
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 10, 10, 200, 200, 200, 77, 77, 77])
    grey = Image.fromarray(np.array([[10, 200, 77]], np.uint8))
    for image, clear in (
        (palette, 1),
        (palette, b"\xff\x00\xff"),
        (grey, 200),
        (grey.convert("RGB"), (200, 200, 200)),
    ):
        file = saved(tmp_path / "a.png", image, transparency=clear)
        assert facts(file).alpha
        assert decode(file, 1).tolist() == [[10, 255, 77]]
        assert decode(file, 1, background=(0, 0, 0)).tolist() == [[10, 0, 77]]
        assert decode(file, 1, background=None).tolist() == [[10, 200, 77]]


def test_what_a_background_may_be():
    assert (
        background_of("white", "o") == (255, 255, 255) and background_of("black", "o") == (0,) * 3
    )
    assert background_of("drop", "o") is None and background_of([1, 2, 3], "o") == (1, 2, 3)
    assert said_of(None) == "dropped, as pytorch-fid does"
    assert said_of((0, 0, 0)) == "composited on black"
    assert said_of((1, 2, 3)) == "composited on [1, 2, 3]"
    for wrong in ("pink", [1, 2], [1, 2, 256], [True, 0, 0], 3, [0.5, 0, 0]):
        with pytest.raises(UsageError, match="data.background=.*: write white, black, drop, or"):
            background_of(wrong, "data.background")


def test_a_set_on_another_background_is_another_set(tmp_path, cases):
    path = str(cases / "alpha/img")
    laws = {
        str(word): image_set("folder", root=str(tmp_path / "data"), path=path, background=word)
        for word in (None, "white", "black", "drop", [0, 0, 0])
    }
    assert len({law.key for law in laws.values()}) == 3
    assert laws["None"].key == laws["white"].key and laws["black"].key == laws["[0, 0, 0]"].key
    assert laws["black"].manifest["background"] == "black"


# grey


def test_grey_in_three_channels_is_grey_where_the_set_is(cases):
    one = read_images(cases / "greyl/img", "samples")
    three = read_images(cases / "greyrgb/img", "samples")
    assert one.shape == (40, 8, 8) and np.array_equal(three, np.repeat(one[..., None], 3, -1))
    assert np.array_equal(read_images(cases / "greyrgb/img", "samples", 1), one)
    assert np.array_equal(read_images(cases / "greyl/img", "samples", 3), three)


def test_arrays_of_equal_channels_are_grey_where_the_set_is(tmp_path):
    grey = RNG.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    np.save(tmp_path / "a.npy", np.repeat(grey, 3, -1))
    assert np.array_equal(read_images(tmp_path / "a.npy", "samples", 1), grey[..., 0])
    assert read_images(tmp_path / "a.npy", "samples").shape == (5, 4, 4, 3)
    coloured = np.repeat(grey, 3, -1)
    coloured[4, 3, 3, 2] ^= 1
    np.save(tmp_path / "b.npy", coloured)
    assert read_images(tmp_path / "b.npy", "samples", 1).shape == (5, 4, 4, 3)


def test_colour_is_no_grey(tmp_path):
    """One byte of one channel: refused by the name of the file."""
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png")
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    image.putpixel((3, 3), (9, 9, 10))
    image.save(tmp_path / "b.png")
    with pytest.raises(UsageError, match="b.png is in colour, and the images wanted are grey"):
        read_images(tmp_path, "samples", 1)


def test_a_palette_of_greys_is_grey(tmp_path, cases):
    images = read_images(cases / "palettegrey/img", "samples")
    for file, image in zip(listing(cases / "palettegrey/img"), images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(file).convert("RGB"))[..., 0])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 10, 10, 200, 200, 201])
    assert facts(saved(tmp_path / "a.png", palette)).channels == 3


def test_the_same_pictures_have_the_same_distance(inside, tmp_path):
    """Digits in one channel, in three equal ones as torchvision.utils.save_image writes them, with
    an opaque alpha, with a palette, and in an array: equal to the last digit."""
    images = image_set("digits").images[:40, 0].numpy()
    palette = [byte for value in range(256) for byte in (value, value, value)]
    found = {}
    for kind in ("L", "RGB", "RGBA", "P"):
        (tmp_path / kind).mkdir()
        for number, image in enumerate(images):
            picture = Image.fromarray(image)
            if kind == "P":
                picture.putpalette(palette)
            picture.convert(kind).save(tmp_path / kind / f"{number:02}.png")
    np.save(tmp_path / "array.npy", images)
    for name in ("L", "RGB", "RGBA", "P", "array.npy"):
        found[name] = distances(inside, tmp_path, tmp_path / name)
    assert all(values == found["array.npy"] for values in found.values())


def test_the_distances_of_the_cases(cases, inside, tmp_path):
    """frechet/pixels 4.467 and frechet/lenet 40.98, whichever way the digits were saved."""
    found = distances(inside, tmp_path, cases / "greyl/img")
    assert distances(inside, tmp_path, cases / "greyrgb/img") == found
    assert round(found["frechet/pixels"], 3) == 4.467 and round(found["frechet/lenet"], 2) == 40.98


def distances(inside, tmp_path, samples: Path) -> dict:
    """The metrics of pictures against digits."""
    done = inside(
        *("evaluate", f"samples={samples}", "data=digits", "figures=false"),
        *("metrics=images_quick", f"hydra.run.dir=of_{samples.parent.name}_{samples.name}"),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / f"of_{samples.parent.name}_{samples.name}"
    return json.loads((folder / "metrics.json").read_text())


# 16 bits and other kinds of pixels


def test_16_bits_of_either_order_of_bytes(tmp_path, cases):
    """65535 is white; the files in the case say MM, big endian."""
    files = listing(cases / "tiff16be/img")
    assert files[0].read_bytes()[:2] == b"MM"
    images = read_images(cases / "tiff16be/img", "samples")
    assert images.shape == (len(files), 16, 16)
    for file, image in zip(files, images, strict=True):
        with Image.open(file) as held:
            wide = np.asarray(held).astype(float)
        assert np.array_equal(image, np.floor(wide / 257 + 0.5))
    assert len(np.unique(images)) > 100  # not clipped
    values = np.array([[0, 128, 129, 257, 1000, 32_768, 65_535]], np.uint16)
    right = np.floor(values / 257 + 0.5)
    for order in "<>":
        (tmp_path / "a.tif").write_bytes(tiff(values.astype(f"{order}u2"), order))
        assert facts(tmp_path / "a.tif").channels == 1
        assert np.array_equal(decode(tmp_path / "a.tif", 1), right)


def tiff(pixels: np.ndarray, order: str = "<", photometric: int = 1, bits: int = 16) -> bytes:
    """A grey TIFF of one strip, after Adobe's TIFF 6.0."""
    height, width = pixels.shape
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8 + 2 + 12 * 9 + 4),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, pixels.nbytes),
    ]
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        held = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", value, *[0] * (kind == 3))
        content += struct.pack(f"{order}HHI", tag, kind, 1) + held
    return content + struct.pack(f"{order}I", 0) + pixels.tobytes()


def test_white_may_be_zero(tmp_path):
    values = np.array([[0, 1000, 65_535]], "<u2")
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric=0))
    assert np.array_equal(decode(tmp_path / "a.tif", 1), np.floor((65_535 - values) / 257 + 0.5))
    (tmp_path / "b.tif").write_bytes(tiff(np.array([[0, 9, 255]], np.uint8), "<", 0, 8))
    assert decode(tmp_path / "b.tif", 1).tolist() == [[255, 246, 0]]


def test_colours_of_16_bits_keep_their_upper_eight(tmp_path):
    """A PNG of 16 bits a channel, after its specification."""
    values = np.array([[[0, 257, 65_535], [256, 32_768, 1000]]], ">u2")
    (tmp_path / "a.png").write_bytes(png(values, 16, 2))
    assert np.array_equal(decode(tmp_path / "a.png", 3), values >> 8)


def png(pixels: np.ndarray, bits: int, kind: int, size: tuple[int, int] | None = None) -> bytes:
    """A PNG without filters; `size` (width, height) may lie."""
    width, height = size or (pixels.shape[1], pixels.shape[0])
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + ends


def test_one_bit_and_cmyk(tmp_path):
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    file = saved(tmp_path / "a.png", bits)
    assert facts(file).channels == 1 and decode(file, 1).tolist() == [[0, 255, 255]]
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    file = saved(tmp_path / "a.jpg", ink, quality=95)
    shown = decode(file, 3)[8, 8].astype(int)
    assert facts(file).channels == 3 and np.abs(shown - RED).max() <= 2
