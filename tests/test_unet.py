"""The U-Net part by part against its formulas, its size against published counts. `test_pretrained`
holds it against diffusers' whole."""

import math

import pytest
import torch
from torch.nn import functional as F

from diffgeo.errors import UsageError
from diffgeo.nn import Sinusoidal, UNet
from diffgeo.nn.blocks import Attention, Residual, Style, double, halve

TINY = dict(channels=8, mult=(1, 2), blocks=1, attention=(4,), groups=4, dropout=0.0)


def randomized(module, std=0.3):
    """Weights that are nowhere zero."""
    torch.manual_seed(3)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=std)
    return module.double()


def tiny(shape=(1, 8, 8), **options):
    return randomized(UNet(shape, **(TINY | options)))


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "shape, options, published",
    [
        ((3, 32, 32), dict(embedding="sinusoidal"), 35_746_307),  # Ho et al. 2020: 35.7 M
        # DDIM's CelebA network: 78.7 M
        ((3, 64, 64), dict(embedding="sinusoidal", mult=(1, 2, 2, 2, 4)), 78_700_803),
    ],
)
def test_published_parameter_counts(shape, options, published):
    with torch.device("meta"):
        assert count(UNet(shape, **options)) == published


def test_the_cem_papers_network_has_the_size_of_labmls():
    """labml's U-Net counted by its own rules: channels multiply up, the last block of a level on
    the way up changes over."""
    c = 64
    e = 256
    mult = (1, 2, 2, 4)
    conv = lambda i, o, k: i * o * k * k + o  # noqa: E731
    res = lambda i, o: (
        2 * i
        + conv(i, o, 3)
        + 2 * o
        + conv(o, o, 3)
        + (e + 1) * o
        + (conv(i, o, 1) if i != o else 0)
    )  # noqa: E731
    attention = lambda n: 2 * n + (n + 1) * 3 * n + (n + 1) * n  # noqa: E731
    total = conv(1, c, 3) + (c + 1) * e + (e + 1) * e
    inp = c
    for i, m in enumerate(mult):
        total += (
            res(inp, inp * m)
            + res(inp * m, inp * m)
            + (2 * attention(inp * m) if i == 3 else conv(inp * m, inp * m, 3))
        )
        inp *= m
    total += 2 * res(inp, inp) + attention(inp)
    for i, m in reversed(list(enumerate(mult))):
        total += (
            2 * res(2 * inp, inp)
            + res(inp + inp // m, inp // m)
            + (2 * attention(inp) + attention(inp // m) if i == 3 else 0)
        )
        inp //= m
        total += conv(inp, inp, 4) if i else 0
    total += 2 * c + conv(c, 1, 3)
    with torch.device("meta"):
        net = UNet(
            (1, 32, 32),
            64,
            (1, 2, 4, 16),
            2,
            (4,),
            embedding="sinusoidal",
            resample="transposed",
            early=True,
        )
    assert count(net) == total == 167_775_681


def test_attention_is_the_softmax_formula():
    style = Style(width=4, groups=2, heads=2, rescale=True)
    layer = randomized(Attention(6, style))
    h = torch.randn(3, 6, 2, 5).double()
    # [B,C,HW]
    tokens = F.group_norm(h, 2, layer.norm.weight, layer.norm.bias, style.eps).flatten(2)
    q, k, v = (
        torch.einsum("oc,bcn->bon", layer.qkv.weight, tokens)
        .add(layer.qkv.bias[:, None])
        .split(6, 1)
    )
    heads = []
    for rows in (slice(0, 3), slice(3, 6)):
        weights = torch.softmax(
            torch.einsum("bcn,bcm->bnm", q[:, rows], k[:, rows]) / math.sqrt(3), -1
        )
        heads.append(torch.einsum("bnm,bcm->bcn", weights, v[:, rows]))
    a = (
        torch.einsum("oc,bcn->bon", layer.proj.weight, torch.cat(heads, 1))
        + layer.proj.bias[:, None]
    )
    expected = (h + a.view_as(h)) / math.sqrt(2)
    torch.testing.assert_close(layer(h), expected, rtol=1e-12, atol=1e-12)
    single = randomized(Attention(6, Style(width=4, groups=2, head=3, rescale=True)))
    # heads of 3 channels are 2 heads
    torch.testing.assert_close(single(h), expected, rtol=1e-12, atol=1e-12)


def silu(v):
    return v / (1 + torch.exp(-v))


@pytest.mark.parametrize("change", [None, halve, double])
@pytest.mark.parametrize("scale_shift", [False, True])
def test_residual_block_formula(change, scale_shift):
    style = Style(width=5, groups=2, scale_shift=scale_shift, rescale=scale_shift)
    block = randomized(Residual(4, 6, style, change))
    h = torch.randn(2, 4, 4, 6).double()
    emb = torch.randn(2, 5).double()
    r = {
        None: lambda v: v,
        halve: lambda v: (
            (v[:, :, ::2, ::2] + v[:, :, 1::2, ::2] + v[:, :, ::2, 1::2] + v[:, :, 1::2, 1::2]) / 4
        ),
        double: lambda v: v.repeat_interleave(2, 2).repeat_interleave(2, 3),
    }[change]

    def norm(layer, v):
        groups = v.reshape(2, 2, -1)
        groups = (groups - groups.mean(2, keepdim=True)) / (
            groups.var(2, unbiased=False, keepdim=True) + style.eps
        ).sqrt()
        return groups.view_as(v) * layer.weight[:, None, None] + layer.bias[:, None, None]

    e = (silu(emb) @ block.embed.weight.T + block.embed.bias)[:, :, None, None]
    a = F.conv2d(r(silu(norm(block.norm1, h))), block.conv1.weight, block.conv1.bias, padding=1)
    a = (
        norm(block.norm2, a) * (1 + e[:, :6]) + e[:, 6:]
        if scale_shift
        else norm(block.norm2, a + e)
    )
    a = F.conv2d(silu(a), block.conv2.weight, block.conv2.bias, padding=1)
    expected = (F.conv2d(r(h), block.skip.weight, block.skip.bias) + a) * (
        math.sqrt(0.5) if scale_shift else 1
    )
    torch.testing.assert_close(block(h, emb), expected, rtol=1e-11, atol=1e-11)


def test_group_norm_keeps_the_precision_of_its_input():
    """Under bf16 autocast the states stay bf16 from one end to the other, and the result is that of
    float32 to bf16's own 2^-8."""
    net = tiny().float()
    dtypes = set()
    for module in net.modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.SiLU | Residual | Attention):
            module.register_forward_hook(lambda m, args, out: dtypes.add(out.dtype))
    x = torch.randn(4, 1, 8, 8)
    noise = torch.zeros(4)
    expected = net(x, noise)
    assert dtypes == {torch.float32}
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x, noise)
    assert dtypes == {torch.bfloat16}
    assert (out.float() - expected).norm() < 0.05 * expected.norm()


def test_a_channels_last_state_stays_so_whatever_group_norm_answers(monkeypatch):
    """torch's CUDA kernel answers in NCHW; here the CPU's is made to. The values and the other
    layout are left alone."""
    plain = F.group_norm
    block = randomized(Residual(4, 6, Style(width=5, groups=2)))
    h = torch.randn(2, 4, 4, 6).double()
    emb = torch.randn(2, 5).double()
    expected = block(h, emb)
    monkeypatch.setattr(F, "group_norm", lambda *a: plain(*a).contiguous())
    for layout in (torch.channels_last, torch.contiguous_format):
        norm = block.norm1(h.contiguous(memory_format=layout))
        assert norm.is_contiguous(memory_format=layout)
        torch.testing.assert_close(norm, plain(h, 2, block.norm1.weight, block.norm1.bias, 1e-6))
        torch.testing.assert_close(block(h.contiguous(memory_format=layout), emb), expected)


def test_sinusoidal_embedding_values():
    """DDPM's: at t the angles t, t 10000^(-1/(half-1)), ..., t/10000; sines first. ADM's stops one
    short of that, cosines first."""
    t = torch.tensor([[0.0], [1.0], [999.0]])
    e = Sinusoidal(4)(t)
    angles = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4]
    expected = [
        [math.sin(v * w) for w in angles] + [math.cos(v * w) for w in angles] for v in (0, 1, 999)
    ]
    # float32 angles of up to 999
    torch.testing.assert_close(e, torch.tensor(expected), rtol=0, atol=5e-5)
    adm = Sinusoidal(4, shift=0, flip=True)(t[1:2])
    torch.testing.assert_close(
        adm,
        torch.tensor([[math.cos(10**-i) for i in range(4)] + [math.sin(10**-i) for i in range(4)]]),
    )


def test_patches_are_undone():
    """A network that hands its input through, once folded, hands it through: the fold and the
    unfold are inverse."""
    net = UNet((3, 8, 8), **(TINY | dict(patch=2, channels=12, mult=(1,))))
    for p in net.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(2, 3, 8, 8)
    captured = []
    net.inp.register_forward_hook(lambda module, args, out: captured.append(args[0]))
    net.out.register_forward_hook(lambda module, args, out: captured[0])
    assert torch.equal(net(x, torch.zeros(2)), x)
    assert captured[0].shape == (2, 12, 4, 4) and torch.equal(
        captured[0][1, 4:8, 2, 3], x[1, 1, 4:6, 6:8].flatten()
    )


def test_a_new_network_is_zero_and_every_weight_learns():
    torch.manual_seed(0)
    net = UNet(
        (1, 8, 8), **(TINY | dict(classes=3, resample="block", scale_shift=True, rescale=True))
    )
    x = torch.randn(6, 1, 8, 8)
    noise = torch.linspace(-1, 1, 6)
    label = torch.tensor([0, 1, 2, -1, 1, 0])
    assert torch.equal(net(x, noise, label), torch.zeros_like(x))
    for _ in range(4):  # the zero layers open one after another, from the end
        net.zero_grad()
        (net(x, noise, label) - x).square().mean().backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.3 * p.grad
    still = [name for name, p in net.named_parameters() if not bool((p.grad != 0).any())]
    assert not still


def test_the_null_class_is_one_of_its_own():
    net = tiny(classes=3)
    x = torch.randn(4, 1, 8, 8).double()
    noise = torch.zeros(4).double()
    null = net(x, noise)
    assert torch.equal(net(x, noise, torch.full((4,), -1)), null)
    labelled = net(x, noise, torch.tensor([0, -1, 2, 1]))
    differs = (labelled - null).flatten(1).abs().amax(1)
    assert differs[1] < 1e-12 < 1e-3 < differs[[0, 2, 3]].min()
    net.label.weight.data[:] = net.label.weight[3].clone()  # all classes made the null class
    torch.testing.assert_close(net(x, noise, torch.tensor([0, -1, 2, 1])), null)


@pytest.mark.parametrize(
    "options",
    [{}, dict(resample="block", head=4), dict(resample="transposed", early=True), dict(patch=2)],
)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12)])
def test_rows_are_independent_and_layouts_agree(options, shape):
    """28 -> 14 (-> 7), oblong images, and the channels_last layout: what a row gives does not hang
    on the batch or on the strides."""
    net = tiny(shape, **options)
    x = torch.randn(3, *shape).double()
    noise = torch.randn(3).double()
    whole = net(x, noise)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, alone, rtol=1e-10, atol=1e-10)
    last = net.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last), noise
    )
    torch.testing.assert_close(last, whole, rtol=1e-10, atol=1e-10)
    assert (whole[0] - net(x, noise + 1)[0]).abs().max().item() > 1e-3  # the level is looked at


@pytest.mark.parametrize("resample, patch", [("conv", 2), ("block", 1)])
def test_convolutions_stay_in_the_channels_last_layout(resample, patch):
    """A reshape that left it would cost a copy a layer."""
    net = tiny((1, 28, 28), attention=(28, 14), resample=resample, patch=patch).float()
    strays = []
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.GroupNorm) and name != "inp":
            module.register_forward_hook(
                lambda m, args, out, name=name: (
                    strays.append(name)
                    if not args[0].is_contiguous(memory_format=torch.channels_last)
                    else None
                )
            )
    net(torch.randn(2, 1, 28, 28), torch.zeros(2))
    assert not strays


def test_ddpms_downward_padding_is_right_and_below():
    """TensorFlow's SAME at stride 2: the first output pixel is the convolution at (1, 1), not at
    (0, 0)."""
    net = tiny(symmetric=False)
    h = torch.randn(1, 8, 8, 8).double()
    conv = net.down[0].change.conv
    expected = F.conv2d(F.pad(h, (1, 1, 1, 1)), conv.weight, conv.bias)[:, :, 1::2, 1::2]
    torch.testing.assert_close(net.down[0].change(h, None), expected)
    torch.testing.assert_close(
        tiny().down[0].change(h, None),
        F.conv2d(F.pad(h, (1, 1, 1, 1)), conv.weight, conv.bias)[:, :, ::2, ::2],
    )


@pytest.mark.parametrize(
    "shape, options, said",
    [
        ((1, 8, 8), dict(groups=3), "net.groups=3 does not divide net.channels=8"),
        (
            (1, 28, 28),
            dict(mult=(1, 1, 1, 1)),
            "28 x 28 cannot be folded by net.patch=1 and halved 3 times.*multiples of 8",
        ),
        ((1, 28, 28), dict(mult=(1, 1), patch=8), "net.patch=8"),
        ((1, 8, 8), dict(heads=3), "net.heads=3 does not divide"),
        ((1, 8, 8), dict(head=5), "net.head=5 does not divide"),
        ((1, 8, 8), dict(blocks=0), "net.blocks=0"),
        (
            (1, 8, 8),
            dict(resample="linear"),
            "net.resample=linear: write one of conv, transposed, block",
        ),
        ((1, 8, 8), dict(embedding="none"), "net.embedding=none: write one of fourier, sinusoidal"),
        ((1, 8, 8), dict(dropout=1.0), "net.dropout=1.0"),
        ((2,), {}, r"points of shape \(2,\): write net=mlp"),
    ],
)
def test_options_that_do_not_fit(shape, options, said):
    with pytest.raises(UsageError, match=said):
        UNet(shape, **(TINY | options))


def test_inputs_that_do_not_fit():
    net = UNet((3, 8, 8), **TINY)
    with pytest.raises(
        UsageError, match=r"built for images of shape \(3, 8, 8\) and is given \(1, 8, 8\)"
    ):
        net(torch.zeros(2, 1, 8, 8), torch.zeros(2))
    with pytest.raises(UsageError, match="net.classes=K"):
        net(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    "name, shape",
    [
        ("unet", (3, 32, 32)),
        ("unet_8", (1, 8, 8)),
        ("unet_28", (1, 28, 28)),
        ("unet_32", (3, 32, 32)),
        ("unet_64", (3, 64, 64)),
        ("unet_cifar10", (3, 32, 32)),
        ("ddpm_cifar10", (3, 32, 32)),
        ("ddpm_celeba", (3, 64, 64)),
        ("cem_mnist", (1, 32, 32)),
    ],
)
def test_configs_have_the_parameters_that_they_say(name, shape):
    import re
    from pathlib import Path

    from hydra import compose, initialize_config_dir

    from diffgeo.config.build import build

    conf = Path(__file__).resolve().parent.parent / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        node = compose("train", overrides=[f"net={name}"]).net
    with torch.device("meta"):
        size = count(build(node)(shape=shape))
    said = re.search(r"(\d[\d ]*\d) parameters", (conf / "net" / f"{name}.yaml").read_text())
    assert int(said[1].replace(" ", "")) == size
