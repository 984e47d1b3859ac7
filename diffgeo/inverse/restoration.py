"""A restoration: draws of an algorithm for the images that were measured, in groups.

    sample number i draws + j  is  draw j of image i,       noise of its own key (seed, number)

A denoiser that multiplies float32 matrices rounds a row as the whole batch lies, and the exact one
of images reads what weighs anything in any row. So an image travels in a group that its number
alone decides: `group` images i with the same i // group, whichever of them are asked for. Its bytes
are then the same restored alone or among others. A group costs little more than one image, and its
other images are dropped.

With as many draws as a batch holds, or more, a group is one image; so it is where every image has
an operator of its own, such as the shake of a camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.measurement import Measurement, Operator
from diffgeo.core import Data
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.condition import Measured
from diffgeo.inverse.operators.base import Imagewise
from diffgeo.simulation import Simulation
from diffgeo.simulation.batches import fitting, ranges
from diffgeo.simulation.flow import end

# rows that travel together where nothing is said. Eight rows of MNIST's exact denoiser cost .09 CPU
# seconds and one .04; a network's cost eight times one
EXACT = 8
LEARNED = 4
POINTS = 64

OUT = 1e60  # no law has a number as large; its fourth power is still one


@runtime_checkable
class Accounting(Protocol):
    """A step that tells something of each row when a run is over: evidence, sample sizes."""

    def account(self) -> dict[str, Tensor]: ...  # by name, [B] each


class Restored(NamedTuple):
    """Draws of some images, and what they took."""

    images: range  # their numbers
    draws: Tensor  # [images,draws,*D] float64
    nfe: float  # evaluations a draw, products with the Jacobian among them
    told: dict[str, Tensor]  # what the step tells of every draw, [images,draws]


@dataclass(frozen=True, eq=False)
class Restoration:
    """How measured images are restored.

    simulation: sampler, levels, seed and denoiser of the prior.
    algorithm: what is made of the measurement.
    operator, sigma_n: of all measurements; an `Imagewise` operator differs from image to image.
    measured: the measurement of one image by its number, [*M].
    count: how many images there are to measure, numbered from 0; None: no end.
    data: the law.
    draws: of each image.
    batch: rows that travel together; None: as many as are worth it.
    """

    simulation: Simulation
    algorithm: Algorithm
    operator: Operator
    sigma_n: float
    measured: Callable[[int], Tensor]
    count: int | None
    data: Data
    draws: int = 1
    batch: int | None = None

    @property
    def rows(self) -> int:
        """How many rows travel together."""
        if self.batch is not None:
            return self.batch
        least = LEARNED if trainable(self.simulation.denoise) else EXACT
        if len(self.simulation.shape) == 1:
            least = POINTS
        return max(least, min(self.draws, fitting(self.simulation.shape)))

    def groups(self, images: range) -> list[range]:
        """The groups, whole, in which these images lie."""
        size = max(1, self.rows // self.draws)
        if isinstance(self.operator, Imagewise):
            size = 1
        found = []
        for number in range(images.start // size, (images.stop - 1) // size + 1):
            last = (number + 1) * size
            if self.count is not None:
                last = min(last, self.count)
            found.append(range(number * size, last))
        return found

    def operator_of(self, number: int) -> Operator:
        """The operator of an image."""
        if isinstance(self.operator, Imagewise):
            return self.operator.of_image(number)
        return self.operator

    def told(self, group: range) -> Simulation:
        """The simulation of a group of images, each told its measurement."""
        y = [self.measured(number) for number in group]
        stacked = y[0] if len(group) == 1 else torch.stack(y)
        condition = Measured(
            Measurement(self.operator_of(group.start), stacked, self.sigma_n),
            self.algorithm,
            self.data,
            draws=self.draws,
            first=group.start,
            inner=self.simulation.condition,
        )
        return replace(self.simulation, condition=condition)

    def restored(self, group: range) -> Restored:
        """The draws of a group. Raises DiffgeoError where one is not finite."""
        simulation = self.told(group)
        numbers = range(group.start * self.draws, group.stop * self.draws)
        # of several images all rows go together, of one its draws in batches
        pieces = [numbers] if len(group) > 1 else ranges(numbers, self.rows)
        found = []
        accounts: list[dict[str, Tensor]] = []
        evaluations = 0
        for piece in pieces:
            start = simulation.start(piece)
            found.append(simulation.kept(end(simulation.steps(start), start.x)))
            evaluations += start.counted.rows
            if isinstance(start.method, Accounting):
                accounts.append(start.method.account())
        samples = torch.cat(found)
        check_finite(samples)
        shape = len(group), self.draws
        told = {}
        for name in accounts[0] if accounts else ():
            told[name] = torch.cat([account[name] for account in accounts]).view(shape)
        draws = samples.view(*shape, *samples.shape[1:])
        return Restored(group, draws, evaluations / len(numbers), told)

    def parts(self, images: range) -> Iterator[Restored]:
        """These images, group by group."""
        for group in self.groups(images):
            whole = self.restored(group)
            kept = range(max(images.start, group.start), min(images.stop, group.stop))
            own = slice(kept.start - group.start, kept.stop - group.start)
            told = {name: values[own] for name, values in whole.told.items()}
            yield Restored(kept, whole.draws[own], whole.nfe, told)


def check_finite(samples: Tensor) -> None:
    """Raise DiffgeoError where a sample [n,*D] is not finite, or so far out that its distances are
    not."""
    within = samples.abs() < OUT  # false of nan
    bad = int((~within).flatten(1).any(1).sum())
    if bad:
        raise DiffgeoError(
            f"{bad} of {len(samples)} draws are not finite: the algorithm diverged: write its "
            "implicit step, or more steps (sampler.steps=)"
        )
