"""A feature network of the user's own, given as an object:

    FID(features=net)                                                       from Python
    'metrics.fid.features={_target_: mypkg.features.Net}' plugins=[mypkg]   on the line

It is called with images as they are stored, uint8 [B,C,H,W], C 1 or 3, and gives [B,d]; what they
become before the first layer is its own affair. It may be

    a `nets.Features`, which says its name, key and batch
    a torch module: its key is the digest of its weights and of the code of its package
    any other callable: its key is the digest of its features of eight fixed images

The key names what is kept in the cache, and stands in fid.json. A module looks in evaluation mode.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.metrics.nets import NETS, FeatureNet, Features

PROBES = 8  # images that a callable without weights is known by
DIGITS = 4  # of their features: the last ones depend on the machine
BATCH = 64


def name_of(net: FeatureNet) -> str:
    """What a network is called in the names of values: the word of its class or function. Raises
    UsageError on the name of one of ours."""
    if isinstance(net, Features):
        name = net.name
    elif isinstance(net, functools.partial):
        return name_of(net.func)
    elif inspect.isfunction(net):
        name = net.__name__
    else:
        name = type(net).__name__
    word = re.sub(r"\W+", "_", name).strip("_") or "own"
    if word in ("auto", *NETS):
        raise UsageError(
            f"metrics.fid.features: {word} is the name of features that are here: give yours "
            "another name"
        )
    return word


def weights_of(net: nn.Module) -> str:
    """The sha256 of a module's tensors, by their names."""
    total = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        held = tensor.detach().cpu().contiguous()
        total.update(f"{name} {held.dtype} {list(held.shape)}\n".encode())
        total.update(held.flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def code_of(net: nn.Module) -> str:
    """The sha256 of the code that a module's parts are made of: of every package their classes are
    from its modules, of torch its version."""
    packages = {type(part).__module__.partition(".")[0] for part in net.modules()}
    total = hashlib.sha256(f"{type(net).__module__}.{type(net).__qualname__}".encode())
    for package in sorted(packages):
        said = torch.__version__ if package == "torch" else digest_of(package)
        total.update(f"{package} {said}\n".encode())
    if "__main__" in packages:  # a notebook: what its classes are is all that is known
        for part in net.modules():
            if type(part).__module__ == "__main__":
                total.update(source_of(type(part)).encode())
    return total.hexdigest()


@lru_cache
def digest_of(package: str) -> str:
    """The sha256 of the Python files of a package, or of its one file; of a script, nothing."""
    file = vars(sys.modules[package]).get("__file__")
    if package == "__main__" or file is None:
        return ""
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    total = hashlib.sha256()
    for one in files:
        total.update(f"{one.relative_to(path.parent)}\n".encode())
        total.update(one.read_bytes())
    return total.hexdigest()


def source_of(kind: type) -> str:
    """The text of a class, where Python has it."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


class Own:
    """The `Features` of an object without a name or key of its own.

    weights: the sha256 of its tensors; None where it is no module.
    """

    def __init__(self, net: FeatureNet, shape: tuple[int, ...], device: str):
        self.net = net
        self.name = name_of(net)
        self.batch = BATCH
        self.device = device
        self.weights: str | None = None
        if isinstance(net, nn.Module):
            self.weights = weights_of(net)
            net.to(device)
            known = f"{self.weights}\n{code_of(net)}"
        else:
            known = self.seen(shape)
        self.key = f"{self.name}-{hashlib.sha256(known.encode()).hexdigest()[:16]}"

    def seen(self, shape: tuple[int, ...]) -> str:
        """What eight fixed images [C,H,W] look like."""
        g = generator(0, *b"probe")
        images = torch.randint(0, 256, (PROBES, *shape), dtype=torch.uint8, generator=g)
        with torch.inference_mode():
            features = self(images).double().cpu()
        scale = float(features.abs().max()) or 1.0
        rounded = (features / scale).mul(10**DIGITS).round().to(torch.int64)
        return f"{list(features.shape)} {scale:.{DIGITS}g} {rounded.tolist()}"

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B,C,H,W] -> float32 [B,d]. Raises UsageError where the network gives something
        else, or stops."""
        given = images.to(self.device)
        training = isinstance(self.net, nn.Module) and self.net.training
        try:
            if isinstance(self.net, nn.Module):
                self.net.eval()
            found = self.net(given)
        except UsageError:
            raise
        except Exception as error:  # whatever somebody else's code raises
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"metrics.fid.features: {self.name} stops at uint8 images {list(images.shape)}: "
                f"{reason}"
            ) from error
        finally:
            if isinstance(self.net, nn.Module) and training:
                self.net.train()
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(
                f"metrics.fid.features: {self.name} gives {what} for images {list(images.shape)}; "
                f"it must give [{len(images)},d]"
            )
        return found.float()


def identity(net: FeatureNet) -> str | None:
    """What numbers that depend on a network are kept under; None of a callable that says nothing of
    itself."""
    if isinstance(net, Features):
        return net.key
    if isinstance(net, nn.Module):
        return f"{weights_of(net)} {code_of(net)}"
    return None


_held: dict[tuple, Features] = {}  # the network is held with it, so that its id stays its own


def features_of(net: FeatureNet, shape: tuple[int, ...], device: str) -> Features:
    """The `Features` of a network for pictures [C,H,W], made once. Raises UsageError."""
    name_of(net)
    if isinstance(net, Features):
        return net
    key = id(net), shape, device
    if key not in _held:
        _held[key] = Own(net, shape, device)
    return _held[key]
