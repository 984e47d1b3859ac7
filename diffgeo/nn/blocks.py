"""The parts of a U-Net: residual block, attention, changes of resolution. Every part is called as
part(h, emb).

    residual    h' = s (skip(h) + conv2(drop(silu(m(norm2(conv1(r(silu(norm1 h)))))))))
                s = 1, or 1/sqrt(2) with `rescale`
                m adds the noise embedding before norm2 (DDPM), or scales and shifts after it,
                (1 + a) norm2 + b (ADM)
                r, and skip before its projection, change the resolution in a block that does
                (BigGAN, DDPM++, ADM)
    attention   h' = s (h + W_o softmax(q k^T / sqrt(d)) v)
                (q, k, v) = W norm(h) at each pixel, d channels a head

h [B,C,H,W], emb [B,width]. The last layer of each residual branch starts at zero, so that a new
network is a linear one; all other weights start uniform with variance 2/(fan_in + fan_out) (DDPM).
A part answers in its input's memory format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Style:
    """What all parts of one network share.

    width: of the embedding. groups, eps: of group norm. dropout: inside residual blocks.
    heads, head: how many heads of attention, or how many channels each has.
    scale_shift, rescale: see above.
    symmetric: pad strided convolutions by one pixel on all sides (else on the right and below only,
        as TensorFlow does).
    """

    width: int
    groups: int = 32
    eps: float = 1e-6
    dropout: float = 0.0
    heads: int = 1
    head: int | None = None
    scale_shift: bool = False
    rescale: bool = False
    symmetric: bool = True

    @property
    def share(self) -> float:
        """s above."""
        return sqrt(0.5) if self.rescale else 1.0

    def norm(self, channels: int) -> Norm:
        return Norm(self.groups, channels, self.eps)


class Norm(nn.GroupNorm):
    """Group norm in the dtype and the memory format of its input.

    Autocast would answer in float32, twice the traffic; moments are summed in float32 anyway.
    torch's CUDA kernel answers in NCHW (pytorch#111824), where every later part would follow it:
    one copy brings it back, which costs nothing where the answer is in order, as on a CPU.
    """

    def forward(self, h: Tensor) -> Tensor:
        weight = self.weight.to(h.dtype)
        bias = self.bias.to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):
            out = F.group_norm(h, self.num_groups, weight, bias, self.eps)
        return out if h.is_contiguous() else out.contiguous(memory_format=torch.channels_last)


def uniform(module: nn.Module) -> None:
    """DDPM's initial weights, for `nn.Module.apply`: variance 2/(fan_in + fan_out), biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer start at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Residual(nn.Module):
    """The residual block, from `inp` to `out` channels. change: of resolution, a function of h such
    as `halve`."""

    def __init__(
        self, inp: int, out: int, style: Style, change: Callable[[Tensor], Tensor] | None = None
    ):
        super().__init__()
        self.style = style
        self.change = change
        self.norm1 = style.norm(inp)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.embed = nn.Linear(style.width, out * (2 if style.scale_shift else 1))
        self.norm2 = style.norm(out)
        self.drop = nn.Dropout(style.dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(inp, out, 1) if inp != out else nn.Identity()

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        x = h
        h = F.silu(self.norm1(h))
        if self.change is not None:
            x = self.change(x)
            h = self.change(h)
        h = self.conv1(h)
        e = self.embed(F.silu(emb))[:, :, None, None]
        if self.style.scale_shift:
            scale, shift = e.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + e)
        h = self.skip(x) + self.conv2(self.drop(F.silu(h)))
        return h * self.style.share if self.style.rescale else h


class Attention(nn.Module):
    """Self-attention among the pixels, `style.heads` heads, or heads of `style.head` channels."""

    def __init__(self, channels: int, style: Style):
        super().__init__()
        self.style = style
        self.heads = style.heads if style.head is None else channels // style.head
        self.norm = style.norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, h: Tensor, emb: Tensor | None = None) -> Tensor:
        tokens = self.norm(h).flatten(2).mT  # [B,HW,C], a view in the channels_last layout
        # each [B,heads,HW,d]
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [B,HW,C]
        h = h + self.proj(mixed).mT.unflatten(2, h.shape[2:])
        return h * self.style.share if self.style.rescale else h


class Stage(nn.Module):
    """A residual block, and attention after it where asked for."""

    def __init__(self, inp: int, out: int, style: Style, attention: bool):
        super().__init__()
        self.residual = Residual(inp, out, style)
        self.attention = Attention(out, style) if attention else None

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        h = self.residual(h, emb)
        return h if self.attention is None else self.attention(h)


# Changes of resolution, from and to the same number of channels.


def halve(h: Tensor) -> Tensor:
    return F.avg_pool2d(h, 2)


def double(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2.0, mode="nearest")


class Down(nn.Module):
    """A 3 x 3 convolution of stride 2."""

    def __init__(self, channels: int, style: Style):
        super().__init__()
        self.symmetric = style.symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(style.symmetric))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.conv(h if self.symmetric else F.pad(h, (0, 1, 0, 1)))


class Up(nn.Module):
    """Each pixel twice a side, then a 3 x 3 convolution."""

    def __init__(self, channels: int, style: Style):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.conv(double(h))


class TransposedUp(nn.Module):
    """A 4 x 4 transposed convolution of stride 2."""

    def __init__(self, channels: int, style: Style):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.conv(h)


def down_block(channels: int, style: Style) -> Residual:
    return Residual(channels, channels, style, halve)


def up_block(channels: int, style: Style) -> Residual:
    return Residual(channels, channels, style, double)


RESAMPLING = {
    "conv": (Down, Up),
    "transposed": (Down, TransposedUp),
    "block": (down_block, up_block),
}
