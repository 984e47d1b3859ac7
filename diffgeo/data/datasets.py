"""Any data set of torch's or Hugging Face's as a law: `of_dataset(dataset)`.

What one item holds decides which law it is:

    a picture (PIL), bytes, or numbers 0..1 of a picture    `Images`, bytes in memory
    a list of d numbers, one axis                           `Cloud`, points in R^d

Tensors are [C,H,W] or [H,W], arrays of numpy [H,W,3] or [H,W]; numbers are byte/255, as
torchvision's ToTensor makes them (`values` says what else black and white are). An item is x; or
(x, label, ...); or a dictionary with x under image, img, pixel_values, x or points, and its class
under label. Anything else is told by `item`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from diffgeo.data import prepared
from diffgeo.data.images import Images
from diffgeo.data.pixels import resized
from diffgeo.data.points import Cloud
from diffgeo.errors import UsageError
from diffgeo.machine import progress

XS = ("image", "img", "pixel_values", "x", "points")
LABELS = ("label", "labels", "y", "target")


@runtime_checkable
class Dataset(Protocol):
    """Items by number, as torch.utils.data.Dataset and datasets.Dataset have them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class Item(NamedTuple):
    """A picture [H,W] or [H,W,3] uint8, or a point [d] float64; and its class, if it has one."""

    x: np.ndarray
    label: int | None


def of_dataset(
    dataset: Dataset | Iterable[Any],
    test: Dataset | Iterable[Any] | None = None,
    *,
    name: str = "dataset",
    classes: int | None = None,
    values: Sequence[float] = (0.0, 1.0),
    item: Callable[[Any], Any] | None = None,
    size: int | None = None,
    limit: int | None = None,
    low: float = -1.0,
    high: float = 1.0,
    flip: bool = False,
    seed: int = 0,
) -> Images | Cloud:
    """The law under which every item of a data set is as likely as the others.

    It is read once, in its own order, into memory. A transform that draws random numbers of torch's
    draws those of `seed`, once for each item.

    dataset: items by number, or one after the other (then `limit` ends it).
    test: the items of the other split, `law.other()`.
    name: how tables and pictures call it.
    classes: how many there are; None: one more than the largest label, none where there are none.
    values: what black and white are in items that are floating-point pictures.
    item: makes x, (x, label) or a dictionary of an item.
    size: side that pictures are resized to. limit: the first so many items.
    low, high, flip: see `Images`.

    Returns `Images` of pictures [C,H,W], `Cloud` of points [d]. Raises UsageError, naming the
    item, on what is neither, on items of several shapes, and on labels that are no whole numbers.
    """
    if len(values) != 2 or not values[0] < values[1]:
        raise UsageError(f"values={list(values)}: write what black and white are, such as [0, 1]")
    options = Reading(name, tuple(values), item, limit, seed)
    made = read(dataset, options)
    if made.x.ndim == 2:
        return Cloud(points=made.x)
    other = None if test is None else read(test, options)
    if other is not None and other.x.shape[1:] != made.x.shape[1:]:
        raise UsageError(
            f"{name}: the items of test are {list(other.x.shape[1:])}, those of the set "
            f"{list(made.x.shape[1:])}; they must be alike"
        )
    labels = [part.labels for part in (made, other) if part and part.labels is not None]
    count = prepared.classes_of(labels) if classes is None else classes

    def law(part: Part, split: str, twin: Callable[[], Images | None]) -> Images:
        images = pictures_of(part.x)
        return Images(
            images=images if size is None else resized(images, size),
            labels=None if part.labels is None else torch.from_numpy(part.labels),
            name=name,
            split=split,
            low=low,
            high=high,
            flip=flip,
            classes=0 if part.labels is None else count,
            twin=twin,
        )

    def tested() -> Images | None:
        return None if other is None else law(other, "test", lambda: found)

    found = law(made, "train", tested)
    return found


def pictures_of(x: np.ndarray) -> Tensor:
    """uint8 [n,H,W] or [n,H,W,3] as [n,C,H,W]."""
    images = torch.from_numpy(x)
    return images[:, None] if x.ndim == 3 else images.permute(0, 3, 1, 2)


class Reading(NamedTuple):
    """How items are read; see `of_dataset`."""

    name: str
    values: tuple[float, ...]
    item: Callable[[Any], Any] | None
    limit: int | None
    seed: int


class Part(NamedTuple):
    """The items of a split: uint8 [n,H,W(,3)] or float64 [n,d], and int64 [n] or None."""

    x: np.ndarray
    labels: np.ndarray | None


def read(dataset: Any, options: Reading) -> Part:
    """All items, one after the other. Raises UsageError."""
    found: list[np.ndarray] = []
    labels: list[int | None] = []
    count = length(dataset, options)
    with torch.random.fork_rng(devices=[]), progress.bar(count, options.name, "item") as bar:
        torch.manual_seed(options.seed)
        for number, raw in enumerate(items(dataset, count)):
            one = taken(raw, number, options)
            if found and (one.x.shape, one.x.dtype) != (found[0].shape, found[0].dtype):
                raise UsageError(
                    f"{options.name}: item {number} is {one.x.dtype} {list(one.x.shape)}, the "
                    f"first {found[0].dtype} {list(found[0].shape)}; resize them in the data set"
                )
            found.append(one.x)
            labels.append(one.label)
            bar.update(1)
    if not found:
        raise UsageError(f"{options.name} is empty: give a data set with items")
    given = [label for label in labels if label is not None]
    if given and len(given) != len(labels):
        lacking = labels.index(None)
        raise UsageError(f"{options.name}: item {lacking} has no label, and others have")
    return Part(np.stack(found), np.asarray(given, np.int64) if given else None)


def length(dataset: Any, options: Reading) -> int:
    """How many items to read. Raises UsageError where nobody says."""
    limit = options.limit
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}: write a whole number from 1, or None")
    if isinstance(dataset, Dataset):
        try:
            count = len(dataset)
            return count if limit is None else min(count, limit)
        except TypeError:  # what torch's iterable data sets raise
            pass
    if not isinstance(dataset, Iterable):
        raise UsageError(
            f"{options.name} ({type(dataset).__name__}) is no data set: give one with __len__ and "
            "__getitem__, or one that can be iterated"
        )
    if limit is None:
        raise UsageError(f"{options.name} does not say how many items it has: write limit=")
    return limit


def items(dataset: Any, count: int) -> Iterator[Any]:
    """The first `count` items, by number where they have one."""
    if isinstance(dataset, Dataset):
        for number in range(count):
            yield dataset[number]
    else:
        yield from islice(dataset, count)


def taken(raw: Any, number: int, options: Reading) -> Item:
    """One item. Raises UsageError, naming it."""
    told = raw if options.item is None else options.item(raw)
    label = None
    if isinstance(told, Mapping):
        label = next((told[key] for key in LABELS if key in told), None)
        x = next((told[key] for key in XS if key in told), None)
    elif isinstance(told, tuple):
        x = told[0] if told else None
        label = told[1] if len(told) > 1 else None
    else:
        x = told
    where = f"{options.name}: item {number}"
    return Item(array_of(x, where, options.values), label_of(label, where))


def label_of(label: Any, where: str) -> int | None:
    """A class as a number. Raises UsageError."""
    if label is None:
        return None
    number = np.asarray(label)
    if number.dtype.kind not in "iu" or number.size != 1 or number.item() < 0:
        raise UsageError(
            f"{where} has the label {str(label)[:40]!r}: classes are whole numbers from 0; tell "
            "what it is with item="
        )
    return int(number.item())


def array_of(x: Any, where: str, values: tuple[float, ...]) -> np.ndarray:
    """A picture as uint8 [H,W] or [H,W,3], a point as float64 [d]. Raises UsageError."""
    from PIL import Image

    if isinstance(x, Image.Image):
        grey = x.mode in ("1", "L")
        return np.asarray(x.convert("L" if grey else "RGB"))
    if isinstance(x, Tensor):
        array = x.detach().cpu().numpy()
        if array.ndim == 3:  # channels first, in torch
            array = array.transpose(1, 2, 0)
    elif isinstance(x, np.ndarray | Sequence) and not isinstance(x, str | bytes):
        array = np.asarray(x)
    else:
        raise UsageError(
            f"{where} is a {type(x).__name__}: it must be a picture, an array or a tensor, with "
            "its label or without; tell what it is with item="
        )
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise UsageError(f"{where} holds {array.dtype} or what is not finite; write finite numbers")
    if array.ndim == 1:
        return array.astype(np.float64)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise UsageError(
            f"{where} has the shape {list(array.shape)}, colours last: pictures are [H,W] or "
            "[H,W,3], points [d]"
        )
    return as_bytes(array, where, values)


def as_bytes(array: np.ndarray, where: str, values: tuple[float, ...]) -> np.ndarray:
    """The bytes of a picture: numbers from black to white are rounded to 255 levels. Raises
    UsageError on numbers beyond them."""
    if array.dtype == np.uint8:
        return array
    black, white = values
    if array.dtype.kind != "f" or array.min() < black - 1e-4 or array.max() > white + 1e-4:
        raise UsageError(
            f"{where} is a picture of {array.dtype} from {array.min():g} to {array.max():g}: "
            f"write bytes, or numbers from {black:g} to {white:g}; values= says other ends"
        )
    levels = (array.astype(np.float64) - black) * (255 / (white - black))
    return np.rint(levels).clip(0, 255).astype(np.uint8)
