"""The DDPM++ network of Song et al. (2021, appendix H) as Karras et al. (2022, Table 7) trained it,
under EDM's parameter names.

It differs from `UNet` where they do: the embedding passes through SiLU before it is handed out; the
change of resolution projects its skip; on the way up only the last block of a level attends; the
lowest level begins with an attending and a plain block (`in0`, `in1`); the queries, keys and values
of one channel lie side by side. Written from the papers; the names are those of the published
weights,

    map_layer0  map_layer1  [map_label]  [map_augment]
    enc.32x32_conv  enc.32x32_block0 ...  enc.16x16_down  enc.16x16_block0 ...
    dec.8x8_in0  dec.8x8_in1  dec.8x8_block0 ...  dec.16x16_up ...
    dec.32x32_aux_norm  dec.32x32_aux_conv

and of a block  norm0 conv0 affine norm1 conv1 [skip] [norm2 qkv proj].
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffgeo.errors import UsageError
from diffgeo.nn.blocks import double, halve, uniform, zero
from diffgeo.nn.embedding import Sinusoidal

SHARE = sqrt(0.5)  # every sum of a branch and its skip is brought back to unit variance


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels, 1e-6)


class Block(nn.Module):
    """h'  = s (skip(r h) + conv1(drop(silu(norm1(conv0(r silu(norm0 h)) + affine emb)))))
    h'' = s (h' + proj(attention(norm2 h')))

    r: the change of resolution, halving by the mean or doubling by repetition (resample filter
    [1, 1]).
    """

    def __init__(
        self, inp: int, out: int, width: int, dropout: float, attention: bool = False, change=None
    ):
        super().__init__()
        self.inp = inp
        self.change = change or (lambda h: h)
        self.dropout = dropout
        self.norm0 = norm(inp)
        self.conv0 = nn.Conv2d(inp, out, 3, padding=1)
        self.affine = nn.Linear(width, out)
        self.norm1 = norm(out)
        self.conv1 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(inp, out, 1) if inp != out or change else None
        zero(self.conv1)
        self.qkv = None
        if attention:
            self.norm2 = norm(out)
            self.qkv = nn.Conv2d(out, 3 * out, 1)
            self.proj = nn.Conv2d(out, out, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        x = self.change(h) if self.skip is None else self.skip(self.change(h))
        h = self.conv0(self.change(F.silu(self.norm0(h)))) + self.affine(emb)[:, :, None, None]
        h = SHARE * (x + self.conv1(F.dropout(F.silu(self.norm1(h)), self.dropout, self.training)))
        if self.qkv is None:
            return h
        qkv = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (-1, 3))  # [B,C,3,HW]
        q, k, v = qkv.permute(2, 0, 3, 1)[:, :, None].unbind(0)  # each [B,1,HW,C]
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return SHARE * (h + self.proj(mixed.mT.unflatten(2, h.shape[2:])))


class SongUNet(nn.Module):
    """F(x, noise, label): x [B,C,H,W], noise [B] = log(sigma)/4, label int64 [B] or None, to
    [B,C,H,W].

    The defaults are edm-cifar10-32x32-uncond-vp, 55 733 891 parameters with `augment=9`.
    mult, blocks, attention: as in `UNet`.
    classes: one in a label, the null class being no label at all.
    augment: numbers that describe an augmentation, all 0 outside training.
    Raises UsageError on input of another shape, and labels that it does not take.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int = 128,
        mult: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (16,),
        dropout: float = 0.13,
        classes: int = 0,
        augment: int = 0,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.classes = classes
        width = 4 * channels
        if len(self.shape) != 3 or any(size % 2 ** (len(mult) - 1) for size in self.shape[1:]):
            raise UsageError(
                f"images of shape {self.shape} cannot be halved {len(mult) - 1} times: write fewer "
                "entries in net.mult"
            )
        self.map_noise = Sinusoidal(channels // 2)
        self.map_label = nn.Linear(classes, channels) if classes else None
        self.map_augment = nn.Linear(augment, channels, bias=False) if augment else None
        self.map_layer0 = nn.Linear(channels, width)
        self.map_layer1 = nn.Linear(width, width)
        self.enc = nn.ModuleDict()
        self.dec = nn.ModuleDict()
        c = channels
        skips = [channels]
        self.enc[f"{shape[1]}x{shape[1]}_conv"] = nn.Conv2d(shape[0], c, 3, padding=1)
        for i, m in enumerate(mult):
            size = shape[1] >> i
            if i:
                self.enc[f"{size}x{size}_down"] = Block(c, c, width, dropout, change=halve)
                skips.append(c)
            for j in range(blocks):
                self.enc[f"{size}x{size}_block{j}"] = Block(
                    c, m * channels, width, dropout, size in attention
                )
                c = m * channels
                skips.append(c)
        for i, m in reversed(list(enumerate(mult))):
            size = shape[1] >> i
            if i == len(mult) - 1:
                self.dec[f"{size}x{size}_in0"] = Block(c, c, width, dropout, attention=True)
                self.dec[f"{size}x{size}_in1"] = Block(c, c, width, dropout)
            else:
                self.dec[f"{size}x{size}_up"] = Block(c, c, width, dropout, change=double)
            for j in range(blocks + 1):
                attends = size in attention and j == blocks
                self.dec[f"{size}x{size}_block{j}"] = Block(
                    c + skips.pop(), m * channels, width, dropout, attends
                )
                c = m * channels
        self.last = f"{shape[1]}x{shape[1]}_aux"
        self.dec[f"{self.last}_norm"] = norm(c)
        last = nn.Conv2d(c, shape[0], 3, padding=1)
        self.dec[f"{self.last}_conv"] = last

        self.apply(uniform)
        for module in self.modules():
            if isinstance(module, Block):
                zero(module.conv1)
                if module.qkv is not None:
                    zero(module.proj)
        zero(last)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.shape:
            raise UsageError(
                f"the network was built for images of shape {self.shape} and is given "
                f"{tuple(x.shape[1:])}: write the data= it is for"
            )
        emb = self.map_noise(noise[:, None])
        if label is not None and not self.classes:
            raise UsageError("labels are given to a network without classes: leave the labels out")
        if (
            self.map_label is not None
        ):  # one-hot, in units that keep its variance; zeros for the null class
            label = torch.full_like(noise, -1, dtype=torch.int64) if label is None else label
            one = F.one_hot(label.clamp(min=0), self.classes) * (label >= 0)[:, None]
            emb = emb + self.map_label(one.to(emb) * sqrt(self.classes))
        emb = F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))
        h = x
        skips = []
        for name, block in self.enc.items():
            h = block(h) if name.endswith("_conv") else block(h, emb)
            skips.append(h)
        for name, block in self.dec.items():
            if name.startswith(self.last):
                break
            if block.inp != h.shape[1]:  # it takes a state of the way down, too
                h = torch.cat((h, skips.pop()), 1)
            h = block(h, emb)
        return self.dec[f"{self.last}_conv"](F.silu(self.dec[f"{self.last}_norm"](h)))
