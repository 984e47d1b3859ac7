"""The exact denoiser of a set of images, kept as the bytes that they are.

An image is x0 = low + (high - low) a/255 with a_j in {0..255}. In pixels, y = 255 (x - low)/(high -
low) and s = 255 sigma/(high - low),

    D(x) = sum_i p_i a_i,     p = softmax_i(-|y - a_i|^2 / 2 s^2),

by `points.Dense`: a pass of products for the logits, the largest of them again by differences in
float64, a second pass over the images that weigh anything. Bytes and their differences are exact in
float32, and half the time of a product of 64 rows reads bytes.

    flip       the law of the set and its mirror images F a_i:  |y - F a| = |F y - a|,  so a row
               asks twice, y and F y, with one softmax
    label      the law of one class: a softmax over that class
    exclude    leave-one-out: the law without image i (and without its mirror image)

By-products: entropy of the weights, H = -sum_i p_i log p_i in nats, and exp(H), how many images the
mean is an average of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.points import Dense
from diffgeo.core import Sigma, column
from diffgeo.errors import UsageError
from diffgeo.machine.precision import full_precision


def upright(x: Tensor) -> Tensor:
    return x


def mirrored(x: Tensor) -> Tensor:
    return x.flip(-1)


class Posterior(NamedTuple):
    """D and what its weights say."""

    mean: Tensor  # E[x0 | x], like x [B,C,H,W]
    entropy: Tensor  # of the weights, nats, float64 [B]; a mirror image counts as an image
    neighbours: Tensor  # exp(entropy), [B]
    nearest: Tensor  # number of the heaviest image, or of the one it mirrors, int64 [B]


@dataclass(frozen=True, eq=False)
class ImageDenoiser:
    """E[x0 | x] of uint8 images [N,C,H,W], a `core.Denoiser`.

    low, high: the values of x0 that 0 and 255 stand for.
    flip: the law is the set and its mirror images, half each. labels: int64 [N].
    The answer has the dtype and device of x; |error| stays below 1e-3 sigma for sigma from 1e-3 to
    100. A copy of the bytes is kept on each device that asks; a call takes less than 256 MiB beside
    it, x and the answer.
    Raises UsageError for images or labels of another kind, and later for an x of another shape, a
    sigma that is not positive, a label that the set does not have, and where nothing is left when
    one image is excluded.
    """

    images: Tensor
    low: float = -1.0
    high: float = 1.0
    flip: bool = False
    labels: Tensor | None = None

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or not len(self.images):
            raise UsageError(
                f"images must be uint8 [N,C,H,W], not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise UsageError(
                f"there are {len(self.images)} images and labels of shape "
                f"{list(self.labels.shape)}: give one label an image"
            )
        if not self.high > self.low:
            raise UsageError(
                f"low={self.low} high={self.high}: the value of white must be above the value of "
                "black"
            )

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)"""
        return tuple(self.images.shape[1:])

    @cached_property
    def scale(self) -> float:
        """Bytes per unit of x0."""
        return 255 / (self.high - self.low)

    # images as rows of pixels, in the order in which the pixels lie in memory

    @cached_property
    def _order(self) -> list[int]:
        """The axes C, H, W (1, 2, 3) of the images, the one of the largest stride first."""
        strides = self.images.stride()
        return sorted((1, 2, 3), key=lambda axis: -strides[axis])

    def flat(self, x: Tensor) -> Tensor:
        """[n,C,H,W] -> [n,d]."""
        return x.permute(0, *self._order).flatten(1)

    def unflat(self, y: Tensor) -> Tensor:
        """[n,d] -> [n,C,H,W]."""
        sizes = [self.images.shape[axis] for axis in self._order]
        inverse = [self._order.index(axis) + 1 for axis in (1, 2, 3)]
        return y.unflatten(1, sizes).permute(0, *inverse)

    # what is kept on each device that asks

    @cached_property
    def _dense_on(self) -> dict[torch.device, Dense]:
        return {}

    def dense(self, device: torch.device) -> Dense:
        """The images as the points of a `Dense`."""
        if device not in self._dense_on:
            self._dense_on[device] = Dense(self.flat(self.images.to(device)))
        return self._dense_on[device]

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

    @full_precision()
    def __call__(
        self,
        x: Tensor,
        sigma: Sigma,
        *,
        label: Tensor | None = None,
        exclude: Tensor | None = None,
        **cond,
    ) -> Tensor:
        mean = torch.empty_like(x)
        for rows, columns, weight, _ in self._weights(x, sigma, label, exclude):
            mean[rows] = self._mean(weight, columns, x)
        return mean

    @full_precision()
    def posterior(
        self,
        x: Tensor,
        sigma: Sigma,
        *,
        label: Tensor | None = None,
        exclude: Tensor | None = None,
        **cond,
    ) -> Posterior:
        """D and what its weights say.

        label: the class of each row, int64 [B], -1 for all.
        exclude: the number of the image that is left out of each row, int64 [B], -1 for none.
        """
        mean = torch.empty_like(x)
        entropy = torch.empty(len(x), dtype=torch.float64, device=x.device)
        nearest = torch.empty_like(entropy, dtype=torch.int64)
        for rows, columns, weight, place in self._weights(x, sigma, label, exclude):
            mean[rows] = self._mean(weight, columns, x)
            entropy[rows] = torch.special.entr(weight).sum((1, 2), dtype=torch.float64)
            nearest[rows] = place if columns is None else columns[place]
        return Posterior(mean, entropy, entropy.exp(), nearest)

    @full_precision()
    def nearest(
        self, x: Tensor, k: int = 1, columns: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k <= 32 nearest images: root-mean-square distances per coordinate in the units of x0,
        increasing, float64 [B,k], and numbers [B,k]. Under `flip` an image is as near as the nearer
        of it and its mirror image. x [B,C,H,W] floats, or bytes as they are.
        columns: only the images so numbered.
        """
        self._check(x)
        dense = self.dense(x.device)
        at_a_time = dense.rows(len(dense.points), len(self.turns))
        distances = []
        numbers = []
        for rows in torch.arange(len(x), device=x.device).split(at_a_time):
            _, top, exact = dense.logits(self._queries(x[rows]), columns)
            square, order = (-2 * exact.flatten(1)).sort(1)
            places = top.flatten(1).gather(1, order)
            # met before, the other way round
            again = (places[:, :, None] == places[:, None]).tril(-1).any(2)
            square, order = square.masked_fill(again, torch.inf).topk(k, 1, largest=False)
            distances.append((square / dense.points.shape[1]).sqrt() / self.scale)
            numbers.append(places.gather(1, order))
        number = torch.cat(numbers)
        return torch.cat(distances), number if columns is None else columns[number]

    @property
    def turns(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The orientations in which an image occurs; each is its own inverse."""
        return (upright, mirrored) if self.flip else (upright,)

    def _weights(
        self, x: Tensor, sigma: Sigma, label: Tensor | None, exclude: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor, Tensor]]:
        """By class, and as many rows at a time as `points.LOGITS` allows: the rows, the numbers of
        the images of the class (None: all), the weights [rows,G,n] of these images in each
        orientation, and the place of the heaviest."""
        self._check(x)
        levels = column(sigma, x.new_empty(len(x), dtype=torch.float64)) * self.scale
        if not bool((levels > 0).all()):
            raise UsageError(
                "sigma must be positive; sigma = 0 is only a target of a step: write a level above "
                "0"
            )
        dense = self.dense(x.device)
        for rows, columns, hidden in self._laws(x, label, exclude):
            yield rows, columns, *self._softmax(dense, x[rows], levels[rows], columns, hidden)

    def _softmax(
        self, dense: Dense, x: Tensor, level: Tensor, columns: Tensor | None, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The weights and the place of the heaviest; a call of its own, after which queries and
        logits are gone."""
        y = self._queries(x)
        logit, top, exact = dense.logits(y, columns, hidden)
        place = top.flatten(1).gather(1, exact.flatten(1).argmax(1, keepdim=True))[:, 0]
        return dense.weights(y, level, logit, top, exact), place

    def _mean(self, weight: Tensor, columns: Tensor | None, x: Tensor) -> Tensor:
        """The images' mean under weights [B,G,n], in the units and the dtype of x."""
        dense = self.dense(x.device)
        share = weight.sum(2, keepdim=True, dtype=torch.float64)
        pixels = dense.mean(weight, columns) + dense.centre * (share / share.sum(1, keepdim=True))
        image = pixels.new_zeros(())
        for turn, part in zip(self.turns, pixels.unbind(1), strict=True):
            image = image + turn(self.unflat(part))
        return (self.low + image / self.scale).to(x)

    def _queries(self, x: Tensor) -> Tensor:
        """Every orientation of x in pixels, counted from the centre of the data, float64
        [B,G,d]."""
        y = (x.double() - self.low) * self.scale if x.is_floating_point() else x.double()
        turned = torch.stack([self.flat(turn(y)) for turn in self.turns], 1)
        return turned - self.dense(x.device).centre

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(
                f"this law lives in {list(self.shape)}; x must be [B, "
                f"{', '.join(map(str, self.shape))}], not {list(x.shape)}"
            )

    def _laws(
        self, x: Tensor, label: Tensor | None, exclude: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """The rows of x in those portions, the numbers of the images of their class, and the place
        among these of the image that each row leaves out (-1: none; None: in no row)."""
        none = torch.full((len(x),), -1, device=x.device)
        label = none if label is None else label.to(x.device)
        exclude = none if exclude is None else exclude.to(x.device)
        if not len(label) == len(exclude) == len(x):
            raise UsageError(
                f"x has {len(x)} rows, label {len(label)} and exclude {len(exclude)}: give one "
                "number a row, -1 for none"
            )
        if len(x) and not -1 <= int(exclude.min()) <= int(exclude.max()) < len(self.images):
            raise UsageError(
                f"exclude names image {int(exclude.max())} of {len(self.images)}: count from 0, or "
                "write -1 to leave out none"
            )
        for one in label.unique().tolist():
            columns = self.members(one, x.device)
            rows = (label == one).nonzero()[:, 0]
            count = len(self.images) if columns is None else len(columns)
            hidden = exclude
            if columns is not None:
                place = torch.searchsorted(columns, exclude).clamp(max=count - 1)
                hidden = torch.where(columns[place] == exclude, place, -1)
            if count == 1 and bool((hidden[rows] >= 0).any()):
                raise UsageError(
                    "exclude leaves no image: it needs two or more in the set, and in each class "
                    "asked for"
                )
            for part in rows.split(self.dense(x.device).rows(count, len(self.turns))):
                yield part, columns, hidden[part] if bool((hidden[part] >= 0).any()) else None
