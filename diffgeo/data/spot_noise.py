"""Textures: the asymptotic discrete spot noise of one image, a law whose spectrum is its Fourier
transform (`analytic.spot_noise` has the formulas, the papers among them).

It is the one law of pictures here with a density along its support, an exact denoiser at the cost
of two Fourier transforms, and a distance W2 to any cloud in closed form: what Pierret and Galerne
(2024) hold a network against. A sample is numbers, not bytes; low and high say what is black and
white where it is looked at. Next to the border the law goes on at the opposite one (a torus); a
picture that does not fit itself there gives a texture with horizontal and vertical streaks.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic.measurement import Linear, Operator
from diffgeo.analytic.spot_noise import SpotNoise, spot_of
from diffgeo.core import Denoiser
from diffgeo.data.law import Law
from diffgeo.data.pictures import SUFFIXES, decode, facts, square
from diffgeo.data.spot_noise_given import GivenTexture, TextureRows
from diffgeo.errors import UsageError
from diffgeo.store.arrays import read_array

LARGEST = 1 << 12  # numbers of a picture whose covariance is still written out: 128 MiB
SIDE = 32  # of the picture that stands for one that is not named


class Texture(Law):
    """mean + t * w of an image u [C,H,W], t = (u - mean)/sqrt(HW), w white: N(mean, C) with C of
    rank one at each frequency. Samples are float64 [n,C,H,W] in the units of u.

    low, high: what is black and what is white. about: where the image is from.
    dim: how many eigenvalues are positive. Raises UsageError on an image of one colour.
    """

    root: Path | None = None
    split = "train"

    def __init__(
        self, image: Tensor, low: float = -1.0, high: float = 1.0, about: str = "an image"
    ):
        check_shades(low, high)
        check_image(image, about)
        mean, spot = spot_of(image)
        self.noise = SpotNoise(mean, spot)
        self.low = low
        self.high = high
        self.about = about
        self.name = "texture"
        self.shape = tuple(spot.shape)
        self.picture = self.shape
        self.dim = int((self.noise.values > 0).sum())
        self.mean = mean.expand(self.shape).clone()
        self.std = math.sqrt(float(self.noise.values.sum()) / spot.numel())

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues of C, one a frequency [HW], and one 0 for each of the (C-1)HW directions
        across; and how often each is one."""
        values = self.noise.values.flatten()
        across = (self.shape[0] - 1) * len(values)
        return torch.cat([values, values.new_zeros(1)]), torch.cat(
            [torch.ones_like(values), values.new_full((1,), across)]
        )

    @cached_property
    def covariance(self) -> Tensor:
        """C [d,d] in the coordinates of flattened pictures. Raises UsageError where it is too
        large to be written out."""
        self.check_size("its covariance is written out")
        axes = self.noise.axes()
        return axes.mT * self.noise.values.flatten() @ axes

    def check_size(self, why: str) -> None:
        """Raise UsageError where a matrix of this law would be too large."""
        size = math.prod(self.shape)
        if size > LARGEST:
            raise UsageError(
                f"data=texture: {why}, and {size} numbers a picture are too many ({LARGEST} at "
                "most): write data.size=32 or data.crop=32"
            )

    # pictures

    def quantize(self, x: Tensor) -> Tensor:
        """floor(255 (x - low)/(high - low) + 1/2) in 0..255, uint8; bytes pass through."""
        if x.dtype == torch.uint8:
            return x
        shares = (x.double() - self.low) / (self.high - self.low)
        return (255 * shares + 0.5).clamp(0, 255).to(torch.uint8)

    # the law

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        size = (n, *self.shape[1:])
        device = generator.device
        white = torch.randn(size, generator=generator, dtype=torch.float64, device=device)
        return self.noise.made_of(white)

    def project(self, x: Tensor) -> Tensor:
        own = self.noise.on(x.device)
        return own.mean + own.along(x - own.mean, 1.0)

    def distance(self, x: Tensor) -> Tensor:
        """|x - project(x)|, [n,C,H,W] -> [n]."""
        return torch.linalg.vector_norm((x - self.project(x)).flatten(1), dim=1)

    def tangent(self, p: Tensor) -> Tensor:
        """The same at every point: [n,d,dim] of flattened pictures."""
        self.check_size("its tangent space is written out")
        held = (self.noise.values > 0).flatten()
        basis = self.noise.axes()[held].mT.to(p)
        return basis.expand(len(p), -1, -1)

    def posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.noise.posterior(x, sigma)

    def formulas(self) -> object:
        return self.noise

    def parameters(self):
        content = hashlib.sha256(self.noise.spot.contiguous().numpy().tobytes())
        content.update(self.noise.mean.contiguous().numpy().tobytes())
        size = "x".join(map(str, self.shape))
        return [("image", size, content.hexdigest()), ("low", self.low), ("high", self.high)]

    # given a measurement

    def update(self, operator: Linear, sigma_n: float) -> posteriors.Update:
        """What a measurement by this operator makes of the law, whatever y is, in the coordinates
        of flattened pictures. Raises UsageError where it is too large."""
        self.check_size("its posterior is a matrix")
        held = (self.noise.values > 0).flatten()
        basis = self.noise.axes()[held].mT
        variance = self.noise.values.flatten()[held]
        a = posteriors.matrix(operator)
        return posteriors.update(a, sigma_n, self.mean.flatten(), basis, variance)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> Law:
        """N(m + K (y - A m), C - K A C), a law of pictures again. Raises UsageError where A is not
        linear, or the picture too large."""
        posteriors.check(operator, y, sigma_n, self.shape)
        if not isinstance(operator, Linear):
            return super().given(operator, y, sigma_n)
        update = self.update(operator, sigma_n)
        mean, log_evidence = update.of(y)
        return GivenTexture(update, mean, self).known_by(log_evidence)

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser | None:
        """The posterior mean of rows with measurements y [B,*M]; None where A is not linear."""
        if not isinstance(operator, Linear):
            return None
        update = self.update(operator, sigma_n)
        rows = y.double().flatten(1)
        posteriors.check_possible(update.log_evidence(rows)[:, None])
        return TextureRows.of(update, update.mean_of(rows), self.shape)


# from a file to a law


def texture(
    image: str | None = None,
    size: int | None = None,
    crop: int | None = None,
    low: float = -1.0,
    high: float = 1.0,
) -> Texture:
    """The texture of the picture in `image`: what conf/data/texture.yaml calls.

    image: a picture (.png, .jpg, ...), whose bytes become low + (high - low) byte/255, or numbers
        [H,W] or [C,H,W] in a .npy file, taken as they are; None: `procedural`.
    crop: the side of the centred square that is kept. size: the side that it is resized to.
    Raises UsageError, DiffgeoError.
    """
    check_shades(low, high)
    for option, side in (("size", size), ("crop", crop)):
        if side is not None and not 2 <= side <= 1 << 12:
            raise UsageError(f"data.{option}={side}: write a side from 2 to {1 << 12}, or null")
    if image is None:
        if crop is not None:
            raise UsageError("data.crop= is of a picture: write data.image=FILE beside it")
        pixels = procedural(size or SIDE)
        return Texture(numbers_of(pixels, low, high), low, high, "the picture of data.image=null")
    path = Path(image)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        if size is not None:
            raise UsageError(
                f"data.size={size} resizes a picture, and data.image={image} holds numbers: write "
                "data.crop=, or leave it out"
            )
        return Texture(cropped(of_array(image), crop), low, high, image)
    if suffix not in SUFFIXES:
        raise UsageError(
            f"data.image={image}: write a picture ({', '.join(SUFFIXES[:2])}, ...) or numbers "
            "[C,H,W] in a .npy file"
        )
    if not path.is_file():
        raise UsageError(f"data.image={image}: there is no such file")
    return Texture(numbers_of(of_picture(path, size, crop), low, high), low, high, image)


def check_shades(low: float, high: float) -> None:
    """Raise UsageError unless `low` and `high` are what black and white may stand for."""
    if not -1e6 < low < high < 1e6:
        raise UsageError(
            f"data.low={low} data.high={high}: write the values of black and white, such as -1 and "
            "1"
        )


def check_image(image: Tensor, about: str) -> None:
    """Raise UsageError unless an image is finite, of one or three channels, and of more than one
    colour."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or min(image.shape[1:]) < 2:
        raise UsageError(
            f"data.image={about} has shape {list(image.shape)}: write [H,W] or [C,H,W] with C = 1 "
            "or 3 and sides of 2 or more"
        )
    if not bool(image.isfinite().all()):
        raise UsageError(f"data.image={about} holds numbers that are not finite")
    spread = image.amax((1, 2)) - image.amin((1, 2))
    if not bool((spread > 0).any()):
        raise UsageError(
            f"data.image={about} has one colour, and its texture is one picture: write another"
        )


def numbers_of(pixels: Tensor, low: float, high: float) -> Tensor:
    """low + (high - low) byte/255, float64."""
    return low + (high - low) * pixels.double() / 255


def of_picture(path: Path, size: int | None, crop: int | None) -> Tensor:
    """The bytes of a picture, uint8 [C,H,W]."""
    told = facts(path)
    box = None
    if crop is not None:
        check_crop(crop, told.height, told.width)
        box = square(told.height, told.width, crop)
    elif size is not None:
        box = square(told.height, told.width)  # of another shape it would be stretched
    pixels = torch.from_numpy(np.array(decode(path, told.channels, box, size)))
    return pixels[None] if told.channels == 1 else pixels.permute(2, 0, 1)


def of_array(path: str) -> Tensor:
    """The numbers of a file, [C,H,W]."""
    found = torch.from_numpy(read_array(path, "data.image"))
    return found[None] if found.ndim == 2 else found


def cropped(image: Tensor, crop: int | None) -> Tensor:
    """The centred square of an image [C,H,W]; all of it if None."""
    if crop is None or image.ndim != 3:
        return image
    height, width = image.shape[1:]
    check_crop(crop, height, width)
    left, top, right, bottom = square(height, width, crop)
    return image[:, top:bottom, left:right]


def check_crop(crop: int, height: int, width: int) -> None:
    if crop > min(height, width):
        raise UsageError(
            f"data.crop={crop}: the picture has {height} x {width} pixels; write a smaller square"
        )


def procedural(side: int) -> Tensor:
    """A picture that any side can have, uint8 [3,side,side], and that fits itself at its borders:
    two fields of waves, one coarse and one that lies along a diagonal, in two colours. It is the
    same everywhere: no random number is drawn."""
    golden = (math.sqrt(5) - 1) / 2
    place = torch.arange(side, dtype=torch.float64) / side
    rows = place[:, None]
    columns = place[None, :]
    reach = min(side // 2 - 1, 24) if side > 4 else 1
    fields = torch.zeros(2, side, side, dtype=torch.float64)
    number = 0
    for down in range(-reach, reach + 1):
        for right in range(reach + 1):
            length = math.hypot(down, right)
            if length == 0:
                continue
            number += 1
            phase = 2 * math.pi * ((number**2 * golden) % 1)
            wave = torch.cos(2 * math.pi * (down * rows + right * columns) + phase)
            along = math.exp(-0.5 * ((down - right) / 2) ** 2 - 0.5 * ((length - 7) / 3) ** 2)
            fields[0] += wave / (3 + length)
            fields[1] += wave * along
    fields = fields / fields.square().mean((1, 2), keepdim=True).sqrt()
    colours = torch.tensor([[0.8, 0.6, 0.3], [0.3, -0.1, 0.5]], dtype=torch.float64)
    mixed = torch.einsum("khw,kc->chw", fields, colours)
    return (127.5 + 60 * mixed).round().clamp(0, 255).to(torch.uint8)
