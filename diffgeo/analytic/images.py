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

What the weights say beside D (entropy, collision, trace of dD/dx, shares of the classes) comes of
the same two passes (`analytic.weights`), as does log p_sigma(x); Cov[x0|x] v takes two more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic import weights
from diffgeo.analytic.classes import Classes
from diffgeo.analytic.exact import Posterior, check_direction
from diffgeo.analytic.pixels import Pixels
from diffgeo.analytic.points import Dense
from diffgeo.core import Sigma, column
from diffgeo.errors import UsageError
from diffgeo.machine.precision import full_precision


class Weighed(NamedTuple):
    """Some rows of x, and the weights of the images that each may be."""

    rows: Tensor  # their numbers, [R]
    columns: Tensor | None  # the numbers of the images, [n]; None: all
    left_out: Tensor | int  # how many of these each row leaves out, [R]
    level: Tensor  # sigma in bytes, float64 [R]
    weight: Tensor  # [R,G,n]
    place: Tensor  # of the heaviest image among the n, [R]
    turn: Tensor  # its orientation, [R]
    log_prior: Tensor | None  # of the images' own weights, [R,G,n]; None: they are equal

    @property
    def nearest(self) -> Tensor:
        """The number of the heaviest image, [R]."""
        return self.place if self.columns is None else self.columns[self.place]

    @property
    def own(self) -> Tensor:
        """The logarithm of the heaviest image's own weight, [R]."""
        assert self.log_prior is not None
        return self.log_prior[torch.arange(len(self.place)), self.turn, self.place]


@dataclass(frozen=True, eq=False)
class ImageDenoiser(Pixels):
    """E[x0 | x] of uint8 images [N,C,H,W]: a `core.Denoiser`, and a `Finite` law.

    low, high: the values of x0 that 0 and 255 stand for.
    flip: the law is the set and its mirror images, half each. labels: int64 [N]. class_count: how
    many there are; None: as many as the labels have.
    The answer has the dtype and device of x; |error| stays below 1e-3 sigma for sigma from 1e-3 to
    100. A copy of the bytes is kept on each device that asks; a call takes less than 256 MiB beside
    it, x and the answer.
    Raises UsageError for images or labels of another kind, and later for an x of another shape, a
    sigma that is not positive, a label that the set does not have, and where nothing is left when
    one image is excluded.
    """

    labels: Tensor | None = None
    class_count: int | None = None

    def __post_init__(self):
        super().__post_init__()
        _ = self.laws  # labels of another kind are refused here

    @cached_property
    def laws(self) -> Classes:
        """Which images a row may be."""
        return Classes(len(self.images), self.labels, self.class_count)

    # what is kept on each device that asks

    @cached_property
    def _dense_on(self) -> dict[torch.device, Dense]:
        return {}

    def dense(self, device: torch.device) -> Dense:
        """The images as the points of a `Dense`."""
        if device not in self._dense_on:
            self._dense_on[device] = Dense(self.flat(self.images.to(device)))
        return self._dense_on[device]

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
        for part in self._weights(x, sigma, label, exclude):
            mean[part.rows] = self._mean(part, self._sums(part), x)
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
        collision = torch.empty_like(entropy)
        trace = torch.empty_like(entropy)
        nearest = torch.empty_like(entropy, dtype=torch.int64)
        classes = None
        if self.labels is not None:
            classes = entropy.new_empty(len(x), self.laws.classes)
        for part in self._weights(x, sigma, label, exclude):
            sums = self._sums(part)
            mean[part.rows] = self._mean(part, sums, x)
            entropy[part.rows] = weights.entropy(part.weight)
            collision[part.rows] = weights.collision(part.weight)
            trace[part.rows] = self._trace(part, sums, entropy[part.rows], x)
            nearest[part.rows] = part.nearest
            if classes is not None:
                names = self.laws.names(part.columns, x.device)
                classes[part.rows] = weights.shares(part.weight, names, self.laws.classes)
        return Posterior(mean, entropy, entropy.exp(), nearest, collision, trace, classes)

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        """tr dD/dx, float64 [B]; conditions as in `posterior`."""
        return self.posterior(x, sigma, **cond).trace

    @full_precision()
    def log_density(
        self,
        x: Tensor,
        sigma: Sigma,
        *,
        label: Tensor | None = None,
        exclude: Tensor | None = None,
        **cond,
    ) -> Tensor:
        """log p_sigma(x) in nats, float64 [B]; conditions as in `posterior`."""
        found = torch.empty(len(x), dtype=torch.float64, device=x.device)
        for part in self._weights(x, sigma, label, exclude):
            square = self._residual(part, x).square().sum((1, 2, 3)) / self.scale**2
            mass = weights.total(part.weight).log() - weights.log_heaviest(part.weight)
            mass = mass + self._share(part).to(mass)
            level = part.level / self.scale
            found[part.rows] = weights.log_density(square, mass, level, x[0].numel())
        return found

    @full_precision()
    def covariance_product(
        self,
        x: Tensor,
        sigma: Sigma,
        v: Tensor,
        *,
        label: Tensor | None = None,
        exclude: Tensor | None = None,
        **cond,
    ) -> Tensor:
        """Cov[x0 | x] v = sum_i p_i (a_i - D) ((a_i - D).v), like x; conditions as in
        `posterior`."""
        check_direction(v, x)
        product = torch.empty_like(x)
        for part in self._weights(x, sigma, label, exclude):
            along = self._along(v[part.rows].double(), part.columns)
            weight = part.weight / weights.total(part.weight)[:, None, None].to(part.weight)
            centre = (weight * along).sum((1, 2), dtype=torch.float64, keepdim=True)
            bent = part._replace(weight=weight.mul_(along.sub_(centre.to(along))))
            product[part.rows] = (self._image(bent, self._sums(bent)) / self.scale**2).to(x)
        return product

    @full_precision()
    def nearest(
        self, x: Tensor, k: int = 1, columns: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k <= 32 nearest images: root-mean-square distances per coordinate in the units of x0,
        increasing, float64 [B,k], and numbers [B,k]. Under `flip` an image is as near as the nearer
        of it and its mirror image. x [B,C,H,W] floats, or bytes as they are.
        columns: only the images so numbered.
        """
        self.check_shape(x)
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

    def _weights(
        self, x: Tensor, sigma: Sigma, label: Tensor | None, exclude: Tensor | None
    ) -> Iterator[Weighed]:
        """By class, and as many rows at a time as `points.LOGITS` allows, the weights of the images
        in each orientation."""
        self.check_shape(x)
        levels = column(sigma, x.new_empty(len(x), dtype=torch.float64)) * self.scale
        if not bool((levels > 0).all()):
            raise UsageError(
                "sigma must be positive; sigma = 0 is only a target of a step: write a level above "
                "0"
            )
        dense = self.dense(x.device)
        for rows, columns, hidden in self.laws.choices(x, label, exclude):
            count = len(self.images) if columns is None else len(columns)
            size = dense.rows(count, len(self.turns))
            for part, own in zip(rows.split(size), hidden.split(size), strict=True):
                left_out = own if bool((own >= 0).any()) else None
                log_prior = self.log_prior(part, columns, left_out)
                found = self._softmax(dense, x[part], levels[part], columns, left_out, log_prior)
                yield Weighed(part, columns, (own >= 0).long(), levels[part], *found, log_prior)

    def log_prior(
        self, rows: Tensor, columns: Tensor | None, hidden: Tensor | None
    ) -> Tensor | None:
        """log of the images' own weights in each orientation, of sum 1, float64 [R,G,n]: of some
        rows and of the images `columns`, that in the place `hidden` left out. None: they are
        equal."""
        return None

    def _softmax(
        self,
        dense: Dense,
        x: Tensor,
        level: Tensor,
        columns: Tensor | None,
        hidden: Tensor | None,
        log_prior: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weights, the place of the heaviest and its orientation; a call of its own, after
        which queries and logits are gone."""
        y = self._queries(x)
        prior = None if log_prior is None else level[:, None, None] ** 2 * log_prior
        logit, top, exact = dense.logits(y, columns, hidden, prior)
        best = exact.flatten(1).argmax(1, keepdim=True)
        place = top.flatten(1).gather(1, best)[:, 0]
        turn = best[:, 0] // top.shape[2]
        return dense.weights(y, level, logit, top, exact), place, turn

    def _sums(self, part: Weighed) -> Tensor:
        """sum_i p_i a_i in each orientation, counted from the centre, float64 [R,G,d]."""
        return self.dense(part.weight.device).mean(part.weight, part.columns)

    def _along(self, v: Tensor, columns: Tensor | None) -> Tensor:
        """a_i . v of the images in each orientation but for a constant of the row, [R,G,n]."""
        dense = self.dense(v.device)
        directions = self.turned(v)
        centres = directions @ dense.centre  # of what the points are counted from
        along = dense.along(directions, columns)
        return along.add_((centres - centres[:, :1])[..., None].to(along))

    def _mean(self, part: Weighed, sums: Tensor, x: Tensor) -> Tensor:
        """D in the units and the dtype of x, [R,C,H,W]."""
        share = part.weight.sum(2, keepdim=True, dtype=torch.float64)
        share = share / share.sum(1, keepdim=True)
        return (self.low + self._upright(sums, share, x.device) / self.scale).to(x)

    def _image(self, part: Weighed, sums: Tensor) -> Tensor:
        """sum_i p_i a_i in bytes, with the weights as they are, float64 [R,C,H,W]."""
        share = part.weight.sum(2, keepdim=True, dtype=torch.float64)
        return self._upright(sums, share, sums.device)

    def _upright(self, sums: Tensor, share: Tensor, device: torch.device) -> Tensor:
        """The sum over the orientations, [R,C,H,W], of sums counted from the centre."""
        return self.upright(sums + self.dense(device).centre * share)

    def _heaviest(self, part: Weighed) -> Tensor:
        """The heaviest image of each row as it occurs, in bytes, float64 [R,C,H,W]."""
        dense = self.dense(part.weight.device)
        image = self.unflat(dense.points[part.nearest].double())
        for number, turn in enumerate(self.turns):
            rows = (part.turn == number).nonzero()[:, 0]
            image[rows] = turn(image[rows])
        return image

    def _residual(self, part: Weighed, x: Tensor) -> Tensor:
        """y - b in bytes: how far each row is from its heaviest image, float64 [R,C,H,W]."""
        return self.bytes(x[part.rows]) - self._heaviest(part)

    def _share(self, part: Weighed) -> Tensor:
        """The logarithm of the heaviest image's weight in the law that each row is of, [R]."""
        if part.log_prior is not None:
            return part.own
        atoms = len(self.turns) * (part.weight.shape[2] - part.left_out)
        return -torch.as_tensor(atoms, dtype=torch.float64).log()

    def _trace(self, part: Weighed, sums: Tensor, entropy: Tensor, x: Tensor) -> Tensor:
        """tr dD/dx, float64 [R]: see `analytic.weights`."""
        total = weights.total(part.weight)
        share = total.view(-1, 1, 1, 1)
        step = (self._image(part, sums) - share * self._heaviest(part)) / share
        excess = entropy / total + weights.log_heaviest(part.weight)
        if part.log_prior is not None:  # log(p_b/p_i) holds log(w_b/w_i), which is no distance
            excess = excess - part.own + (part.weight * part.log_prior).sum((1, 2)) / total
        residual = self._residual(part, x)
        return weights.trace(excess, step.flatten(1), residual.flatten(1), part.level)

    def _queries(self, x: Tensor) -> Tensor:
        """Every orientation of x in pixels, counted from the centre of the data, float64
        [B,G,d]."""
        return self.turned(self.bytes(x)) - self.dense(x.device).centre
