"""DDPM's network in the .ckpt of DDIM's and PNDM's code, and what a network of discrete time is
told of the noise level.

The network becomes a `UNet` by renaming: the table in `names` is all that there is to it. It sees
x/sqrt(1 + sigma^2), and the index t(sigma) in the place of the conditioning scalar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.nn.unet import UNet
from diffgeo.parameterization import Epsilon
from diffgeo.pretrained.names import DDIM, load, renamed
from diffgeo.pretrained.weights import check_images, frozen, length, read
from diffgeo.schedule.discrete import Betas, Discrete, LinearBetas
from diffgeo.schedule.rounding import TIE


@dataclass(frozen=True)
class Index:
    """The conditioning scalar of a discrete-time network: t(sigma) in [0, T-1] of the levels it was
    trained on, [B] -> [B].

    Whole at a trained level, whatever rounding errors sigma has; between two of them log sigma is
    interpolated.
    """

    trained: Discrete

    def __call__(self, sigma: Tensor) -> Tensor:
        t = self.trained.t(sigma.double())
        whole = t.round()
        t = torch.where((t - whole).abs() < TIE, whole, t)
        return t.clamp(0, self.trained.t_max).to(sigma)


def ddim_checkpoint(
    data: Data, net=None, *, path: str | None = None, betas: Betas = LinearBetas(), **unused
) -> Network:
    """A checkpoint of DDIM's or PNDM's code, such as ddim_cifar10.ckpt: the noise at the levels of
    `betas`.

    All that the network is can be read off the shapes in the file. Raises UsageError when they are
    not those of such a network.
    """
    if path is None:
        raise UsageError("model=ddim_checkpoint needs model.path=FILE.ckpt")
    tensors = read(path, "model.path", "temb.dense.0.weight")
    source = f"model.path={path}"
    needed = ("conv_in.weight", "down.0.block.0.conv1.weight")
    if any(name not in tensors or not all(tensors[name].shape) for name in needed):
        raise UsageError(
            f"{source} is no checkpoint of DDIM's network: it holds "
            f"{', '.join(list(tensors)[:3])}, ..., and no conv_in.weight, "
            "down.0.block.0.conv1.weight"
        )
    if tensors["conv_in.weight"].dim() != 4:
        raise UsageError(f"{source}: conv_in.weight is no convolution; write another file")
    channels, images = tensors["conv_in.weight"].shape[:2]
    check_images(data, images, None, source)
    shape = tuple(data.shape)
    blocks = 0
    while f"down.0.block.{blocks}.conv1.weight" in tensors:
        blocks += 1
    mult = []
    attention = []
    levels = 0
    while width := length(tensors, f"down.{levels}.block.0.conv1.weight", 0, source):
        mult.append(width // channels)
        if f"down.{levels}.attn.0.q.weight" in tensors:
            attention.append(max(shape[1:]) >> levels)
        levels += 1

    def make() -> UNet:
        return UNet(
            shape, channels, mult, blocks, attention, embedding="sinusoidal", symmetric=False
        )

    def theirs(name: str) -> str:
        """Our name as theirs, who count the way up from the finest level."""
        name = re.sub(r"^up\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
        return renamed(name, DDIM)

    module = load(make, tensors, source, theirs)
    return frozen(module, Epsilon(Index(Discrete(betas=betas))))
