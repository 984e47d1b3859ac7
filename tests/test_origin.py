"""What a prepared set was made from: another picture makes another set, whatever its length and
time; the same pictures are not prepared again, and not read again either."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from configs import composed
from PIL import Image
from test_prepare import idx_files, photographs, surroundings  # noqa: F401

from diffgeo.commands.evaluate import behind
from diffgeo.config.build import assemble
from diffgeo.data import image_set, origin, prepared
from diffgeo.errors import DiffgeoError


def pictures(folder, values) -> None:
    folder.mkdir()
    for number, value in enumerate(values):
        Image.new("L", (4, 4), value).save(folder / f"{number}.bmp")


def replaced(path, content: bytes) -> None:
    """As rsync -t and unzip do it: other bytes, the same length and time."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def law(tmp_path, **options):
    return image_set("folder", root=str(tmp_path / "data"), path=str(tmp_path / "in"), **options)


def made(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data").iterdir())


def test_an_image_replaced_by_one_of_equal_length_and_time(tmp_path):
    pictures(tmp_path / "in", [10, 20, 30])
    first = law(tmp_path)
    assert first.images[:, 0, 0, 0].tolist() == [10, 20, 30]
    other = bytes(200 if byte == 20 else byte for byte in (tmp_path / "in/1.bmp").read_bytes())
    replaced(tmp_path / "in/1.bmp", other)
    assert law(tmp_path).images[1].unique().tolist() == [200]
    assert len(made(tmp_path)) == 2


def test_two_images_that_change_places(tmp_path):
    pictures(tmp_path / "in", [10, 20])
    assert law(tmp_path).images[:, 0, 0, 0].tolist() == [10, 20]
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (tmp_path / "in" / f"{old}.bmp").rename(tmp_path / "in" / f"{new}.bmp")
    assert law(tmp_path).images[:, 0, 0, 0].tolist() == [20, 10]


def test_the_same_pictures_are_prepared_once_and_read_once(tmp_path, monkeypatch):
    """Touched, unpacked again, or moved: they are hashed again and prove to be the same. Otherwise
    their states are enough."""
    pictures(tmp_path / "in", [10, 20])
    law(tmp_path)
    monkeypatch.setattr(origin, "of_file", lambda path: pytest.fail("read again"))
    law(tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    os.utime(tmp_path / "in/0.bmp")
    monkeypatch.setattr(prepared, "write", lambda *_, **__: pytest.fail("prepared again"))
    law(tmp_path)
    shutil.copytree(tmp_path / "in", tmp_path / "again")
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "again").rename(tmp_path / "in")
    assert law(tmp_path).images[:, 0, 0, 0].tolist() == [10, 20]


def test_idx_files_that_are_replaced(tmp_path, capsys):
    """The set is made again, and said to be; without its files it stays what it is."""
    idx_files(tmp_path / "mnist/raw", packed=False)
    first = image_set("mnist", root=str(tmp_path))
    file = tmp_path / "mnist/raw/train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[16] ^= 255
    replaced(file, bytes(content))
    capsys.readouterr()
    second = image_set("mnist", root=str(tmp_path))
    assert int(second.images[0, 0, 0, 0]) == int(first.images[0, 0, 0, 0]) ^ 255
    assert "data: the files of mnist are others than those in" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "mnist/raw")
    assert image_set("mnist", root=str(tmp_path)).key == second.key
    assert capsys.readouterr().out == ""


def test_photographs_and_their_splits_that_are_replaced(tmp_path):
    folder = tmp_path / "celeba/img_align_celeba"
    photographs(folder, ["000001.jpg", "000002.jpg"])
    options = {"root": str(tmp_path), "size": 16}
    first = image_set("celeba", **options)
    assert image_set("celeba", **options).key == first.key
    for old, new in (("000001", "x"), ("000002", "000001"), ("x", "000002")):
        (folder / f"{old}.jpg").rename(folder / f"{new}.jpg")
    assert np.array_equal(image_set("celeba", **options).images, first.images.flip(0))
    (folder.parent / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
    assert len(image_set("celeba", **options)) == 1


def test_a_hostile_cifar10_runs_nothing(tmp_path):
    """Its batches are pickles: one that is not the published file by its md5 is not opened."""

    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it_ran",)

    folder = tmp_path / "cifar10/raw/cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps({"data": Hostile(), "labels": [0]}))
    with pytest.raises(DiffgeoError, match="is not complete, or a file in it is corrupt"):
        image_set("cifar10", root=str(tmp_path))
    assert not (tmp_path / "it_ran").exists()


# what lies behind the pictures of `evaluate`


@pytest.mark.parametrize(
    "words, background",
    [
        (["metrics=images_quick"], (255, 255, 255)),
        (["metrics=images_quick", "background=black"], (0, 0, 0)),
        (["metrics=images_quick", "background=[1,2,3]"], (1, 2, 3)),
        (["metrics=fid"], None),  # as pytorch-fid and torch-fidelity do
        (["metrics=fid", "background=white"], (255, 255, 255)),
    ],
)
def test_what_lies_behind_pictures_that_are_measured(words, background):
    cfg = composed("evaluate", "data=digits", "samples=x", *words)
    assert behind(cfg.background, assemble(cfg)) == background


def test_pictures_are_read_as_those_of_their_law_and_it_is_told(tmp_path, inside):
    """A set on black, its own files against it: nothing apart. fid.json says what became of
    alpha."""
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 4), dtype=np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image, "RGBA").save(tmp_path / "in" / f"{number:02}.png")
    line = ["evaluate", "samples=in", "data=folder", "data.path=in", "data.root=data"]
    line += ["data.background=black", "metrics=images_quick", "figures=false"]
    for name, more, told in (
        ("same", [], "composited on black"),
        ("other", ["background=drop"], "dropped, as pytorch-fid does"),
    ):
        done = inside(*line, *more, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / name / "fid.json").read_text())["pixels"]["alpha"] == told
        distance = json.loads((tmp_path / name / "metrics.json").read_text())["frechet/pixels"]
        assert (abs(distance) < 1e-6) == (name == "same")
    refused = inside("evaluate", "samples=x.npy", "data=digits", "background=black")
    assert refused.returncode == 2 and "samples= is no folder of pictures" in refused.stderr
