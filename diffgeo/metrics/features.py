"""Features of images: what a Frechet distance, a kernel distance, precision and recall look at.

The nets themselves are in `nets`. Features of a set are computed once: they stay with the tensor of
images for as long as that lives, so that every metric of a run shares one pass.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from diffgeo.core import Data, ImageSet, Pictures, Run, Uneven, generator
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import progress
from diffgeo.machine.precision import full_precision
from diffgeo.metrics import own
from diffgeo.metrics.base import Measure
from diffgeo.metrics.nets import NETS, FeatureNet, Features, Wanted, device_of
from diffgeo.store.caches import cache_folder
from diffgeo.store.checkpoint import load_tensors, save_tensors


@dataclass(frozen=True)
class OfFeatures(Measure):
    """A metric of images in a feature space.

    features: inception, lenet (grey images), pixels, or auto: lenet where the images are grey, no
        metric where they are not; or a network of one's own (see `own`).
    weights: Inception's, a local file; null: where they are usually found
        (`diffgeo.metrics.inception`).
    half: Inception in float16, on a GPU only: faster, and not what published numbers were made
        with.
    device: auto takes the GPU when there is one.
    optional: fewer than 10 images give a line on stderr, not an error.
    """

    features: str | FeatureNet = "auto"
    weights: str | None = None
    half: bool = False
    device: str = "auto"
    optional: bool = False

    LEAST = 10  # images; three have a distance, and it means nothing

    def __post_init__(self):
        if not isinstance(self.features, str):
            own.name_of(self.features)
        elif self.features not in ("auto", *NETS):
            raise UsageError(
                f"metrics.fid.features={self.features}: write inception, lenet, pixels or auto, or "
                "a network of yours, {_target_: mypkg.Net} with plugins=[mypkg]"
            )

    @property
    def resize(self) -> str:
        """How Inception's input is scaled: tensorflow, pytorch_fid or clean."""
        return "tensorflow"

    @property
    def needs_set(self) -> bool:
        """Whether the samples are held against the training images of their set."""
        return True

    @property
    def floors(self) -> bool:
        """Whether a suite measures noise floors: not in Inception features, which take too long,
        nor in those of a function, which nobody knows again in another process."""
        if isinstance(self.features, str):
            return self.features != "inception"
        return isinstance(self.features, Features | nn.Module)

    @property
    def identity(self) -> str | None:
        """The key of a network of the user's own, which numbers that depend on it are kept
        under."""
        return None if isinstance(self.features, str) else own.identity(self.features)

    def suits(self, data: Data) -> TypeGuard[Pictures]:
        """Whether there are pictures of the kind that the features are of: of a set, equally likely
        ones as references are made of."""
        if not isinstance(data, Pictures) or isinstance(data, Uneven):
            return False
        if self.needs_set and not isinstance(data, ImageSet):
            return False
        return self.features != "auto" or data.picture[0] == 1

    def prepare(self, data: Data, n: int) -> None:
        """Load what the metric of n images will need, so that a run need not end before it fails.
        Raises UsageError."""
        if not isinstance(data, Pictures):
            raise UsageError(
                f"a {type(self).__name__} is of images, and data= is none: write metrics=default"
            )
        if isinstance(data, Uneven) and not self.optional:
            raise UsageError(
                f"a {type(self).__name__} is held against equally likely images, and a posterior's "
                "have weights: write metrics=none, or diffgeo restore for metrics of a posterior"
            )
        if self.needs_set and not isinstance(data, ImageSet):
            self.leave_out()
        if not self.suits(data):
            return
        if n < self.LEAST and not self.optional:
            raise UsageError(self.few(n))
        self.net(data)

    def leave_out(self) -> None:
        """Say that there is no value for pictures of no set."""
        print(f"left out: a {type(self).__name__} needs training images", file=sys.stderr)

    def few(self, n: int) -> str:
        """What is said of n images, fewer than `LEAST`."""
        return (
            f"a {type(self).__name__} of {n} images means nothing: give at least {self.LEAST}, and "
            "thousands for a number to compare"
        )

    def applies(self, data: Data, run: Run, say: bool = False) -> TypeGuard[Pictures]:
        """Whether there is a value. Below `LEAST` images raises UsageError, or with `optional` says
        so, when it shall."""
        if not self.suits(data):
            return False
        n = len(run.samples)
        if n >= self.LEAST:
            return True
        if not self.optional:
            raise UsageError(self.few(n))
        if say:
            print(f"left out: {self.few(n)} (features {self.word})", file=sys.stderr)
        return False

    def facts(self, net: Features, run: Run, data: Pictures, n: int) -> dict:
        """What every metric of features tells: the set, how many samples, from which noise and how
        they became bytes as far as that is known here, the feature net and the hash of its weights,
        and what became of alpha where the samples are pictures that have it."""
        made = run.simulation is not None  # otherwise they came as they are, from anywhere
        seeds = None
        if made:
            seeds = {"run": run.seed, "rule": "noise of sample i: Philox of the key (run, i)"}
        quantization = None
        if made or run.samples.is_floating_point():
            quantization = (
                "floor(255 (x - low)/(high - low) + 1/2) in 0..255, "
                f"low={data.low:g} high={data.high:g}"
            )
        facts = {
            "n": n,
            "seeds": seeds,
            "quantization": quantization,
            "set": data.key,
            "features": net.name,
            "features_hash": net.key,
        }
        if isinstance(net, own.Own) and net.weights:
            facts["features_weights"] = net.weights
        return facts if run.alpha is None else facts | {"alpha": run.alpha}

    @property
    def word(self) -> str:
        """What the features are called."""
        return self.features if isinstance(self.features, str) else own.name_of(self.features)

    def net(self, data: Pictures) -> Features:
        """The feature net, loaded once."""
        device = device_of(self.device)
        if not isinstance(self.features, str):
            return own.features_of(self.features, data.picture, device)
        word = "lenet" if self.features == "auto" else self.features
        return NETS[word](data, Wanted(self.weights, self.resize, self.half, device))


def fewest(n: int, run: Run, data: ImageSet) -> int:
    """How many images on either side, n at most: as many true ones as samples, on whose number the
    value depends."""
    return min(n, len(run.samples), len(training(data).images))


def batches(net: Features, images: Tensor, what: str = "") -> Iterator[Tensor]:
    """Features of images [n,C,H,W] uint8, batch by batch, on the CPU; with a bar on a terminal when
    `what` says what they are."""
    with progress.bar(len(images), what, "image", shown=bool(what), leave=False) as bar:
        for part in images.split(net.batch):
            with torch.inference_mode(), full_precision():
                features = net(part).cpu()
            yield features  # outside: a generator would leave its reader in that mode
            bar.update(len(part))


def joined(parts: Iterator[Tensor], n: int, first: Tensor | None = None) -> Tensor:
    """Batches of features as one tensor [n,d], `first` in front; each batch is let go as it is
    copied."""
    if first is not None:
        parts = itertools.chain((first,), parts)
    out = torch.empty(0)
    done = 0
    for part in parts:
        if not done:
            out = torch.empty(n, part.shape[1])
        out[done : done + len(part)] = part
        done += len(part)
    return out


# samples -> {(key of the net, version, n): features}; gone with the samples
_held: WeakIdKeyDictionary = WeakIdKeyDictionary()


def of_samples(net: Features, run: Run, data: Pictures, n: int) -> Tensor:
    """Features [n,d] of the first n samples, float32 on the CPU, computed once for every metric
    that asks."""
    held = _held.setdefault(run.samples, {})
    # samples changed in place are other samples
    version = 0 if run.samples.is_inference() else run.samples._version
    for stale in [key for key in held if key[1] != version]:
        del held[stale]
    n = min(n, len(run.samples))
    most = max((m for key, _, m in held if key == net.key), default=0)
    if most < n:
        images = data.quantize(run.samples[most:n]).cpu()
        rest = batches(net, images, f"{net.name} features of {n - most} samples")
        held[net.key, version, n] = joined(rest, n, held.pop((net.key, version, most), None))
        most = n
    return held[net.key, version, most][:n]


def training(data: Data) -> ImageSet:
    """The law of the training images: the set that references are made of, whichever split is
    measured. Raises UsageError on pictures that are of no set."""
    if not isinstance(data, ImageSet):
        raise UsageError(
            "there are no training images to hold these pictures against: write "
            "metrics.fid.reference= a FILE.npz or a folder of pictures, and for the others "
            "metrics.kid=null metrics.precision=null metrics.w2=null metrics.memorization=null"
        )
    if data.split == "train":
        return data
    return data.other() or data


_contents: WeakIdKeyDictionary = WeakIdKeyDictionary()


def content(images: Tensor) -> str:
    """A hash of the pixels, whatever range or mirroring their law gives them: references depend on
    no more."""
    if images not in _contents:
        digest = hashlib.sha256(repr(tuple(images.shape)).encode())
        for block in images.split(4096):
            digest.update(block.cpu().contiguous().numpy())
        _contents[images] = digest.hexdigest()[:16]
    return _contents[images]


def kept(room: str, net: Features, images: Tensor, ending: str) -> Path:
    """Where the cache keeps what depends on a set of images and on a feature net, under both
    hashes."""
    name = hashlib.sha256(f"{content(images)}\n{net.key}".encode()).hexdigest()[:32]
    return cache_folder() / room / f"{name}{ending}"


SETS = 2  # whose features are held
# (set, net) -> features of its first images in one random order
_truth: dict[tuple[str, str], Tensor] = {}


def of_truth(net: Features, data: ImageSet, n: int) -> Tensor:
    """Features [n,d] of the first n training images in one fixed random order; all of them when
    they are fewer. Computed once, whatever the run: held in memory, and Inception's kept in
    the cache's `features`, under the hashes of set and features."""
    images = training(data).images
    keys = content(images), net.key
    n = min(n, len(images))
    on_disk = net.name == "inception"
    path = kept("features", net, images, ".safetensors")
    if on_disk and len(_truth.get(keys, ())) < n:
        with contextlib.suppress(DiffgeoError, KeyError):  # absent or damaged: computed again
            _truth[keys] = load_tensors(path)[0]["features"]
    if len(_truth.get(keys, ())) < n:
        while len(_truth) >= SETS:
            _truth.pop(next(iter(_truth)))
        pick = torch.randperm(len(images), generator=generator(0, *b"features"))[:n]
        what = f"{net.name} features of {n} training images"
        _truth[keys] = joined(batches(net, images[pick].cpu(), what), n)
        if on_disk:
            with contextlib.suppress(DiffgeoError):  # a cache that cannot be written is no cache
                save_tensors(path, {"features": _truth[keys]})
    return _truth[keys][:n]


def suffixed(key: str, net: Features) -> str:
    """`key` itself in Inception features, what is published under that name; else `key/lenet`,
    `key/pixels`."""
    return key if net.name == "inception" else f"{key}/{net.name}"
