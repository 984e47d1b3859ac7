"""Where image sets come from. A source is opened: what is not in the prepared layout yet is
prepared once, from the files that torchvision downloads (or that lie there already), or from arrays
that somebody unpacked. digits is part of the package; an array file is read as it is.
"""

from __future__ import annotations

import contextlib
import io
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from diffgeo.data import idx, origin, pixels, prepared
from diffgeo.data.prepared import Blocks, Split
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.libraries import needed
from diffgeo.store import lock
from diffgeo.store.caches import at_home
from diffgeo.store.files import FULL, sweep


class Opened(NamedTuple):
    """A set that can be read: its folder (None: not a prepared one), its manifest, and its splits
    by name (None: it has no such split). file: the images' own, where that is all there is."""

    folder: Path | None
    manifest: dict
    split: Callable[[str], Split | None]
    file: Path | None = None


class Source(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def about(self) -> str: ...  # size and number of the images, in words

    def open(self, root: Path, download: bool = True) -> Opened: ...


class Prepared(ABC):
    """A source that is prepared into `folder(root)` from what `arrays(root, download)` makes."""

    name: str
    licence: str
    source: str
    about: str
    classes: int = 0

    @abstractmethod
    def arrays(self, root: Path, download: bool) -> dict[str, Blocks]:
        """The arrays of the set by name, `train_images` among them. Raises UsageError where its
        files are missing."""

    def folder(self, root: Path) -> Path:
        """Where the set lies, prepared."""
        return root / self.name

    def made_of(self, root: Path) -> list[Path]:
        """The files that `arrays` reads and that the folder's name does not tell of; none where
        they are not here."""
        return []

    def origin(self, root: Path) -> str | None:
        """A digest of those files; None where there are none."""
        files = self.made_of(root)
        return origin.digest(files[0].parent, files) if files else None

    def facts(self) -> dict:
        """What its manifest says of it."""
        return {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "classes": self.classes,
        }

    def open(self, root: Path, download: bool = True) -> Opened:
        folder = self.folder(root)
        manifest = prepared.manifest_of(folder)
        if manifest is None and prepared.unpacked(folder):
            manifest = prepared.seal(folder, **self.facts())
            print(f"data: {self.name} was unpacked in {folder}; it has a manifest now", flush=True)
        if manifest is not None and self.is_stale(root, manifest):
            print(f"data: the files of {self.name} are others than those in {folder}", flush=True)
            manifest = None
        if manifest is None:
            manifest = self.prepare(root, download)
        return Opened(folder, manifest, partial(prepared.read, folder, manifest))

    def is_stale(self, root: Path, manifest: dict) -> bool:
        """Whether a prepared set was made from other files than those that are here now."""
        told = manifest.get("made_of")
        return told is not None and self.origin(root) not in (None, told)

    def prepare(self, root: Path, download: bool = True) -> dict:
        """Make the set anew, whatever is there; returns its manifest. Raises UsageError where its
        files are missing."""
        arrays = self.arrays(root, download)
        folder = self.folder(root)
        with contextlib.ExitStack() as stack:
            try:
                waited = stack.enter_context(lock.held(folder, wait=True))
            except DiffgeoError as error:
                raise UsageError(
                    f"data.root={root} cannot be written ({error}): write data.root=FOLDER, a "
                    "folder of yours"
                ) from error
            manifest = prepared.manifest_of(folder) if waited else None
            if manifest is not None and not self.is_stale(root, manifest):
                # another process has just prepared it
                return manifest
            sweep(folder)
            print(f"data: preparing {self.name} in {folder}", flush=True)
            facts = self.facts()
            if (made_of := self.origin(root)) is not None:
                facts["made_of"] = made_of
            return prepared.write(folder, arrays, **facts)

    def missing(self, root: Path, put: str) -> UsageError:
        """The error to raise where the files are not there; put: what to put where."""
        folder = self.folder(root)
        if (folder / "manifest.json").is_file():
            what = "its files are not here"
        else:
            what = f"there is no {folder}"
        return UsageError(
            f"data={self.name}: {what}; put {put}, then write `diffgeo data prepare {self.name} "
            f"data.root={root}`, or data.root=ROOT where the set is; data=digits needs no files"
        )


@dataclass(frozen=True)
class Digits:
    """The 1797 digits of scikit-learn, in the package: 1500 to train, 297 to test."""

    name: str = "digits"
    licence: str = "CC BY 4.0"
    about: str = "8 x 8 grey, 1500 + 297"

    def open(self, root: Path, download: bool = True) -> Opened:
        path = Path(__file__).parent.parent / "assets" / "digits.npz"
        images = pixels.read_bytes(path, "digits")
        labels = pixels.read_bytes(path, "digits", ["labels"])
        splits = {
            "train": Split(images[:1500], labels[:1500]),
            "test": Split(images[1500:], labels[1500:]),
        }
        arrays = {
            "train_images": prepared.entry(images[:1500]),
            "train_labels": prepared.entry(labels[:1500]),
            "test_images": prepared.entry(images[1500:]),
            "test_labels": prepared.entry(labels[1500:]),
        }
        manifest = {
            "name": self.name,
            "source": "https://archive.ics.uci.edu/dataset/80, as scikit-learn has it",
            "licence": self.licence,
            "classes": 10,
            "arrays": arrays,
        }
        return Opened(None, manifest, splits.get)


@dataclass(frozen=True)
class Npz:
    """The arrays `images` (or samples, arr_0) and `labels` (or arr_1), which may be missing, of a
    .npz file; or a .npy file of images."""

    file: str | None = None
    name: str = "npz"
    licence: str = "yours"
    about: str = "data.file=FILE.npz: images, labels"

    def open(self, root: Path, download: bool = True) -> Opened:
        if self.file is None:
            raise UsageError(
                "data=npz: write data.file=PATH.npz with an array images, uint8 [n,H,W] or "
                "[n,H,W,3], and perhaps labels"
            )
        path = at_home(self.file, "data.file")
        images = pixels.read_images(path, "data.file")
        labels = self.labels(path)
        if labels is not None and (
            labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0
        ):
            raise UsageError(
                f"data.file={path}: the labels are {labels.dtype} {list(labels.shape)} for "
                f"{len(images)} images; they must be as many whole numbers from 0"
            )
        manifest = {
            "name": self.name,
            "source": str(path.resolve()),
            "licence": self.licence,
            "classes": 0 if labels is None else int(labels.max()) + 1,
            "arrays": {},
        }
        splits = {"train": Split(images, labels)}
        return Opened(None, manifest, splits.get)

    @staticmethod
    def labels(path: Path) -> np.ndarray | None:
        """The labels that a .npz file holds; None where there are none."""
        if path.suffix != ".npz":
            return None
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in ("labels", "arr_1") if name in archive]
        return pixels.read_bytes(path, "data.file", names[:1], dtype="") if names else None


@dataclass(frozen=True)
class Idx(Prepared):
    """MNIST and the sets in its format: torchvision's class `dataset` downloads four files, which
    are read here, packed or not."""

    name: str
    dataset: str
    licence: str
    source: str
    about: str = "28 x 28 grey, 60 000 + 10 000"
    classes: int = 10

    def arrays(self, root: Path, download: bool) -> dict[str, Blocks]:
        files = self.found(root)
        if files is None and download:
            fetch(self.dataset, root / self.name / "raw")
            files = self.found(root)
        if files is None:
            raise self.missing(
                root,
                f"the four files train-images-idx3-ubyte.gz, ... of {self.source} into "
                f"{root / self.name / 'raw'}",
            )
        arrays = {}
        for name, path in files.items():
            array = idx.read(path)
            arrays[name] = Blocks(array.shape, [array])
        return arrays

    def made_of(self, root: Path) -> list[Path]:
        return list((self.found(root) or {}).values())

    def found(self, root: Path) -> dict[str, Path] | None:
        """The four files by the names of their arrays, packed or not, in the first folder that has
        them all; None when none has."""
        own = root / self.name
        theirs = Path(self.dataset) / "raw"  # torchvision's folder below its own root
        for folder in (own / "raw" / theirs, own / "raw", own, own / theirs, root / theirs):
            files = {}
            for name, file in idx.FILES.items():
                for path in (folder / f"{file}.gz", folder / file):
                    if path.is_file():
                        files[name] = path
            if len(files) == len(idx.FILES):
                return files
        return None


@dataclass(frozen=True)
class Cifar10(Prepared):
    """CIFAR-10 through torchvision, which compares the md5 of every file before it reads one."""

    name: str = "cifar10"
    licence: str = "none stated; published for research"
    source: str = "https://www.cs.toronto.edu/~kriz/cifar.html"
    about: str = "32 x 32 colour, 50 000 + 10 000"
    classes: int = 10

    def arrays(self, root: Path, download: bool) -> dict[str, Blocks]:
        place = self.found(root)
        if place is None and download:
            fetch("CIFAR10", root / self.name / "raw")
            place = self.found(root)
        if place is None:
            raise self.missing(
                root,
                f"the folder cifar-10-batches-py of {self.source} into {root / self.name / 'raw'}",
            )
        library = needed("torchvision.datasets", "data=cifar10", "torchvision")
        arrays = {}
        for split in prepared.SPLITS:
            try:
                held = library.CIFAR10(str(place), train=split == "train")
            except (RuntimeError, OSError) as error:
                raise DiffgeoError(
                    f"{place / 'cifar-10-batches-py'} is not complete, or a file in it is corrupt: "
                    "remove it and prepare the set again"
                ) from error
            labels = np.asarray(held.targets, np.uint8)
            arrays[f"{split}_images"] = Blocks(held.data.shape, [held.data])
            arrays[f"{split}_labels"] = Blocks(labels.shape, [labels])
        return arrays

    def made_of(self, root: Path) -> list[Path]:
        place = self.found(root)
        return [] if place is None else sorted((place / "cifar-10-batches-py").glob("*_batch*"))

    def found(self, root: Path) -> Path | None:
        """The folder that holds torchvision's; None when there is none."""
        own = root / self.name
        for folder in (own / "raw", own, root):
            if (folder / "cifar-10-batches-py").is_dir():
                return folder
        return None


def fetch(dataset: str, folder: Path) -> None:
    """Let torchvision download a set into `folder`; nothing where there is no network. Raises
    DiffgeoError where the disk is full, UsageError where there is no torchvision."""
    library = needed("torchvision.datasets", f"downloading {dataset}", "torchvision")
    print(f"data: asking torchvision to download {dataset} into {folder}", flush=True)
    known = {
        "CIFAR10": library.CIFAR10,
        "MNIST": library.MNIST,
        "FashionMNIST": library.FashionMNIST,
    }
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            known[dataset](str(folder), download=True)
    except (RuntimeError, OSError) as error:  # URLError, a time-out, a wrong md5: there is no set
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiffgeoError(
                f"the disk is full: {dataset} cannot be downloaded into {folder}; free space, or "
                "write data.root=FOLDER"
            ) from error
    finally:
        socket.setdefaulttimeout(patience)
