"""Image files as sets: CelebA with the crops of the published protocols, and any folder of images.
Prepared once, at one size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffgeo.data import origin, pictures, prepared
from diffgeo.data.gathered import Gathered, check_side, hashed
from diffgeo.data.prepared import Blocks
from diffgeo.data.sources import Prepared
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.store.caches import at_home

# of CelebA's aligned photographs
HEIGHT = 218
WIDTH = 178
# left, top, right, bottom: 128 x 128 about (89, 121), as DDIM's and PNDM's code cut it
DDIM = (89 - 64, 121 - 64, 89 + 64, 121 + 64)
# the last photographs of these splits
TRAIN = 162_770
VALIDATION = 182_637


@dataclass(frozen=True)
class CelebA(Prepared):
    """CelebA's aligned photographs, 178 wide and 218 high: a crop, then size x size. crop: `ddim`,
    or the side of a centred square (140 in Song et al. 2021).

    The photographs are img_align_celeba/*.jpg (or in `path`). list_eval_partition.txt beside that
    folder says the split of each (0 train, 1 validation, 2 test); without it the published numbers
    do: 000001-162770 train, to 182637 validation, to 202599 test.
    """

    size: int = 64
    crop: int | str = "ddim"
    path: str | None = None
    name: str = "celeba"
    licence: str = "non-commercial research only"
    source: str = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    about: str = "64 x 64 (or data.size=32) colour, 162 770 + 19 962"

    def __post_init__(self):
        check_side("size", self.size)
        centred = isinstance(self.crop, int) and 1 <= self.crop <= WIDTH
        if self.crop != "ddim" and not centred:
            raise UsageError(
                f"data.crop={self.crop}: write ddim, or the side of a centred square, e.g. 140"
            )

    def folder(self, root: Path) -> Path:
        name = f"celeba_{self.size}"
        if self.crop != "ddim":
            name += f"_centre{self.crop}"
        if self.path is not None:
            place = at_home(self.path, "data.path").resolve()
            name += f"_{hashed(str(place), 8)}"
        return root / name

    def facts(self) -> dict:
        return super().facts() | {"path": self.path, "size": self.size, "crop": self.crop}

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What is cut out of a photograph."""
        if isinstance(self.crop, int):
            return pictures.square(HEIGHT, WIDTH, self.crop)
        return DDIM

    def arrays(self, root: Path, download: bool) -> dict[str, Blocks]:
        files = self.photographs(root)
        height, width = pictures.facts(files[0])[:2]
        if (height, width) != (HEIGHT, WIDTH):
            raise UsageError(
                f"data={self.name}: {files[0]} is {height} x {width}, the aligned photographs "
                f"are {HEIGHT} x {WIDTH}; for other images write data=folder data.path=FOLDER"
            )
        part = partition(files)
        arrays = {}
        for split, number in (("train", 0), ("test", 2)):
            paths = [path for path in files if part[path.name] == number]
            if paths:
                boxes = [self.box] * len(paths)
                shape = (len(paths), self.size, self.size, 3)
                images = pictures.decoded(paths, 3, boxes, self.size, f"{self.name} {split}")
                arrays[f"{split}_images"] = Blocks(shape, images)
        return arrays

    def photographs(self, root: Path) -> list[Path]:
        """The files of the photographs. Raises UsageError where there are none."""
        files = self.found(root)
        if not files:
            raise self.missing(
                root,
                f"img_align_celeba.zip of {self.source}, unpacked, and list_eval_partition.txt "
                f"into {root / 'celeba'}",
            )
        return files

    def found(self, root: Path) -> list[Path]:
        """The photographs in the first folder that has any."""
        own = root / "celeba"
        folders = [own / "img_align_celeba", own / "celeba" / "img_align_celeba"]
        if self.path:
            folders = [at_home(self.path, "data.path")]
        for folder in folders:
            files = pictures.listing(folder)
            if files:
                return files
        return []

    def made_of(self, root: Path) -> list[Path]:
        files = self.found(root)
        listed = list_beside(files[0]) if files else None
        return files if listed is None else [*files, listed]


def list_beside(photograph: Path) -> Path | None:
    """The list of splits in the folder above a photograph's, or in its own; None where there is
    none."""
    for place in (photograph.parent.parent, photograph.parent):
        listed = place / "list_eval_partition.txt"
        if listed.is_file():
            return listed
    return None


def partition(files: list[Path]) -> dict[str, int]:
    """The split of each photograph of CelebA by its name: 0, 1 or 2, as the list beside them says,
    or as their numbers do."""
    listed = list_beside(files[0])
    if listed is not None:
        return listed_partition(listed, files)
    part = {}
    for path in files:
        number = int(path.stem) if path.stem.isdigit() else 0
        part[path.name] = (number > TRAIN) + (number > VALIDATION)
    return part


def listed_partition(listed: Path, files: list[Path]) -> dict[str, int]:
    """The split of each photograph in a list of lines `000001.jpg 0`. Raises DiffgeoError where it
    is damaged, or lists other photographs."""
    part = {}
    try:
        for line in listed.read_text(encoding="utf-8").splitlines():
            name, number = line.split()
            part[name] = int(number)
    except ValueError:
        raise DiffgeoError(f"{listed} is damaged: its lines are like `000001.jpg 0`") from None
    different = sorted(set(part) ^ {path.name for path in files})
    if different:
        raise DiffgeoError(
            f"{files[0].parent} and {listed.name} do not list the same photographs: "
            f"{different[0]} is in one of them only"
        )
    return part


@dataclass(frozen=True)
class Folder(Gathered):
    """Any folder of images, or one with the folders train and test.

    The folders in it are classes, in the order of their names, where every image lies in one and
    there are several. Its content is that of the files and their names (`origin`).
    """

    name: str = "folder"
    licence: str = "yours"
    about: str = "data.path=FOLDER data.size=SIDE"
    source: str = "files of the user"

    @cached_property
    def tops(self) -> dict[str, Path]:
        """The folder of each split."""
        if not (self.top / "train").is_dir():
            return {"train": self.top}
        return {split: self.top / split for split in prepared.SPLITS if (self.top / split).is_dir()}

    @cached_property
    def found(self) -> dict[str, list[Path]]:
        listings = {split: pictures.listing(top) for split, top in self.tops.items()}
        files = {split: paths for split, paths in listings.items() if paths}
        if "train" not in files:
            raise UsageError(
                f"data.path={self.path} holds no images ({', '.join(pictures.SUFFIXES[:4])}, ...): "
                "write another folder"
            )
        return files

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes; none unless there are several, and every image lies in one."""
        names = set()
        for split, paths in self.found.items():
            for path in paths:
                parts = path.relative_to(self.tops[split]).parts
                if len(parts) == 1:
                    return []
                names.add(parts[0])
        return sorted(names) if len(names) > 1 else []

    @property
    def class_count(self) -> int:
        return len(self.class_names)

    @property
    def content(self) -> str:
        every = [path for paths in self.found.values() for path in paths]
        return origin.digest(self.top, every)

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        labels = {}
        for split, paths in self.found.items():
            if self.class_names:
                inside = [path.relative_to(self.tops[split]).parts[0] for path in paths]
                labels[split] = np.asarray([self.class_names.index(name) for name in inside])
        return labels
