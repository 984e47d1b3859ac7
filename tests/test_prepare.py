"""From files to the prepared layout and back: IDX files, torchvision's CIFAR-10, CelebA, folders,
arrays; and damage of every kind."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from diffgeo.data import image_set, prepared, sources
from diffgeo.data.photographs import partition
from diffgeo.data.prepared import Blocks, data_root
from diffgeo.errors import DiffgeoError, UsageError

RNG = np.random.default_rng(0)
IDX = {
    "train-images-idx3": (12, 28, 28),
    "train-labels-idx1": (12,),
    "t10k-images-idx3": (5, 28, 28),
    "t10k-labels-idx1": (5,),
}


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """Its own cache of hashes, and no network."""
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "fetch", lambda dataset, folder: None)


def idx_files(folder, packed: bool) -> dict[str, np.ndarray]:
    """The four files of a small MNIST, in the format of yann.lecun.com/exdb/mnist; returns the
    arrays."""
    folder.mkdir(parents=True)
    arrays = {}
    for name, shape in IDX.items():
        arrays[name] = RNG.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        content = (
            struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + arrays[name].tobytes()
        )
        file = folder / f"{name}-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def ready(root, name="mnist"):
    """A small prepared set under root; returns its folder."""
    arrays = {
        f"{split}_{part}": RNG.integers(0, 10, shape, dtype=np.uint8)
        for split, n in (("train", 30), ("test", 6))
        for part, shape in (("images", (n, 28, 28)), ("labels", (n,)))
    }
    halves = {k: Blocks(v.shape, [v[:4], v[4:]]) for k, v in arrays.items()}
    prepared.write(root / name, halves, name=name, classes=10, licence="", source="")
    return root / name


def test_the_root(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("DIFFGEO_DATA", raising=False)
    assert data_root() == tmp_path / "xdg" / "diffgeo" / "data"
    monkeypatch.setenv("DIFFGEO_DATA", str(tmp_path / "mine"))
    assert data_root() == tmp_path / "mine" and data_root("here").name == "here"


@pytest.mark.parametrize(
    "place, packed",
    [("mnist/raw", True), ("mnist", False), ("MNIST/raw", True), ("mnist/raw/MNIST/raw", False)],
)
def test_idx_files_are_found_and_prepared_once(tmp_path, place, packed, capsys):
    arrays = idx_files(tmp_path / place, packed)
    mnist = image_set("mnist", root=str(tmp_path))
    assert "data: preparing mnist" in capsys.readouterr().out
    assert np.array_equal(mnist.images[:, 0], arrays["train-images-idx3"]) and np.array_equal(
        mnist.labels, arrays["train-labels-idx1"]
    )
    assert np.array_equal(mnist.other().images[:, 0], arrays["t10k-images-idx3"])
    assert np.array_equal(mnist.other().labels, arrays["t10k-labels-idx1"])
    for file in (tmp_path / place).glob("*-ubyte*"):
        file.unlink()
    again = image_set("mnist", root=str(tmp_path))
    assert (
        again.key == mnist.key and capsys.readouterr().out == "" and not list(tmp_path.rglob(".*"))
    )
    assert (
        again.manifest == json.loads((tmp_path / "mnist" / "manifest.json").read_text())
        and again.root == tmp_path
    )


def test_torchvision_reads_the_same_idx_files(tmp_path):
    """A second implementation on the same files."""
    from torchvision.datasets import MNIST

    idx_files(tmp_path / "MNIST" / "raw", packed=False)
    mnist = image_set("mnist", root=str(tmp_path))
    for law, train in ((mnist, True), (mnist.other(), False)):
        theirs = MNIST(str(tmp_path), train=train)
        assert torch.equal(law.images[:, 0], theirs.data) and torch.equal(
            law.labels, theirs.targets
        )


def test_cifar10_of_torchvision(tmp_path, monkeypatch):
    """Files in the published layout; torchvision refuses them until it knows their md5."""
    import hashlib
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar10" / "raw" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    lists = {"train_list": [], "test_list": []}
    arrays = []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = RNG.integers(0, 10, 4).tolist()
        arrays.append((pixels, labels))
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
        lists["test_list" if name == "test_batch" else "train_list"].append(
            [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]
        )
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(DiffgeoError, match="not complete, or a file in it is corrupt"):
        image_set("cifar10", root=str(tmp_path))
    meta = {
        "filename": "batches.meta",
        "key": "label_names",
        "md5": hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest(),
    }
    for name, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(CIFAR10, name, value)
    cifar = image_set("cifar10", root=str(tmp_path))
    # each row: red, green, blue, row by row
    pixels = np.concatenate([a for a, _ in arrays[:5]]).reshape(20, 3, 32, 32)
    assert np.array_equal(cifar.images, pixels) and cifar.labels.tolist() == sum(
        (labels for _, labels in arrays[:5]), []
    )
    assert np.array_equal(cifar.other().images, arrays[5][0].reshape(4, 3, 32, 32))


def photographs(folder, names) -> None:
    """Photographs of CelebA's size with structure at every scale."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:218, :178]
    for i, name in enumerate(names):
        waves = np.stack(
            [
                127 + 120 * np.sin(x * (0.02 + 0.05 * c) * (i + 1) + y * 0.3 / (c + 1))
                for c in range(3)
            ],
            2,
        )
        Image.fromarray(waves.astype(np.uint8)).save(folder / name, quality=95)


@pytest.mark.parametrize("size", [64, 32])
def test_celeba_is_cut_as_ddim_cuts_it(tmp_path, size):
    """datasets/__init__.py of the DDIM and PNDM codes, by torchvision: crop rows 121 -+ 64, columns
    89 -+ 64, then Resize(size)."""
    import torchvision.transforms.functional as F

    folder = tmp_path / "celeba" / "img_align_celeba"
    names = [f"{i:06}.jpg" for i in range(1, 8)]
    photographs(folder, names)
    part = [0, 0, 1, 2, 0, 2, 1]
    (folder.parent / "list_eval_partition.txt").write_text(
        "".join(f"{name} {p}\n" for name, p in zip(names, part, strict=True))
    )
    celeba = image_set("celeba", root=str(tmp_path), size=size, flip=True)
    for law, split in ((celeba, 0), (celeba.other(), 2)):
        chosen = [name for name, p in zip(names, part, strict=True) if p == split]
        theirs = [
            np.asarray(
                F.resize(F.crop(Image.open(folder / name), 121 - 64, 89 - 64, 128, 128), size)
            )
            for name in chosen
        ]
        assert (
            np.array_equal(law.images.permute(0, 2, 3, 1), np.stack(theirs))
            and law.labels is None
            and law.classes == 0
        )
    assert (tmp_path / f"celeba_{size}").is_dir() and celeba.manifest["crop"] == "ddim"
    song = image_set("celeba", root=str(tmp_path), size=size, crop=140)
    theirs = F.resize(F.center_crop(Image.open(folder / names[0]), 140), size)
    assert np.array_equal(song.images[0].permute(1, 2, 0), theirs) and song.key != celeba.key


def test_celeba_without_its_list_is_split_by_number(tmp_path):
    numbers = (1, 162_770, 162_771, 182_637, 182_638, 202_599)
    names = [f"{i:06}.jpg" for i in numbers]
    photographs(tmp_path / "jpgs", names)
    celeba = image_set("celeba", root=str(tmp_path), size=8, path=str(tmp_path / "jpgs"))
    assert (len(celeba), len(celeba.other())) == (2, 2)
    assert partition(sorted((tmp_path / "jpgs").iterdir())) == dict(
        zip(names, (0, 0, 1, 1, 2, 2), strict=True)
    )


def test_celeba_refuses_what_is_not_celeba(tmp_path):
    folder = tmp_path / "celeba" / "img_align_celeba"
    photographs(folder, ["000001.jpg", "000002.jpg"])
    (folder.parent / "list_eval_partition.txt").write_text("000001.jpg 0\n000003.jpg 0\n")
    with pytest.raises(DiffgeoError, match="000002.jpg is in one of them only"):
        image_set("celeba", root=str(tmp_path))
    (folder.parent / "list_eval_partition.txt").unlink()
    (folder / "000002.jpg").write_bytes((folder / "000002.jpg").read_bytes()[:2000])
    with pytest.raises(DiffgeoError, match="000002.jpg cannot be read as an image"):
        image_set("celeba", root=str(tmp_path))
    assert not list((tmp_path / "celeba_64").glob("*"))  # nothing half made stays behind
    Image.new("RGB", (64, 64)).save(folder / "000001.jpg")
    with pytest.raises(UsageError, match="is 64 x 64, the aligned photographs are 218 x 178"):
        image_set("celeba", root=str(tmp_path))
    with pytest.raises(UsageError, match="data.crop=ddmi: write ddim, or the side"):
        image_set("celeba", root=str(tmp_path), crop="ddmi")


def test_a_folder_is_prepared_when_its_listing_changes(tmp_path, capsys):
    top = tmp_path / "mine"
    for name in ("cat", "dog"):
        (top / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(RNG.integers(0, 256, (20, 30 + i, 3), dtype=np.uint8)).save(
                top / name / f"{i}.png"
            )
    with pytest.raises(
        UsageError, match="images of several sizes, or none square: write data.size=64"
    ):
        image_set("folder", root=str(tmp_path), path=str(top))
    law = image_set("folder", root=str(tmp_path), path=str(top), size=16)
    assert (
        law.shape == (3, 16, 16)
        and law.labels.tolist() == [0, 0, 0, 1, 1, 1]
        and law.classes == 2
        and law.other() is None
    )
    # 31 wide, 20 high: the square starts at column 5
    photograph = Image.open(top / "dog" / "1.png")
    assert np.array_equal(
        law.images[4].permute(1, 2, 0),
        photograph.crop((5, 0, 25, 20)).resize((16, 16), Image.Resampling.BILINEAR),
    )
    capsys.readouterr()
    assert (
        image_set("folder", root=str(tmp_path), path=str(top), size=16).key == law.key
        and not capsys.readouterr().out
    )
    Image.new("RGB", (20, 20)).save(top / "cat" / "new.png")
    assert (
        len(image_set("folder", root=str(tmp_path), path=str(top), size=16)) == 7
        and "preparing" in capsys.readouterr().out
    )


def test_a_folder_with_two_splits_of_grey_images(tmp_path):
    for split, n in (("train", 3), ("test", 2)):
        (tmp_path / "mine" / split).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((6, 6), 10 * i, np.uint8)).save(
                tmp_path / "mine" / split / f"{i}.png"
            )
    law = image_set("folder", root=str(tmp_path), path=str(tmp_path / "mine"))
    assert (
        law.images[:, 0, 0, 0].tolist() == [0, 10, 20]
        and law.shape == (1, 6, 6)
        and law.labels is None
    )
    assert (
        law.other().images[:, 0, 0, 0].tolist() == [0, 10]
        and law.split == "train"
        and law.other().split == "test"
    )


def test_array_files(tmp_path):
    images = RNG.integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    labels = RNG.integers(0, 3, 9)
    np.savez(tmp_path / "a.npz", arr_0=images, arr_1=labels)  # as ADM's datasets are
    law = image_set("npz", file=str(tmp_path / "a.npz"))
    assert np.array_equal(law.images.permute(0, 2, 3, 1), images)
    assert law.labels.tolist() == labels.tolist() and law.classes == labels.max() + 1
    np.savez(tmp_path / "b.npz", images=images, labels=labels[:8])
    with pytest.raises(UsageError, match=r"the labels are int64 \[8\] for 9 images"):
        image_set("npz", file=str(tmp_path / "b.npz"))
    np.save(tmp_path / "c.npy", images)
    assert image_set("npz", file=str(tmp_path / "c.npy"), size=2).shape == (3, 2, 2)
    with pytest.raises(UsageError, match="data.split=test: data=npz has no such split"):
        image_set("npz", file=str(tmp_path / "c.npy"), split="test")
