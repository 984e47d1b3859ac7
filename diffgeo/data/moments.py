"""Mean and covariance of a law: the Gaussian, and the mixture of Gaussians, that stands for it.

Exact where they have a closed form (Gaussians, mixtures, clouds of points, any of these blurred or
turned into a larger space), and otherwise of n seeded samples. Of a set of images

    m = 1/n sum p,      C = 1/(n-1) sum (p - m)(p - m)^T,      p in 0..255,

then scaled to the range of the law:  C ((high - low)/255)^2. Over n instead of n - 1 it is the
covariance of the law itself, n images of equal weight: `moments` has it so, a `Fit` over n - 1.

Bytes minus 128 have products of 2^14 at most, and 1 024 of those add up exactly in float32: one
symmetric rank-k product a block gives sum p p^T to the last bit, at twice the speed of float64.
What was decomposed is cached by the content of the pixels, in units of bytes, so that another range
is another factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.analytic.exact import Density
from diffgeo.core import Data, ImageSet, Known, Uneven, generator
from diffgeo.data.gaussian import Mixture
from diffgeo.data.gaussian import spectrum as eigen
from diffgeo.data.images import Images
from diffgeo.data.law import Ambient, Blurred
from diffgeo.data.weighted import WeightedCloud
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.store.caches import cache_folder
from diffgeo.store.checkpoint import load_tensors, save_tensors

# 1024 * 128^2 = 2^24: so many products of bytes minus 128 are added exactly in float32
EXACT = 1024
LARGEST = 1 << 14  # dimensions of a covariance that is still fitted: 2 GiB
SAMPLES = 100_000  # of a law whose moments have no closed form
FAR = 1e5  # noise in units of the data's deviation, at which x says nothing of x0


@runtime_checkable
class Covariant(Data, Protocol):
    """A law that says its covariance."""

    covariance: Tensor  # [d,d]


class Fit(NamedTuple):
    """N(mean, covariance), float64 [d] and [d,d], and a word on where it is from."""

    mean: Tensor
    covariance: Tensor
    about: str


class Moments(NamedTuple):
    """N(mean, basis diag(variance) basis^T), float64, in the coordinates of a law's flattened
    points, and a word on where it is from."""

    mean: Tensor  # [d]
    basis: Tensor  # [d,d], an eigenvector a column
    variance: Tensor  # [d], decreasing; 0 where it is rounding
    about: str


# what a law is taken for


def moments(data: Data, n: int = SAMPLES, seed: int = 0) -> Moments:
    """The Gaussian with the mean and the covariance of `data`; of images with their mirror images
    where the law has them (`flip`). n, seed: samples of a law whose moments have no closed form.

    Of images it is one decomposition, cached: 25 CPU s and 75 MB for the 3072 numbers of CIFAR-10.
    Raises UsageError for images too large to have a covariance.
    """
    check_even(data)
    if isinstance(data, ImageSet):
        return of_images(data, data.images)
    found = at_infinite_noise(data) or of_law(data, n, seed)
    basis, variance = eigen(found.covariance)
    return Moments(found.mean, basis, variance, found.about)


def check_even(data: Data) -> None:
    """Raise UsageError for images with weights: their covariance is that of equal ones here."""
    if isinstance(data, ImageSet) and isinstance(data, Uneven):
        raise UsageError(
            f"{data.name}: these images have weights, and a covariance is fitted to equally likely "
            "ones; write model=exact, or leave out operator="
        )


def at_infinite_noise(data: Data) -> Fit | None:
    """The moments of a law whose exact denoiser is a `Density`: given x at so much noise, x0 has
    the law's own covariance, but for (std/sigma)^2 of it. None for other laws, and for those whose
    covariance is written down."""
    inner = data
    while isinstance(inner, Ambient | Blurred):
        inner = inner.law
    written = isinstance(inner, Covariant | Mixture) or inner.atoms is not None
    denoise = data.denoiser() if isinstance(data, Known) else None
    if written or not isinstance(denoise, Density):
        return None
    mean = data.mean.double()
    axes = torch.eye(len(mean), dtype=torch.float64)
    sigma = FAR * (data.std or 1.0)
    covariance = denoise.covariance_product(mean.expand_as(axes), sigma, axes)
    return Fit(mean, (covariance + covariance.mT) / 2, f"the law's own moments in R^{len(mean)}")


def of_images(data: ImageSet, pixels: Tensor) -> Moments:
    """The Gaussian of some images of a set, uint8 [n,C,H,W]."""
    held = Images(pixels, name=data.name, split=data.split, low=0.0, high=255.0, flip=data.flip)
    found = cached("moments", held, decomposed)
    scale = (data.high - data.low) / 255
    mean = data.low + scale * found["mean"]
    about = described(held, data.flip).replace("[0, 255]", f"[{data.low:g}, {data.high:g}]")
    return Moments(mean, found["basis"], scale**2 * found["variance"], about.replace("n - 1", "n"))


def class_moments(data: Data) -> tuple[Tensor, list[Moments]]:
    """The share of each class [C], float64 of sum 1, and the Gaussian of each; of a mixture these
    are its components. A class of which the law has no image has the share 0 and the moments of the
    whole law. Raises UsageError where the law has no classes."""
    if isinstance(data, Mixture):
        return data.components, of_components(data)
    if not isinstance(data, ImageSet) or data.labels is None:
        raise UsageError(
            "model=gaussian_classes needs a law with classes, a labelled set of images or "
            "data=mixture: write model=gaussian for one mean and covariance"
        )
    check_even(data)
    counts = torch.bincount(data.labels, minlength=data.classes)
    found = []
    for label in range(data.classes):
        pixels = data.images
        if counts[label]:
            pixels = pixels[(data.labels == label).nonzero()[:, 0]]
        own = of_images(data, pixels)
        found.append(own._replace(about=f"class {label}: {own.about}"))
    return counts.double() / len(data), found


def of_components(data: Mixture) -> list[Moments]:
    """The Gaussians that a mixture is made of."""
    found = []
    parts = zip(data.means, data.bases, data.variances, strict=True)
    for k, (mean, basis, variance) in enumerate(parts):
        found.append(Moments(mean, basis, variance, f"component {k} of the mixture"))
    return found


def decomposed(data: ImageSet) -> dict[str, Tensor]:
    """The moments of a set of images in bytes, over n."""
    found = images(data, data.flip)
    basis, variance = eigen(found.covariance)
    n = len(data.images) * (2 if data.flip else 1)
    return {"mean": found.mean, "basis": basis, "variance": zeroed(variance) * ((n - 1) / n)}


def eigenvalues(data: ImageSet) -> Tensor:
    """The eigenvalues of the covariance over n - 1 of a set of images, increasing, from
    $DIFFGEO_CACHE where they are known."""
    return cached("spectra", data, only_eigenvalues)["values"]


def only_eigenvalues(data: ImageSet) -> dict[str, Tensor]:
    return {"values": zeroed(torch.linalg.eigvalsh(images(data, data.flip).covariance))}


def zeroed(values: Tensor) -> Tensor:
    """Eigenvalues, 0 where they are rounding."""
    rounding = len(values) * torch.finfo(torch.float64).eps * float(values.abs().max())
    return torch.where(values > rounding, values, 0.0)


def cached(
    room: str, data: ImageSet, make: Callable[[ImageSet], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `make` makes of a set of images, from $DIFFGEO_CACHE/room where it is known. The name is
    the content of the pixels, the file carries its digest."""
    path = cache_folder() / room / f"{data.key}.safetensors"
    with suppress(DiffgeoError):  # absent or damaged: computed again
        return load_tensors(path)[0]
    made = make(data)
    with suppress(DiffgeoError):  # a cache that cannot be written is no cache
        save_tensors(path, made)
    return made


# the fit itself


def described(data: ImageSet, flip: bool) -> str:
    mirrored = ", and their mirror images" if flip else ""
    return (
        f"{len(data.images)} images of {data.name} ({data.split}{mirrored}), "
        f"pixels in [{data.low:g}, {data.high:g}], covariance over n - 1"
    )


def fit(data: Data, flip: bool = False, n: int = SAMPLES, seed: int = 0) -> Fit:
    """The Gaussian that has the moments of `data`, in the coordinates of its flattened points."""
    check_even(data)
    return images(data, flip) if isinstance(data, ImageSet) else of_law(data, n, seed)


def of_law(data: Data, n: int = SAMPLES, seed: int = 0) -> Fit:
    """Mean and covariance of a law: in closed form where its class has what it takes, else of n
    samples."""
    if isinstance(data, Ambient):  # Q C Q^T
        mean, covariance, about = of_law(data.law, n, seed)
        return Fit(data.lift(mean), data.lift(data.lift(covariance).mT), about)
    if isinstance(data, Blurred):  # C + s^2 I
        mean, covariance, about = of_law(data.law, n, seed)
        noise = data.s**2 * torch.eye(len(mean), dtype=covariance.dtype)
        return Fit(mean, covariance + noise, about)
    if isinstance(data, Covariant):
        mean = data.mean.flatten()
        return Fit(mean, data.covariance, f"the law's own covariance in R^{len(mean)}")
    if isinstance(data, Mixture):
        apart = data.means - data.mean
        within = (data.components[:, None, None] * data.covariances).sum(0)
        between = (apart.mT * data.components) @ apart
        return Fit(data.mean, within + between, "the exact moments of the mixture")
    if isinstance(data, WeightedCloud):
        apart = data.points.double() - data.mean
        covariance = (apart.mT * data.shares) @ apart
        return Fit(data.mean, covariance, f"the exact moments of {len(apart)} weighted points")
    if data.atoms is not None and data.weights is not None:
        apart = data.atoms.double() - data.mean
        covariance = (apart.mT * data.weights) @ apart
        return Fit(data.mean.double(), covariance, f"the exact moments of {len(apart)} points")
    x = data.sample(n, generator(seed, *b"spectrum")).double().flatten(1)
    return Fit(x.mean(0), x.mT.cov(), f"the moments of {n} samples (seed {seed})")


def images(data: ImageSet, flip: bool = False) -> Fit:
    """Mean and covariance (over n - 1) of a set of images, flattened as [C,H,W]; with `flip` of it
    and its mirror images."""
    d = math.prod(data.shape)
    n = len(data.images)
    if d > LARGEST:
        raise UsageError(
            f"{data.name} has {d} numbers an image, and a covariance takes {LARGEST} at most: "
            "write data.size=64 or smaller"
        )
    gram, total = sums(data)
    if flip:
        mirror = torch.arange(d).view(data.shape).flip(-1).flatten()
        gram = gram + gram[mirror][:, mirror]
        total = total + total[mirror]
        n = 2 * n
    if n < 2:
        raise UsageError(
            f"{data.name} has {n} image, which has no covariance: write data.limit=2 or more"
        )
    scale = (data.high - data.low) / 255
    covariance = (gram - torch.outer(total, total) / n) * (scale**2 / (n - 1))
    return Fit(data.low + scale * (total / n + 128), covariance, described(data, flip))


def sums(data: ImageSet) -> tuple[Tensor, Tensor]:
    """Of all images, sum (p - 128)(p - 128)^T [d,d] and sum (p - 128) [d], exactly, flattened as
    [C,H,W]."""
    from scipy.linalg.blas import ssyrk

    d = math.prod(data.shape)
    pixels = data.images.permute(0, 2, 3, 1)  # in the order of the bytes
    gram = torch.zeros(d, d, dtype=torch.float64)
    total = torch.zeros(d, dtype=torch.float64)
    for block in pixels.split(EXACT):
        x = block.flatten(1).float().sub_(128)
        gram += torch.from_numpy(ssyrk(1.0, x.numpy().T, lower=0).T)  # the triangle below, by rows
        total += x.sum(0)
    gram += gram.tril(-1).mT
    order = torch.arange(d).view(pixels.shape[1:]).permute(2, 0, 1).flatten()
    return gram[order][:, order], total[order]
