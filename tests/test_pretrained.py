"""DDPM's published checkpoint formats, made small and read back: diffusers' own network is the
oracle of ours, to 1e-5."""

import json
import re

import pytest
import torch

import diffgeo  # noqa: F401  torchvision's guard, before diffusers
from diffgeo.core import generator
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.pretrained import diffusers
from diffgeo.pretrained.ddpm import Index
from diffgeo.schedule.discrete import (
    CosineBetas,
    Discrete,
    LinearBetas,
    ScaledLinearBetas,
)
from diffgeo.schedule.trained import OnTrainedLevels

# google/ddpm-cifar10-32
GOOGLE = dict(
    attention_head_dim=None,
    flip_sin_to_cos=False,
    freq_shift=1,
    downsample_padding=0,
    norm_eps=1e-6,
)


def pictures(shape=(3, 16, 16), low=-1.0, high=1.0) -> Images:
    """A set of one image, which a builder looks at."""
    return Images(torch.zeros(1, *shape, dtype=torch.uint8), low=low, high=high)


def network(seed=0, **options):
    """A small UNet2DModel whose weights are nowhere zero, and whose output is of size one."""
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    net = UNet2DModel(
        **(
            dict(
                sample_size=16,
                in_channels=3,
                out_channels=3,
                block_out_channels=(32, 64, 64),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            )
            | GOOGLE
            | options
        )
    ).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def batch(n=4, channels=3):
    g = generator(5)
    return torch.randn(n, channels, 16, 16, generator=g), torch.tensor([0.0, 3.0, 500.0, 999.0])[:n]


def assert_same(denoise, net, tolerance=1e-5):
    x, t = batch()
    with torch.no_grad():
        expected = net(x, t).sample
        assert expected.std() > 0.1
        torch.testing.assert_close(denoise.net(x, t), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(layers_per_block=2, block_out_channels=(32, 32, 64)),
        dict(
            attention_head_dim=8,
            flip_sin_to_cos=True,
            freq_shift=0,
            downsample_padding=1,
            norm_eps=1e-5,
            norm_num_groups=16,
        ),
        dict(down_block_types=("AttnDownBlock2D",) * 3, up_block_types=("AttnUpBlock2D",) * 3),
    ],
)
def test_a_diffusers_folder_gives_what_diffusers_gives(tmp_path, options):
    net = network(**options)
    net.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    denoise = diffusers(pictures(), folder=str(tmp_path))
    assert (
        denoise.pretrained
        and not denoise.training
        and not any(p.requires_grad for p in denoise.parameters())
    )
    assert_same(denoise, net)


def test_the_other_layouts_of_a_folder(tmp_path):
    """torch's .bin, a pipeline's unet/ beside scheduler/, and the attention names of the files on
    the hub (query, key, ...)."""
    net = network()
    net.save_pretrained(tmp_path / "unet", safe_serialization=False)
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"beta_schedule": "scaled_linear", "beta_start": 1e-3})
    )
    denoise = diffusers(pictures(), folder=str(tmp_path))
    assert_same(denoise, net)
    assert denoise.parameterization.noise.trained.betas == ScaledLinearBetas(
        T=1000, first=1e-3, last=0.02
    )
    file = tmp_path / "unet" / "diffusion_pytorch_model.bin"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    torch.save(
        {
            re.sub(r"to_(q|k|v|out\.0)", lambda m: older[m[0]], k): v
            for k, v in torch.load(file, weights_only=True).items()
        },
        file,
    )
    assert any("query" in name for name in torch.load(file, weights_only=True))
    assert_same(diffusers(pictures(), folder=str(tmp_path)), net)


def test_through_the_library_itself(tmp_path):
    network().save_pretrained(tmp_path)
    ours, theirs = (
        diffusers(pictures(), folder=str(tmp_path), implementation=word)
        for word in ("diffgeo", "diffusers")
    )
    x = 3 * batch()[0].double()
    sigma = torch.tensor([0.02, 0.5, 3.0, 80.0], dtype=torch.float64)
    a = ours(x, sigma)
    b = theirs(x, sigma)
    assert type(ours.net) is not type(theirs.net) and b.std() > 0.1
    # of the noise
    torch.testing.assert_close(
        (a - b) / sigma.view(-1, 1, 1, 1), torch.zeros_like(a), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "config, betas, of_prediction",
    [
        ({}, LinearBetas(), lambda z, s, f: (z * (1 + s * s).sqrt()) - s * f),
        (
            {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
            CosineBetas(),
            lambda z, s, f: (z - s * f) / (1 + s * s).sqrt(),
        ),
        (
            {"prediction_type": "sample", "num_train_timesteps": 100, "beta_end": 0.2},
            LinearBetas(T=100, last=0.2),
            lambda z, s, f: f,
        ),
    ],
)
def test_the_denoiser_is_what_the_scheduler_says(tmp_path, config, betas, of_prediction):
    """At a trained level: x_t = z = x/sqrt(1+sigma^2), alpha = 1/sqrt(1+sigma^2), and x0 from the
    noise, v or x0 at the whole index t."""
    net = network()
    net.save_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    abar = torch.cumprod(1 - betas(), 0)
    t = torch.tensor([0, 7, 50, len(abar) - 1])
    sigma = ((1 - abar[t]) / abar[t]).sqrt()
    z = batch()[0].double()
    s = sigma.view(-1, 1, 1, 1)
    with torch.no_grad():
        prediction = net(z.float(), t).sample.double()
    denoised = diffusers(pictures(), folder=str(tmp_path))(z * (1 + s * s).sqrt(), sigma)
    error = (denoised - of_prediction(z, s, prediction)) / (1 + s)
    torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=2e-5)


def test_betas_from_the_file(tmp_path):
    network().save_pretrained(tmp_path)
    betas = torch.linspace(1e-3, 0.1, 50, dtype=torch.float64).tolist()
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"trained_betas": betas}))
    denoise = diffusers(pictures(), folder=str(tmp_path))
    expected = Discrete(betas=LinearBetas(T=50, first=1e-3, last=0.1)).levels
    torch.testing.assert_close(denoise.parameterization.noise.trained.levels, expected)


def test_the_index_between_levels_and_beyond():
    """Whole at the levels even from float32; halfway in log sigma is t + 1/2; outside the trained
    range the ends."""
    trained = Discrete()
    levels = trained.levels
    index = Index(trained)
    for dtype in (torch.float32, torch.float64):
        t = index(levels.to(dtype))
        assert torch.equal(t, torch.arange(1000, dtype=dtype))
    between = (levels[[10, 400]] * levels[[11, 401]]).sqrt()
    torch.testing.assert_close(index(between), torch.tensor([10.5, 400.5], dtype=torch.float64))
    assert index(torch.tensor([1e-3, 500.0])).tolist() == [0, 999]


def test_the_published_protocol_asks_at_whole_times_rounded_up(tmp_path):
    """Permenter and Yuan's look-up: 157 -> 999, 120 -> 972, 100 -> 954, 80 -> 930, 40 -> 853
    (distance.md A5)."""
    network().save_pretrained(tmp_path)
    denoise = diffusers(pictures(), folder=str(tmp_path))
    asked = []
    denoise.net.register_forward_hook(lambda module, args, out: asked.append(args[1].tolist()))
    protocol = OnTrainedLevels(denoise, Discrete(), "up")
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    for sigma in (157.0, 120.0, 100.0, 80.0, 40.0, 0.002):
        protocol(x, sigma)
    assert asked == [[999], [972], [954], [930], [853], [0]]
    asked.clear()
    OnTrainedLevels(denoise, Discrete(), "nearest")(
        torch.cat([x, x]), torch.tensor([80.0, 40.0], dtype=torch.float64)
    )
    denoise(x, 80.0)
    assert (
        asked[0] == [930, 853] and asked[1][0] == pytest.approx(929.8, abs=0.2) and asked[1][0] % 1
    )


def test_another_architecture_names_the_first_tensors(tmp_path):
    network().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"block_out_channels": [32, 32, 64]}))
    with pytest.raises(UsageError) as error:
        diffusers(pictures(), folder=str(tmp_path))
    said = str(error.value)
    assert "\n" not in said
    assert re.search(
        r"down_blocks\.1\.resnets\.0\.conv1\.weight is \(64, 32, 3, 3\) in the file, \(32, 32, 3, "
        r"3\) in the network",
        said,
    )
    (tmp_path / "config.json").write_text(json.dumps(config | {"layers_per_block": 2}))
    absent = (
        r"down_blocks\.0\.resnets\.1\.norm1\.weight is absent in the file, "
        r"\(32,\) in the network.* and \d+ more"
    )
    with pytest.raises(UsageError, match=absent):
        diffusers(pictures(), folder=str(tmp_path))


@pytest.mark.parametrize(
    "changed, said",
    [
        (
            {"act_fn": "gelu"},
            "act_fn=gelu is not what diffgeo's U-Net does; write model.implementation=diffusers",
        ),
        (
            {"down_block_types": ["DownBlock2D", "SkipDownBlock2D", "DownBlock2D"]},
            "no blocks SkipDownBlock2D",
        ),
        (
            {"up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]},
            "no blocks AttnUpBlock2D, UpBlock2D",
        ),
        ({"out_channels": 6}, "predicts 6 channels of 3"),
        ({"sample_size": 32}, r"shape \(3, 32, 32\)"),
    ],
)
def test_networks_that_ours_is_not(tmp_path, changed, said):
    config = dict(network().config) | changed
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=said):
        diffusers(pictures(), folder=str(tmp_path))
    (tmp_path / "config.json").write_text(
        json.dumps({"sample_size": 16, "_class_name": "Transformer2DModel"})
    )
    with pytest.raises(
        UsageError,
        match="its config.json has no down_block_types, so it is not that of a UNet2DModel",
    ):
        diffusers(pictures(), folder=str(tmp_path))
    with pytest.raises(UsageError, match="no diffusers folder"):
        diffusers(pictures(), folder=str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["diffusers", "ddim_checkpoint", "edm_checkpoint"])
def test_configs_ask_for_what_they_need(name):
    from pathlib import Path

    from hydra import compose, initialize_config_dir

    from diffgeo.config.build import build

    with initialize_config_dir(
        str(Path(__file__).resolve().parent.parent / "conf"), version_base="1.3"
    ):
        node = compose("train", overrides=[f"model={name}", "sigma_data=1"]).model
    with pytest.raises(UsageError, match=f"model={name} needs model.(folder|path)="):
        build(node)(data=pictures(), net=None)
