"""Which atoms each row of a batch may be: those of its class, without the one that it leaves out.

label     the law of one class: a softmax over that class; -1 in a row: of all atoms
exclude   leave-one-out: the law without atom i; -1 in a row: without none
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.errors import UsageError


class Choice(NamedTuple):
    """Rows of one class."""

    rows: Tensor  # their numbers, [R]
    columns: Tensor | None  # the numbers of the atoms of the class, increasing [n]; None: all
    hidden: Tensor  # the place among these of the atom that each row leaves out, -1 for none, [R]


class Classes:
    """The classes of `count` images, and how many there are.

    labels: int64 [count], or None. Raises UsageError.
    """

    def __init__(self, count: int, labels: Tensor | None, classes: int | None = None):
        if labels is not None and labels.shape != (count,):
            raise UsageError(
                f"there are {count} images and labels of shape {list(labels.shape)}: give one "
                "label an image"
            )
        self.count = count
        self.labels = labels
        self.given = classes

    @cached_property
    def classes(self) -> int:
        """How many classes there are; 0 where there are no labels."""
        if self.labels is None:
            return 0
        return self.given or 1 + int(self.labels.max())

    @cached_property
    def _members_on(self) -> dict[tuple[int, torch.device], Tensor]:
        return {}

    def members(self, label: int, device: torch.device) -> Tensor | None:
        """Numbers of the images of one class, increasing; None for -1, all images."""
        if label < 0:
            return None
        if (label, device) not in self._members_on:
            self._members_on[label, device] = self._find_members(label).to(device)
        return self._members_on[label, device]

    def _find_members(self, label: int) -> Tensor:
        if self.labels is None:
            raise UsageError(
                f"label={label}: this set of images has no labels; ask without a label"
            )
        members = (self.labels == label).nonzero()[:, 0]
        if not len(members):
            raise UsageError(f"label={label}: no image of this set has that label")
        return members

    def names(self, columns: Tensor | None, device: torch.device) -> Tensor:
        """The labels of some images, [n], on a device."""
        assert self.labels is not None
        labels = self.labels.to(device)
        return labels if columns is None else labels[columns]

    def choices(self, x: Tensor, label: Tensor | None, exclude: Tensor | None) -> Iterator[Choice]:
        """The rows of x by class. Raises UsageError on labels and numbers that the set does not
        have, and where nothing is left."""
        none = torch.full((len(x),), -1, device=x.device)
        label = none if label is None else label.to(x.device)
        exclude = none if exclude is None else exclude.to(x.device)
        if not len(label) == len(exclude) == len(x):
            raise UsageError(
                f"x has {len(x)} rows, label {len(label)} and exclude {len(exclude)}: give one "
                "number a row, -1 for none"
            )
        if len(x) and not -1 <= int(exclude.min()) <= int(exclude.max()) < self.count:
            raise UsageError(
                f"exclude names image {int(exclude.max())} of {self.count}: count from 0, or "
                "write -1 to leave out none"
            )
        for one in label.unique().tolist():
            columns = self.members(one, x.device)
            rows = (label == one).nonzero()[:, 0]
            count = self.count if columns is None else len(columns)
            hidden = exclude
            if columns is not None:
                place = torch.searchsorted(columns, exclude).clamp(max=count - 1)
                hidden = torch.where(columns[place] == exclude, place, -1)
            if count == 1 and bool((hidden[rows] >= 0).any()):
                raise UsageError(
                    "exclude leaves no image: it needs two or more in the set, and in each class "
                    "asked for"
                )
            yield Choice(rows, columns, hidden[rows])
