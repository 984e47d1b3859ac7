"""Image files as sets: CelebA with the crops of the published protocols, and any folder of images.
Prepared once, at one size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffgeo.data import pixels, prepared
from diffgeo.data.prepared import Blocks
from diffgeo.data.sources import Prepared
from diffgeo.errors import DiffgeoError, UsageError

# of CelebA's aligned photographs
HEIGHT = 218
WIDTH = 178
# left, top, right, bottom: 128 x 128 about (89, 121), as DDIM's and PNDM's
CROPS = {"ddim": (89 - 64, 121 - 64, 89 + 64, 121 + 64)}
# code cut it; and the last photographs of these splits
TRAIN = 162_770
VALIDATION = 182_637


def check_side(option: str, side) -> None:
    """Raise UsageError unless `side` is a number of pixels."""
    if type(side) is not int or not 1 <= side < 1 << 16:
        raise UsageError(f"data.{option}={side}: write a whole number of pixels from 1, such as 64")


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
        if self.crop not in CROPS and not (isinstance(self.crop, int) and 1 <= self.crop <= WIDTH):
            raise UsageError(
                f"data.crop={self.crop}: write ddim, or the side of a centred square, e.g. 140"
            )

    def folder(self, root):
        place = (
            ""
            if self.path is None
            else f"_{hashlib.sha256(str(Path(self.path).expanduser().resolve()).encode()).hexdigest()[:8]}"
        )
        return (
            root
            / f"celeba_{self.size}{'' if self.crop == 'ddim' else f'_centre{self.crop}'}{place}"
        )

    def facts(self):
        return super().facts() | {"path": self.path, "size": self.size, "crop": self.crop}

    def arrays(self, root, download):
        own = root / "celeba"
        places = (
            [Path(self.path).expanduser()]
            if self.path
            else [own / "img_align_celeba", own / "celeba" / "img_align_celeba"]
        )
        files = next(filter(None, map(pixels.listing, places)), None)
        if not files:
            raise self.missing(
                root,
                f"img_align_celeba.zip of {self.source}, unpacked, and list_eval_partition.txt "
                f"into {own}",
            )
        if (found := pixels.facts(files[0])[:2]) != (HEIGHT, WIDTH):
            raise UsageError(
                f"data={self.name}: {files[0]} is {found[0]} x {found[1]}, the aligned photographs "
                f"are {HEIGHT} x {WIDTH}; "
                "for other images write data=folder data.path=FOLDER"
            )
        part = self.partition(files)
        box = CROPS.get(self.crop) or pixels.square(HEIGHT, WIDTH, self.crop)
        splits = {
            split: [p for p in files if part[p.name] == number]
            for split, number in (("train", 0), ("test", 2))
        }
        return {
            f"{split}_images": Blocks(
                (len(paths), self.size, self.size, 3),
                pixels.decoded(paths, 3, [box] * len(paths), self.size, f"{self.name} {split}"),
            )
            for split, paths in splits.items()
            if paths
        }

    @staticmethod
    def partition(files: list[Path]) -> dict[str, int]:
        """The split of each photograph by its name: 0, 1 or 2."""
        folder = files[0].parent
        listed = next(
            (
                p
                for p in (
                    folder.parent / "list_eval_partition.txt",
                    folder / "list_eval_partition.txt",
                )
                if p.is_file()
            ),
            None,
        )
        if listed is None:
            numbers = {p.name: int(p.stem) if p.stem.isdigit() else 0 for p in files}
            return {
                name: (number > TRAIN) + (number > VALIDATION) for name, number in numbers.items()
            }
        try:
            part = {
                name: int(number)
                for name, number in map(str.split, listed.read_text().splitlines())
            }
        except ValueError:
            raise DiffgeoError(f"{listed} is damaged: its lines are like `000001.jpg 0`") from None
        if different := sorted(set(part) ^ {p.name for p in files}):
            raise DiffgeoError(
                f"{folder} and {listed.name} do not list the same photographs: {different[0]} is "
                "in one of them only"
            )
        return part


@dataclass(frozen=True)
class Folder(Prepared):
    """Any folder of images, or one with the folders train and test: a centred square, the largest
    or of `crop` pixels, then size x size.

    The folders in it are classes, in the order of their names, where every image lies in one and
    there are several. It is prepared under a name that is made from the listing (names, lengths,
    times of change), so a changed folder is prepared again.
    """

    path: str | None = None
    size: int | None = None
    crop: int | None = None
    name: str = "folder"
    licence: str = "yours"
    about: str = "data.path=FOLDER data.size=SIDE"
    source: str = "files of the user"

    def __post_init__(self):
        for option in ("size", "crop"):
            if getattr(self, option) is not None:
                check_side(option, getattr(self, option))

    @cached_property
    def tops(self) -> dict[str, Path]:
        if self.path is None:
            raise UsageError(
                "data=folder: write data.path=FOLDER, a folder of images, and data.size=SIDE"
            )
        top = Path(self.path).expanduser().resolve()
        return (
            {split: top / split for split in prepared.SPLITS if (top / split).is_dir()}
            if (top / "train").is_dir()
            else {"train": top}
        )

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        files = {split: paths for split, top in self.tops.items() if (paths := pixels.listing(top))}
        if "train" not in files:
            raise UsageError(
                f"data.path={self.path} holds no images ({', '.join(pixels.SUFFIXES[:4])}, ...): "
                "write another folder"
            )
        return files

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes; none unless there are several."""
        parts = [
            p.relative_to(self.tops[split]).parts
            for split, paths in self.files.items()
            for p in paths
        ]
        names = sorted({part[0] for part in parts})
        return names if len(names) > 1 and all(len(part) > 1 for part in parts) else []

    def folder(self, root):
        listing = [[str(p), *prepared.state(p)[:2]] for paths in self.files.values() for p in paths]
        return (
            root
            / f"folder_{hashlib.sha256(repr([listing, self.size, self.crop]).encode()).hexdigest()[:12]}"
        )

    def facts(self):
        return super().facts() | {
            "path": self.path,
            "size": self.size,
            "crop": self.crop,
            "classes": len(self.classes),
        }

    def arrays(self, root, download):
        arrays = {}
        kinds = {p: pixels.facts(p) for paths in self.files.values() for p in paths}
        channels = max(kind[2] for kind in kinds.values())
        sizes = {kind[:2] for kind in kinds.values()}
        alike = next(iter(sizes))[0] if len(sizes) == 1 and len(set(*sizes)) == 1 else None
        side = self.size or self.crop or alike
        if side is None:
            raise UsageError(
                f"data.path={self.path} holds images of several sizes, or none square: write "
                "data.size=64, or another side"
            )
        small = min(kinds, key=lambda p: min(kinds[p][:2]))
        if self.crop is not None and self.crop > min(kinds[small][:2]):
            raise UsageError(
                f"data.crop={self.crop} is larger than {small}, {kinds[small][0]} x "
                f"{kinds[small][1]}: write "
                f"data.crop={min(kinds[small][:2])} or less, or null for the largest "
                "square of each"
            )
        for split, paths in self.files.items():
            boxes = [pixels.square(*kinds[p][:2], self.crop) for p in paths]
            shape = (len(paths), side, side) + (() if channels == 1 else (3,))
            arrays[f"{split}_images"] = Blocks(
                shape, pixels.decoded(paths, channels, boxes, side, f"folder {split}")
            )
            if self.classes:
                labels = [
                    self.classes.index(p.relative_to(self.tops[split]).parts[0]) for p in paths
                ]
                arrays[f"{split}_labels"] = Blocks((len(paths),), [np.asarray(labels)], "int64")
        return arrays
