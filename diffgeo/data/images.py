"""The empirical law of a set of images, held as bytes.

    x0 = low + (high - low) p/255,   p uint8 [C,H,W]
    quantize(x) = floor(255 (x - low)/(high - low) + 1/2), kept in 0..255

The pixels lie where there is room (`hold`): on the device that asks, in memory, or on disk, from
where workers stream them. What is drawn does not depend on it: a draw is one integer i < 2N (i < N
without mirror images) from the caller's generator, image i >> 1, mirrored if i is odd; picking,
flipping and scaling then run on the generator's device, on bytes as far as they can.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from diffgeo.analytic.images import ImageDenoiser
from diffgeo.analytic.measurement import Operator
from diffgeo.core import Sigma
from diffgeo.data.byte_moments import moments
from diffgeo.data.pixels import Rows, gather
from diffgeo.data.stored import check_labels, read_stored
from diffgeo.errors import UsageError

if TYPE_CHECKING:
    from diffgeo.data.images_given import GivenImages

HOLDS = ("auto", "device", "memory", "stream")


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images, each as likely as the others; with `flip` the set and its mirror images,
    half each. A `core.ImageSet`, and as a set of points a `core.Manifold` of dimension 0.

    images: uint8 [N,C,H,W], C 1 or 3, in memory or a view of a memory-map (`file`, which workers
        open for themselves).
    labels: int64 [N] in 0..classes-1, or None.
    low, high: what the bytes 0 and 255 stand for.
    hold: where the pixels live: `device`, `memory`, `stream` (a DataLoader over the memory-map), or
        `auto`: the device, unless they take more than a quarter of a GPU's memory or half of the
        machine's; then they are streamed.
    twin: makes the law of the other split.
    Raises UsageError.
    """

    dim: ClassVar[int] = 0
    coordinate: ClassVar[None] = None
    quantile: ClassVar[None] = None
    period: ClassVar[None] = None
    atoms: ClassVar[None] = None  # a plot shows them one by one
    weights: ClassVar[None] = None

    images: Tensor
    labels: Tensor | None = None
    name: str = "images"
    split: str = "train"
    low: float = -1.0
    high: float = 1.0
    flip: bool = False
    classes: int = 0
    hold: str = "auto"
    workers: int = 2
    root: Path | None = None
    manifest: dict = field(default_factory=dict)
    file: Path | None = None
    twin: Callable[[], Images | None] = lambda: None

    def __post_init__(self):
        images = self.images
        if (
            images.dtype != torch.uint8
            or images.ndim != 4
            or images.shape[1] not in (1, 3)
            or not images.numel()
        ):
            kind = str(images.dtype).removeprefix("torch.")
            raise UsageError(
                f"images are uint8 [N,C,H,W] with C = 1 or 3, not {kind} {list(images.shape)}"
            )
        if self.labels is not None:
            check_labels(self.labels, len(self.images), self.classes, self.name)
        if not -1e6 < self.low < self.high < 1e6:
            raise UsageError(
                f"data.low={self.low} data.high={self.high}: write the values of black and white, "
                "such as -1 and 1"
            )
        if self.hold not in HOLDS:
            raise UsageError(f"data.hold={self.hold} is unknown: write one of {', '.join(HOLDS)}")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)"""
        return tuple(self.images.shape[1:])

    @property
    def picture(self) -> tuple[int, ...]:
        """(C, H, W): a sample is its own picture."""
        return self.shape

    # bytes and numbers

    def dequantize(self, pixels: Tensor) -> Tensor:
        """uint8 [...] -> float32: low + (high - low) p/255; 0 and 255 become low and high
        exactly."""
        return pixels.div(255 / (self.high - self.low)).add_(self.low)

    def quantize(self, x: Tensor) -> Tensor:
        """floor(255 (x - low)/(high - low) + 1/2) in 0..255, uint8; bytes pass through. With -1 and
        1 it is 127.5 x + 128, clipped."""
        if x.dtype == torch.uint8:
            return x
        scale = 255 / (self.high - self.low)
        # the cast drops the fraction
        return x.mul(scale).add_(0.5 - self.low * scale).clamp_(0, 255).to(torch.uint8)

    def store(self, x: Tensor) -> np.ndarray:
        """Samples [n,C,H,W] as the prepared layout has them: uint8 numpy [n,H,W], or [n,H,W,C] in
        colour."""
        pixels = self.quantize(x).cpu()
        stored = pixels[:, 0] if self.shape[0] == 1 else pixels.permute(0, 2, 3, 1)
        return stored.contiguous().numpy()

    def restore(self, array: np.ndarray) -> Tensor:
        """The inverse of `store`: uint8 [n,C,H,W]. Raises UsageError on images of another size, or
        grey for colour."""
        return read_stored(array, self.shape, self.name)

    # draws

    def pick(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """n independent images: their rows [n] and whether each is mirrored [n] (None: never), on
        the generator's device."""
        count = 2 * len(self) if self.flip else len(self)
        draw = torch.randint(count, (n,), generator=generator, device=generator.device)
        if not self.flip:
            return draw, None
        return draw >> 1, (draw & 1).bool()

    def finish(self, pixels: Tensor, mirrored: Tensor | None) -> Tensor:
        """Bytes [n,C,H,W] on the device -> x0 [n,C,H,W], float32."""
        if mirrored is not None:  # modulo 256, a fourth of the time of torch.where
            pixels = pixels + (pixels.flip(-1) - pixels) * mirrored.byte()[:, None, None, None]
        return self.dequantize(pixels)

    def rows(self, index: Tensor) -> Tensor:
        """The bytes of some images, [n] -> [n,C,H,W], on the index's device."""
        if index.device.type != "cpu" and self.resident(index.device):
            return self.on(index.device)[index]
        return gather(self.held, index.to(self.held.device)).to(index.device, non_blocking=True)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws x0, float32 [n,C,H,W] on the generator's device."""
        index, mirrored = self.pick(n, generator)
        return self.finish(self.rows(index), mirrored)

    def sample_labelled(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(x0 [n,C,H,W], labels [n] int64), the same x0 as `sample`. Raises UsageError where the
        set has no labels."""
        index, mirrored = self.pick(n, generator)
        return self.finish(self.rows(index), mirrored), self.label(index)

    def label(self, index: Tensor) -> Tensor:
        """The labels of some images, [n] -> [n], on the index's device."""
        if self.labels is None:
            raise UsageError(
                f"data={self.name} has no class labels: train without classes, or name a set that "
                "has them, e.g. data=mnist"
            )
        if index.device not in self._labels_on:
            self._labels_on[index.device] = self.labels.to(index.device)
        return self._labels_on[index.device][index]

    def stream(
        self, n: int, generators: Iterable[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(x0, labels or None) for each generator in turn: what `sample_labelled(n, g)` gives, read
        ahead by `workers` processes.

        Each generator must be an object of its own: it is drawn from some batches before its turn
        comes.
        """
        picks: deque[tuple[Tensor, Tensor | None]] = deque()  # of the batches that are on their way

        def batches() -> Iterator[np.ndarray]:
            for g in generators:
                index, mirrored = self.pick(n, g)
                picks.append((index, mirrored))
                yield index.cpu().numpy()

        loader = DataLoader(
            Rows(self.images, self.file),
            batch_size=None,
            sampler=batches(),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.workers else None,
        )
        for pixels in loader:
            index, mirrored = picks.popleft()
            x0 = self.finish(pixels.to(index.device, non_blocking=True), mirrored)
            yield x0, None if self.labels is None else self.label(index)

    # where the pixels live

    def resident(self, device: torch.device) -> bool:
        """Whether the pixels shall lie on this device as a whole."""
        if self.hold != "auto":
            return self.hold == "device"
        if device.type == "cuda":
            room = torch.cuda.get_device_properties(device).total_memory / 4
        else:
            room = memory() / 2
        return self.images.nbytes <= room

    def on(self, device: torch.device) -> Tensor:
        """All pixels on a device, copied there at the first use."""
        if device not in self._images_on:
            self._images_on[device] = self.images.to(device).contiguous()
        return self._images_on[device]

    @cached_property
    def _images_on(self) -> dict[torch.device, Tensor]:
        return {}

    @cached_property
    def _labels_on(self) -> dict[torch.device, Tensor]:
        return {}

    @property
    def streams(self) -> bool:
        """Whether `stream` is the way to read this set: it was asked for, or the pixels do not fit
        where they would be used."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return self.hold == "stream" or (self.hold == "auto" and not self.resident(device))

    @cached_property
    def held(self) -> Tensor:
        """The pixels that this process reads from: the memory-map, or with hold=memory a copy of it
        in memory."""
        return self.images.clone() if self.hold == "memory" else self.images

    # the law

    @cached_property
    def _moments(self) -> tuple[Tensor, float]:
        """Mean [C,H,W] and mean variance of a pixel, in bytes."""
        return moments(self.images, self.flip)

    @property
    def mean(self) -> Tensor:
        """E x0, float64 [C,H,W]."""
        return self.low + self._moments[0] * ((self.high - self.low) / 255)

    @property
    def std(self) -> float:
        """The root mean variance of a coordinate."""
        return self._moments[1] ** 0.5 * (self.high - self.low) / 255

    def other(self) -> Images | None:
        """The law of the other split (test for train, train for test), with the same options; None
        where the set has no other."""
        return self.twin()

    @property
    def support(self) -> Tensor | None:
        """The numbers of the images that weigh anything; None: all do."""
        return None

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> GivenImages:
        """The same images, of weight exp(-|y - A(a_i)|^2/2 sigma_n^2), whatever A is: a measurement
        y [*M]. Raises UsageError."""
        # images with weights are images: the module that has them imports this one
        from diffgeo.data.images_given import given

        return given(self, operator, y, sigma_n)

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> ImageDenoiser:
        """The posterior mean of rows with measurements y [B,*M]. Raises UsageError."""
        from diffgeo.data.images_given import given_rows

        return given_rows(self, operator, y, sigma_n)

    def project(self, x: Tensor) -> Tensor:
        """The nearest image (or mirror image), [n,C,H,W] -> [n,C,H,W]."""
        index = self.denoiser().nearest(x, columns=self.support)[1][:, 0]
        image = self.dequantize(gather(self.images, index.cpu()).to(x.device)).to(x)
        if not self.flip:
            return image
        closer = ((x - image.flip(-1)).square() - (x - image).square()).flatten(1).sum(1) < 0
        return torch.where(closer[:, None, None, None], image.flip(-1), image)

    def distance(self, x: Tensor) -> Tensor:
        """|x - project(x)|, [n,C,H,W] -> [n]."""
        return torch.linalg.vector_norm((x - self.project(x)).flatten(1), dim=1)

    def tangent(self, p: Tensor) -> Tensor:
        """No direction at all: [n,C,H,W] -> [n,C,H,W,0]."""
        return p.new_zeros(*p.shape, 0)

    def posterior(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[x0 | x], [B,C,H,W] -> [B,C,H,W]."""
        return self.denoiser()(x, sigma)

    def denoiser(self) -> ImageDenoiser:
        """The exact posterior mean under this law, streaming over the images."""
        return self._denoiser

    @cached_property
    def _denoiser(self) -> ImageDenoiser:
        return ImageDenoiser(
            self.images,
            self.low,
            self.high,
            flip=self.flip,
            labels=self.labels,
            class_count=self.classes or None,
        )

    @cached_property
    def key(self) -> str:
        """By content: the same pixels and labels in the same order, range and mirroring."""
        options = (float(self.low), float(self.high), bool(self.flip))
        content = hashlib.sha256(repr(options).encode())
        arrays = [self.images] if self.labels is None else [self.images, self.labels]
        for array in arrays:
            for block in array.split(4096):
                content.update(block.cpu().contiguous().numpy())
        size = "x".join(map(str, self.images.shape))
        return f"{self.name}-{self.split}-{size}-{content.hexdigest()[:16]}"
