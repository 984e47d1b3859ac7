"""The .ckpt of DDIM's and PNDM's code, made small and read back, and files that are no checkpoint
of theirs."""

import pytest
import torch
from test_pretrained import assert_same, network, pictures

from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.pretrained import ddim_checkpoint, diffusers

# DDIM's names, spelt out one by one from its code: what follows `down.1.`, and the parts of a
# block.
BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "temb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
WHOLE = {
    "time_embedding.linear_1": "temb.dense.0",
    "time_embedding.linear_2": "temb.dense.1",
    "conv_in": "conv_in",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
}


def ddim_name(name, levels=3):
    stem, kind = name.rsplit(".", 1)
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    part = stem.split(".")
    if part[0] == "mid_block":
        return (
            f"mid.block_{int(part[2]) + 1}.{BLOCK[part[3]]}.{kind}"
            if part[1] == "resnets"
            else f"mid.attn_1.{ATTENTION['.'.join(part[3:])]}.{kind}"
        )
    way = part[0].split("_")[0]
    level = int(part[1]) if way == "down" else levels - 1 - int(part[1])
    if "samplers" in part[2]:
        return f"{way}.{level}.{way}sample.conv.{kind}"
    kept = (
        f"block.{part[3]}.{BLOCK[part[4]]}"
        if part[2] == "resnets"
        else f"attn.{part[3]}.{ATTENTION['.'.join(part[4:])]}"
    )
    return f"{way}.{level}.{kept}.{kind}"


def ddim_tensors(net):
    """The state dict as DDIM's code has it: its names, and 1 x 1 convolutions in attention."""
    state = {ddim_name(k): v for k, v in net.state_dict().items()}
    return {
        k: v[:, :, None, None] if ".attn" in k.replace("attn_1", "attn.") and v.dim() == 2 else v
        for k, v in state.items()
    }


@pytest.mark.parametrize("layout", ["state dict", "list with an average", "list", "data-parallel"])
def test_a_ddim_checkpoint(tmp_path, layout):
    net = network(layers_per_block=2)
    named = ddim_tensors(net)
    other = {"conv_in.weight": torch.zeros(1)}
    assert {
        "down.1.attn.0.q.weight",
        "up.0.block.2.conv1.weight",
        "mid.attn_1.proj_out.bias",
        "up.2.upsample.conv.weight",
    } <= set(named)
    content = {
        "state dict": named,
        "list with an average": [other, {"state": {}}, 3, 100, named],
        "list": [named, {"state": {}}, 3, 100],
        "data-parallel": {f"module.{k}": v for k, v in named.items()},
    }[layout]
    torch.save(content, tmp_path / "ddim.ckpt")
    denoise = ddim_checkpoint(pictures(), path=str(tmp_path / "ddim.ckpt"))
    assert denoise.pretrained
    assert_same(denoise, net)


class Code:
    """Stands for a pickled model."""


@pytest.mark.parametrize(
    "content, said",
    [
        (
            Code(),
            r"holds Python objects \(\w+\.Code\), not tensors alone, and is not unpickled",
        ),
        ({"a": 1}, "holds no state dict of tensors"),
        ({"a.weight": torch.zeros(1)}, "is no checkpoint of DDIM's network: it holds a.weight"),
        (b"garbage", "cannot be read as weights"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, said):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=said) as error:
        ddim_checkpoint(pictures(), path=str(path))
    assert "\n" not in str(error.value)


def test_images_that_a_checkpoint_is_not_for(tmp_path):
    net = network()
    net.save_pretrained(tmp_path)
    torch.save(ddim_tensors(net), tmp_path / "x.ckpt")
    for data in (pictures((1, 16, 16)), Circle()):
        with pytest.raises(
            UsageError,
            match=rf"for images of shape \(3, 16, 16\), and data= has shape \({data.shape[0]},",
        ):
            diffusers(data, folder=str(tmp_path))
    with pytest.raises(
        UsageError, match=r"for images of shape \(3, H, W\), and data= has shape \(1, 16, 16\)"
    ):
        ddim_checkpoint(pictures((1, 16, 16)), path=str(tmp_path / "x.ckpt"))
    with pytest.raises(
        UsageError, match=r"for images in \[-1, 1\], and data= has them in \[0, 1\]"
    ):
        diffusers(pictures(low=0.0), folder=str(tmp_path))
