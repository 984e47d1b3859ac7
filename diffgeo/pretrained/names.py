"""DDPM's network under the names of others: tables of our name of a tensor and theirs, and the two
functions that read by them. Their queries, keys and values are three matrices, ours are one."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffgeo.nn.unet import UNet
from diffgeo.pretrained.weights import fitted

# Our name of a tensor -> theirs, one substitution after another.
DIFFUSERS = [
    (r"^embed\.0", "time_embedding.linear_1"),
    (r"^embed\.2", "time_embedding.linear_2"),
    (r"^inp", "conv_in"),
    (r"^norm", "conv_norm_out"),
    (r"^out", "conv_out"),
    (r"^middle\.1", "mid_block.attentions.0"),
    (r"^middle\.0", "mid_block.resnets.0"),
    (r"^middle\.2", "mid_block.resnets.1"),
    (r"^(down|up)\.(\d+)\.change", r"\1_blocks.\2.\1samplers.0"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.residual", r"\1_blocks.\2.resnets.\3"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.attention", r"\1_blocks.\2.attentions.\3"),
    (r"(resnets\.\d+)\.embed", r"\1.time_emb_proj"),
    (r"(resnets\.\d+)\.skip", r"\1.conv_shortcut"),
    (r"(attentions\.\d+)\.norm", r"\1.group_norm"),
    (r"(attentions\.\d+)\.proj", r"\1.to_out.0"),
    (r"(attentions\.\d+)\.qkv", r"\1.to_{}"),
]
DDIM = [
    (r"^embed\.0", "temb.dense.0"),
    (r"^embed\.2", "temb.dense.1"),
    (r"^inp", "conv_in"),
    (r"^norm", "norm_out"),
    (r"^out", "conv_out"),
    (r"^middle\.1", "mid.attn_1"),
    (r"^middle\.0", "mid.block_1"),
    (r"^middle\.2", "mid.block_2"),
    (r"^(down|up)\.(\d+)\.change", r"\1.\2.\1sample"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.residual", r"\1.\2.block.\3"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.attention", r"\1.\2.attn.\3"),
    (r"(block(?:\.|_)\d+)\.embed", r"\1.temb_proj"),
    (r"(block(?:\.|_)\d+)\.skip", r"\1.nin_shortcut"),
    (r"(attn(?:\.|_)\d+)\.proj", r"\1.proj_out"),
    (r"(attn(?:\.|_)\d+)\.qkv", r"\1.{}"),
]
# diffusers' own names before 0.15
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def renamed(name: str, table: list[tuple[str, str]]) -> str:
    """Our name of a tensor as theirs; {} stands for q, k or v where they have one of each."""
    for pattern, other in table:
        name = re.sub(pattern, other, name)
    return name


def as_ours(
    net: nn.Module, tensors: dict[str, Tensor], names: Callable[[str], str]
) -> dict[str, Tensor]:
    """Foreign tensors under the names of `net`, queries, keys and values as one; what has no name
    there stays under its own. names: takes our name to theirs, as `renamed` does."""
    left = dict(tensors)
    found = {}
    for name, own in net.state_dict().items():
        theirs = names(name)
        wanted = [theirs.format(letter) for letter in "qkv"] if "{}" in theirs else [theirs]
        parts = [left[part] for part in wanted if part in left]
        # what is no three equal parts stays what it is, and does not fit
        if len({part.shape for part in parts}) == 1:
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            # 1 x 1 convolutions, as matrices
            found[name] = whole.flatten(1) if own.dim() == 2 and whole.dim() == 4 else whole
            for part in wanted:
                left.pop(part, None)
    return found | left


def load(make: Callable[[], UNet], tensors: dict[str, Tensor], source: str, names) -> nn.Module:
    """The network make() with foreign tensors. Raises UsageError."""
    return fitted(
        make,
        lambda net: as_ours(net, tensors, names),
        source,
        lambda name: names(name).format("q|k|v"),
    )
