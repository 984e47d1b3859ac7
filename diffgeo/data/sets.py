"""From a name and options to the law of an image set: `image_set(name, ...)` is what
conf/data/<name>.yaml calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from diffgeo.data import prepared
from diffgeo.data.images import Images
from diffgeo.data.photographs import CelebA, Folder
from diffgeo.data.pixels import layout, resized
from diffgeo.data.sources import Cifar10, Digits, Idx, Npz, Opened, Source
from diffgeo.errors import UsageError

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
}
# what the sources themselves take
OPTIONS = {"celeba": ("size", "crop", "path"), "folder": ("size", "crop", "path"), "npz": ("file",)}


def source(name: str, **options) -> Source:
    """The source called `name` under its own options; None is no option. Raises UsageError on an
    option of another source."""
    given = {k: v for k, v in options.items() if v is not None}
    own = OPTIONS.get(name, ())
    for k in given:
        if k not in own and k != "size":
            owners = ", ".join(f"data={other}" for other, taken in OPTIONS.items() if k in taken)
            raise UsageError(f"data.{k} is no option of data={name}; it belongs to {owners}")
    return SOURCES[name](**{k: v for k, v in given.items() if k in own})


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
) -> Images:
    """The law of one split of an image set, which is prepared first where it is not.

    root: the folder of prepared sets ($DIFFGEO_DATA, else ~/.cache/diffgeo/data). size: side to
    resize to. low, high: the values of black and white. flip: the mirror images too. only: classes
    to keep, under their own numbers. limit: the first so many images. exact_only: without
    stand-ins. hold, workers: see `Images`. download: whether torchvision may be asked. crop, path,
    file: see CelebA, Folder, Npz.
    Raises UsageError, DiffgeoError.
    """
    for option, value, least in (("size", size, 1), ("limit", limit, 1), ("workers", workers, 0)):
        if value is not None and not least <= value < 1 << 31:
            raise UsageError(
                f"data.{option}={value}: write a whole number from {least}"
                + ("" if least == 0 else ", or null")
            )
    if split not in prepared.SPLITS:
        raise UsageError(f"data.split={split} is unknown: write train or test")
    opened = source(name, size=size, crop=crop, path=path, file=file).open(
        prepared.data_root(root), download
    )

    def law(split: str) -> Images | None:
        chosen = select(opened, split, only, limit, exact_only)
        if chosen is None:
            return None
        images, labels, file = chosen
        if size is not None and tuple(images.shape[2:]) != (size, size):
            images = resized(images, size)
            file = None
        return Images(
            images,
            labels,
            name,
            split,
            low,
            high,
            flip,
            opened.manifest["classes"],
            hold,
            workers,
            opened.folder and opened.folder.parent,
            opened.manifest,
            file,
        )

    made = law(split)
    twin = "test" if split == "train" else "train"
    if made is None:
        raise UsageError(
            f"data.split={split}: data={name} has no such split here; write data.split={twin}"
        )
    return replace(made, twin=lambda: (other := law(twin)) and replace(other, twin=lambda: made))


def select(
    opened: Opened, split: str, only: Sequence[int] | None, limit: int | None, exact_only: bool
):
    """(images [n,C,H,W], labels [n] or None, the file that the rows are rows of, or None) of a
    split; None where there is no such split."""
    arrays = opened.split(split)
    if arrays is None:
        return None
    name = opened.manifest["name"]
    classes = opened.manifest["classes"]
    images = layout(arrays.images)
    file = opened.folder and opened.folder / f"{split}_images.npy"
    labels = None if arrays.labels is None else torch.from_numpy(arrays.labels.astype(np.int64))
    keep = np.ones(len(images), dtype=bool)
    if only is not None:
        if (
            labels is None
            or not isinstance(only, Sequence)
            or not only
            or not set(only) <= set(range(classes))
        ):
            raise UsageError(
                f"data.only={only}: data={name} has "
                + (f"classes 0..{classes - 1}; as [0,1]" if classes else "no classes")
            )
        keep &= np.isin(labels.numpy(), list(only))
    if exact_only:
        if arrays.exact is None:
            raise UsageError(
                f"data.exact_only=true: data={name} has no list of exact images here; leave it out"
            )
        keep &= arrays.exact
    if not keep.all():
        rows = torch.from_numpy(keep)
        images = images[rows]
        labels = None if labels is None else labels[rows]
        file = None
    return images[:limit], None if labels is None else labels[:limit], file
