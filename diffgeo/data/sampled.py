"""A law of which nothing is known but how to draw from it.

    class Flower:
        shape = (2,)
        def sample(self, n, generator): ...      # [n,2], drawn from `generator`

    law = Sampled(Flower())

is a `core.Data`: it can be trained on, drawn, compared with by every metric that asks for samples
alone. It has no exact denoiser, no support and no atoms, so what needs one says so. Its mean and
deviation are those of 65 536 draws (known to 1/sqrt(65 536) = .4 % of the deviation), unless they
are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import generator
from diffgeo.errors import UsageError

MEASURED = 1 << 16  # draws behind the mean and the deviation
LOOKED_AT = 1 << 22  # numbers of those draws, at the most: images are fewer
NAMED = 1024  # draws whose bytes tell one law from another


@runtime_checkable
class Draws(Protocol):
    """The least that a law can be."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # *D of one sample
    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...  # [n,*D]


class Sampled:
    """The law that `draws` draws from, a `core.Data`.

    draws: has `shape`, *D, and `sample(n, generator)` -> [n,*D], a tensor or an array of finite
        numbers, whose randomness comes from the `torch.Generator` alone.
    mean: [*D]. std: the root mean variance of a coordinate, the unit in which networks see it.
    Raises UsageError where two draws from the same generator differ, or are of another shape.
    """

    coordinate: Callable[[Tensor], Tensor] | None = None
    quantile: Callable[[Tensor], Tensor] | None = None
    period: float | None = None
    atoms: Tensor | None = None
    weights: Tensor | None = None
    classes: int = 0

    def __init__(self, draws: Draws, mean: Tensor | None = None, std: float | None = None):
        self.draws = draws
        self.name = type(draws).__name__
        self.shape = tuple(int(side) for side in draws.shape)
        first = self.sample(NAMED, generator(0, *b"sampled"))
        again = self.sample(NAMED, generator(0, *b"sampled"))
        if not torch.equal(first, again):
            raise UsageError(
                f"{self.name}.sample draws other points from the same generator: draw all of its "
                "randomness from the generator that it is given, torch.randn(..., generator=...)"
            )
        content = hashlib.sha256(first.cpu().contiguous().numpy().tobytes()).hexdigest()
        self.key = f"sampled-{self.name.lower()}-{content[:16]}"
        measured = first
        if mean is None or std is None:
            count = min(MEASURED, max(NAMED, LOOKED_AT // first[0].numel()))
            measured = self.sample(count, generator(0, *b"moments"))
        self.mean = measured.mean(0) if mean is None else torch.as_tensor(mean).double()
        variance = (measured - self.mean).square().mean()
        self.std = float(variance.sqrt()) if std is None else float(std)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, float64 [n,*D] on the generator's device. `draws` is always handed
        a generator of the CPU: one of a GPU seeds it. Raises UsageError on a draw of another
        shape, or that is not finite."""
        drawn = torch.as_tensor(self.draws.sample(n, of_cpu(generator)))
        if tuple(drawn.shape) != (n, *self.shape):
            raise UsageError(
                f"{self.name}.sample({n}, generator) gives {tuple(drawn.shape)}: give an array of "
                f"shape {(n, *self.shape)}, n samples of its shape"
            )
        drawn = drawn.to(generator.device, torch.float64)
        if not bool(drawn.isfinite().all()):
            raise UsageError(
                f"{self.name}.sample gives numbers that are not finite: leave them out"
            )
        return drawn

    def store(self, x: Tensor) -> np.ndarray:
        """Samples [n,*D] as a numpy array, float64."""
        return x.detach().double().cpu().numpy()

    def restore(self, array: np.ndarray) -> Tensor:
        """Samples [n,*D] from what `store` made. Raises UsageError on another shape."""
        x = torch.as_tensor(array, dtype=torch.float64)
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise UsageError(
                f"the array has shape {tuple(x.shape)}, and {self.name} has samples of shape "
                f"{self.shape}: give an array of shape (n, {', '.join(map(str, self.shape))})"
            )
        return x


def of_cpu(generator: torch.Generator) -> torch.Generator:
    """A generator of the CPU: the same one, or one that is seeded by a draw of a GPU's."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(1 << 62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))
