"""The U-Net of DDPM (Ho et al. 2020), DDPM++ (Song et al. 2021) and ADM (Dhariwal and Nichol 2021),
in one class.

    x -> patches -> conv -> [ stages at each resolution, down ] -> stage, attention, stage
      -> [ stages on (h, skip), up ] -> conv -> F

At resolution i there are mult[i]*channels channels, `blocks` stages on the way down and one more on
the way up; every state on the way down is handed across once. The published networks are choices of
options:

    DDPM      embedding=sinusoidal attention=[16] symmetric=false
              (35 746 307 parameters on CIFAR-10)
    DDPM++    rescale=true resample=block blocks=4
              (`SongUNet` has its exact parameters)
    ADM       scale_shift=true resample=block head=64

patch=p folds p x p pixels into channels first, and unfolds the output: p^2 times fewer pixels to
work on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffgeo.errors import UsageError
from diffgeo.nn.blocks import RESAMPLING, Attention, Residual, Stage, Style, uniform, zero
from diffgeo.nn.embedding import Fourier, Sinusoidal

EMBEDDINGS = {
    "fourier": lambda size, bandwidth: Fourier(1, size // 2, bandwidth),
    "sinusoidal": lambda size, bandwidth: Sinusoidal(size // 2),
}


class Level(nn.Module):
    """The stages at one resolution, and the change to the next (None at the last)."""

    def __init__(self, stages: Sequence[nn.Module], change: nn.Module | None):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.change = change


class UNet(nn.Module):
    """F(x, noise, label): x [B,C,H,W] of about unit size, noise [B], label int64 [B] or None, to
    [B,C,H,W].

    shape: (C, H, W).
    channels, mult: channels at each resolution, mult[i]*channels. blocks: stages at each.
    attention: the sizes of feature maps (the longer side, in patches) with attention; the middle
        always has it.
    heads, head: attention heads, or the channels of one head.
    dropout: inside residual blocks. groups, eps: of group norm.
    classes: labels 0 .. classes-1; -1, and None for all, are the null class.
    patch: see above.
    embedding: `fourier` features of the noise scalar with `bandwidth` radians per unit of it, or
        `sinusoidal`, made for an index or a time.
    scale_shift, rescale: see `blocks`.
    resample: `conv` (strided; nearest and convolution), `transposed` (up by a transposed
        convolution) or `block` (inside residual blocks).
    symmetric: pad strided convolutions on all sides.
    early: a level goes over to the next one's channels in its own last stage (labml), not in the
        first stage of the next (DDPM).

    Raises UsageError on options that do not fit each other or the shape, and on input of another
    shape.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int = 128,
        mult: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
        heads: int = 1,
        head: int | None = None,
        dropout: float = 0.1,
        classes: int = 0,
        groups: int = 32,
        eps: float = 1e-6,
        patch: int = 1,
        embedding: str = "fourier",
        bandwidth: float = 4.0,
        scale_shift: bool = False,
        rescale: bool = False,
        resample: str = "conv",
        symmetric: bool = True,
        early: bool = False,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.classes = classes
        self.patch = patch
        mult = tuple(mult)
        style = Style(
            width=4 * channels,
            groups=groups,
            eps=eps,
            dropout=dropout,
            heads=heads,
            head=head,
            scale_shift=scale_shift,
            rescale=rescale,
            symmetric=symmetric,
        )
        self._check(style, channels, mult, blocks, embedding, resample)
        down, up = RESAMPLING[resample]
        sizes = [max(shape[1:]) // patch >> i for i in range(len(mult))]
        widths = [m * channels for m in mult]
        folded = shape[0] * patch**2
        last = len(mult) - 1

        self.level = EMBEDDINGS[embedding](channels, bandwidth)
        self.embed = nn.Sequential(
            nn.Linear(channels, style.width), nn.SiLU(), nn.Linear(style.width, style.width)
        )
        self.inp = nn.Conv2d(folded, channels, 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        skips = [channels]
        c = channels
        for i, width in enumerate(widths):
            stages = []
            for _ in range(blocks):
                stages.append(Stage(c, width, style, sizes[i] in attention))
                skips.append(width)
                c = width
            change = None
            if i < last:
                change = down(width, style)
                skips.append(width)
            self.down.append(Level(stages, change))
        self.middle = nn.ModuleList(
            [Residual(c, c, style), Attention(c, style), Residual(c, c, style)]
        )
        for i in reversed(range(len(mult))):
            stages = []
            for j in range(blocks + 1):
                goes_over = early and i > 0 and j == blocks
                out = widths[i - 1] if goes_over else widths[i]
                stages.append(Stage(c + skips.pop(), out, style, sizes[i] in attention))
                c = out
            self.up.append(Level(stages, up(c, style) if i else None))
        self.norm = style.norm(c)
        self.out = nn.Conv2d(c, folded, 3, padding=1)

        self.apply(uniform)
        for module in self.modules():
            if isinstance(module, Residual):
                zero(module.conv2)
            elif isinstance(module, Attention):
                zero(module.proj)
        zero(self.out)
        # the last row is the null class
        self.label = nn.Embedding(classes + 1, style.width) if classes else None

    def _check(
        self,
        style: Style,
        channels: int,
        mult: tuple[int, ...],
        blocks: int,
        embedding: str,
        resample: str,
    ) -> None:
        """Raise UsageError unless the options fit each other and the shape."""
        if len(self.shape) != 3:
            raise UsageError(
                f"a U-Net works on images (C, H, W), and data= has points of shape {self.shape}: "
                "write net=mlp"
            )
        counts = {
            "channels": channels,
            "blocks": blocks,
            "heads": style.heads,
            "groups": style.groups,
            "patch": self.patch,
        }
        if style.head is not None:
            counts["head"] = style.head
        for name, value in counts.items():
            if value < 1:
                raise UsageError(f"net.{name}={value}: write 1 or more")
        if not 0 < style.eps < 1:
            raise UsageError(f"net.eps={style.eps:g}: write a number above 0 and below 1")
        if not mult or min(mult) < 1 or self.classes < 0 or not 0 <= style.dropout < 1:
            raise UsageError(
                f"net.mult={list(mult)}, net.classes={self.classes}, net.dropout={style.dropout}: "
                "write multipliers from 1, classes from 0, dropout from 0 to below 1"
            )
        if embedding not in EMBEDDINGS:
            raise UsageError(f"net.embedding={embedding}: write one of {', '.join(EMBEDDINGS)}")
        if resample not in RESAMPLING:
            raise UsageError(f"net.resample={resample}: write one of {', '.join(RESAMPLING)}")
        if channels % style.groups or channels % 2:
            raise UsageError(
                f"net.groups={style.groups} does not divide net.channels={channels}, or that is "
                "odd: write an even number of channels and groups that divide it"
            )
        widths = [channels * m for m in mult]
        option, per = ("heads", style.heads) if style.head is None else ("head", style.head)
        if any(width % per for width in widths):
            raise UsageError(f"net.{option}={per} does not divide the channels {widths}")
        factor = self.patch * 2 ** (len(mult) - 1)
        if any(size % factor for size in self.shape[1:]):
            raise UsageError(
                f"images of {self.shape[1]} x {self.shape[2]} cannot be folded by "
                f"net.patch={self.patch} and halved {len(mult) - 1} times: write fewer entries in "
                f"net.mult, or images whose sides are multiples of {factor}"
            )

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.shape:
            raise UsageError(
                f"the network was built for images of shape {self.shape} and is given "
                f"{tuple(x.shape[1:])}: write the data= it is for"
            )
        emb = self.embed(self.level(noise[:, None]))
        if self.label is not None:
            label = torch.full_like(noise, -1, dtype=torch.int64) if label is None else label
            emb = emb + self.label(torch.where(label < 0, self.classes, label))
        elif label is not None:
            raise UsageError(
                "labels are given to a network without classes: write net.classes=K, or leave the "
                "labels out"
            )
        h = self.inp(F.pixel_unshuffle(x, self.patch))
        h = h.contiguous(memory_format=torch.channels_last)  # and so it stays
        skips = [h]
        for level in self.down:
            for stage in level.stages:
                h = stage(h, emb)
                skips.append(h)
            if level.change is not None:
                h = level.change(h, emb)
                skips.append(h)
        for part in self.middle:
            h = part(h, emb)
        for level in self.up:
            for stage in level.stages:
                h = stage(torch.cat((h, skips.pop()), 1), emb)
            if level.change is not None:
                h = level.change(h, emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.patch)
