"""Image sets that are missing, damaged or refused: one line each that says what is wrong and what
to write instead."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image
from test_prepare import RNG, idx_files, photographs, ready, surroundings  # noqa: F401

from diffgeo.commands.data import prepare as data_prepare
from diffgeo.data import Images, image_set, prepared, read_images, sources
from diffgeo.data.prepared import Blocks
from diffgeo.errors import DiffgeoError, UsageError


def test_no_files_and_no_network(tmp_path):
    for name, put in (
        ("mnist", "put the four files train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "zalandoresearch"),
        ("cifar10", "put the folder cifar-10-batches-py"),
        ("celeba", "put img_align_celeba.zip"),
    ):
        with pytest.raises(UsageError) as refused:
            image_set(name, root=str(tmp_path))
        line = str(refused.value)
        assert (
            put in line
            and f"diffgeo data prepare {name} data.root={tmp_path}" in line
            and "data=digits needs no files" in line
        )


def test_a_failing_download_is_no_traceback(tmp_path, monkeypatch):
    """torchvision's own failure, an unreachable mirror."""
    monkeypatch.undo()
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    sources.fetch("MNIST", tmp_path / "raw")
    assert not list((tmp_path / "raw").rglob("*ubyte*"))


def damage(path, offset=200) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_one_changed_bit_is_found(tmp_path):
    folder = ready(tmp_path)
    image_set("mnist", root=str(tmp_path))  # remembered as right
    damage(folder / "train_images.npy", 5000)
    with pytest.raises(DiffgeoError, match="train_images.npy is corrupt: its sha256"):
        image_set("mnist", root=str(tmp_path))
    # the other split is as it was
    assert image_set("mnist", root=str(tmp_path), split="test").split == "test"


def test_what_is_hashed_once_is_hashed_again_only_when_it_changes(tmp_path, monkeypatch):
    ready(tmp_path)
    image_set("mnist", root=str(tmp_path))
    monkeypatch.setattr(prepared, "digest", lambda array: pytest.fail("hashed again"))
    image_set("mnist", root=str(tmp_path))
    monkeypatch.undo()
    (tmp_path / "cache" / "hashes.json").write_text("not json")  # a spoilt cache is no cache
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    image_set("mnist", root=str(tmp_path))
    assert len(json.loads((tmp_path / "cache" / "hashes.json").read_text())) == 2


def test_files_that_do_not_fit(tmp_path):
    folder = ready(tmp_path)
    keep = {
        name: (folder / name).read_bytes()
        for name in ("train_images.npy", "train_labels.npy", "manifest.json")
    }

    def refused(message):
        with pytest.raises(DiffgeoError, match=message) as found:
            image_set("mnist", root=str(tmp_path))
        assert "\n" not in str(found.value)
        for name, content in keep.items():
            (folder / name).write_bytes(content)

    (folder / "train_images.npy").write_bytes(keep["train_images.npy"][:-100])
    refused("train_images.npy cannot be read: it is shorter than its header says")
    (folder / "train_images.npy").write_bytes(b"")
    refused("train_images.npy cannot be read")
    (folder / "train_labels.npy").unlink()
    refused("train_labels.npy is missing: prepare the set again with `diffgeo data prepare mnist")
    np.save(folder / "train_labels.npy", np.zeros(29, np.uint8))
    refused(r"train_labels.npy holds uint8 \[29\], its manifest says uint8 \[30\]")
    (folder / "manifest.json").write_text('{"arrays": {')
    refused("manifest.json")
    (folder / "manifest.json").write_text("{}")
    refused("is not a manifest of images")
    np.save(folder / "train_labels.npy", np.zeros(29, np.uint8))
    (folder / "manifest.json").unlink()
    refused(r"train_labels.npy holds \[29\] entries for 30 images; they must be as many")
    np.save(folder / "train_images.npy", np.zeros((30, 28, 28), np.float32))
    (folder / "manifest.json").unlink()
    refused("train_images.npy holds float32")
    assert len(image_set("mnist", root=str(tmp_path))) == 30  # and is itself again


def test_labels_above_the_classes(tmp_path):
    folder = ready(tmp_path)
    np.save(folder / "train_labels.npy", np.full(30, 10, np.uint8))
    (folder / "manifest.json").unlink()
    with pytest.raises(
        UsageError, match="must be 30 numbers in 0..9, one an image, not 30 in 10..10"
    ):
        image_set("mnist", root=str(tmp_path))


def test_an_unpacked_set_gets_its_manifest(real, tmp_path, capsys):
    """As ../shared/tools/unpack_data leaves it: arrays, no manifest; also in a folder that cannot
    be written."""
    for file in (real / "mnist").glob("*.npy"):
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / file.name).symlink_to(file)
    law = image_set("mnist", root=str(tmp_path), split="test")
    assert "mnist was unpacked" in capsys.readouterr().out and len(law) == 10_000
    assert (
        law.manifest["arrays"]["test_labels"]["shape"] == [10_000]
        and law.manifest["licence"] == "CC BY-SA 3.0"
    )


def test_a_broken_preparation_leaves_nothing_that_looks_whole(tmp_path):
    def stops():
        yield np.zeros((4, 8, 8), np.uint8)
        raise DiffgeoError("the source ended")

    arrays = {
        "train_images": Blocks((9, 8, 8), stops()),
        "train_labels": Blocks((9,), [np.zeros(9, np.uint8)]),
    }
    with pytest.raises(DiffgeoError, match="the source ended"):
        prepared.write(tmp_path / "set", arrays, name="set")
    assert list((tmp_path / "set").iterdir()) == []
    with pytest.raises(DiffgeoError, match="4 of 9 entries could be made"):
        prepared.write(
            tmp_path / "set",
            {"train_images": Blocks((9, 8, 8), [np.zeros((4, 8, 8), np.uint8)])},
            name="set",
        )
    assert not prepared.unpacked(tmp_path / "set")


def test_corrupt_idx_files(tmp_path):
    idx_files(tmp_path / "mnist" / "raw", packed=True)
    file = tmp_path / "mnist" / "raw" / "train-images-idx3-ubyte.gz"
    content = file.read_bytes()
    for spoilt in (
        content[:-500],
        content[:40] + bytes([content[40] ^ 255]) + content[41:],
        gzip.compress(b"\0\0\x0d\1" + bytes(20)),
    ):
        file.write_bytes(spoilt)
        with pytest.raises(DiffgeoError, match="train-images-idx3-ubyte.gz is corrupt"):
            image_set("mnist", root=str(tmp_path))


def test_a_damaged_middle_of_a_packed_file(tmp_path):
    """zlib raises an error of its own where a header is right and the stream is not."""
    idx_files(tmp_path / "mnist" / "raw", packed=True)
    file = tmp_path / "mnist" / "raw" / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[40:60] = bytes(255 for _ in range(20))
    content[10:14] = b"\xff" * 4  # an invalid block type
    file.write_bytes(content)
    with pytest.raises(DiffgeoError, match="train-images-idx3-ubyte.gz is corrupt"):
        image_set("mnist", root=str(tmp_path))


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    """65535 is white, p becomes p/257 rounded; a file of floating-point pixels is refused."""
    values = np.array([[0, 128, 129, 257], [1000, 25_700, 32_768, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_images(tmp_path, "samples")[0], np.floor(values / 257 + 0.5))
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        DiffgeoError, match="a.tif cannot be read as an image: its pixels are floating-point"
    ):
        read_images(tmp_path, "samples")


def test_refused_sides_and_crops(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    options = {"root": str(tmp_path), "path": str(tmp_path)}
    with pytest.raises(
        UsageError,
        match=r"data.crop=24 is larger than .*a.png, 20 x 30: write data.crop=20 or less",
    ):
        image_set("folder", size=8, crop=24, **options)
    with pytest.raises(UsageError, match="data.crop=ddim: write a whole number of pixels"):
        image_set("folder", size=8, crop="ddim", **options)
    for line in (
        ["folder", f"data.path={tmp_path}", "data.size=-3"],
        ["folder", f"data.path={tmp_path}", "data.size=0"],
        ["celeba", "data.size=0"],
        ["folder", f"data.path={tmp_path}", "data.crop=0"],
    ):
        with pytest.raises(
            UsageError, match=r"data\.(size|crop)=-?\d: write a whole number of pixels from 1"
        ):
            data_prepare.main(line)


def test_labels_that_are_objects_and_labels_without_classes(tmp_path):
    images = RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([{}, 1, 2], dtype=object))
    with pytest.raises(
        UsageError, match="a.npz cannot be read as an array: it holds Python objects"
    ):
        image_set("npz", file=str(tmp_path / "a.npz"))
    import torch

    with pytest.raises(UsageError, match="has labels and classes=0: give the number of classes"):
        Images(torch.from_numpy(images)[:, None], torch.zeros(3, dtype=torch.long))


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8))
    assert len(image_set("npz", file="~/x.npy")) == 3


@pytest.mark.parametrize("key", ["name", "classes"])
def test_a_manifest_that_lacks_something(tmp_path, key):
    path = ready(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
    with pytest.raises(DiffgeoError, match="is not a manifest of images"):
        image_set("mnist", root=str(tmp_path))
    manifest["arrays"]["train_labels"].pop("dtype")
    path.write_text(json.dumps(manifest))
    with pytest.raises(DiffgeoError, match="is not a manifest of images"):
        image_set("mnist", root=str(tmp_path))


def test_the_advice_for_a_missing_file_mends_it(tmp_path, capsys):
    """The command names the set as `data prepare` knows it, with its options, and mends; without a
    source it says what to get."""
    photographs(tmp_path / "celeba" / "img_align_celeba", ["000001.jpg"])
    law = image_set("celeba", root=str(tmp_path), size=16)
    (tmp_path / "celeba_16" / "train_images.npy").unlink()
    with pytest.raises(
        DiffgeoError, match="is missing: prepare the set again with `diffgeo data prepare celeba "
    ) as found:
        image_set("celeba", root=str(tmp_path), size=16)
    command = str(found.value).split("`")[1].split()
    assert command[:4] == ["diffgeo", "data", "prepare", "celeba"] and "data.size=16" in command
    data_prepare.main(command[3:])
    assert image_set("celeba", root=str(tmp_path), size=16).key == law.key
    damage(ready(tmp_path) / "train_images.npy", 5000)
    with pytest.raises(
        DiffgeoError, match="sha256 .*, and it cannot be made again: .*put the four files"
    ) as found:
        data_prepare.main(["mnist", f"data.root={tmp_path}"])
    assert "prepare the set again" not in str(found.value) and "there is no" not in str(found.value)
