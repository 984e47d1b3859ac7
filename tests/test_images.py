"""The law of a set of images: bytes and numbers, draws, streams, moments, projection, storage, and
what is refused."""

import pickle

import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.data import Images, image_set, read_images
from diffgeo.data.pixels import Rows
from diffgeo.errors import DiffgeoError, UsageError

f64 = torch.float64


def colour(n: int = 40, size: int = 6, seed: int = 0) -> torch.Tensor:
    """Random bytes [n,3,size,size], colours last in memory as on disk."""
    held = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(held).permute(0, 3, 1, 2)


def law(n: int = 40, **options) -> Images:
    return Images(colour(n), torch.arange(n) % 4, classes=4, **options)


@pytest.fixture(scope="module")
def digits():
    return image_set("digits")


# bytes and numbers


@pytest.mark.parametrize(
    "low, high", [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5), (0.0, 255.0), (-1.3, 0.7)]
)
def test_every_byte_survives_the_round_trip(low, high):
    images = law(low=low, high=high)
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for dtype in (torch.float32, f64):
        assert torch.equal(images.quantize(images.dequantize(every).to(dtype)), every)
    exact = low + (high - low) * torch.arange(256, dtype=f64) / 255
    torch.testing.assert_close(
        images.dequantize(every).double().flatten(),
        exact,
        rtol=0,
        atol=2e-7 * max(abs(low), abs(high), 1),
    )
    assert (
        float(images.dequantize(every).flatten()[0]) == pytest.approx(low, abs=1e-7)
        and images.quantize(every) is every
    )


def test_quantization_is_that_of_the_published_protocols():
    """EDM and pytorch-fid's senders: (x * 127.5 + 128) clipped to 0..255 and cut to a byte;
    torchvision's save_image: x' * 255 + 0.5."""
    x = torch.linspace(-1.4, 1.4, 100_001, dtype=f64).view(1, 1, 1, -1)
    assert torch.equal(law().quantize(x), (x * 127.5 + 128).clip(0, 255).to(torch.uint8))
    unit = torch.linspace(-0.2, 1.2, 100_001).view(1, 1, 1, -1)
    assert torch.equal(
        law(low=0.0).quantize(unit), unit.mul(255).add(0.5).clamp(0, 255).to(torch.uint8)
    )
    assert x.min() == -1.4  # and leaves its argument alone


# draws


def test_draws_are_images_of_the_set_each_as_likely():
    images = law(10)
    x, labels = images.sample_labelled(4000, generator(1))
    assert (
        torch.equal(x, images.sample(4000, generator(1)))
        and x.dtype == torch.float32
        and x.is_contiguous()
    )
    table = images.dequantize(images.images).flatten(1)
    which = (x.flatten(1)[:, None] == table).all(2)
    assert bool((which.sum(1) == 1).all()) and torch.equal(
        labels, images.labels[which.int().argmax(1)]
    )
    counts = which.sum(0).double()
    # chi-squared, 9 degrees of freedom: p = .001
    assert float(((counts - 400) ** 2 / 400).sum()) < 27.9


def test_mirror_images_are_half_of_the_draws():
    images = law(10, flip=True)
    x, labels = images.sample_labelled(4000, generator(2))
    table = images.dequantize(images.images).flatten(1)
    straight = (x.flatten(1)[:, None] == table).all(2)
    turned = (x.flip(3).flatten(1)[:, None] == table).all(2)
    assert bool(((straight | turned).sum(1) == 1).all()) and torch.equal(
        labels, images.labels[(straight | turned).int().argmax(1)]
    )
    assert abs(int(turned.sum()) - 2000) < 4 * (4000 / 4) ** 0.5
    assert abs(int(turned[:, 3].sum()) - 200) < 4 * (4000 * 0.05) ** 0.5


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_the_draws_of_its_generators(flip, workers, tmp_path):
    images = law(flip=flip, workers=workers, hold="stream")
    assert images.streams and not law().streams and not law(hold="memory").streams
    streamed = list(images.stream(7, (generator(5, i) for i in range(9))))
    assert len(streamed) == 9
    for i, (x, labels) in enumerate(streamed):
        wanted, classes = images.sample_labelled(7, generator(5, i))
        assert torch.equal(x, wanted) and torch.equal(labels, classes)
    # a resumed run reads on where it stopped
    again = list(images.stream(7, (generator(5, i) for i in range(4, 9))))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(again, streamed[4:], strict=True))


def test_a_worker_opens_the_file_and_is_sent_no_pixels(tmp_path):
    images = colour(500)
    np.save(tmp_path / "train_images.npy", images.permute(0, 2, 3, 1).numpy())
    sent = pickle.dumps(Rows(images, tmp_path / "train_images.npy"))
    assert len(sent) < 1000
    rows = np.array([3, 499, 3])
    assert torch.equal(pickle.loads(sent)[rows], images[rows])
    assert torch.equal(pickle.loads(pickle.dumps(Rows(images, None)))[rows], images[rows])


@pytest.mark.parametrize("hold", ["device", "memory", "auto", "stream"])
def test_what_is_drawn_does_not_depend_on_where_the_pixels_live(hold):
    assert torch.equal(
        law(hold=hold, flip=True).sample(20, generator(3)), law(flip=True).sample(20, generator(3))
    )


def test_a_set_larger_than_half_the_memory_is_streamed(monkeypatch):
    images = law()
    monkeypatch.setattr("diffgeo.data.images.memory", lambda: 2.0 * images.images.nbytes)
    assert not images.streams
    monkeypatch.setattr("diffgeo.data.images.memory", lambda: 2.0 * images.images.nbytes - 2)
    assert images.streams and not law(hold="device").streams


# the law


@pytest.mark.parametrize("flip", [False, True])
def test_moments_are_exact(flip):
    """Against numpy in float64 over the set, with its mirror images written out."""
    images = law(700, flip=flip, low=-1.0, high=3.0)
    x = images.low + 4 * images.images.double() / 255
    x = torch.cat([x, x.flip(3)]) if flip else x
    torch.testing.assert_close(images.mean, x.mean(0), rtol=1e-13, atol=1e-13)
    assert images.std == pytest.approx(float(x.var(0, correction=0).mean().sqrt()), rel=1e-12)


def test_projection_is_the_nearest_image_or_mirror_image():
    images = law(30, flip=True)
    x = torch.randn(12, 3, 6, 6, generator=generator(4), dtype=f64)
    every = images.dequantize(torch.cat([images.images, images.images.flip(3)])).double()
    square = (x[:, None] - every).square().flatten(2).sum(2)
    torch.testing.assert_close(images.project(x), every[square.argmin(1)], rtol=0, atol=1e-6)
    torch.testing.assert_close(images.distance(x), square.amin(1).sqrt(), rtol=1e-6, atol=0)
    assert float(images.distance(every[40:].clone()).max()) < 1e-6
    assert images.tangent(x).shape == (12, 3, 6, 6, 0) and images.dim == 0 and images.atoms is None


def test_the_key_is_the_content():
    # in another order in memory
    same = Images(colour().contiguous(), torch.arange(40) % 4, classes=4, hold="stream")
    assert law().key == same.key
    changed = colour()
    changed[7, 1, 2, 3] ^= 1
    labels = torch.arange(40) % 4
    labels[3] = 0
    others = [
        Images(changed, torch.arange(40) % 4, classes=4),
        law(flip=True),
        law(low=0.0),
        Images(colour(), labels, classes=4),
        Images(colour(), classes=4),
    ]
    assert len({law().key, *(other.key for other in others)}) == 6


# storage


def test_store_and_restore_are_inverse(digits, tmp_path):
    for images, shape in ((digits, (5, 8, 8)), (law(), (5, 6, 6, 3))):
        x = images.sample(5, generator(1))
        held = images.store(x)
        assert (
            held.shape == shape
            and held.dtype == np.uint8
            and torch.equal(images.restore(held), images.quantize(x))
        )
        assert torch.equal(images.restore(images.store(images.quantize(x))), images.quantize(x))
        np.save(tmp_path / "samples.npy", held)
        assert np.array_equal(read_images(tmp_path, "samples"), held)
    assert np.array_equal(law().store(law().images), law().images.permute(0, 2, 3, 1).numpy())


def test_restore_names_what_does_not_fit(digits):
    with pytest.raises(UsageError, match="colour images of 8 x 8, digits has grey images of 8 x 8"):
        digits.restore(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="grey images of 6 x 6, images has colour images of 6 x 6"):
        law().restore(np.zeros((2, 6, 6), np.uint8))
    with pytest.raises(UsageError, match="of 9 x 8"):
        digits.restore(np.zeros((2, 9, 8), np.uint8))
    with pytest.raises(UsageError, match=r"not of float64: write bytes 0..255, \[n,8,8\]"):
        digits.restore(np.zeros((2, 8, 8)))
    with pytest.raises(UsageError, match=r"\[4\]"):
        digits.restore(np.zeros(4, np.uint8))


def test_laws_in_the_plane_store_float64():
    from diffgeo.data import Circle

    x = Circle().sample(4, generator(0))
    assert Circle().store(x.float()).dtype == np.float64 and torch.equal(
        Circle().restore(Circle().store(x)), x
    )
    with pytest.raises(UsageError, match=r"shape \(4, 3\), the law has points of shape \(2,\)"):
        Circle().restore(np.zeros((4, 3)))


# folders of images


def test_images_of_a_folder(tmp_path):
    from PIL import Image

    pixels = colour(3).permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:03}.png")
    assert np.array_equal(read_images(tmp_path, "samples"), pixels)
    grey = tmp_path / "grey"
    grey.mkdir()
    Image.fromarray(pixels[0, :, :, 0]).save(grey / "a.png")
    assert np.array_equal(read_images(grey, "samples"), pixels[:1, :, :, 0])
    Image.fromarray(pixels[0, :5]).save(tmp_path / "z.png")
    with pytest.raises(UsageError, match="z.png is 5 x 6, 000.png is 6 x 6"):
        read_images(tmp_path, "samples")
    (tmp_path / "000.png").write_bytes(b"no image")
    with pytest.raises(DiffgeoError, match="000.png cannot be read as an image"):
        read_images(tmp_path, "samples")


def test_arrays_that_are_no_images(tmp_path):
    np.savez(tmp_path / "a.npz", samples=np.zeros((2, 4, 4, 1), np.uint8), more=np.zeros(3))
    assert read_images(tmp_path / "a.npz", "samples").shape == (2, 4, 4)
    for name, array, message in [
        ("floats", np.zeros((2, 4, 4)), "holds float64; images are uint8"),
        ("flat", np.zeros((2, 16), np.uint8), r"shape \[2, 16\]"),
        ("alpha", np.zeros((2, 4, 4, 4), np.uint8), r"shape \[2, 4, 4, 4\]"),
        ("objects", np.array([{}], dtype=object), "it holds Python objects"),
    ]:
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(UsageError, match=message):
            read_images(tmp_path / f"{name}.npy", "samples")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("empty", "holds no images"),
        ("no.npy", "there is no such file"),
        ("a.txt", "neither a folder nor"),
    ):
        with pytest.raises(UsageError, match=message):
            read_images(tmp_path / name, "samples")


def test_refused_arrays():
    with pytest.raises(UsageError, match="must be 40 numbers in 0..3, one an image, not 39"):
        Images(colour(), torch.zeros(39, dtype=torch.long), classes=4)
    with pytest.raises(
        UsageError, match="must be 40 numbers in 0..3, one an image, not 40 in 0..4"
    ):
        Images(colour(), torch.arange(40) % 5, classes=4)
    with pytest.raises(UsageError, match=r"not float32 \[40, 3, 6, 6\]"):
        Images(colour().float())
    with pytest.raises(UsageError, match="images has no class labels"):
        Images(colour()).sample_labelled(3, generator(0))
