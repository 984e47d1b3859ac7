"""A diffusers folder of DiT (Peebles and Xie 2023): latents denoised by a transformer that is told
a class, `diffgeo sample model=dit model.folder=DIR label=all guidance=4`.

    F = transformer(x/sqrt(1 + sigma^2), t(sigma), class)[:C],      D = x - sigma F

Of its 2C channels the first C are the noise, the others a variance that no flow looks at. The class
after the last stands for none, and guidance leads away from it: D is affine in F, so that
D_null + w (D_class - D_null) is the D of F_null + w (F_class - F_null). Latents are decoded as
Stable Diffusion's are.

The published networks are asked at whole t on betas that rise from 1e-4 to .02: the folder's own
grid, sampler.schedule=folder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.core import Data
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.decoder import Decoder
from diffgeo.pretrained.latent.files import read_weights
from diffgeo.pretrained.latent.folder import LatentFolder, read_folder
from diffgeo.pretrained.latent.model import parameterization_of
from diffgeo.pretrained.latent.networks import NO_NETWORK, library, plain
from diffgeo.pretrained.weights import fitted


class ClassNet(nn.Module):
    """A DiTTransformer2DModel, called as our networks are.

    classes: how many it knows; label -1, or none, is the class after them.
    """

    def __init__(self, net: nn.Module, classes: int, channels: int):
        super().__init__()
        self.net = net
        self.classes = classes
        self.channels = channels

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        null = torch.full((len(x),), self.classes, device=x.device)
        told = null if label is None else torch.where(label < 0, null, label)
        return self.net(x, timestep=noise, class_labels=told).sample[:, : self.channels]


class LatentClassNetwork(Network):
    """The transformer of a folder as a denoiser of latents, told a class.

    folder: what its files say.    shape: of a latent, (C, h, w).
    """

    pretrained = True

    def __init__(self, folder: LatentFolder):
        classes = folder.unet["num_embeds_ada_norm"]
        net = ClassNet(transformer_of(folder), classes, folder.channels)
        super().__init__(net, parameterization_of(folder))
        self.folder = folder
        self.shape = (folder.channels, folder.sample_size, folder.sample_size)


def transformer_of(folder: LatentFolder) -> nn.Module:
    """The network with the weights of the folder. Raises UsageError where they differ from its
    configuration."""
    kind = library("diffusers").DiTTransformer2DModel
    source = folder.source("transformer")
    tensors = read_weights(folder.weights["transformer"], source)
    try:
        made = fitted(lambda: kind(**plain(folder.unet)), lambda net: tensors, source)
    except UsageError:
        raise
    except NO_NETWORK as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{source}/config.json describes no network: {said}") from error
    return made.eval().requires_grad_(False)


def decoder(folder: LatentFolder, decode_batch: int = 4) -> Decoder:
    """Latents [n,C,h,w] -> pictures, uint8 [n,3,H,W]."""
    return Decoder(folder, decode_batch)


def dit(
    folder: str | Path | None = None, *, data: Data | None = None, net=None, **unused
) -> LatentClassNetwork:
    """The denoiser of a local diffusers folder of a DiT.

    data: its latents, as a command has them. Raises UsageError on a folder that is of another
    family or cannot be honoured, and on latents of another size: a transformer has one.
    """
    if folder is None:
        raise UsageError("model=dit needs model.folder=FOLDER, a local diffusers folder of a DiT")
    read = read_folder(folder)
    if read.family != "dit":
        raise UsageError(
            f"model.folder={folder} is told a prompt and no class: write model=latent, and prompts="
        )
    if read.predicts != "epsilon":
        raise UsageError(f"model.folder={folder}: a DiT predicts the noise, not {read.predicts}")
    own = (read.channels, read.sample_size, read.sample_size)
    if data is not None and tuple(data.shape) != own:
        side = read.sample_size * read.factor
        raise UsageError(
            f"model.folder={folder} draws latents of shape {own}, and data= has shape "
            f"{tuple(data.shape)}: leave height= and width= out, or write {side}"
        )
    return LatentClassNetwork(read).eval().requires_grad_(False)
