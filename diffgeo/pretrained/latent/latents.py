"""The latents of a folder as the data of a command: a shape, and what a sample is seen as.

    x0 [C,h,w], in units in which a latent has a deviation of about 1
    picture = bytes of the decoder's (y/2 + 1/2), kept in 0..1,   y = VAE(x0/scaling_factor)

There is no law: nobody can draw a true latent, so `sample` refuses, and so does every metric, floor
or theory that would ask for one. Pictures are what there is: `core.Pictures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.folder import LatentFolder, read_folder
from diffgeo.store import digest

if TYPE_CHECKING:
    from diffgeo.pretrained.latent.decoder import Decoder

MOST = 16_384  # pixels of a side
NO_LAW = (
    "a model of latents has no law that true samples could be drawn from: leave out what asks for "
    "one (of metrics= there are none, clip, and fid with metrics.fid.reference=FOLDER)"
)


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of a diffusers folder, `core.Data` without a law and `core.Pictures`.

    folder: of a pipeline, as `read_folder` takes it.
    height, width: of the pictures, in pixels; None: as the folder's U-Net was trained.
    decode: whether samples are stored as the pictures that they decode to, uint8; else as they are,
        float32, and pictures are decoded where one is looked at.
    decode_batch: pictures decoded at once.
    latents: whether the latents are kept beside the pictures.
    Raises UsageError on sides that are no multiple of the pixels of a latent, and what
    `read_folder` raises.
    """

    coordinate: ClassVar[None] = None
    quantile: ClassVar[None] = None
    period: ClassVar[None] = None
    atoms: ClassVar[None] = None
    weights: ClassVar[None] = None
    classes: ClassVar[int] = 0
    std: ClassVar[float] = 1.0  # what scaling_factor is for
    low: ClassVar[float] = -1.0
    high: ClassVar[float] = 1.0
    root: ClassVar[None] = None

    folder: str | None = None
    height: int | None = None
    width: int | None = None
    decode: bool = True
    decode_batch: int = 4
    latents: bool = False

    def __post_init__(self):
        factor = self.files.factor
        for name, side in (("height", self.height), ("width", self.width)):
            if side is not None and (side < factor or side > MOST or side % factor):
                raise UsageError(
                    f"{name}={side}: a latent of {self.folder} is {factor} pixels wide: write a "
                    f"multiple of {factor} up to {MOST}, or null"
                )
        if self.decode_batch < 1:
            raise UsageError(
                f"decode_batch={self.decode_batch}: write how many pictures are decoded at once, "
                "from 1"
            )

    @cached_property
    def files(self) -> LatentFolder:
        """What the files of the folder say."""
        return read_folder(self.folder)

    @cached_property
    def picture(self) -> tuple[int, int, int]:
        """(3, H, W)"""
        own = self.files.sample_size * self.files.factor
        return 3, self.height or own, self.width or own

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w) of a latent."""
        _, height, width = self.picture
        return self.files.channels, height // self.files.factor, width // self.files.factor

    @property
    def name(self) -> str:
        return Path(self.files.path).name

    @property
    def mean(self) -> Tensor:
        return torch.zeros(self.shape, dtype=torch.float64)

    @cached_property
    def key(self) -> str:
        """Names the weights that decode, by their bytes, and the size."""
        said = " ".join(f"{name} {value}" for name, value in self.files.digests().items())
        sides = "x".join(map(str, self.shape))
        stored = "pictures" if self.decode else "latents"
        return f"{stored}-{sides}-{digest.of_bytes(said.encode())[:16]}"

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Raises UsageError: there is no law."""
        raise UsageError(NO_LAW)

    # pictures

    @cached_property
    def decoder(self) -> Decoder:
        """Made when a first picture is asked for."""
        from diffgeo.pretrained.latent.decoder import Decoder

        return Decoder(self.files, self.decode_batch)

    def quantize(self, x: Tensor) -> Tensor:
        """Latents [n,C,h,w] -> the pictures that they decode to, uint8 [n,3,H,W]; pictures pass
        through."""
        return x if x.dtype == torch.uint8 else self.decoder(x)

    def store(self, x: Tensor) -> np.ndarray:
        """Pictures, uint8 [n,H,W,3]; with decode=False latents, float32 [n,C,h,w]."""
        if not self.decode:
            return x.to("cpu", torch.float32).numpy()
        return self.quantize(x).cpu().permute(0, 2, 3, 1).contiguous().numpy()

    def restore(self, array: np.ndarray) -> Tensor:
        """The inverse of `store`. Raises UsageError on an array of another kind or size."""
        found = torch.from_numpy(array)
        if found.dtype == torch.uint8 and found.ndim == 4:
            found = found.permute(0, 3, 1, 2)
        kind = (torch.uint8, self.picture) if self.decode else (torch.float32, self.shape)
        if (found.dtype, tuple(found.shape[1:])) != kind or not len(found):
            raise UsageError(
                f"samples of shape {list(array.shape)} and type {array.dtype}: with decode="
                f"{str(self.decode).lower()} those of {self.folder} are "
                f"{str(kind[0]).removeprefix('torch.')} of shape {list(kind[1])} (channels first)"
            )
        return found

    def beside(self, x: Tensor) -> dict[str, Tensor]:
        """What is kept beside the samples that `store` makes of x: with `latents` these, float32
        [n,C,h,w]."""
        return {"latents": x.to("cpu", torch.float32)} if self.latents and self.decode else {}
