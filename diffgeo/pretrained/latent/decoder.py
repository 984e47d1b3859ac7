"""Pictures of latents.

    y = VAE(z0/scaling_factor + shift),   or VAE(z0 std/scaling_factor + mean + shift) with SDXL
    picture = round(255 (y/2 + 1/2 kept in 0..1))

The decoder runs in float32, which force_upcast asks for where half precision overflows. How many
pictures are decoded at once changes a value by 1e-6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.pretrained.latent.networks import decoder_of
from diffgeo.pretrained.latent.parts import LatentFolder


class Decoder:
    """The decoder of a folder, on the device of the latents that it is given.

    batch: pictures at once.
    Raises UsageError where the weights do not fit, as `networks.decoder_of` does.
    """

    def __init__(self, folder: LatentFolder, batch: int = 4):
        self.net = decoder_of(folder)
        self.batch = batch
        self.scaling = folder.scaling
        self.shift = folder.shift
        self.mean = None
        self.std = None
        if folder.moments is not None:
            mean, std = folder.moments
            self.mean = torch.tensor(mean).view(1, -1, 1, 1)
            self.std = torch.tensor(std).view(1, -1, 1, 1)

    def unscaled(self, z0: Tensor) -> Tensor:
        """Latents in the units of the autoencoder."""
        if self.mean is None or self.std is None:
            return z0 / self.scaling + self.shift
        return z0 * self.std.to(z0) / self.scaling + self.mean.to(z0) + self.shift

    @torch.no_grad()
    def values(self, z0: Tensor) -> Tensor:
        """Latents [n,C,h,w] -> pictures [n,3,H,W] of values in 0..1, float32."""
        self.net.to(z0.device)
        parts = []
        for few in z0.to(torch.float32).split(self.batch):
            y = self.net(self.unscaled(few))
            parts.append((y / 2 + 0.5).clamp(0, 1))
        return torch.cat(parts)

    def __call__(self, z0: Tensor) -> Tensor:
        """Latents [n,C,h,w] -> pictures, uint8 [n,3,H,W]."""
        parts = [self.bytes_of(few) for few in z0.split(self.batch)]
        return torch.cat(parts)

    def bytes_of(self, z0: Tensor) -> Tensor:
        return (255 * self.values(z0)).round().to(torch.uint8)
