"""The spectrum of a Gaussian: read from a file, named, or fitted to a law. Everything in
theory/gaussian.py needs no more of N(m, C).

A fit has the mean and the covariance of the law: exact where they have a closed form (Gaussians,
mixtures, clouds of points, any of these blurred or turned into a larger space), and otherwise of n
seeded samples. Of a set of images it is the empirical one, over n - 1 (`data.moments`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.core import Data, ImageSet
from diffgeo.data import Texture
from diffgeo.data.gaussian import spectrum as eigen
from diffgeo.data.moments import SAMPLES, described, eigenvalues, fit
from diffgeo.errors import UsageError
from diffgeo.store.arrays import read_array
from diffgeo.theory.gaussian import Spectrum


def grouped(values: Tensor, mean: Tensor | None = None, counts: Tensor | None = None) -> Spectrum:
    """Eigenvalues [d], decreasing, equal ones as one entry with its multiplicity; `mean` [d], in
    the same eigenvectors, becomes its norm in each eigenspace."""
    distinct, place = torch.unique(values, return_inverse=True)

    def total(parts: Tensor) -> Tensor:
        return torch.zeros_like(distinct).index_add_(0, place, parts).flip(0)

    return Spectrum(
        distinct.flip(0),
        total(torch.ones_like(values) if counts is None else counts),
        None if mean is None else total(mean.square()).sqrt(),
    )


# files and names


def load(path: str | Path, mean: str | Path | None = None) -> tuple[Spectrum, str]:
    """The spectrum in FILE.npy, and how it was read: a symmetric matrix is a covariance; [k] are
    eigenvalues, [k,2] eigenvalues and their counts. `mean` FILE.npy [k]: of a covariance in its own
    coordinates, otherwise its norm in each eigenspace.

    Raises UsageError on any other array, negative eigenvalues or counts, NaN, and an asymmetric
    covariance.
    """
    if not str(path).endswith((".npy", ".npz", ".csv")):
        raise UsageError(
            f"spectrum={path} is no .npy file, nor a spectrum by name: write FILE.npy, power, "
            "isotropic or texture"
        )
    array = torch.from_numpy(read_array(path, "spectrum"))
    if array.ndim == 2 and 1 in array.shape and array.numel() > 1:
        array = array.flatten()  # one column, or one row
    check_array(path, array)
    centre = None
    if mean is not None:
        centre = mean_of(mean, len(array))
    try:
        if array.ndim == 2 and array.shape[0] == array.shape[1] and not table(array):
            return of_covariance(path, array, centre)
        return of_eigenvalues(path, array, centre)
    except UsageError as error:
        raise UsageError(f"spectrum={path}: {error}") from None


def check_array(path: str | Path, array: Tensor) -> None:
    """Raise UsageError unless an array is finite, and eigenvalues [k], with counts [k,2], or a
    matrix."""
    shape = tuple(array.shape)
    known = len(shape) == 1 or (len(shape) == 2 and (shape[1] == 2 or shape[0] == shape[1]))
    if not array.numel() or not known:
        raise UsageError(
            f"spectrum={path} has shape {list(shape)}: write eigenvalues [k], with counts [k,2], "
            "or a covariance [d,d]"
        )
    if not bool(array.isfinite().all()):
        wrong = "a NaN" if bool(array.isnan().any()) else "an infinite number"
        raise UsageError(f"spectrum={path} holds {wrong}: write finite numbers")


def mean_of(path: str | Path, k: int) -> Tensor:
    """The k numbers of a file. Raises UsageError on others."""
    mean = torch.from_numpy(read_array(path, "mean")).flatten()
    if len(mean) != k or not bool(mean.isfinite().all()):
        raise UsageError(
            f"mean={path} holds {len(mean)} numbers: write {k} finite ones, one for each row of "
            "the spectrum"
        )
    return mean


def of_covariance(
    path: str | Path, covariance: Tensor, mean: Tensor | None
) -> tuple[Spectrum, str]:
    basis, values = eigen(covariance)
    d = len(covariance)
    turned = None if mean is None else basis.mT @ mean
    return grouped(values, turned), f"the covariance {d} x {d} in {path}"


def of_eigenvalues(path: str | Path, array: Tensor, mean: Tensor | None) -> tuple[Spectrum, str]:
    about = f"{len(array)} eigenvalues"
    if array.ndim == 1:
        values = array
        counts = torch.ones_like(array)
    else:
        values, counts = array.T
        about += " and their counts"
    if bool((counts != counts.round()).any()):
        raise UsageError("the counts of a spectrum must be whole numbers")
    norms = None if mean is None else mean.abs()
    about += f" in {path}"
    if tuple(array.shape) == (2, 2):
        about += " (as its 2 x 2 numbers are not symmetric)"
    return Spectrum(values.contiguous(), counts.contiguous(), norms), about


def table(array: Tensor) -> bool:
    """Whether an array [2,2] can only be two eigenvalues and their counts: it is not symmetric, and
    the counts are whole."""
    if array.shape != (2, 2) or bool(array[0, 1] == array[1, 0]):
        return False
    values, counts = array.T
    return bool((counts >= 1).all() and (counts == counts.round()).all() and (values >= 0).all())


def power(d: int, exponent: float = 1.0, scale: float = 1.0) -> Spectrum:
    """lambda_k = scale k^(-exponent), k = 1 .. d."""
    positive(d, scale)
    if not math.isfinite(exponent):
        raise UsageError(f"exponent={exponent}: write a finite number")
    k = torch.arange(1, d + 1, dtype=torch.float64)
    return Spectrum(scale * k**-exponent)


def isotropic(d: int, scale: float = 1.0) -> Spectrum:
    """scale I in R^d: one eigenvalue of multiplicity d."""
    positive(d, scale)
    return Spectrum([scale], [float(d)])


def texture(data: ImageSet, image: int = 0) -> tuple[Spectrum, str]:
    """The asymptotic discrete spot noise of an image u [C,H,W] (Galerne, Gousseau, Morel 2011):
    white noise, one number a pixel, convolved with t = (u - mean)/sqrt(HW). In the Fourier basis
    its covariance has rank one at each frequency, with the eigenvalue sum_c |t^_c|^2: (C-1) HW
    directions, and that of constants, have no variance. The mean is left out."""
    if not 0 <= image < len(data.images):
        raise UsageError(f"image={image}: {data.name} has images 0 to {len(data.images) - 1}")
    u = data.dequantize(data.images[image]).double()
    spots = (u - u.mean((1, 2), keepdim=True)) / math.sqrt(u[0].numel())
    power = torch.fft.fft2(spots).abs().square().sum(0).flatten()
    power[0] = 0.0  # of the constants: the mean is gone
    rest = power.new_zeros((len(u) - 1) * len(power))
    about = f"the texture (ADSN) of image {image} of {data.name} ({data.split})"
    return grouped(torch.cat([power, rest])), about


def positive(d: int, scale: float) -> None:
    if d < 1 or not 0 <= scale < math.inf:
        raise UsageError(
            f"d={d}, scale={scale}: write a dimension of 1 or more and a scale of 0 or more"
        )


# laws


def of_texture(data: Texture, mean: bool | None = None) -> tuple[Spectrum, str]:
    """The spectrum of a texture's law, by its Fourier transform, whatever its size; the mean, which
    lies where the eigenvalue is 0, counts where `mean` says so."""
    values, counts = data.spectrum
    about = f"the texture (ADSN) of {data.about}, {' x '.join(map(str, data.shape))}"
    found = grouped(values, counts=counts)
    if not mean:
        return found, about
    norms = torch.zeros_like(found.values)
    norms[found.values == 0] = data.mean.norm()
    return Spectrum(found.values, found.counts, norms), about


def of_law(
    data: Data, mean: bool | None = None, flip: bool = False, n: int = SAMPLES, seed: int = 0
) -> tuple[Spectrum, str]:
    """The spectrum of the Gaussian that has the moments of `data`, and where it is from.

    mean: whether the law's mean counts; None: of images it does not, of other laws it does.
    flip: whether mirror images count.
    n, seed: samples of a law whose moments have no closed form.
    """
    if isinstance(data, Texture):
        return of_texture(data, mean)
    if not isinstance(data, ImageSet):
        found = fit(data, n=n, seed=seed)
        basis, values = eigen(found.covariance)
        turned = None if mean is False else basis.mT @ found.mean
        return grouped(values, turned), found.about
    if mean:
        found = fit(data, flip)
        basis, values = eigen(found.covariance)
        return grouped(values, basis.mT @ found.mean), found.about
    scale = (data.high - data.low) / 255
    held = replace(data, low=0.0, high=255.0, flip=flip)
    return grouped(eigenvalues(held) * scale**2), described(data, flip) + ", mean subtracted"
