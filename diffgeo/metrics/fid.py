"""FID: the Frechet distance of generated images from training images in the features of a network (Heusel et al. 2017).

A published FID is a number only under its protocol: how many images, from which seeds, how they become 8 bits, which graph of which
weights sees them at which resize, and the moments of which images they are held against. Three are named here:

    torch_fidelity      50 000 images, torch-fidelity's graph and TensorFlow-1 resize, the training images
    pytorch_fid_pndm    390 batches of 128, pytorch-fid 0.3's resize by F.interpolate: the tables of PNDM, DDIM and gradient estimation
    edm                 50 000 images, seeds 0-49 999, torch-fidelity's features, cifar10-32x32.npz: EDM's tables, DPM-Solver-v3's

All three quantize by round(127.5 (x + 1)) and use the same weights, of 2015-12-05. The expectation of the estimate falls with n (Chong and
Forsyth 2020): a count below the protocol's is reported as `fid_5k`, never as `fid`. LeNet and pixel features give `frechet/<features>`.
"""
from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from diffgeo.core import Data, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.files import atomic, cache_folder
from diffgeo.metrics.features import Features, OfFeatures, batches, content, of_samples, training
from diffgeo.metrics.frechet import Moments, Stream, between, moments

CIFAR10 = "cifar10_train_49927.npz", (49_927, 50_000)         # statistics that may lie in data.root/fid_stats, and what sets they stand for


@dataclass(frozen=True)
class Protocol:
    """What a published FID fixes. tensorflow: Inception's input scaled and normalized as by TensorFlow 1; else as by pytorch-fid."""

    name: str
    count: int
    seeds: str
    tensorflow: bool
    reference: str
    quantization: str = "uint8 of clamp(127.5 x + 128, 0, 255), x in [-1, 1]"


PROTOCOLS = {p.name: p for p in (
    Protocol("torch_fidelity", 50_000, "sample i from seed i", True, "the training images, without flips"),
    Protocol("pytorch_fid_pndm", 49_920, "seed 0, one stream of noise in 390 batches of 128", False,
             "fid_cifar10_train.npz, fid_celeba_train.npz"),
    Protocol("edm", 50_000, "sample i from seed i, 0-49999; the least of three such sets", True, "cifar10-32x32.npz"))}


def name_of(n: int, count: int) -> str:
    """The key of an Inception FID of n images under a protocol of `count`: fid, fid_5k, fid_1234."""
    return "fid" if n == count else f"fid_{n // 1000}k" if n % 1000 == 0 else f"fid_{n}"


def digest(m: Moments) -> str:
    return hashlib.sha256(m.mean.numpy().tobytes() + m.covariance.contiguous().numpy().tobytes()).hexdigest()[:32]


def read(path: Path) -> Moments:
    """Moments from an .npz with `mu` and `sigma`, and `n` where it tells, as pytorch-fid, PNDM and EDM give them. Nothing is unpickled."""
    with np.load(path, allow_pickle=False) as archive:
        mean, covariance = (torch.from_numpy(np.asarray(archive[name], np.float64)) for name in ("mu", "sigma"))
        n = int(archive["n"]) if "n" in archive.files else None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or not bool(covariance.isfinite().all()):
        raise ValueError(f"mu has shape {list(mean.shape)} and sigma {list(covariance.shape)}, or they are not finite")
    return Moments(mean, covariance, n)


_computed: dict[tuple[str, str], Moments] = {}


def of_training(net: Features, law: Data) -> Moments:
    """The moments of every training image, computed once: kept as .npz in the cache's `statistics`, under both hashes."""
    keys = content(law.images), net.key
    if keys in _computed:
        return _computed[keys]
    path = cache_folder() / "statistics" / (hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32] + ".npz")
    m = None
    with contextlib.suppress(Exception):                                    # absent or damaged: computed again
        m = read(path)
    if m is None:
        stream = Stream()
        for part in batches(net, law.images, f"{net.name} statistics of {len(law.images)} training images"):
            stream.add(part)
        m = stream.moments()
        with contextlib.suppress(DiffgeoError), atomic(path) as temporary:  # a cache that cannot be written is no cache
            np.savez(temporary, mu=m.mean.numpy(), sigma=m.covariance.numpy(), n=m.n)
    _computed[keys] = m
    return m


@dataclass(frozen=True)
class FID(OfFeatures):
    """`fid` (`fid_5k` below the protocol's count) in Inception features, `frechet/lenet`, `frechet/pixels`.

    protocol: torch_fidelity, pytorch_fid_pndm, edm; of Inception features only. reference: an .npz with the `mu` and `sigma` of the same
    features; null: the training images, for CIFAR-10 under torch_fidelity from data.root's fid_stats/ where it has them. Raises UsageError.
    """

    features: str = "inception"
    protocol: str = "torch_fidelity"
    reference: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"metrics.fid.protocol={self.protocol}: write {', '.join(PROTOCOLS)}")

    @property
    def tensorflow(self) -> bool:
        return PROTOCOLS[self.protocol].tensorflow

    def count(self, net: Features, run: Run) -> int:
        """How many of the samples count: no more than the protocol's."""
        return min(len(run.samples), PROTOCOLS[self.protocol].count) if net.name == "inception" else len(run.samples)

    def truth(self, net: Features, data: Data) -> tuple[Moments, str]:
        """The reference moments, and where they are from."""
        law = training(data)
        known = Path(getattr(data, "root", None) or "") / "fid_stats" / CIFAR10[0]
        cifar10 = getattr(law, "name", "") == "cifar10" and law.shape == (3, 32, 32) and len(law.images) in CIFAR10[1]
        if self.reference is not None:
            path, option = Path(self.reference), f"metrics.fid.reference={self.reference}"
        elif cifar10 and (net.name, self.protocol) == ("inception", "torch_fidelity") and known.is_file():
            path, option = known, str(known)
        else:
            return of_training(net, law), f"{len(law.images)} {getattr(law, 'split', 'train')} images of {getattr(law, 'name', 'the set')}"
        try:
            m = read(path)
        except Exception as error:                                          # numpy and zipfile raise half a dozen kinds
            raise UsageError(f"{option}: no .npz with arrays mu [d] and sigma [d,d] ({str(error).splitlines()[0]})") from error
        return m, path.name

    def prepare(self, data: Data) -> None:
        """Load the feature net and a reference of a file; what is to be computed is computed at the end. Raises UsageError."""
        super().prepare(data)
        if self.suits(data) and self.reference is not None:
            self.truth(self.net(data), data)

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(run, data, say=True):
            return {}
        net, protocol = self.net(data), PROTOCOLS[self.protocol]
        truth, origin = self.truth(net, data)
        generated = moments(of_samples(net, run, data, n := self.count(net, run)))
        if len(generated.mean) != len(truth.mean):
            raise UsageError(f"the reference {origin} is of {len(truth.mean)} features, {net.name} has {len(generated.mean)}: give another")
        return {name_of(n, protocol.count) if net.name == "inception" else f"frechet/{net.name}": between(generated, truth)}

    def describe(self, run: Run, data: Data) -> dict:
        """What a reader needs to compare the number: counts, seeds, feature net and reference with their hashes, the protocol."""
        if not self.applies(run, data):
            return {}
        net = self.net(data)
        truth, origin = self.truth(net, data)
        facts = self.facts(net, run, data) | {
            "n": self.count(net, run), "quantization": PROTOCOLS[self.protocol].quantization,
            "reference": {"origin": origin, "n": truth.n, "hash": digest(truth)}}
        if net.name != "inception":
            return facts
        protocol = PROTOCOLS[self.protocol]
        return facts | {"key": name_of(facts["n"], protocol.count), "protocol": asdict(protocol)}
