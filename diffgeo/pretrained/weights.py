"""Reading foreign weights, and fitting them into a network of ours. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.core import Data, ImageSet, Parameterization
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.store.checkpoint import mismatches


def read(path: str | Path, option: str) -> dict[str, Tensor]:
    """The tensors by name of a .safetensors file or of a torch file (.bin, .pt, .ckpt), float32, on
    the CPU.

    A torch file may hold a state dict, or the list [model, optimizer, epoch, step, average] of
    DDIM's code, of which the average is taken if it is there. A prefix `module.`, of data-parallel
    training, is dropped. Raises UsageError on anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{option}={path}: there is no such file; write the path of a checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and safetensors raise a dozen kinds
        with open(path, "rb") as file:
            pickled = file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        if pickled and "weights" in str(error).lower():
            raise UsageError(
                f"{option}={path} holds Python objects, not tensors alone, and is not unpickled: "
                "save its state_dict() with torch.save or as safetensors, where it was made"
            ) from error
        raise UsageError(
            f"{option}={path} cannot be read as weights: it is damaged, or no safetensors or torch "
            "file"
        ) from error
    if isinstance(found, list | tuple) and found:
        found = found[4] if len(found) > 4 else found[0]
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(v, Tensor) for v in found.values())
    ):
        raise UsageError(
            f"{option}={path} holds no state dict of tensors: save the model's state_dict() alone"
        )
    return {str(name).removeprefix("module."): v.float() for name, v in found.items()}


def fit(
    net: nn.Module, named: dict[str, Tensor], source: str, names: Callable[[str], str] = str
) -> None:
    """Copy `named` into `net`, strictly. names: how the source calls one of the network's own
    tensors.

    Raises UsageError with the first three tensors that are absent on one side, or of different
    shapes, and both shapes.
    """
    if wrong := mismatches(net.state_dict(), named, names):
        raise UsageError(f"{source} holds another architecture: {wrong}")
    net.load_state_dict(named)


def frozen(net: nn.Module, parameterization: Parameterization) -> Network:
    """The denoiser of a network that is not trained any further."""
    denoise = Network(net, parameterization).eval().requires_grad_(False)
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
