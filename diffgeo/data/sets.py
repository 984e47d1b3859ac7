"""From a name and options to the law of an image set: `image_set(name, ...)` is what
conf/data/<name>.yaml calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.data import prepared
from diffgeo.data.huggingface import Saved
from diffgeo.data.images import Images
from diffgeo.data.images_blurred import BlurredImages
from diffgeo.data.mapped import Npy
from diffgeo.data.photographs import CelebA, Folder
from diffgeo.data.pixels import layout, resized
from diffgeo.data.sources import Cifar10, Digits, Idx, Npz, Opened, Source
from diffgeo.data.webdataset import Shards
from diffgeo.errors import DiffgeoError, UsageError

MNIST = "mnist", "MNIST", "CC BY-SA 3.0", "https://ossci-datasets.s3.amazonaws.com/mnist"
FASHION = "fashion_mnist", "FashionMNIST", "MIT", "https://github.com/zalandoresearch/fashion-mnist"
SOURCES: dict[str, Callable[..., Source]] = {
    "digits": Digits,
    "mnist": partial(Idx, *MNIST),
    "fashion_mnist": partial(Idx, *FASHION),
    "cifar10": Cifar10,
    "celeba": CelebA,
    "folder": Folder,
    "npz": Npz,
    "npy_images": Npy,
    "webdataset": Shards,
    "huggingface": Saved,
}
# what the sources themselves take
OPTIONS = {
    "celeba": ("size", "crop", "path"),
    "folder": ("size", "crop", "path", "background"),
    "npz": ("file",),
    "npy_images": ("file", "labels"),
    "webdataset": ("size", "crop", "path", "background"),
    "huggingface": ("size", "crop", "path", "background", "column", "label"),
}


def source(name: str, **options) -> Source:
    """The source called `name` under its own options; None is no option, and `size`, which every
    set is resized to, is one of all. Raises UsageError on an option of another source."""
    if name not in SOURCES:
        raise UsageError(f"data.name={name} is no set; write data= one of {', '.join(SOURCES)}")
    own = OPTIONS.get(name, ())
    taken = {}
    for option, value in options.items():
        if value is None:
            continue
        if option in own:
            taken[option] = value
        elif option != "size":
            owners = [f"data={other}" for other, theirs in OPTIONS.items() if option in theirs]
            raise UsageError(
                f"data.{option} is no option of data={name}; it belongs to {', '.join(owners)}"
            )
    return SOURCES[name](**taken)


def image_set(
    name: str,
    root: str | None = None,
    split: str = "train",
    size: int | None = None,
    low: float = -1.0,
    high: float = 1.0,
    flip: bool = False,
    only: Sequence[int] | None = None,
    limit: int | None = None,
    exact_only: bool = False,
    hold: str = "auto",
    workers: int = 2,
    download: bool = True,
    crop: int | str | None = None,
    path: str | None = None,
    file: str | None = None,
    background: str | Sequence[int] | None = None,
    labels: str | None = None,
    column: str | None = None,
    label: str | None = None,
    blur: float = 0.0,
) -> Images | BlurredImages:
    """The law of one split of an image set, which is prepared first where it is not.

    root: the folder of prepared sets ($DIFFGEO_DATA, else ~/.cache/diffgeo/data).
    size: side to resize to. low, high: the values of black and white. flip: the mirror images too.
    only: classes to keep, under their own numbers. limit: the first so many images.
    exact_only: without stand-ins. hold, workers: see `Images`.
    download: whether torchvision may be asked. crop, path, file, background, labels, column, label:
    see CelebA, Folder, Npz, Npy, Shards, Saved.
    blur: deviation of noise added to every image, in units of the data; above 0 it is a law of
    numbers and no longer one of bytes.
    Raises UsageError, DiffgeoError.
    """
    if size is not None and not 1 <= size < 1 << 31:
        raise UsageError(f"data.size={size}: write a whole number from 1, or null")
    if limit is not None and not 1 <= limit < 1 << 31:
        raise UsageError(f"data.limit={limit}: write a whole number from 1, or null")
    if not 0 <= workers < 1 << 31:
        raise UsageError(f"data.workers={workers}: write a whole number from 0")
    if split not in prepared.SPLITS:
        raise UsageError(f"data.split={split} is unknown: write train or test")
    own = source(
        name,
        size=size,
        crop=crop,
        path=path,
        file=file,
        background=background,
        labels=labels,
        column=column,
        label=label,
    )
    opened = own.open(prepared.data_root(root), download)

    def law(split: str) -> Images | None:
        chosen = select(opened, split, only, exact_only)
        if chosen is None:
            return None
        chosen = chosen.first(limit).of_side(size)
        return Images(
            images=chosen.images,
            labels=chosen.labels,
            name=name,
            split=split,
            low=low,
            high=high,
            flip=flip,
            classes=opened.manifest["classes"],
            hold=hold,
            workers=workers,
            root=None if opened.folder is None else opened.folder.parent,
            manifest=opened.manifest,
            file=chosen.file,
        )

    made = law(split)
    other = "test" if split == "train" else "train"
    if made is None:
        raise UsageError(
            f"data.split={split}: data={name} has no such split here; write data.split={other}"
        )

    def twin() -> Images | None:
        found = law(other)
        return None if found is None else replace(found, twin=lambda: made)

    found = replace(made, twin=twin)
    return found if blur == 0 else BlurredImages(found, blur)


class Chosen(NamedTuple):
    """What a law is made of: images [n,C,H,W], labels [n] or None, and the file that the images are
    the first rows of, where there is one."""

    images: Tensor
    labels: Tensor | None
    file: Path | None

    def first(self, limit: int | None) -> Chosen:
        labels = None if self.labels is None else self.labels[:limit]
        return Chosen(self.images[:limit], labels, self.file)

    def of_side(self, size: int | None) -> Chosen:
        if size is None or tuple(self.images.shape[2:]) == (size, size):
            return self
        return Chosen(resized(self.images, size), self.labels, None)


def select(
    opened: Opened, split: str, only: Sequence[int] | None, exact_only: bool
) -> Chosen | None:
    """The images of a split that are of the classes `only`, and with `exact_only` no stand-ins;
    None where there is no such split. Raises UsageError."""
    arrays = opened.split(split)
    if arrays is None:
        return None
    name = opened.manifest["name"]
    images = layout(arrays.images)
    if images is None:
        raise DiffgeoError(
            f"data={name} holds an array {list(arrays.images.shape)}; images are [n,H,W] or "
            "[n,H,W,3]"
        )
    labels = None if arrays.labels is None else torch.from_numpy(arrays.labels.astype(np.int64))
    keep = np.full(len(images), True)
    if only is not None:
        keep = keep & of_classes(only, labels, name, opened.manifest["classes"])
    if exact_only:
        if arrays.exact is None:
            raise UsageError(
                f"data.exact_only=true: data={name} has no list of exact images here; leave it out"
            )
        keep = keep & arrays.exact
    if keep.all():
        folder = opened.folder
        file = opened.file if folder is None else folder / f"{split}_images.npy"
        return Chosen(images, labels, file)
    rows = torch.from_numpy(keep)
    return Chosen(images[rows], None if labels is None else labels[rows], None)


def of_classes(only: Sequence[int], labels: Tensor | None, name: str, classes: int) -> np.ndarray:
    """Which images are of the classes `only`, bool [n]. Raises UsageError."""
    known = set(range(classes))
    if labels is None or not isinstance(only, Sequence) or not only or not set(only) <= known:
        raise UsageError(
            f"data.only={only}: data={name} has "
            + (f"classes 0..{classes - 1}; as [0,1]" if classes else "no classes")
        )
    return np.isin(labels.numpy(), list(only))
