"""FID: the Frechet distance of generated images from training images in the features of a network
(Heusel et al. 2017).

A published FID is a number only under its protocol: how many images, from which seeds, how they
become 8 bits, which graph of which weights sees them at which resize, and the moments of which
images they are held against. Three are named here:

    torch_fidelity      50 000 images, torch-fidelity's graph and TensorFlow-1 resize, the training images
    pytorch_fid_pndm    390 batches of 128, pytorch-fid 0.3's resize by F.interpolate: the tables of PNDM, DDIM and gradient estimation
    edm                 50 000 images, seeds 0-49 999, torch-fidelity's features, cifar10-32x32.npz: EDM's tables, DPM-Solver-v3's

All three quantize by round(127.5 (x + 1)) and use the same weights, of 2015-12-05. The expectation
of the estimate falls with n (Chong and Forsyth 2020): a count below the protocol's is reported as
`fid_5k`, never as `fid`. LeNet and pixel features give `frechet/<features>`.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from diffgeo.core import Data, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.features import Features, OfFeatures, batches, content, of_samples, training
from diffgeo.metrics.frechet import Moments, Stream, between, moments
from diffgeo.metrics.inception import KNOWN
from diffgeo.store.files import atomic, cache_folder

# may lie in data.root/fid_stats: CIFAR-10's training images in `KNOWN` features, but for these,
STATISTICS = "cifar10_train_49927.npz"
LACKING = (
    4298,
    5949,
    7066,
    7237,
    7248,
    7630,
    8006,
    8831,
    8968,
    9415,
    12762,
    12834,
    13546,
    21493,
    25728,
    26098,
    26927,
    27621,
    28435,
    28728,
    29694,
    29747,
    31066,
    31367,
    31462,
    31625,
    31663,
    32777,
    33641,
    33661,
    34067,
    34276,
    34387,
    34825,
    35160,
    35646,
    36733,
    37329,
    37474,
    37567,
    38384,
    38925,
    39358,
    39385,
    39613,
    39840,
    39888,
    39971,
    41779,
    42004,
    42389,
    42611,
    43357,
    43883,
    44882,
    45168,
    45240,
    46175,
    46435,
    46538,
    46624,
    47393,
    47597,
    48081,
    48124,
    48333,
    48821,
    48836,
    49321,
    49429,
    49631,
    49830,
    49857,
)
# sha256 of the other 49 927, [n,32,32,3]
OTHERS = "8530c5a08760e175ba180811f157bc4aa6b6e7f4c56b5e8393056ec905bbc775"


@dataclass(frozen=True)
class Protocol:
    """What a published FID fixes. tensorflow: Inception's input scaled and normalized as by
    TensorFlow 1; else as by pytorch-fid."""

    name: str
    count: int
    seeds: str
    tensorflow: bool
    reference: str
    quantization: str = "uint8 of clamp(127.5 x + 128, 0, 255), x in [-1, 1]"


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "torch_fidelity",
            50_000,
            "sample i from seed i",
            True,
            "the training images, without flips",
        ),
        Protocol(
            "pytorch_fid_pndm",
            49_920,
            "seed 0, one stream of noise in 390 batches of 128",
            False,
            "fid_cifar10_train.npz, fid_celeba_train.npz",
        ),
        Protocol(
            "edm",
            50_000,
            "sample i from seed i, 0-49999; the least of three such sets",
            True,
            "cifar10-32x32.npz",
        ),
    )
}


def name_of(n: int, count: int) -> str:
    """The key of an Inception FID of n images under a protocol of `count`: fid, fid_5k, fid_1234."""
    return "fid" if n == count else f"fid_{n // 1000}k" if n % 1000 == 0 else f"fid_{n}"


def digest(m: Moments) -> str:
    return hashlib.sha256(
        m.mean.numpy().tobytes() + m.covariance.contiguous().numpy().tobytes()
    ).hexdigest()[:32]


def read(path: Path) -> Moments:
    """Moments from an .npz with `mu` and `sigma`, and `n` where it tells, as pytorch-fid, PNDM and
    EDM give them. Nothing is unpickled."""
    if path.suffix == ".npy":
        raise ValueError("a .npy file holds one array: save both with np.savez")
    with np.load(path, allow_pickle=False) as archive:
        mean, covariance = (
            torch.from_numpy(np.asarray(archive[name], np.float64)) for name in ("mu", "sigma")
        )
        n = int(archive["n"]) if "n" in archive.files else None
    if (
        mean.ndim != 1
        or covariance.shape != (len(mean), len(mean))
        or not bool(covariance.isfinite().all())
    ):
        raise ValueError(
            f"mu has shape {list(mean.shape)} and sigma {list(covariance.shape)}, or they are not "
            "finite"
        )
    return Moments(mean, covariance, n)


_cifar10: WeakIdKeyDictionary = WeakIdKeyDictionary()


def is_cifar10(images: Tensor) -> bool:
    """Whether these are CIFAR-10's training images, in the published order: all 50 000, or the 49
    927 that `STATISTICS` are of."""
    if images not in _cifar10:
        keep = torch.ones(50_000, dtype=torch.bool)
        keep[list(LACKING)] = False
        keep = keep if len(images) == len(keep) else keep[keep]
        same = len(images) == len(keep) and tuple(images.shape[1:]) == (3, 32, 32)
        sha256 = hashlib.sha256()
        for block, kept in zip(images.split(4096), keep.split(4096), strict=True) if same else ():
            sha256.update(block.cpu().permute(0, 2, 3, 1)[kept].contiguous().numpy())
        _cifar10[images] = sha256.hexdigest() == OTHERS
    return _cifar10[images]


_computed: dict[tuple[str, str], Moments] = {}


def of_training(net: Features, law: Data) -> Moments:
    """The moments of every training image, computed once: kept as .npz in the cache's `statistics`,
    under both hashes."""
    keys = content(law.images), net.key
    if keys in _computed:
        return _computed[keys]
    path = (
        cache_folder()
        / "statistics"
        / (hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32] + ".npz")
    )
    m = None
    with contextlib.suppress(Exception):  # absent or damaged: computed again
        m = read(path)
    if m is None:
        stream = Stream()
        for part in batches(
            net, law.images, f"{net.name} statistics of {len(law.images)} training images"
        ):
            stream.add(part)
        m = stream.moments()
        # a cache that cannot be written is no cache
        with contextlib.suppress(DiffgeoError), atomic(path) as temporary:
            np.savez(temporary, mu=m.mean.numpy(), sigma=m.covariance.numpy(), n=m.n)
    _computed[keys] = m
    return m


@dataclass(frozen=True)
class FID(OfFeatures):
    """`fid` (`fid_5k` below the protocol's count) in Inception features, `frechet/lenet`,
    `frechet/pixels`.

    protocol: torch_fidelity, pytorch_fid_pndm, edm; of Inception features only. reference: an .npz
    with the `mu` and `sigma` of the same features; null: the training images. CIFAR-10's, known by
    their content, are under torch_fidelity those of data.root's fid_stats/ where it has them, which
    lack 73 images; `describe` says so. Raises UsageError.
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
        return (
            min(len(run.samples), PROTOCOLS[self.protocol].count)
            if net.name == "inception"
            else len(run.samples)
        )

    @property
    def identity(self) -> str | None:
        """The sha256 of the reference file: numbers that depend on it are kept under it."""
        path = Path(self.reference or "").expanduser()
        return (
            hashlib.sha256(path.read_bytes()).hexdigest()
            if self.reference is not None and path.is_file()
            else None
        )

    def file(self, net: Features, law: Data) -> Path | None:
        """The file that holds the reference; None where it is computed from the images of the
        training law."""
        if self.reference is not None:
            return Path(self.reference).expanduser()
        known = Path(getattr(law, "root", None) or "") / "fid_stats" / STATISTICS
        if (
            self.protocol != "torch_fidelity"
            or net.key != f"inception-{KNOWN}-tensorflow-float32"
            or not known.is_file()
        ):
            return None
        return known if is_cifar10(law.images) else None

    def truth(self, net: Features, data: Data) -> tuple[Moments, str]:
        """The reference moments, and where they are from."""
        law = training(data)
        path = self.file(net, law)
        if path is None:
            return (
                of_training(net, law),
                f"{len(law.images)} {getattr(law, 'split', 'train')} images of "
                f"{getattr(law, 'name', 'the set')}",
            )
        option = path if self.reference is None else f"metrics.fid.reference={self.reference}"
        try:
            m = read(path)
        except Exception as error:  # numpy and zipfile raise half a dozen kinds
            raise UsageError(
                f"{option}: no .npz with arrays mu [d] and sigma [d,d] "
                f"({str(error).splitlines()[0]})"
            ) from error
        return m, path.name

    def prepare(self, data: Data, n: int) -> None:
        """Load the feature net and a reference of a file, and hold one against the other by a black
        image; what is to be computed is computed at the end. Raises UsageError."""
        super().prepare(data, n)
        if self.suits(data) and self.file(net := self.net(data), training(data)) is not None:
            truth, origin = self.truth(net, data)
            (black,) = batches(net, torch.zeros(1, *data.shape, dtype=torch.uint8))
            self.fit(net, black.shape[1], truth, origin)

    def fit(self, net: Features, width: int, truth: Moments, origin: str) -> None:
        """Raise UsageError where the reference is of another number of features than the net's."""
        if width != len(truth.mean):
            raise UsageError(
                f"the reference {origin} is of {len(truth.mean)} features, {net.name} has {width}: "
                "give another"
            )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(run, data, say=True):
            return {}
        net = self.net(data)
        protocol = PROTOCOLS[self.protocol]
        truth, origin = self.truth(net, data)
        generated = moments(of_samples(net, run, data, n := self.count(net, run)))
        self.fit(net, len(generated.mean), truth, origin)
        return {
            name_of(n, protocol.count)
            if net.name == "inception"
            else f"frechet/{net.name}": between(generated, truth)
        }

    def describe(self, run: Run, data: Data) -> dict:
        """What a reader needs to compare the number: what was done, and under `published` what the
        protocol was published with."""
        if not self.applies(run, data):
            return {}
        net = self.net(data)
        truth, origin = self.truth(net, data)
        reference = {"origin": origin, "n": truth.n, "hash": digest(truth)}
        here = len(training(data).images)
        if self.reference is None and truth.n not in (None, here):
            reference["note"] = f"moments of {truth.n} images; the training set here holds {here}"
        facts = self.facts(net, run, data, self.count(net, run)) | {"reference": reference}
        if net.name != "inception":
            return facts
        protocol = PROTOCOLS[self.protocol]
        return facts | {
            "key": name_of(facts["n"], protocol.count),
            "protocol": protocol.name,
            "published": asdict(protocol),
        }
