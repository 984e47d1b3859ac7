"""The moments that images are held against: computed from a training set, or read from a file.

A file is an .npz with `mu` [d] and `sigma` [d,d], as pytorch-fid, PNDM and EDM give them. Three
more arrays let it say itself of which images it is:

    n               how many
    images_sha256   of their bytes, uint8 [n,H,W,C] in the order of the set
    lacking         the numbers of the images that the set has and the file is not of; may be absent

so that it serves the set, complete or without those, wherever that lies and whatever its name.
"""

from __future__ import annotations

import contextlib
import hashlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from diffgeo.core import ImageSet
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.features import batches, content, kept
from diffgeo.metrics.frechet import Moments, Stream
from diffgeo.metrics.nets import Features
from diffgeo.store.arrays import real
from diffgeo.store.files import write_bytes

FOLDER = "fid_stats"  # of data.root: statistics that say of which images they are


def digest(m: Moments) -> str:
    """What a report names moments by."""
    values = m.mean.numpy().tobytes() + m.covariance.contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:32]


def read(path: Path) -> Moments:
    """Moments from an .npz with `mu` and `sigma`, and `n` where it tells. Nothing is unpickled."""
    if path.suffix == ".npy":
        raise ValueError("a .npy file holds one array: save both with np.savez")
    with np.load(path, allow_pickle=False) as archive:
        mean = torch.from_numpy(real(archive["mu"]))
        covariance = torch.from_numpy(real(archive["sigma"]))
        n = int(archive["n"]) if "n" in archive.files else None
    square = mean.ndim == 1 and covariance.shape == (len(mean), len(mean))
    finite = bool(mean.isfinite().all()) and bool(covariance.isfinite().all())
    if not square or not finite:
        raise ValueError(
            f"mu has shape {list(mean.shape)} and sigma {list(covariance.shape)}, or they are not "
            "finite"
        )
    return Moments(mean, covariance, n)


class Of(NamedTuple):
    """The images that a file says it is of."""

    n: int
    sha256: str  # of their bytes
    lacking: tuple[int, ...]  # the numbers of those that the set has and the file is not of


def said(path: Path) -> Of | None:
    """Of which images a file of statistics says it is; None where it does not. Raises UsageError on
    a file that cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not {"n", "images_sha256"} <= set(archive.files):
                return None
            lacking: tuple[int, ...] = ()
            if "lacking" in archive.files:
                lacking = tuple(int(i) for i in archive["lacking"])
            return Of(int(archive["n"]), str(archive["images_sha256"]), lacking)
    except Exception as error:  # numpy and zipfile raise half a dozen kinds
        raise UsageError(
            f"{path}: this is no .npz of statistics ({str(error).splitlines()[0]}); take it out of "
            f"{path.parent.name}/"
        ) from error


_hashes: WeakIdKeyDictionary = WeakIdKeyDictionary()  # images -> {what was left out: sha256}


def sha256_of(images: Tensor, without: tuple[int, ...] = ()) -> str:
    """Of the bytes of images [N,C,H,W] as they are stored, [n,H,W,C], `without` some."""
    held = _hashes.setdefault(images, {})
    if without not in held:
        keep = torch.ones(len(images), dtype=torch.bool)
        keep[list(without)] = False
        total = hashlib.sha256()
        for block, wanted in zip(images.split(4096), keep.split(4096), strict=True):
            stored = block.cpu().permute(0, 2, 3, 1)
            total.update(stored[wanted].contiguous().numpy())
        held[without] = total.hexdigest()
    return held[without]


def is_of(of: Of, images: Tensor) -> bool:
    """Whether a file of statistics is of these images [N,C,H,W], or of a set that they are all of,
    in its order."""
    if len(images) == of.n:
        return sha256_of(images) == of.sha256
    within = all(0 <= i < len(images) for i in of.lacking)
    if within and len(images) == of.n + len(of.lacking):
        return sha256_of(images, of.lacking) == of.sha256
    return False


def known(law: ImageSet) -> Path | None:
    """The file in data.root's fid_stats/ that says it is of the images of this law; the first by
    name. Raises UsageError on files that cannot be read."""
    if law.root is None:
        return None
    for path in sorted((Path(law.root) / FOLDER).glob("*.npz")):
        of = said(path)
        if of is not None and is_of(of, law.images):
            return path
    return None


_computed: dict[tuple[str, str], Moments] = {}


def of_training(net: Features, law: ImageSet) -> Moments:
    """The moments of every training image, computed once: kept as .npz in the cache's `statistics`,
    under both hashes."""
    keys = content(law.images), net.key
    if keys not in _computed:
        _computed[keys] = from_cache(net, law)
    return _computed[keys]


def from_cache(net: Features, law: ImageSet) -> Moments:
    """The moments of every training image, from the cache or into it."""
    path = kept("statistics", net, law.images, ".npz")
    with contextlib.suppress(Exception):  # absent or damaged: computed again
        return read(path)
    stream = Stream()
    what = f"{net.name} statistics of {len(law.images)} training images"
    for part in batches(net, law.images, what):
        stream.add(part)
    m = stream.moments()
    keep(path, m)
    return m


def keep(path: Path, m: Moments) -> None:
    """Write moments into the cache."""
    page = BytesIO()
    np.savez(page, mu=m.mean.numpy(), sigma=m.covariance.numpy(), n=m.n)
    with contextlib.suppress(DiffgeoError):  # a cache that cannot be written is no cache
        write_bytes(path, page.getbuffer())
