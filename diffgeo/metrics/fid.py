"""FID: the Frechet distance of generated images from training images in the features of a network
(Heusel et al. 2017).

A published FID is a number only under its protocol: how many images, from which seeds, how they
become 8 bits, which graph of which weights sees them at which resize, and the moments of which
images they are held against. Five are named here:

    torch_fidelity      50 000 images, torch-fidelity's graph and TensorFlow-1 resize, the training
                        images
    pytorch_fid_pndm    390 batches of 128, pytorch-fid 0.3's resize by F.interpolate: the tables of
                        PNDM, DDIM and gradient estimation
    edm                 50 000 images, seeds 0-49 999, torch-fidelity's features, cifar10-32x32.npz:
                        EDM's tables, DPM-Solver-v3's
    coco30k_pytorch_fid 30 000 pictures of as many captions, pytorch-fid 0.3's resize; the reference
    coco30k_clean       is a folder of photographs, cut to the centred square, or an .npz; or
                        clean-fid's resize. A published FID-30k names its choices, or is off by
                        points

All quantize by round(127.5 (x + 1)) and use the same weights, of 2015-12-05. The expectation
of the estimate falls with n (Chong and Forsyth 2020): a count below the protocol's is reported as
`fid_5k`, never as `fid`. LeNet and pixel features, and those of a network of the user's own
(`own`), give `frechet/<features>`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.core import Data, Pictures, Run
from diffgeo.errors import UsageError
from diffgeo.metrics.features import OfFeatures, batches, of_samples, training
from diffgeo.metrics.frechet import Moments, between, moments
from diffgeo.metrics.inception_weights import KNOWN
from diffgeo.metrics.nets import FeatureNet, Features, device_of
from diffgeo.metrics.photographs import check_folder, of_folder
from diffgeo.metrics.statistics import digest, known, of_training, read
from diffgeo.store.caches import at_home
from diffgeo.store.digest import of_path

IMPLEMENTATIONS = ("diffgeo", "torch_fidelity")
# the features that the files in data.root's fid_stats/ are of
STANDARD = f"inception-{KNOWN}-tensorflow-float32"


@dataclass(frozen=True)
class Published:
    """What a published FID fixes.

    tensorflow: Inception's input scaled and normalized as by TensorFlow 1; else as by pytorch-fid.
    """

    name: str
    count: int
    seeds: str
    tensorflow: bool
    reference: str
    quantization: str = "uint8 of clamp(127.5 x + 128, 0, 255), x in [-1, 1]"

    @property
    def resize(self) -> str:
        """How Inception's input is scaled."""
        return "tensorflow" if self.tensorflow else "pytorch_fid"


@dataclass(frozen=True)
class OfPhotographs(Published):
    """A protocol whose reference is a folder of photographs of all sizes.

    crop: what of a photograph is looked at.
    resizer: how pictures become 299 x 299.
    """

    crop: str = "the centred square, resized to the side of the generated pictures"
    resizer: str = "pytorch_fid"

    @property
    def resize(self) -> str:
        return self.resizer


TORCH_FIDELITY = Published(
    name="torch_fidelity",
    count=50_000,
    seeds="sample i from seed i",
    tensorflow=True,
    reference="the training images, without flips",
)
PYTORCH_FID_PNDM = Published(
    name="pytorch_fid_pndm",
    count=49_920,
    seeds="seed 0, one stream of noise in 390 batches of 128",
    tensorflow=False,
    reference="fid_cifar10_train.npz, fid_celeba_train.npz",
)
EDM = Published(
    name="edm",
    count=50_000,
    seeds="sample i from seed i, 0-49999; the least of three such sets",
    tensorflow=True,
    reference="cifar10-32x32.npz",
)
COCO_PYTORCH_FID = OfPhotographs(
    name="coco30k_pytorch_fid",
    count=30_000,
    seeds="one picture for each of 30 000 captions",
    tensorflow=False,
    reference="COCO val2014, of which nobody says which images and how they were cut",
)
COCO_CLEAN = OfPhotographs(
    name="coco30k_clean",
    count=30_000,
    seeds="one picture for each of 30 000 captions",
    tensorflow=False,
    reference="COCO val2014, the images of the captions",
    resizer="clean",
)
ALL = (TORCH_FIDELITY, PYTORCH_FID_PNDM, EDM, COCO_PYTORCH_FID, COCO_CLEAN)
PROTOCOLS = {protocol.name: protocol for protocol in ALL}


def name_of(n: int, count: int) -> str:
    """The key of an Inception FID of n images under a protocol of `count`: fid, fid_5k, fid_123."""
    if n == count:
        return "fid"
    if n % 1000 == 0:
        return f"fid_{n // 1000}k"
    return f"fid_{n}"


@dataclass(frozen=True)
class FID(OfFeatures):
    """`fid` (`fid_5k` below the protocol's count) in Inception features, `frechet/lenet`,
    `frechet/pixels`.

    protocol: torch_fidelity, pytorch_fid_pndm, edm, coco30k_pytorch_fid, coco30k_clean; of
        Inception features only.
    reference: an .npz with the `mu` and `sigma` of the same features, or a folder of pictures, of
        which the centred squares count; null: the training images. Under torch_fidelity their
        moments are read where a file in data.root's fid_stats/ says that it is of them; `describe`
        says so, and how many it was made of.
    implementation: diffgeo, or torch_fidelity: the network, the moments and the distance of that
        library, the reference, of Inception features under a protocol that resizes as it does.

    Raises UsageError.
    """

    features: str | FeatureNet = "inception"
    protocol: str = "torch_fidelity"
    reference: str | None = None
    implementation: str = "diffgeo"

    def __post_init__(self):
        super().__post_init__()
        if self.implementation not in IMPLEMENTATIONS:
            raise UsageError(
                f"metrics.fid.implementation={self.implementation}: write "
                f"{' or '.join(IMPLEMENTATIONS)}"
            )
        if self.theirs:
            self.check_theirs()
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"metrics.fid.protocol={self.protocol}: write {', '.join(PROTOCOLS)}")

    @property
    def published(self) -> Published:
        return PROTOCOLS[self.protocol]

    @property
    def theirs(self) -> bool:
        """Whether torch-fidelity measures, and not we."""
        return self.implementation == "torch_fidelity"

    def check_theirs(self) -> None:
        """Raise UsageError on what torch-fidelity does not do."""
        if self.features != "inception" or self.half:
            raise UsageError(
                "metrics.fid.implementation=torch_fidelity is of metrics.fid.features=inception, "
                "in float32: leave the others out"
            )
        if self.protocol in PROTOCOLS and self.resize != "tensorflow":
            raise UsageError(
                f"metrics.fid.implementation=torch_fidelity resizes as TensorFlow 1, and "
                f"metrics.fid.protocol={self.protocol} otherwise: write torch_fidelity or edm"
            )

    def net(self, data: Pictures) -> Features:
        """The feature net, loaded once."""
        if not self.theirs:
            return super().net(data)
        from diffgeo.metrics import torch_fidelity

        return torch_fidelity.load(data.root, self.weights, device_of(self.device))

    @property
    def resize(self) -> str:
        return self.published.resize

    @property
    def needs_set(self) -> bool:
        return self.reference is None

    @property
    def identity(self) -> str | None:
        """The sha256 of the reference, and the key of a network of the user's own: numbers that
        depend on them are kept under it."""
        parts = [part for part in (super().identity, self.reference_digest()) if part is not None]
        return " ".join(parts) or None

    def reference_digest(self) -> str | None:
        if self.reference is None:
            return None
        path = at_home(self.reference, "metrics.fid.reference")
        if path.is_dir():
            return of_path(path)
        if not path.is_file():
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def count(self, net: Features, run: Run) -> int:
        """How many of the samples count: in Inception features no more than the protocol's."""
        n = len(run.samples)
        return min(n, self.published.count) if net.name == "inception" else n

    def file(self, net: Features, data: Pictures) -> Path | None:
        """The file or folder that holds the reference; None where it is computed from the images of
        the training law."""
        if self.reference is not None:
            return at_home(self.reference, "metrics.fid.reference")
        standard = net.key.startswith(f"inception-{KNOWN}") if self.theirs else net.key == STANDARD
        if self.protocol != TORCH_FIDELITY.name or not standard:
            return None
        return known(training(data))

    def truth(self, net: Features, data: Pictures) -> tuple[Moments, str]:
        """The reference moments, and where they are from."""
        path = self.file(net, data)
        if path is None:
            law = training(data)
            origin = f"{len(law.images)} {law.split} images of {law.name}"
            return of_training(net, law), origin
        if path.is_dir():
            found = of_folder(net, path, data.picture)
            return found, f"{found.n} pictures of {path.name}/"
        try:
            return read(path), path.name
        except Exception as error:  # numpy and zipfile raise half a dozen kinds
            option = path if self.reference is None else f"metrics.fid.reference={self.reference}"
            raise UsageError(
                f"{option}: no .npz with arrays mu [d] and sigma [d,d] "
                f"({str(error).splitlines()[0]})"
            ) from error

    def prepare(self, data: Data, n: int) -> None:
        """Load the feature net and a reference of a file, and hold one against the other by a black
        image; what is to be computed is computed at the end. Raises UsageError."""
        super().prepare(data, n)
        if not self.suits(data):
            return
        net = self.net(data)
        path = self.file(net, data)
        if path is None:
            return
        if path.is_dir():
            check_folder(path)
            return
        truth, origin = self.truth(net, data)
        (black,) = batches(net, torch.zeros(1, *data.picture, dtype=torch.uint8))
        self.fit(net, black.shape[1], truth, origin)

    def leave_out(self) -> None:
        """Raise UsageError: there is a choice to be made."""
        if self.optional:
            super().leave_out()
            return
        raise UsageError(
            "these pictures are of no set that an FID could hold them against: write "
            "metrics.fid.reference= a folder of pictures, or a FILE.npz with mu and sigma"
        )

    def fit(self, net: Features, width: int, truth: Moments, origin: str) -> None:
        """Raise UsageError where the reference is of another number of features than the net's."""
        if width != len(truth.mean):
            raise UsageError(
                f"the reference {origin} is of {len(truth.mean)} features, {net.name} has {width}: "
                "give another"
            )

    def key(self, net: Features, n: int) -> str:
        """What the value of n images is called."""
        if net.name == "inception":
            return name_of(n, self.published.count)
        return f"frechet/{net.name}"

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if not self.applies(data, run, say=True):
            return {}
        net = self.net(data)
        n = self.count(net, run)
        truth, origin = self.truth(net, data)
        features = of_samples(net, run, data, n)
        self.fit(net, features.shape[1], truth, origin)
        return {self.key(net, n): self.between(features, truth)}

    def between(self, features: Tensor, truth: Moments) -> float:
        """The distance of features [n,d] from the reference moments."""
        if not self.theirs:
            return between(moments(features), truth)
        from diffgeo.metrics import torch_fidelity

        return torch_fidelity.distance(features, truth)

    def describe(self, run: Run, data: Data) -> dict:
        """What a reader needs to compare the number: what was done, and under `published` what the
        protocol was published with."""
        if not self.applies(data, run):
            return {}
        net = self.net(data)
        n = self.count(net, run)
        truth, origin = self.truth(net, data)
        reference = {"origin": origin, "n": truth.n, "hash": digest(truth)}
        here = len(training(data).images) if self.reference is None else truth.n
        if truth.n not in (None, here):
            reference["note"] = f"moments of {truth.n} images; the training set here holds {here}"
        facts = self.facts(net, run, data, n) | {"reference": reference}
        if net.name == "inception":
            facts["key"] = self.key(net, n)
            facts["protocol"] = self.protocol
            facts["published"] = asdict(self.published)
        if self.theirs:
            facts["implementation"] = self.implementation
        return facts
