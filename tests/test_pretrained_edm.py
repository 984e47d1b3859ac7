"""EDM's network under its published names, against the formulas of Karras et al. (2022) written out
on a bare dict of tensors.

`SongUNet` was held once against NVIDIA's own PhysicsNeMo (Apache 2.0, version 2.2.2): the same
names, the same 55 733 891 parameters, and in float64 the same outputs to 4e-10 with random weights,
with and without labels (in its training mode: its evaluation divides by n-1).
"""

import math
import re

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from diffgeo.errors import UsageError
from diffgeo.nn.song import SongUNet
from diffgeo.pretrained import edm_checkpoint
from diffgeo.pretrained.weights import fit

SMALL = dict(channels=16, mult=(1, 2), blocks=2, attention=(8,))


class Images:
    shape = (3, 16, 16)
    low = -1.0
    high = 1.0


def weights(classes=0, augment=9):
    """Random weights under EDM's names, filters of its resampling convolutions included, as an
    export of its state_dict has them."""
    torch.manual_seed(1)
    own = SongUNet((3, 16, 16), classes=classes, augment=augment, **SMALL).state_dict()
    made = {f"model.{name}": 0.15 * torch.randn(v.shape) for name, v in own.items()}
    for stem in {
        re.match(r"(.*_(?:down|up))\.", name)[1]
        for name in made
        if re.search(r"_(down|up)\.", name)
    }:
        made |= {
            f"{stem}.{conv}.resample_filter": torch.full((1, 1, 2, 2), 0.25)
            for conv in ("conv0", "skip")
        }
    return made


def formula(w, x, noise, onehot=None):
    """F(x, noise): the names say what to do, in the order in which the network of the paper has
    them."""

    def norm(name, h):
        return F.group_norm(
            h, min(32, h.shape[1] // 4), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6
        )

    def conv(name, h):
        kernel = w[f"{name}.weight"]
        f = w.get(f"{name}.resample_filter")
        if f is not None:  # separable filters as EDM applies them: depthwise, stride 2
            f = f.to(h).expand(h.shape[1], 1, 2, 2)
            h = (
                F.conv2d(h, f, groups=len(f), stride=2)
                if "_down" in name
                else F.conv_transpose2d(h, 4 * f, groups=len(f), stride=2)
            )
        return F.conv2d(h, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    def linear(name, v):
        return v @ w[f"{name}.weight"].mT + w[f"{name}.bias"]

    def block(name, h, emb):
        a = (
            conv(f"{name}.conv0", F.silu(norm(f"{name}.norm0", h)))
            + linear(f"{name}.affine", emb)[:, :, None, None]
        )
        a = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", a)))
        h = (a + (conv(f"{name}.skip", h) if f"{name}.skip.weight" in w else h)) / math.sqrt(2)
        if f"{name}.qkv.weight" in w:
            q, k, v = (
                conv(f"{name}.qkv", norm(f"{name}.norm2", h))
                .reshape(len(h), h.shape[1], 3, -1)
                .unbind(2)
            )
            weight = torch.softmax(torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(h.shape[1]), -1)
            h = (
                h + conv(f"{name}.proj", torch.einsum("bqk,bck->bcq", weight, v).reshape(h.shape))
            ) / math.sqrt(2)
        return h

    half = w["map_layer0.weight"].shape[1] // 2
    angle = noise[:, None] * 10_000 ** (-torch.arange(half, dtype=x.dtype) / (half - 1))
    emb = torch.cat([angle.sin(), angle.cos()], 1)
    if onehot is not None:
        emb = emb + linear("map_label", onehot * math.sqrt(onehot.shape[1]))
    emb = F.silu(linear("map_layer1", F.silu(linear("map_layer0", emb))))
    skips = [conv("enc.16x16_conv", x)]
    for name in (
        "enc.16x16_block0",
        "enc.16x16_block1",
        "enc.8x8_down",
        "enc.8x8_block0",
        "enc.8x8_block1",
    ):
        skips.append(block(name, skips[-1], emb))
    h = block("dec.8x8_in1", block("dec.8x8_in0", skips[-1], emb), emb)
    for size in (8, 16):
        h = block("dec.16x16_up", h, emb) if size == 16 else h
        for j in range(3):
            h = block(f"dec.{size}x{size}_block{j}", torch.cat([h, skips.pop()], 1), emb)
    return conv("dec.16x16_aux_conv", F.silu(norm("dec.16x16_aux_norm", h)))


def test_the_published_count_and_names():
    with torch.device("meta"):
        net = SongUNet((3, 32, 32), augment=9)
    assert sum(p.numel() for p in net.parameters()) == 55_733_891
    shapes = {name: tuple(v.shape) for name, v in net.state_dict().items()}
    assert {
        "map_layer0.weight": (512, 128),
        "map_layer1.bias": (512,),
        "map_augment.weight": (128, 9),
        "enc.32x32_conv.weight": (128, 3, 3, 3),
        "enc.32x32_block0.skip.weight": (256, 128, 1, 1),
        "enc.16x16_down.skip.weight": (256, 256, 1, 1),
        "enc.16x16_block3.qkv.weight": (768, 256, 1, 1),
        "enc.8x8_block0.affine.weight": (256, 512),
        "dec.8x8_in0.proj.bias": (256,),
        "dec.16x16_block4.norm2.weight": (256,),
        "dec.32x32_block4.conv0.weight": (256, 384, 3, 3),
        "dec.32x32_aux_norm.bias": (256,),
        "dec.32x32_aux_conv.weight": (3, 256, 3, 3),
    }.items() <= shapes.items()
    # only the last of a level attends
    assert "dec.16x16_block3.qkv.weight" not in shapes and "dec.8x8_in1.qkv.weight" not in shapes


@pytest.mark.parametrize("classes", [0, 4])
def test_an_export_gives_the_papers_denoiser(tmp_path, classes):
    """D = skip x + out F(inp x, log(sigma)/4) with sigma_data = 1/2, the labels one-hot and the
    null label all zeros."""
    tensors = weights(classes)
    path = tmp_path / "edm.safetensors"
    save_file(tensors, path)
    denoise = edm_checkpoint(Images(), path=str(path))
    assert denoise.pretrained and not denoise.training
    w = {name.removeprefix("model."): v.double() for name, v in tensors.items()}
    x = torch.randn(3, 3, 16, 16).double()
    sigma = torch.tensor([0.01, 0.7, 60.0]).double()
    label, onehot = (
        (torch.tensor([2, -1, 0]), torch.zeros(3, 4).double()) if classes else (None, None)
    )
    if classes:
        onehot[0, 2] = onehot[2, 0] = 1
    s = sigma.view(-1, 1, 1, 1)
    total = s**2 + 0.25
    expected = 0.25 / total * x + s * 0.5 / total.sqrt() * formula(
        w, x / total.sqrt(), sigma.log() / 4, onehot
    )
    denoised = denoise.double()(x, sigma, **({"label": label} if classes else {}))
    assert (expected - 0.25 / total * x).std() > 0.01
    # the frequencies of the embedding are float32
    torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-6)
    if classes:
        torch.testing.assert_close(denoise(x[1:2], sigma[1]), denoised[1:2])


def test_a_new_network_is_zero_and_every_weight_learns():
    torch.manual_seed(0)
    net = SongUNet((3, 16, 16), classes=2, dropout=0.0, **SMALL)
    x = torch.randn(4, 3, 16, 16)
    noise = torch.linspace(-1, 1, 4)
    label = torch.tensor([0, 1, 0, -1])
    assert torch.equal(net(x, noise, label), torch.zeros_like(x))
    for _ in range(4):
        net.zero_grad()
        (net(x, noise, label) - x).square().mean().backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.3 * p.grad
    assert not [name for name, p in net.named_parameters() if not bool((p.grad != 0).any())]


def test_exports_of_other_networks(tmp_path):
    path = tmp_path / "x.safetensors"

    def said(tensors):
        save_file(tensors, path)
        with pytest.raises(UsageError) as error:
            edm_checkpoint(Images(), path=str(path))
        assert "\n" not in str(error.value)
        return str(error.value)

    good = weights()
    assert "no export of an EDM network: it holds a" in said({"a": torch.zeros(1)})
    assert "resampling filters are not [1, 1]" in said(
        good | {"model.enc.8x8_down.conv0.resample_filter": torch.zeros(1, 1, 4, 4)}
    )
    lacking = {k: v for k, v in good.items() if k != "model.dec.8x8_in1.norm0.bias"}
    assert (
        "another architecture: dec.8x8_in1.norm0.bias is absent in the file, (32,) in the network"
        in said(lacking)
    )
    residual = good | {"model.enc.8x8_aux_down.weight": torch.zeros(2)}
    assert "enc.8x8_aux_down.weight is (2,) in the file, absent in the network" in said(residual)
    wider = good | {"model.dec.16x16_block0.conv0.weight": torch.zeros(16, 40, 3, 3)}
    assert (
        "dec.16x16_block0.conv0.weight is (16, 40, 3, 3) in the file, (16, 48, 3, 3) in the network"
        in said(wider)
    )


def test_images_that_it_is_not_for(tmp_path):
    class Grey:
        shape = (1, 28, 28)
        low = -1.0
        high = 1.0

    save_file(weights(), tmp_path / "edm.safetensors")
    with pytest.raises(
        UsageError, match=r"for images of shape \(3, 16, 16\), and data= has shape \(1, 28, 28\)"
    ):
        edm_checkpoint(Grey(), path=str(tmp_path / "edm.safetensors"))
    net = SongUNet((3, 16, 16), **SMALL)
    with pytest.raises(UsageError, match=r"\(3, 16, 16\) and is given \(1, 28, 28\)"):
        net(torch.zeros(1, 1, 28, 28), torch.zeros(1))
    with pytest.raises(UsageError, match="without classes"):
        net(torch.zeros(1, 3, 16, 16), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(UsageError, match="another architecture"):
        fit(net, {}, "x")
