"""FID-30k: how pictures are resized and photographs cut, against Pillow and torch themselves; what
its protocols tell; and `reproduce ge/coco`, the published table with the grid of each row."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from configs import composed
from PIL import Image
from simulations import made_by

from diffgeo.commands.reproduce.engine import cells_of, execute, expanded, spec_of
from diffgeo.config.build import grid_of
from diffgeo.config.line import prepare
from diffgeo.core import Run
from diffgeo.data import Images
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics import FID, photographs
from diffgeo.metrics.fid import PROTOCOLS
from diffgeo.metrics.frechet import moments
from diffgeo.metrics.inception import SIDE, Inception, bicubic, scaling
from diffgeo.metrics.nets import Pixels
from diffgeo.metrics.photographs import blocks, check_folder, cut, of_folder

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


# resizing


@pytest.mark.parametrize("height, width", [(64, 512), (299, 298), (400, 33)])
def test_the_clean_resize_is_pillows(height, width):
    """clean-fid: each channel as floats through Pillow's BICUBIC, then kept in 0..255."""
    picture = noise(height, width)
    theirs = Image.fromarray(picture.astype(np.float32)).resize((SIDE, SIDE), Image.BICUBIC)
    theirs = np.asarray(theirs)
    rows, columns = scaling(height, "clean"), scaling(width, "clean")
    ours = (rows @ (torch.from_numpy(picture).float() @ columns.mT)).numpy()
    assert np.abs(ours - theirs).max() < 2e-3
    assert theirs.min() < -1 and theirs.max() > 256  # noise overshoots: the clip below matters
    net = Inception.__new__(Inception)
    net.resize, net.device, net.dtype, net.scalings = (
        "clean",
        torch.device("cpu"),
        torch.float32,
        {},
    )
    seen = net.scaled(torch.from_numpy(picture)[None, None])[0, 0].numpy()
    assert np.abs(seen - (theirs.clip(0, 255) - 128) / 128).max() < 2e-5


def test_the_pytorch_fid_resize_is_torchs():
    """pytorch-fid 0.3: F.interpolate in the graph, no antialiasing, 2 p/255 - 1."""
    picture = torch.from_numpy(noise(1, 3, 512, 512))
    expected = 2 * F.interpolate(picture.float() / 255, size=(SIDE, SIDE), mode="bilinear") - 1
    net = Inception.__new__(Inception)
    net.device, net.dtype = torch.device("cpu"), torch.float32
    net.resize, net.scalings = "pytorch_fid", {}
    assert float((net.scaled(picture) - expected).abs().max()) < 1e-5
    net.resize, net.scalings = "clean", {}
    assert float((net.scaled(picture) - expected).abs().max()) > 0.1  # another number


def test_rows_of_the_bicubic_matrix():
    """A constant stays; nothing changes where there is nothing to resize."""
    for size in (8, 150, 299, 1024):
        assert torch.allclose(bicubic(size).sum(1), torch.ones(SIDE), atol=1e-6)
    assert torch.equal(bicubic(SIDE), torch.eye(SIDE))


# photographs


@pytest.fixture
def folder(tmp_path):
    """Twelve photographs of several sizes, grey and with alpha among them."""
    for i in range(12):
        height, width = 40 + 3 * i, 70 - 2 * i
        Image.fromarray(noise(height, width, 3)).save(tmp_path / f"{i:02d}.png")
    Image.fromarray(noise(50, 40)).save(tmp_path / "03.png")
    Image.fromarray(noise(45, 60, 4)).save(tmp_path / "07.png")
    return tmp_path


def test_of_a_photograph_the_centred_square_counts(folder):
    """Cut first, then Pillow's bilinear resize; alpha is dropped."""
    files = sorted(folder.iterdir())
    (found,) = cut(files, (3, 32, 32))
    for file, ours in zip(files, found, strict=True):
        with Image.open(file) as image:
            image = image.convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            theirs = np.asarray(image.resize((32, 32), Image.BILINEAR))
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), theirs), file.name


def test_the_moments_of_a_folder_are_kept_under_its_bytes(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path_factory.mktemp("cache")))
    photographs._of_folder.cache_clear()
    net = Pixels()
    (found,) = blocks(folder, (3, 32, 32))
    expected = moments(net(found))
    first = of_folder(net, folder, (3, 32, 32))
    assert torch.allclose(first.mean, expected.mean) and first.n == 12
    assert torch.allclose(first.covariance, expected.covariance)
    photographs._of_folder.cache_clear()
    monkeypatch.setattr(photographs, "blocks", lambda *others: 1 / 0)  # not looked at again
    assert torch.equal(of_folder(net, folder, (3, 32, 32)).covariance, first.covariance)
    with pytest.raises(ZeroDivisionError):
        of_folder(net, folder, (3, 16, 16))
    Image.fromarray(noise(30, 30, 3)).save(folder / "00.png")
    with pytest.raises(ZeroDivisionError):
        of_folder(net, folder, (3, 32, 32))


def test_a_reference_that_is_none_is_one_line(folder, tmp_path_factory):
    few = tmp_path_factory.mktemp("few")
    Image.fromarray(noise(8, 8, 3)).save(few / "a.png")
    with pytest.raises(UsageError, match="holds 1 pictures: write a folder of 10"):
        check_folder(few)
    with pytest.raises(UsageError, match="is 40 x 70, and the pictures are 32 x 48"):
        list(blocks(folder, (3, 32, 48)))
    (folder / "00.png").write_bytes(b"no picture")
    with pytest.raises(DiffgeoError, match=r"00\.png cannot be read"):
        check_folder(folder)
    np.save(few / "samples.npy", noise(20, 8, 8, 3))
    check_folder(few)  # the samples of a run are pictures too
    (found,) = blocks(few, (3, 8, 8))
    assert found.shape == (20, 3, 8, 8)
    with pytest.raises(UsageError, match=r"samples\.npy is not of pictures"):
        list(blocks(few, (3, 16, 16)))
    law = Images(torch.from_numpy(noise(20, 3, 8, 8)))
    with pytest.raises(UsageError, match="nowhere"):
        FID("pixels", reference="nowhere").prepare(law, 20)


# protocols


@pytest.mark.parametrize(
    "name, resize", [("coco30k_pytorch_fid", "pytorch_fid"), ("coco30k_clean", "clean")]
)
def test_a_protocol_tells_n_crop_and_resizer(name, resize, monkeypatch, folder):
    """30 000 is an FID, anything less says how many; the facts carry the choices that move it."""
    from test_fid import Fake

    fake = Fake("fake")
    metric = FID(protocol=name, reference=str(folder))
    assert metric.resize == resize and metric.published.count == 30_000
    assert metric.key(fake, 30_000) == "fid" and metric.key(fake, 10_000) == "fid_10k"
    monkeypatch.setattr(FID, "net", lambda self, data: fake)
    samples = torch.from_numpy(noise(12, 3, 32, 32))
    run = made_by(None, samples)
    facts = metric.describe(run, Images(samples))
    assert facts["protocol"] == name and facts["key"] == "fid_12"
    assert (
        facts["published"]["resizer"] == resize and "centred square" in facts["published"]["crop"]
    )
    assert facts["reference"]["n"] == 12 and facts["published"]["count"] == 30_000
    assert "crop" not in vars(PROTOCOLS["edm"])  # older protocols tell what they told
    with pytest.raises(UsageError, match="coco30k_clean"):
        FID(protocol="coco30k")
    assert metric(Run(samples), Images(samples)).keys() == {"fid_12"}


# the published table


def row(name: str) -> torch.Tensor:
    """The levels of a cell of the table, whatever its sampler."""
    cells = {cell["name"]: cell for cell in expanded(spec_of("ge/coco").cells)}
    line = cells[name]["command"].format(model="", prompts="", reference="", common="")
    laid = ("sampler.schedule", "sampler.steps")
    return levels(tuple(word for word in line.split() if word.startswith(laid)))


@cache
def levels(options: tuple[str, ...]) -> torch.Tensor:
    line = prepare("sample", ["sampler=euler", *options])
    return grid_of(composed("sample", *line).sampler)[1]


def test_every_published_number_and_the_grid_it_stands_on():
    """Permenter and Yuan's table; each row from its own first level, down its own grid."""
    published = {
        cell["name"]: cell["published"]["fid"]
        for cell in expanded(spec_of("ge/coco").cells)
        if "published" in cell
    }
    assert list(published.values()) == [13.77, 14.06, 15.43, 15.59, 19.43]
    first = {name.split(",")[0].split()[0]: float(row(name)[0]) for name in published}
    expected = {"GE": 8.35, "DDIM": 8.39068, "DPM++": 14.6146, "UniPC": 14.6146, "PNDM": 8.39068}
    for name, level in expected.items():
        assert first[name] == pytest.approx(level, rel=6e-3 if name == "GE" else 1e-4), name
    leading = row("DDIM, leading from 8.39")
    assert leading[:1].tolist() == pytest.approx([8.39068], rel=1e-4)
    assert float(leading[-1]) == pytest.approx(0.0291672, rel=1e-4) and len(leading) == 11
    fair = [
        row(cell["name"]) for cell in expanded(spec_of("ge/coco").cells) if "all on" in cell["name"]
    ]
    assert [len(sigmas) - 1 for sigmas in fair] == [10, 10, 10, 10, 9, 10, 10, 10]
    assert all(torch.equal(sigmas, fair[0]) for sigmas in fair[:4])
    assert all(torch.equal(sigmas, fair[5]) for sigmas in fair[5:])


def test_the_commands_of_the_table(tmp_path):
    """Without a model every path stands for itself; with one, what was not brought is left out."""
    spec = spec_of("ge/coco")
    empty = cells_of(spec, "paper", tmp_path)
    assert all(cell.empty for cell in empty) and len(empty) == 13
    assert "prompts=PATH" in empty[0].command and "metrics.fid.reference=PATH" in empty[0].command
    brought = {"folder": "sd", "prompts": "p.txt"}
    (ge, *others) = cells_of(spec, "paper", tmp_path, brought)
    assert not ge.empty and "model.folder=sd prompts=p.txt guidance=7.5 sampler=" in ge.command
    assert "metrics.fid" not in ge.command and "precision=float32" in ge.command


@pytest.mark.slow
def test_the_table_on_a_small_folder(tmp_path, monkeypatch):
    """Every command of the table runs, with as many evaluations as its row says."""
    from latent_folders import make

    pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "sd")
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    brought = {"folder": str(tmp_path / "sd"), "prompts": str(tmp_path / "p.txt")}
    for cell in cells_of(spec_of("ge/coco"), "quick", tmp_path, brought):
        execute(cell.command, cell.folder)
        evaluations = 22 if cell.name.startswith("PNDM") else 20
        assert cell.metrics() == {"sampling/nfe": evaluations}, cell.name
