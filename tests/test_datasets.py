"""Every door for data leads to one law: the same pictures as a folder of PNGs, an array, shards, a
saved Hugging Face set and a torch data set; the same points in memory and in a mapped file. Hostile
and broken ones are refused in a line; libraries are imported when used."""

import ast
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

import diffgeo
from diffgeo.analytic import points as exact
from diffgeo.config.line import prepare
from diffgeo.core import generator
from diffgeo.data import Cloud, Images, Mapped, image_set, make, of_dataset
from diffgeo.data.gathered import split_of, two_splits
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import libraries

N = 40  # pictures of digits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module")
def folder(root):
    """N digits as PNGs in folders of their classes, and the law of data=folder."""
    digits = image_set("digits", limit=N)
    for i, (image, label) in enumerate(zip(digits.images[:, 0], digits.labels, strict=True)):
        place = root / "png" / str(int(label))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(place / f"{i:03d}.png")
    return image_set("folder", path=str(root / "png"), root=str(root / "prepared"))


def files(root) -> list[Path]:
    return sorted((root / "png").rglob("*.png"), key=lambda path: str(path).split(os.sep))


def write_tar(path, members) -> Path:
    """A shard of (name, bytes) or of ready headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            entry = name
            if isinstance(name, str):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def npy_bytes(array) -> bytes:
    page = io.BytesIO()
    np.save(page, array)
    return page.getvalue()


def shards(root, kind="png") -> Path:
    """The folder's files as two shards, each a sample of picture and class."""
    top = root / f"shards_{kind}"
    every = files(root)
    for number, part in enumerate((every[: N // 2], every[N // 2 :])):
        members = []
        for path in part:
            content = path.read_bytes()
            if kind == "npy":
                content = npy_bytes(np.asarray(Image.open(path)))
            members += [(f"x/{path.stem}.{kind}", content)]
            members += [(f"x/{path.stem}.cls", path.parent.name.encode() + b"\n")]
            members += [(f"x/{path.stem}.json", b"{}")]
        write_tar(top / f"shard-{number:06d}.tar", members)
    return top


def saved(root) -> Path:
    datasets = pytest.importorskip("datasets")
    every = files(root)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)}
    )
    rows = {
        "image": [str(path) for path in every],
        "label": [int(path.parent.name) for path in every],
    }
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_dict(rows, features=features)
    both = datasets.DatasetDict({"train": table, "validation": table.select(range(5))})
    both.save_to_disk(root / "saved")
    return root / "saved"


def by_torch(root) -> Images:
    """The same files through a torch data set whose items are tensors of ToTensor's kind."""

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            path = files(root)[i]
            pixels = torch.from_numpy(np.array(Image.open(path))).float() / 255
            return pixels[None], int(path.parent.name)

    return of_dataset(Files(), name="folder")


def through(door: str, root: Path) -> Images:
    """The pictures of the folder by another door."""
    options = {"root": str(root / "prepared")}
    if door == "torch":
        return by_torch(root)
    if door == "npy":
        law = image_set("folder", path=str(root / "png"), **options)
        np.save(root / "images.npy", law.store(law.images))
        np.save(root / "labels.npy", law.labels.numpy())
        file, labels = str(root / "images.npy"), str(root / "labels.npy")
        return image_set("npy_images", file=file, labels=labels, **options)
    if door == "huggingface":
        return image_set("huggingface", path=str(saved(root)), **options)
    kind = door.partition(" ")[2]
    return image_set("webdataset", path=str(shards(root, kind)), **options)


DOORS = ["npy", "webdataset png", "webdataset npy", "huggingface", "torch"]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_the_law_of_the_folder(door, root, folder):
    """Bytes, labels, draws, key and exact denoiser, all equal. (A key begins with the set's
    name.)"""
    law = through(door, root)
    assert torch.equal(law.images, folder.images) and law.images.float().std() > 10
    assert torch.equal(law.labels, folder.labels) and law.classes == folder.classes == 10
    assert law.key.split("-")[1:] == folder.key.split("-")[1:]
    mine = law.sample_labelled(7, generator(3))
    for own, theirs in zip(mine, folder.sample_labelled(7, generator(3)), strict=True):
        assert torch.equal(own, theirs)
    x = mine[0] + 0.5 * torch.randn(mine[0].shape, generator=generator(4))
    assert torch.equal(law.denoiser()(x, 0.5), folder.denoiser()(x, 0.5))
    assert not torch.equal(law.denoiser()(x, 0.5), folder.denoiser()(x, 5.0))


def test_prepared_sets_are_made_again_when_a_shard_has_another_content(root, folder, capsys):
    """Same length, same time: another class in one .cls. What is only touched is left."""
    top = shards(root)
    options = {"path": str(top), "root": str(root / "again")}
    first = image_set("webdataset", **options)
    capsys.readouterr()
    shard = top / "shard-000000.tar"
    content = shard.read_bytes()
    os.utime(shard)
    assert image_set("webdataset", **options).file == first.file
    assert capsys.readouterr().out == ""
    at = content.index(b"0\n" + bytes(510))  # a .cls of class 0
    shard.write_bytes(content[:at] + b"9" + content[at + 1 :])
    other = image_set("webdataset", **options)
    assert other.file != first.file and "preparing" in capsys.readouterr().out
    assert int((other.labels != first.labels).sum()) == 1
    smaller = image_set("webdataset", size=4, **options)
    assert smaller.shape == (1, 4, 4) and smaller.file != other.file


def test_splits_are_told_by_words():
    assert split_of("train/shard-0.tar") == "train" and split_of("shard-0.tar") == "train"
    assert split_of("imagenet-val-000.tar") == "validation" and split_of("a/test/0.tar") == "test"
    assert split_of("latest-000.tar") == "train" and split_of("values-000.tar") == "train"
    assert two_splits({"train": 1, "validation": 2, "test": 3}) == {"train": 1, "test": 3}
    assert two_splits({"train": 1, "validation": 2}) == {"train": 1, "test": 2}


def test_the_validation_split_stands_for_the_test_split(root, folder):
    law = image_set("huggingface", path=str(saved(root)), root=str(root / "prepared"))
    assert len(law.other()) == 5 and torch.equal(law.other().images, folder.images[:5])


# shards of somebody's


def header(name, **facts) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(entry, key, value)
    return entry


PNG = b"\x89PNG"
HOSTILE = {
    "link": ([(header("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")], "is a link"),
    "hard link": ([(header("a.png", type=tarfile.LNKTYPE, linkname="b"), b"")], "is a link"),
    "device": ([(header("a.png", type=tarfile.CHRTYPE), b"")], "is a link, a device"),
    "pipe": ([(header("a.png", type=tarfile.FIFOTYPE), b"")], "is a link, a device"),
    "up": ([("../../a.png", PNG)], "leads out of its folder"),
    "absolute": ([("/a.png", PNG)], "is no plain name"),
    "escape": ([("a\x1b[2J.png", PNG)], "is no plain name"),
    "two pictures": ([("a.png", PNG), ("a.jpg", PNG)], "two pictures of the sample a"),
    "class": ([("a.png", PNG), ("a.cls", b"-1")], "a.cls holds no class"),
    "long class": ([("a.png", PNG), ("a.cls", b"1" * 5000)], "a.cls holds no class"),
    "no picture": ([("a.png", PNG)], "a.tar: a.png cannot be read as an image"),
    "pickle": ([("a.npy", npy_bytes(np.array([{}], object)))], "it holds Python objects"),
    "floats": ([("a.npy", npy_bytes(np.zeros((4, 4))))], "it holds float64"),
    "short": ([("a.npy", npy_bytes(np.zeros((4, 4), "u1"))[:-1])], "more or fewer bytes"),
    "long": ([("a.npy", npy_bytes(np.zeros((9, 9), "u1"))[:128])], "more or fewer bytes"),
    "some classes": (
        [("a.npy", npy_bytes(np.ones((4, 4), "u1")))] * 1
        + [("b.npy", npy_bytes(np.ones((4, 4), "u1"))), ("b.cls", b"1")],
        "a.npy has no .cls",
    ),
    "nothing": ([("a.txt", b"")], "no shard holds pictures to train on"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_broken_shards_are_refused(case, tmp_path):
    members, message = HOSTILE[case]
    write_tar(tmp_path / "w" / "a.tar", members)
    with pytest.raises(DiffgeoError, match=message) as told:
        image_set("webdataset", path=str(tmp_path / "w"), root=str(tmp_path / "p"))
    assert "\x1b" not in str(told.value) and len(str(told.value)) < 400
    assert not list(tmp_path.rglob("train_images.npy"))


def test_a_shard_that_claims_more_than_it_holds_is_refused(tmp_path):
    """A header of 8 GB in a file of one block: nothing of that size is read or made."""
    (tmp_path / "w").mkdir()
    claim = header("a.png", size=8 << 30).tobuf()
    (tmp_path / "w" / "a.tar").write_bytes(claim + bytes(1024))
    with pytest.raises(DiffgeoError, match="a.tar is no shard of pictures"):
        image_set("webdataset", path=str(tmp_path / "w"), root=str(tmp_path / "p"))
    (tmp_path / "w" / "b.tar.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="b.tar.gz is compressed: write .tar"):
        image_set("webdataset", path=str(tmp_path / "w"), root=str(tmp_path / "p"))


# saved sets of somebody's


def test_a_cell_that_names_a_file_is_not_followed(tmp_path):
    """A saved set whose pictures are paths: Hugging Face's own decoding would open them."""
    datasets = pytest.importorskip("datasets")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "secret.png")
    rows = {"image": [{"path": str(tmp_path / "secret.png"), "bytes": None}]}
    kind = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    plain = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": kind}))
    plain.save_to_disk(tmp_path / "saved")  # what it says of its features is changed afterwards
    facts = tmp_path / "saved" / "dataset_info.json"
    said = json.loads(facts.read_text())
    said["features"] = {"image": {"_type": "Image"}}
    facts.write_text(json.dumps(said))
    with pytest.raises(DiffgeoError, match="row 0 cannot be read as an image: its cell holds no"):
        image_set("huggingface", path=str(tmp_path / "saved"), root=str(tmp_path / "p"))


def test_columns_are_chosen_or_asked_for(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    grid = datasets.Array2D((4, 4), "uint8")
    kinds = {
        "a": grid,
        "b": grid,
        "label": datasets.Value("int64"),
        "text": datasets.Value("string"),
    }
    one = np.arange(16, dtype=np.uint8).reshape(4, 4)
    rows = {"a": [one, one], "b": [one + 1, one + 2], "label": [3, 0], "text": ["x", "y"]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    table.save_to_disk(tmp_path / "s")

    def law(**options):
        return image_set(
            "huggingface", path=str(tmp_path / "s"), root=str(tmp_path / "p"), **options
        )

    with pytest.raises(
        UsageError, match=r"several columns of pictures: write data.column= one of a"
    ):
        law()
    chosen = law(column="b")
    assert chosen.images[1, 0].tolist() == (one + 2).tolist() and chosen.labels.tolist() == [3, 0]
    with pytest.raises(UsageError, match="data.column=c: the columns are a, b, label, text"):
        law(column="c")
    with pytest.raises(UsageError, match="the column text holds no whole numbers"):
        law(column="a", label="text")
    with pytest.raises(UsageError, match="is no folder of Dataset.save_to_disk"):
        image_set("huggingface", path=str(tmp_path), root=str(tmp_path / "p"))
    (tmp_path / "s" / "state.json").write_text("{")
    with pytest.raises(DiffgeoError, match="cannot be read by datasets"):
        law(column="b")


# mapped points


@pytest.mark.parametrize(
    "d, dtype, far", [(2, "f8", 0), (3, "f4", 4), (20, "f8", 0), (20, "f4", 9)]
)
def test_a_mapped_file_is_the_cloud_in_memory(d, dtype, far, tmp_path):
    """Key, moments, draws and projections to the bit, D, log density, trace and covariance to
    rounding. Few and many coordinates are two ways of computing; a mean far from 0 a third."""
    made = torch.randn(5000, d, generator=generator(d), dtype=torch.float64) + far
    np.save(tmp_path / "a.npy", made.numpy().astype(dtype))
    held = Cloud(points=np.load(tmp_path / "a.npy"))
    law = Mapped(str(tmp_path / "a.npy"))
    assert law.key == held.key and law.std == pytest.approx(held.std, rel=1e-12)
    assert torch.allclose(law.mean, held.mean, rtol=1e-12, atol=0)
    x = law.sample(30, generator(1))
    assert torch.equal(x, held.sample(30, generator(1)))
    x = x + 0.7 * torch.randn(x.shape, generator=generator(2), dtype=x.dtype)
    assert torch.equal(law.project(x), held.project(x))
    rounding = 1e-11 if dtype == "f8" else 2e-5
    for sigma in (0.05, 0.7, 20.0):
        assert (law.denoiser()(x, sigma) - held.denoiser()(x, sigma)).abs().max() < rounding
    level = torch.full((30,), 0.7, dtype=torch.float64)
    for ours, theirs in (
        (law.log_density(x, level), held.log_density(x, level)),
        (law.trace(x, level), held.trace(x, level)),
        (law.covariance_product(x, level, x), held.covariance_product(x, level, x)),
    ):
        assert torch.allclose(ours, theirs, rtol=20 * rounding, atol=20 * rounding)
    assert Mapped(str(tmp_path / "a.npy"), limit=10).key == Cloud(points=held.points[:10]).key


def test_nothing_of_a_mapped_files_size_is_made(tmp_path):
    """Blocks are all that is prepared: the largest tensor made while the law is built and asked is
    a fourth of the file at most. Of the cloud in memory it is larger than the file."""
    from torch.autograd.profiler import profile

    n = 80_000
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(n, 2)))

    def largest(make_law) -> int:
        """Bytes that one operation of torch's allocates."""
        with profile(profile_memory=True) as seen:
            law = make_law()
            x = torch.zeros(2, 2, dtype=torch.float64)
            law.denoiser()(x, 0.5)
            law.project(x)
        return max(event.self_cpu_memory_usage for event in seen.function_events)

    file = str(tmp_path / "a.npy")
    assert largest(lambda: Mapped(file)) < 16 * n / 4
    assert largest(lambda: Cloud(points=np.load(file, mmap_mode="c"))) >= 16 * n


def test_what_a_mapped_file_cannot_be(tmp_path):
    def told(array, name="a.npy", **options):
        np.save(tmp_path / name, array)
        with pytest.raises(UsageError) as error:
            Mapped(str(tmp_path / name), **options)
        return str(error.value)

    assert "holds images, uint8 [3, 4, 4]: write data=npy_images" in told(np.zeros((3, 4, 4), "u1"))
    assert "holds int64 [3, 2]" in told(np.zeros((3, 2), int))
    assert "holds >f8 [3, 2]" in told(np.zeros((3, 2), ">f8"))
    assert "holds float64 [3]" in told(np.zeros(3)) and "[0, 2]" in told(np.zeros((0, 2)))
    wrong = np.zeros((70_000, 2))
    wrong[66_000, 1] = np.nan
    assert "point 66000 (from 0) is not finite" in told(wrong)
    assert "data.limit=0" in told(np.zeros((3, 2)), limit=0)
    with pytest.raises(UsageError, match=r"write data.file=FILE.npy"):
        make(Mapped)
    for labels, message in (([0, 1], "for 3 images"), ([0, 1, -1], "whole numbers from 0")):
        np.save(tmp_path / "im.npy", np.zeros((3, 4, 4), "u1"))
        np.save(tmp_path / "l.npy", np.array(labels))
        with pytest.raises(UsageError, match=message):
            file, own = str(tmp_path / "im.npy"), str(tmp_path / "l.npy")
            image_set("npy_images", file=file, labels=own)


def test_npy_of_images_becomes_a_set_of_images(tmp_path):
    """data=npy reads the header, as the line is prepared: images bring their network and metrics
    along."""
    images, points = tmp_path / "im.npy", tmp_path / "pt.npy"
    np.save(images, np.zeros((12, 8, 8), np.uint8))
    np.save(points, np.zeros((12, 2)))
    assert "data=npy_images" in prepare("train", ["data=npy", f"data.file={images}"])
    for other in (points, tmp_path / "none.npy"):
        assert "data=npy" in prepare("train", ["data=npy", f"data.file={other}"])
    assert "data=cloud" in prepare("train", ["data=cloud", f"data.file={images}"])


@pytest.mark.slow
def test_a_set_behind_a_door_is_trained_on(inside, tmp_path, root, folder):
    """The same steps on a mapped array as on the folder give the same losses, to the digit."""
    through("npy", root)
    common = ["net=unet_8", "trainer.steps=2", "trainer.batch=4", "trainer.log_every=1"]
    common += ["n=1", "sampler.steps=1", "metrics=none", "figures=false", "logger=jsonl"]
    sources = {
        "folder": [f"data.path={root / 'png'}", f"data.root={root / 'prepared'}"],
        "npy": [f"data.file={root / 'images.npy'}", f"data.labels={root / 'labels.npy'}"],
    }
    losses = []
    for name, line in sources.items():
        done = inside("train", f"data={name}", *line, *common, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1] and len(losses[0]) == 2 and losses[0][0] > 0
    assert "data=npy_images" in (tmp_path / "npy" / "overrides.yaml").read_text()


# torch data sets


def test_points_of_a_torch_data_set_are_a_cloud():
    points = torch.randn(30, 3, generator=generator(0), dtype=torch.float64)
    law = of_dataset(TensorDataset(points))
    assert isinstance(law, Cloud) and law.key == Cloud(points=points).key
    labelled = of_dataset([{"points": list(map(float, row)), "label": 1} for row in points])
    assert labelled.key == law.key


def test_items_are_read_as_they_come():
    """Tensors have channels first, arrays last; numbers are byte/255 or between `values`."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    law = of_dataset(list(pixels))
    assert law.shape == (3, 4, 5) and torch.equal(
        law.images.permute(0, 2, 3, 1), torch.from_numpy(pixels)
    )
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    same = (
        of_dataset([Image.fromarray(image) for image in pixels]),
        of_dataset(list(torch.from_numpy(pixels).permute(0, 3, 1, 2))),
        of_dataset(TensorDataset(floats)),
        of_dataset(TensorDataset(2 * floats - 1), values=[-1, 1]),
        of_dataset([{"img": image} for image in pixels]),
        of_dataset([("a", image) for image in pixels], item=lambda pair: pair[1]),
    )
    assert all(torch.equal(other.images, law.images) for other in same)
    both = of_dataset(list(pixels), list(pixels[:2]), flip=True)
    assert len(both.other()) == 2 and both.other().split == "test" and both.other().other() is both


def test_random_transforms_are_drawn_once_from_a_seed():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return torch.rand(1, 4, 4)

    before = torch.get_rng_state()
    first, again, other = of_dataset(Noisy()), of_dataset(Noisy()), of_dataset(Noisy(), seed=1)
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert torch.equal(torch.get_rng_state(), before)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield np.ones((4, 4), np.uint8)


@pytest.mark.parametrize(
    "dataset, message",
    [
        (3, r"dataset \(int\) is no data set"),
        ([], "dataset is empty"),
        (Endless(), "does not say how many items it has: write limit="),
        (["a"], "item 0 is a str"),
        ([(np.zeros(3), "cat")], "item 0 has the label 'cat'"),
        ([(np.zeros(3), 0.5)], "item 0 has the label '0.5'"),
        ([np.zeros(3), np.zeros(4)], r"item 1 is float64 \[4\], the first float64 \[3\]"),
        ([(np.zeros(3), 1), np.zeros(3)], "item 1 has no label"),
        ([np.full((4, 4), 2.0)], "from 2 to 2: write bytes, or numbers from 0 to 1"),
        ([np.full((4, 4), np.nan)], "item 0 holds float64 or what is not finite"),
        ([np.zeros((4, 4, 2), "u1")], r"item 0 has the shape \[4, 4, 2\]"),
    ],
)
def test_what_is_no_data_set(dataset, message):
    with pytest.raises(UsageError, match=message):
        of_dataset(dataset)


def test_an_endless_set_ends_at_its_limit():
    assert len(of_dataset(Endless(), limit=7)) == 7


# libraries


LAZY = (
    "torchvision",
    "wandb",
    "torch_fidelity",
    "datasets",
    "tensorboard",
    "diffusers",
    "transformers",
)


def imports_at_top(path: Path) -> set[str]:
    """The libraries that a module imports when it is imported, outside of functions."""
    found = set()
    todo = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def test_no_module_imports_a_library_that_few_commands_use():
    top = Path(diffgeo.__file__).parent
    wrong = {}
    for path in top.rglob("*.py"):
        named = any(library in path.read_text(encoding="utf-8") for library in LAZY)
        if named and (early := imports_at_top(path) & set(LAZY)):
            wrong[str(path.relative_to(top))] = early
    assert wrong == {} and imports_at_top(Path(__file__)) >= {"torch", "diffgeo", "PIL"}


@pytest.mark.parametrize(
    "module, what",
    [
        ("torchvision", "downloading MNIST needs torchvision: pip install 'torchvision'"),
        ("datasets", r"data=huggingface needs datasets: pip install 'diffgeo\[datasets\]'"),
        ("wandb", "logger=wandb needs wandb: pip install 'wandb'"),
        ("torch_fidelity", "torch_fidelity needs torch_fidelity: pip install 'torch-fidelity'"),
    ],
)
def test_a_missing_library_is_named(module, what, monkeypatch, tmp_path):
    from diffgeo.data import huggingface, sources
    from diffgeo.metrics import torch_fidelity
    from diffgeo.store.boards import Wandb

    def absent(name):
        assert name.partition(".")[0] == module
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(libraries.importlib, "import_module", absent)
    uses = {
        "torchvision": lambda: sources.fetch("MNIST", tmp_path),
        "datasets": huggingface.library,
        "wandb": lambda: Wandb(tmp_path, {}, "offline", "p", None, None),
        "torch_fidelity": lambda: torch_fidelity.module("metric_fid"),
    }
    with pytest.raises(UsageError, match=f"^(metrics.fid.implementation=)?{what}$"):
        uses[module]()


def test_a_broken_library_says_what_is_wrong(monkeypatch):
    def broken(name):
        raise ImportError("libfoo.so is missing")

    monkeypatch.setattr(libraries.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"\(it is here, but: libfoo.so is missing\)"):
        libraries.needed("datasets", "data=huggingface", "diffgeo[datasets]")


def test_few_rows_are_read_in_the_dtype_of_the_file():
    """float32 stays float32 in the products of a mapped cloud, as of one in memory."""
    points = torch.randn(100, 20, generator=generator(0))
    assert exact.cloud(points, mapped=True).bias.dtype == torch.float32
