"""Reading foreign weights, and fitting them into a network of ours. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from diffgeo.core import Data, ImageSet, Parameterization
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.pretrained.archive import as_float32, contents
from diffgeo.pretrained.layouts import unwrapped
from diffgeo.store.checkpoint import mismatches

Kind = TypeVar("Kind", bound=Network)


def read(path: str | Path, option: str, landmark: str) -> dict[str, Tensor]:
    """The tensors by name of the network with this landmark (`layouts`) in a .safetensors or torch
    file (`archive`), float32, on the CPU. Raises UsageError."""
    source = f"{option}={path}"
    tensors = unwrapped(contents(Path(path), source), landmark, source)
    return as_float32(tensors, Path(path), source)


def length(tensors: dict[str, Tensor], name: str, axis: int, source: str) -> int:
    """How long a tensor of the file is along an axis; 0 where the file has none of the name. Raises
    UsageError where it has no such axis."""
    if name not in tensors:
        return 0
    shape = tensors[name].shape
    if len(shape) <= axis or not shape[axis]:
        raise UsageError(f"{source}: {name} has shape {tuple(shape)}; write another file")
    return shape[axis]


def check_fit(
    net: nn.Module, named: dict[str, Tensor], source: str, names: Callable[[str], str] = str
) -> None:
    """Raise UsageError with the first three tensors that are absent on one side, or of different
    shapes, and both shapes. names: how the source calls one of the network's own tensors."""
    if wrong := mismatches(net.state_dict(), named, names):
        raise UsageError(f"{source} holds another architecture: {wrong}")


def fit(
    net: nn.Module, named: dict[str, Tensor], source: str, names: Callable[[str], str] = str
) -> None:
    """Copy `named` into `net`, strictly, as `check_fit` has it."""
    check_fit(net, named, source, names)
    net.load_state_dict(named)


def fitted(
    make: Callable[[], nn.Module],
    named: Callable[[nn.Module], dict[str, Tensor]],
    source: str,
    names: Callable[[str], str] = str,
) -> nn.Module:
    """The network make() with the weights named(network), strictly. It is first sketched without
    memory: a file of a few bytes may describe a network of any size. Raises UsageError."""
    try:
        with torch.device("meta"):
            sketch = make()
    except RuntimeError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{source} describes no network: {str(error).splitlines()[0]}") from error
    weights = named(sketch)
    check_fit(sketch, weights, source, names)
    net = make()
    net.load_state_dict(weights)
    return net


def frozen(net: nn.Module, parameterization: Parameterization, kind: type[Kind] = Network) -> Kind:
    """The denoiser, of this kind, of a network that is not trained any further."""
    denoise = kind(net, parameterization).eval().requires_grad_(False)
    denoise.pretrained = True
    return denoise


def check_images(data: Data, channels: int, size: tuple[int, int] | None, source: str) -> None:
    """Raise UsageError unless the images of `data` are those a checkpoint is for: its channels, its
    size where it names one, values in [-1, 1]."""
    shape = tuple(data.shape)
    height, width = size or ("H", "W")
    if len(shape) != 3 or shape[0] != channels or (size is not None and shape[1:] != size):
        raise UsageError(
            f"{source} is for images of shape ({channels}, {height}, {width}), and data= has shape "
            f"{shape}: write the data= that it was trained on"
        )
    if isinstance(data, ImageSet) and (data.low, data.high) != (-1, 1):
        raise UsageError(
            f"{source} is for images in [-1, 1], and data= has them in "
            f"[{data.low:g}, {data.high:g}]: write data.low=-1 data.high=1"
        )
