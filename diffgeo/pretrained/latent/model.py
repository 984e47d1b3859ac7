"""The denoiser of a latent-diffusion folder, and the builder that model=latent names.

    F = U-Net(x/sqrt(1 + sigma^2), t(sigma), text),
    epsilon        D = x - sigma F
    v_prediction   D = alpha^2 x - alpha sigma F,    alpha = 1/sqrt(1 + sigma^2)
    sample         D = F

x [B,C,h,w] in units of scaling_factor, t the index of a trained level. Without a text the network
is told the null text: the negative prompt where there is one, else the empty prompt, or zeros where
SDXL's force_zeros_for_empty_prompt asks for them. Rombach et al. (2022), Podell et al. (2023).

    from diffgeo.pretrained.latent import latent

    denoise = latent("stable-diffusion-v1-5")
    denoise.shape                                        # (4, 64, 64)
    condition = denoise.condition(["a cat", "a dog"], guidance=7.5)    # of a Simulation
    pictures = denoise.decode(z0)                        # uint8 [n,3,512,512]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.core import Data, Parameterization, Sigma
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.parameterization import CEM, Epsilon, V
from diffgeo.pretrained.ddpm import Index
from diffgeo.pretrained.latent.condition import Prompted
from diffgeo.pretrained.latent.decoder import Decoder
from diffgeo.pretrained.latent.folder import LatentFolder, read_folder
from diffgeo.pretrained.latent.networks import unet_of
from diffgeo.pretrained.latent.prompts import Prompts
from diffgeo.pretrained.latent.text import Embedded, Encoders, joined
from diffgeo.schedule.discrete import Discrete


class TextNet(nn.Module):
    """A UNet2DConditionModel, called as our networks are and told a text.

    time_ids: SDXL, (height, width, top, left, height, width) in pixels [6]; else None.
    """

    def __init__(self, net: nn.Module, time_ids: Tensor | None):
        super().__init__()
        self.net = net
        self.register_buffer("time_ids", time_ids, persistent=False)

    def forward(
        self, x: Tensor, noise: Tensor, text: Tensor, pooled: Tensor | None = None
    ) -> Tensor:
        added = None
        if self.time_ids is not None and pooled is not None:
            ids = self.time_ids.expand(len(x), -1)
            added = {"text_embeds": pooled.to(x), "time_ids": ids}
        text = text.to(x)
        return self.net(x, noise, encoder_hidden_states=text, added_cond_kwargs=added).sample


class LatentNetwork(Network):
    """The U-Net of a folder as a denoiser of latents, and its text encoders.

    folder: what its files say.    shape: of a latent, (C, h, w).
    negative: the prompt that guidance leads away from; None: nothing.
    """

    pretrained = True

    def __init__(
        self, folder: LatentFolder, shape: tuple[int, ...], negative: str | None, decode_batch: int
    ):
        time_ids = None
        if folder.family == "sdxl":
            height, width = (side * folder.factor for side in shape[1:])
            time_ids = torch.tensor([height, width, 0.0, 0.0, height, width])
        super().__init__(TextNet(unet_of(folder), time_ids), parameterization_of(folder))
        self.texts = Encoders(folder)
        self.folder = folder
        self.shape = shape
        self.negative = negative
        self.decode_batch = decode_batch

    @cached_property
    def null(self) -> Embedded:
        """The text that stands for none, one row."""
        embedded = self.texts([self.negative or ""])
        nothing = self.negative is None and self.folder.empty_is_zero
        return embedded.zeros() if nothing else embedded

    def told(self, texts: Sequence[str]) -> Embedded:
        """These prompts as the U-Net is told them, and after them the null text."""
        encoded = self.texts(texts)
        return joined([encoded, self.null.on(encoded.text.device)])

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        *,
        label: Tensor | None = None,
        text: Tensor | None = None,
        pooled: Tensor | None = None,
        **cond,
    ) -> Tensor:
        """D(x; sigma) told the texts [B,77,W] (and, with SDXL, pooled [B,P]); without them the null
        text."""
        if text is None:
            rows = torch.zeros(len(x), dtype=torch.int64)
            text, pooled = self.null.rows(rows)
        if pooled is not None:
            cond["pooled"] = pooled.to(next(self.net.parameters()).device)
        cond["text"] = text.to(next(self.net.parameters()).device)
        return super().forward(x, sigma, label=label, **cond)

    def condition(
        self, prompts: Prompts | Sequence[str], guidance: float = 1.0, rescale: float = 0.0
    ) -> Prompted:
        """The prompt of sample i, as a simulation is told it."""
        if not isinstance(prompts, Prompts):
            prompts = Prompts(tuple(prompts))
        return Prompted(prompts, self, guidance, rescale)

    @cached_property
    def decode(self) -> Decoder:
        """Latents [n,C,h,w] -> pictures, uint8 [n,3,H,W]; read from the folder when it is first
        asked for."""
        return Decoder(self.folder, self.decode_batch)


def parameterization_of(folder: LatentFolder) -> Parameterization:
    """What the network predicts, at the levels that it was trained on."""
    index = Index(Discrete(betas=folder.scheduler.betas))
    kinds = {"epsilon": Epsilon, "v_prediction": V, "sample": CEM}
    return kinds[folder.predicts](index)


def latent(
    folder: str | Path | None = None,
    *,
    data: Data | None = None,
    net=None,
    negative: str | None = None,
    height: int | None = None,
    width: int | None = None,
    decode_batch: int = 4,
    **unused,
) -> LatentNetwork:
    """The denoiser of a local diffusers folder of the Stable Diffusion 1.x, 2.x or SDXL family.

    data: latents of the shape that the network is to draw, as a command has them; None: of the
        `height` and `width` in pixels, as it was trained where these are None.
    negative: what guidance leads away from; None: the null text of the family.
    Raises UsageError on a folder that cannot be honoured (`read_folder`), and on data of another
    shape.
    """
    read = read_folder(folder)
    if read.family == "dit":
        raise UsageError(
            f"model.folder={folder} is told a class and no prompt: write model=dit, and label="
        )
    if data is not None:
        shape = tuple(data.shape)
        if len(shape) != 3 or shape[0] != read.channels:
            raise UsageError(
                f"model.folder={folder} draws latents of {read.channels} channels, and data= has "
                f"shape {shape}: leave data= out, model=latent brings its own"
            )
        return LatentNetwork(read, shape, negative, decode_batch).eval().requires_grad_(False)
    sides = []
    for name, side in (("height", height), ("width", width)):
        if side is not None and (type(side) is not int or side < 1 or side % read.factor):
            raise UsageError(
                f"{name}={side}: a latent is {read.factor} pixels wide: write a multiple of "
                f"{read.factor}"
            )
        sides.append(read.sample_size if side is None else side // read.factor)
    shape = (read.channels, *sides)
    return LatentNetwork(read, shape, negative, decode_batch).eval().requires_grad_(False)
