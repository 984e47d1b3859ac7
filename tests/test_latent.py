"""Latent diffusion against diffusers' own pipelines, on folders of random weights: the same latents
to float32's last digits, for every sampler, prediction and family (latent.md, A5).

`apart` is max|a - b|/max|a|. The pipelines read the folders with their own loading code.
"""

import json
import logging
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from latent_folders import changed, edit, make
from safetensors.torch import load_file, save_file

import diffgeo  # noqa: F401  torchvision's guard, before the libraries
from diffgeo.core import generator
from diffgeo.denoiser import Guided
from diffgeo.errors import UsageError
from diffgeo.pretrained.latent import latent
from diffgeo.pretrained.latent.decoder import Decoder
from diffgeo.pretrained.latent.folder import read_folder
from diffgeo.pretrained.latent.networks import plain
from diffgeo.pretrained.latent.prompts import Prompts
from diffgeo.pretrained.latent.text import Encoders
from diffgeo.sampler import PLMS, RK45, DPMpp2M, Euler, GradientEstimation, UniPC
from diffgeo.schedule.discrete import Discrete, LogLinear, ScaledLinearBetas
from diffgeo.schedule.scheduler_config import folder_schedule
from diffgeo.simulation import Simulation
from diffgeo.simulation.initial import InChart

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
logging.disable(logging.WARNING)  # of the libraries: accelerate is not needed

PROMPTS = ("a cat", "dog on the MOON!")
FAMILIES = ("sd", "sd_v", "sd_zero", "sd_sample", "sdxl")
UNIT = torch.randn(2, 4, 8, 8, generator=generator(5))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("latent")
    return {family: make(top / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def networks(folders):
    return {family: latent(folder) for family, folder in folders.items()}


@pytest.fixture(scope="module")
def pipelines(folders):
    found = {}
    for family, folder in folders.items():
        xl = family == "sdxl"
        kind = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
        quiet = {"add_watermarker": False} if xl else {"safety_checker": None}
        pipeline = kind.from_pretrained(folder, local_files_only=True, **quiet)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.first = dict(pipeline.scheduler.config)
        found[family] = pipeline
    return found


def theirs(pipeline, scheduler, n=10, w=7.5, rescale=0.0, output="latent", prompts=PROMPTS, **more):
    """What a pipeline draws of UNIT."""
    pipeline.scheduler = scheduler
    drawn = pipeline(
        list(prompts),
        num_inference_steps=n,
        guidance_scale=w,
        guidance_rescale=rescale,
        latents=UNIT[: len(prompts)].clone(),
        output_type=output,
        **more,
    )
    return drawn.images


def simulation(network, sampler, sigmas, w=7.5, rescale=0.0, prompts=PROMPTS):
    condition = network.condition(prompts, w, rescale)
    return Simulation(
        sampler,
        network,
        sigmas,
        network.shape,
        condition=condition,
        noise=UNIT,
        initial=InChart(),
        in_chart=True,
    )


def ours(network, sampler, sigmas, w=7.5, rescale=0.0):
    """z = x/sqrt(1 + sigma^2) at the last level."""
    return simulation(network, sampler, sigmas, w, rescale).draw(range(2)).samples


def apart(a, b):
    return float((a - b).abs().max() / a.abs().max())


def grid_of(pipeline, tmp_path, n=10, **keys):
    """The levels of diffgeo's `folder` schedule for a pipeline's scheduler with other keys."""
    pipeline.scheduler.save_config(tmp_path)
    edit(tmp_path / "scheduler_config.json", **keys)
    return folder_schedule(str(tmp_path)).grid(n)


def ddim(pipeline, **keys):
    keys = {"clip_sample": False, "set_alpha_to_one": False} | keys
    return diffusers.DDIMScheduler.from_config(pipeline.first, **keys)


# the rows of A5


def test_a_text_matters_to_these_networks(networks):
    """What follows could not fail where it does not."""
    network = networks["sd"]
    told = network.told(PROMPTS)
    x = 3 * UNIT.double()
    first, null = (network(x, 3.0, text=told.rows(torch.tensor(i)).text) for i in ([0, 1], [2, 2]))
    assert apart(first, null) > 1e-3
    torch.testing.assert_close(network(x, 3.0), null, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "keys, n",
    [
        ({}, 10),
        pytest.param({"set_alpha_to_one": True}, 10, marks=pytest.mark.slow),
        pytest.param({"timestep_spacing": "trailing"}, 10, marks=pytest.mark.slow),
        ({}, 7),
        pytest.param({}, 50, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_ddim_of_a_noise(networks, pipelines, tmp_path, keys, n):
    pipeline = pipelines["sd"]
    expected = theirs(pipeline, ddim(pipeline, **keys), n)
    sigmas = grid_of(pipeline, tmp_path, n)
    assert len(sigmas) == n + 1
    assert apart(expected, ours(networks["sd"], Euler(), sigmas)) < 2e-6


@pytest.mark.parametrize(
    "family, rescale",
    [("sd_v", 0), pytest.param("sd_v", 0.7, marks=pytest.mark.slow), ("sd_zero", 0.7)],
)
def test_ddim_of_v(networks, pipelines, tmp_path, family, rescale):
    """sd_zero: betas that end in noise alone, trailing; sigma is 2^24 there."""
    pipeline = pipelines[family]
    zero = {"timestep_spacing": "trailing"} if family == "sd_zero" else {}
    expected = theirs(pipeline, ddim(pipeline, **zero), rescale=rescale)
    sigmas = grid_of(pipeline, tmp_path)
    assert float(sigmas[0]) > (1e7 if family == "sd_zero" else 8)
    found = ours(networks[family], Euler(), sigmas, rescale=rescale)
    assert apart(expected, found) < 3e-6
    if rescale:
        assert apart(expected, ours(networks[family], Euler(), sigmas)) > 1e-3


def test_ddim_of_z0_itself(networks, pipelines, tmp_path):
    pipeline = pipelines["sd_sample"]
    expected = theirs(pipeline, ddim(pipeline))
    found = ours(networks["sd_sample"], Euler(), grid_of(pipeline, tmp_path))
    assert apart(expected, found) < 4e-5


LIBRARY = {
    "euler": (diffusers.EulerDiscreteScheduler, Euler(), {"timestep_spacing": "leading"}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, DPMpp2M(), {}),
    "unipc": (diffusers.UniPCMultistepScheduler, UniPC(points=2), {}),
    "plms": (diffusers.PNDMScheduler, PLMS(), {}),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_other_samplers_of_the_library(networks, pipelines, tmp_path, name):
    """On each class's own grid: to 0, but plms to sigma_0 with one evaluation more."""
    kind, sampler, keys = LIBRARY[name]
    pipeline = pipelines["sd"]
    scheduler = kind.from_config(pipeline.first, **keys)
    expected = theirs(pipeline, scheduler)
    sigmas = grid_of(pipeline, tmp_path)
    drawn = simulation(networks["sd"], sampler, sigmas).draw(range(2))
    assert drawn.nfe == 2 * (11 if name == "plms" else 10)  # rows a sample
    assert apart(expected, drawn.samples) < 3e-6


class Published:
    """Gradient estimation as its authors' COCO code steps, written anew as a scheduler of a
    pipeline: x = z sqrt(1 + sigma^2), x' = x + (sigma' - sigma)(gamma eps + (1 - gamma) eps_old).
    It ends at x."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, schedule, n, gamma=2.0):
        self.times = schedule.times(n)
        self.sigmas = schedule.sigma(self.times)
        self.gamma = gamma

    def set_timesteps(self, n, device=None, **unused):
        self.timesteps = self.times[:-1].long()
        self.k = 0
        self.init_noise_sigma = float(1 + self.sigmas[0] ** 2) ** 0.5

    def scale_model_input(self, x, t):
        return x / float(1 + self.sigmas[self.k] ** 2) ** 0.5

    def step(self, eps, t, x, return_dict=False):
        mean = eps if self.k == 0 else self.gamma * eps + (1 - self.gamma) * self.eps
        self.eps = eps
        step = float(self.sigmas[self.k + 1] - self.sigmas[self.k])
        self.k += 1
        return (x + step * mean,)


def test_gradient_estimation_as_published(networks, pipelines):
    schedule = Discrete(betas=ScaledLinearBetas(), timesteps=LogLinear(8.35, 0))
    expected = theirs(pipelines["sd"], Published(schedule, 10))
    sigmas = schedule.grid(10)
    run = simulation(networks["sd"], GradientEstimation(gamma=2.0), sigmas)
    found = run.draw(range(2)).samples
    x = replace(run, in_chart=False).draw(range(2)).samples
    assert apart(expected, x) < 3e-6
    states = run.trajectory(range(2)).x
    torch.testing.assert_close(states[-1], found, rtol=0, atol=1e-12)
    # what its decoder sees is larger than z by 1 + sigma_0^2/2
    assert apart(expected, found) == pytest.approx(4.25e-4, rel=0.01)


@pytest.mark.parametrize("negative", [None, pytest.param("", marks=pytest.mark.slow), "a dog"])
def test_sdxl(folders, pipelines, tmp_path, negative):
    """Two encoders, a pooled text, time ids; the null text is zeros, an encoded empty one, or an
    encoded negative prompt."""
    pipeline = pipelines["sdxl"]
    keys = {"timestep_spacing": "leading"}
    scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.first, **keys)
    said = None if negative is None else [negative] * 2
    expected = theirs(pipeline, scheduler, negative_prompt=said)
    network = latent(folders["sdxl"], negative=negative)
    assert bool((network.null.text == 0).all()) == (negative is None)
    found = ours(network, Euler(), grid_of(pipeline, tmp_path))
    assert apart(expected, found) < 3e-6


@pytest.mark.slow
def test_a_negative_prompt(folders, networks, pipelines, tmp_path):
    pipeline = pipelines["sd"]
    expected = theirs(pipeline, ddim(pipeline), 4, negative_prompt=["a dog"] * 2)
    sigmas = grid_of(pipeline, tmp_path, 4)
    network = latent(folders["sd"], negative="a dog")
    assert apart(expected, ours(network, Euler(), sigmas)) < 3e-6
    assert apart(expected, ours(networks["sd"], Euler(), sigmas)) > 1e-3


def test_pictures(folders, networks, pipelines, tmp_path):
    """Of SD, and of SDXL with moments of its latents, whose pipeline alone looks at them."""
    moments = {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1.5, 0.8, 1.1, 0.9]}
    for family in ("sd", "sdxl"):  # one test: an autoencoder's file is changed and put back
        pipeline = pipelines[family]
        own = folders[family] / "vae" / "config.json"
        kept = own.read_text()
        edit(own, **moments)
        pipeline.vae.register_to_config(**moments)
        scheduler = ddim(pipeline)
        expected = torch.from_numpy(theirs(pipeline, scheduler, 2, output="np")).permute(0, 3, 1, 2)
        z0 = ours(networks[family], Euler(), grid_of(pipeline, tmp_path, 2))
        decoder = Decoder(read_folder(folders[family]), batch=1)
        own.write_text(kept)
        assert apart(expected, decoder.values(z0)) < 3e-6
        # 8 bits, but for a value on the edge between two
        bytes_ = torch.from_numpy((expected.numpy() * 255).round().astype(np.uint8))
        away = decoder(z0).int() - bytes_.int()
        assert int(away.abs().max()) <= 1 and float((away != 0).float().mean()) < 1e-3
        plain = Decoder(read_folder(folders[family]), batch=2)
        assert (apart(plain.values(z0), decoder.values(z0)) > 1e-2) == (family == "sdxl")
        assert networks[family].decode(z0).shape == (2, 3, 64, 64)


# guidance


def test_guidance_one_costs_one_row_and_is_the_pipelines_guidance_off(
    networks, pipelines, tmp_path
):
    """A pipeline asked for guidance 1 or less does not guide; ours from 1 upwards is the same, and
    0 is the null network."""
    pipeline = pipelines["sd"]
    expected = theirs(pipeline, ddim(pipeline), 4, w=1.0)
    sigmas = grid_of(pipeline, tmp_path, 4)
    network = networks["sd"]
    drawn = simulation(network, Euler(), sigmas, w=1.0).draw(range(2))
    assert drawn.nfe == 4
    assert apart(expected, drawn.samples) < 3e-6
    null = simulation(network, Euler(), sigmas, w=0.0).draw(range(2))
    empty = simulation(network, Euler(), sigmas, w=1.0, prompts=("", "")).draw(range(2))
    assert null.nfe == 4 and apart(empty.samples, null.samples) < 1e-6
    assert apart(empty.samples, drawn.samples) > 1e-3


def test_rescaling_acts_on_the_prediction():
    """F <- phi F_w std(F_text)/std(F_w) + (1 - phi) F_w, of a denoiser whose F is known."""
    from diffgeo.parameterization import V

    g = generator(1)
    x = torch.randn(3, 4, 5, generator=g, dtype=torch.float64)
    null, text = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
    sigma = torch.tensor([0.5, 2.0, 2.0**24], dtype=torch.float64)
    skip, out, _, _ = V()(sigma)

    def denoise(x, sigma, label=None):
        F = torch.cat([null, text])
        return skip.repeat(2)[:, None, None] * x + out.repeat(2)[:, None, None] * F

    guided = Guided(denoise, 7.5, 0.7, V())(x, sigma, label=torch.zeros(3, dtype=torch.long))
    F = null + 7.5 * (text - null)
    ratio = text.std((1, 2), keepdim=True) / F.std((1, 2), keepdim=True)
    expected = skip[:, None, None] * x + out[:, None, None] * (0.7 * F * ratio + 0.3 * F)
    torch.testing.assert_close(guided, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(UsageError, match="needs a network"):
        Guided(denoise, 7.5, 0.7)


@pytest.mark.parametrize("family", [pytest.param("sd", marks=pytest.mark.slow), "sdxl"])
def test_a_sample_alone_is_that_of_a_batch(networks, family):
    sigmas = Discrete(betas=ScaledLinearBetas()).grid(3)
    prompts = ("a cat", "", "dog", "a dog and a cat")
    network = networks[family]
    condition = network.condition(prompts, 7.5, 0.3)
    run = Simulation(
        GradientEstimation(gamma=2.0), network, sigmas, network.shape, condition=condition
    )
    together = run.draw(range(4)).samples
    for i in range(4):
        assert apart(together[i : i + 1], run.draw(range(i, i + 1)).samples) < 1e-5
    assert apart(together, run.draw(range(4), batch=3).samples) < 1e-5
    # and each was told its own
    assert apart(together[:1], together[1:2]) > 0.1


def test_prompts_are_encoded_a_batch_at_a_time(networks):
    """Of 30 000 prompts those of a batch are ever encoded, and the null text once."""
    network = networks["sd"]
    network.null  # noqa: B018  from here on it is there
    before = network.texts.encoded
    prompts = Prompts(tuple(f"a cat {i}" for i in range(30_000)))
    condition = network.condition(prompts, 7.5)
    assert network.texts.encoded == before
    denoise = condition.around(network, range(29_998, 30_000))
    assert network.texts.encoded == before + 2
    assert denoise.denoise.denoise.embedded.text.shape == (3, 77, 32)
    assert condition.told(range(2)) == {}
    with pytest.raises(UsageError, match="has 30000 prompts, and sample i has prompt i"):
        condition.around(network, range(29_999, 30_001))


# texts


def test_texts_are_the_library_s_cut_and_padded(networks, pipelines, capsys):
    """SD 1 pads with <|endoftext|>, 2 with "!", token 0, which a literal ! then looks like."""
    for family in ("sd", "sd_v"):
        network, pipeline = networks[family], pipelines[family]
        texts = ["a cat!", "x" * 100, ""]
        expected, _ = pipeline.encode_prompt(texts, "cpu", 1, False)
        torch.testing.assert_close(network.texts(texts).text, expected, rtol=0, atol=1e-5)
        assert network.texts.cut(texts) == [1]
        pad = network.texts.parts[0].tokenizer.pad_token
        assert pad == ("!" if family == "sd_v" else "<|endoftext|>")
    condition = networks["sd"].condition(texts, 1.0)
    condition.check(range(3))
    assert "cut: prompt 1 (counted from 0)" in capsys.readouterr().err
    condition.check(range(2, 3))
    assert capsys.readouterr().err == ""


def test_a_tokenizer_without_a_limit_takes_the_encoder_s(folders, tmp_path):
    folder = shutil.copytree(folders["sd"], tmp_path / "copy")
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    encoder = Encoders(read_folder(folder)).parts[0]
    assert encoder.tokenizer.model_max_length > 1e20 and encoder.most == 77


def test_other_sizes(folders, pipelines, tmp_path):
    """SDXL is told the size of its picture."""
    pipeline = pipelines["sdxl"]
    network = latent(folders["sdxl"], height=128, width=64)
    assert network.shape == (4, 16, 8)
    pipeline.scheduler = ddim(pipeline)
    noise = torch.randn(1, 4, 16, 8, generator=generator(2))
    drawn = pipeline(
        "a cat",
        height=128,
        width=64,
        num_inference_steps=3,
        guidance_scale=5.0,
        latents=noise.clone(),
        output_type="latent",
    )
    sigmas = grid_of(pipeline, tmp_path, 3)
    run = Simulation(
        Euler(),
        network,
        sigmas,
        network.shape,
        condition=network.condition(["a cat"], 5.0),
        noise=noise,
        initial=InChart(),
        in_chart=True,
    )
    assert apart(drawn.images, run.draw(range(1)).samples) < 3e-6
    with pytest.raises(UsageError, match="height=100: a latent is 8 pixels wide"):
        latent(folders["sdxl"], height=100)


# weights


def test_weights_fit_name_by_name_or_are_refused(folders, tmp_path):
    """The libraries fill what is missing with random numbers and warn."""
    folder = shutil.copytree(folders["sd"], tmp_path / "copy")
    file = folder / "text_encoder" / "model.safetensors"
    whole = load_file(file)
    name = "embeddings.position_embedding.weight"
    less = {key: value for key, value in whole.items() if key != name}
    wrong = [
        (less, f"{name} is absent in the file, (77, 32) in the network"),
        (whole | {"strange.weight": torch.ones(3)}, "strange.weight is (3,) in the file, absent"),
        (whole | {name: torch.ones(77, 16)}, f"{name} is (77, 16) in the file, (77, 32) in the"),
        (whole | {name: torch.full((77, 32), math.nan)}, "numbers that are not finite"),
    ]
    for tensors, says in wrong:
        save_file(tensors, file)
        with pytest.raises(UsageError, match=re.escape(says)) as caught:
            Encoders(read_folder(folder))
        assert "\n" not in str(caught.value) and "text_encoder" in str(caught.value)


def test_weights_of_older_libraries_load_exactly(folders, networks, tmp_path):
    """Text encoders saved with a prefix and with their positions, autoencoders whose attention has
    other names."""
    folder = shutil.copytree(folders["sd"], tmp_path / "copy")
    file = folder / "text_encoder" / "model.safetensors"
    older = {f"text_model.{name}": value for name, value in load_file(file).items()}
    save_file(older | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, file)
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in load_file(vae).items():
        for today, old in names.items():
            name = name.replace(f".{today}.", f".{old}.")
        renamed[name] = value
    assert any(".proj_attn." in name for name in renamed)
    save_file(renamed, vae)
    network = latent(folder)
    assert torch.equal(network.told(PROMPTS).text, networks["sd"].told(PROMPTS).text)
    assert torch.equal(network.decode(UNIT), networks["sd"].decode(UNIT))


def test_a_configuration_that_describes_no_network(folders, tmp_path):
    for keys, says in (
        ({"norm_num_groups": 7}, "describes no network"),
        ({"strange_key": 1}, "strange_key"),
        ({"layers_per_block": 2}, "absent in the file"),
    ):
        copy = changed(folders["sd"], tmp_path / "-".join(keys), "unet/config.json", **keys)
        with pytest.raises(UsageError, match=says) as caught:
            latent(copy)
        assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_data_of_another_kind(folders):
    class Other:
        shape = (3, 32, 32)

    with pytest.raises(UsageError, match="leave data= out, model=latent brings its own"):
        latent(folders["sd"], data=Other())


@pytest.mark.parametrize(
    "options, says",
    [
        ({"guidance": math.nan}, "guidance=nan: write a finite number"),
        ({"guidance": math.inf}, "guidance=inf"),
        ({"rescale": 1.5}, "guidance_rescale=1.5: write a number from 0"),
        ({"rescale": math.nan}, "guidance_rescale=nan"),
    ],
)
def test_guidance_that_is_none(networks, options, says):
    with pytest.raises(UsageError, match=says):
        networks["sd"].condition(PROMPTS, **options)


def test_an_adaptive_sampler_is_refused(networks):
    with pytest.raises(UsageError, match="an adaptive sampler lets some samples go ahead"):
        networks["sd"].condition(PROMPTS).steered(RK45(), range(2))


# published sizes

SD1 = dict(
    sample_size=64,
    act_fn="silu",
    attention_head_dim=8,
    block_out_channels=[320, 640, 1280, 1280],
    center_input_sample=False,
    cross_attention_dim=768,
    down_block_types=[*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    up_block_types=["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    downsample_padding=1,
    flip_sin_to_cos=True,
    freq_shift=0,
    in_channels=4,
    layers_per_block=2,
    mid_block_scale_factor=1,
    norm_eps=1e-5,
    norm_num_groups=32,
    out_channels=4,
)
SD2 = SD1 | dict(
    sample_size=96,
    attention_head_dim=[5, 10, 20, 20],
    cross_attention_dim=1024,
    dual_cross_attention=False,
    num_class_embeds=None,
    only_cross_attention=False,
    upcast_attention=True,
    use_linear_projection=True,
)
SDXL = SD2 | dict(
    sample_size=128,
    attention_head_dim=[5, 10, 20],
    block_out_channels=[320, 640, 1280],
    cross_attention_dim=2048,
    down_block_types=["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
    up_block_types=[*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
    transformer_layers_per_block=[1, 2, 10],
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
    upcast_attention=None,
    class_embed_type=None,
    encoder_hid_dim=None,
    time_cond_proj_dim=None,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, config, texts, size",
    [
        ("sd", SD1, [(768, None)], 859.5),
        ("sd_v", SD2, [(1024, None)], 865.9),
        ("sdxl", SDXL, [(768, None), (1280, 1280)], 2567.5),
    ],
)
def test_the_configurations_of_the_published_networks_are_read(
    folders, tmp_path, family, config, texts, size
):
    """As their config.json has them [from memory]; their size in millions, latent.md, A10."""
    folder = shutil.copytree(folders[family], tmp_path / "copy")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({"_class_name": "UNet2DConditionModel"} | config))
    for i, (width, projected) in enumerate(texts):
        keys = {"hidden_size": width} | ({"projection_dim": projected} if projected else {})
        edit(folder / f"text_encoder{'_2' if i else ''}" / "config.json", **keys)
    read = read_folder(folder)
    with torch.device("meta"):
        net = diffusers.UNet2DConditionModel(**plain(read.unet))
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count / 1e6 == pytest.approx(size, abs=0.1)
    assert read.sample_size * read.factor == {"sd": 512, "sd_v": 768, "sdxl": 1024}[family]
