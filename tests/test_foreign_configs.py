"""A diffusers folder's scheduler_config.json and config.json: every key does what it does in
diffusers, or is refused by name."""

import inspect
import json
import shutil

import pytest
import torch
from test_pretrained import network, pictures

from diffgeo.config.stepping import check_stepping
from diffgeo.denoiser import Clipped
from diffgeo.errors import UsageError
from diffgeo.pretrained import diffusers
from diffgeo.pretrained.folder import KNOWN as MODEL_KEYS
from diffgeo.sampler import DDPM, Euler, steps
from diffgeo.schedule.discrete import (
    CosineBetas,
    Discrete,
    EvenTimesteps,
    LinearBetas,
    ScaledLinearBetas,
)
from diffgeo.schedule.of_diffusers import ZeroTerminal
from diffgeo.schedule.scheduler_config import (
    KNOWN,
    LEVELLED,
    NAME,
    folder_schedule,
    read_scheduler,
)
from diffgeo.simulation import Loop

library = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    net = network(layers_per_block=1, block_out_channels=(32, 32, 32))
    net.save_pretrained(folder)
    return folder, net


@pytest.fixture
def weights(made, tmp_path):
    """A folder of the test's own with a small network, and the network."""
    folder, net = made
    return shutil.copytree(folder, tmp_path / "network"), net


def scheduler(folder, **config):
    (folder / NAME).write_text(json.dumps(config))
    return read_scheduler(folder)


def change(folder, entries):
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(whole | entries))


# the levels


@pytest.mark.parametrize(
    "betas", [LinearBetas(), ScaledLinearBetas(), CosineBetas(), LinearBetas(T=50, last=0.3)]
)
def test_algorithm_1_of_lin_et_al_in_closed_form(betas):
    """s_t = sqrt(abar_t) is shifted so that the last is 0 and scaled so that the first stays."""
    s = torch.cumprod(1 - betas(), 0).sqrt()
    rescaled = ZeroTerminal(betas)()
    ours = torch.cumprod(1 - rescaled, 0).sqrt()
    torch.testing.assert_close(ours, s[0] * (s - s[-1]) / (s[0] - s[-1]), rtol=1e-10, atol=1e-15)
    assert rescaled[-1] == 1 and ours[-1] == 0 and ours[0] == s[0]
    # the level of noise alone is finite, and so high that no float32 sees the signal
    levels = Discrete(betas=ZeroTerminal(betas)).levels
    assert (
        levels.isfinite().all()
        and (levels.diff() > 0).all()
        and float(levels[-1]) == pytest.approx(2**24)
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "sigmoid", "beta_end": 0.03},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
        {"trained_betas": [0.01, 0.1, 0.3, 0.9], "num_train_timesteps": 4},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"trained_betas": [0.01, 0.1, 0.3, 1.0], "num_train_timesteps": 4}
        | {"prediction_type": "v_prediction"},
    ],
)
def test_the_levels_are_those_of_diffusers(tmp_path, config):
    theirs = library.DDPMScheduler(**config)
    theirs.save_config(tmp_path)
    ours = read_scheduler(tmp_path)
    assert ours.predicts == theirs.config.prediction_type
    abar = 1 / (1 + Discrete(betas=ours.betas).levels ** 2)
    torch.testing.assert_close(abar, theirs.alphas_cumprod.double(), rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("config", [{"rescale_betas_zero_snr": True}, {"trained_betas": [0.1, 1]}])
def test_noise_alone_is_refused_where_noise_is_predicted(tmp_path, config):
    with pytest.raises(UsageError, match="noise alone .*prediction_type=epsilon divides by alpha"):
        scheduler(tmp_path, **config)
    assert scheduler(tmp_path, **config, prediction_type="sample").predicts == "sample"


# the steps


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1])
def test_the_timesteps_are_those_of_diffusers(tmp_path, kind, spacing, offset):
    theirs = getattr(library, kind)(timestep_spacing=spacing, steps_offset=offset)
    theirs.save_config(tmp_path)
    ours = folder_schedule(str(tmp_path))
    for n in (1, 2, 3, 7, 18, 50, 300, 999, 1000):
        theirs.set_timesteps(n)
        if n == 1000 and spacing == "leading" and offset:
            assert theirs.timesteps[0] == 1000  # of 0 .. 999: diffusers fails in its first step
            with pytest.raises(UsageError, match="at timestep 1000 of 1000.*at most steps=999"):
                ours.grid(n)
            continue
        expected = ours.levels[theirs.timesteps]
        assert ours.grid(n).tolist() == [*expected.tolist(), 0.0]


def test_the_last_step_ends_at_the_lowest_level_where_the_file_says_so(tmp_path):
    scheduler(tmp_path, _class_name="DDIMScheduler", set_alpha_to_one=False, steps_offset=1)
    grid = folder_schedule(str(tmp_path)).grid(10)
    assert grid.tolist() == Discrete().levels[[*range(901, 0, -100), 0]].tolist()


def path(theirs, net, x, n, **options):
    theirs.set_timesteps(n)
    for t in theirs.timesteps:
        x = theirs.step(net(x, t).sample, t, x, **options).prev_sample
    return x


ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    "config",
    [
        {"clip_sample": False},
        {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
        {"clip_sample": True, "clip_sample_range": 2.0},
        {"thresholding": True, "dynamic_thresholding_ratio": 0.9},  # sample_max_value=1: clipping
        {"clip_sample": False, "timestep_spacing": "trailing"} | ZERO_SNR,
        {"clip_sample": False, "prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"},
    ],
)
def test_a_path_of_ddim_is_that_of_diffusers(weights, tmp_path, config):
    """Ten steps with one network from one noise, in the library and here with the options that the
    file asks for."""
    folder, net = weights
    theirs = library.DDIMScheduler(**config)
    theirs.save_config(folder)
    denoise = diffusers(pictures(), folder=str(folder))
    asked = denoise.scheduler
    grid = folder_schedule(str(folder)).grid(10)
    check_stepping(denoise, Euler(), grid, Loop(clip=asked.clip))
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = path(theirs, net, noise, 10, use_clipped_model_output=asked.clip is not None)
        estimate = denoise if asked.clip is None else Clipped(denoise, asked.clip)
        x = noise.double() * (1 + grid[0] ** 2).sqrt()
        *_, last = steps(Euler(), estimate, x, grid, None)
    found = last.x / (1 + last.sigma**2) ** 0.5
    scale = expected.double().abs().mean()
    torch.testing.assert_close(found / scale, expected.double() / scale, rtol=0, atol=2e-3)


@pytest.mark.parametrize("word", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_a_path_of_ddpm_is_that_of_diffusers(weights, word):
    """With the noise that the library draws; fixed_large without the step to 0, to which diffusers
    adds none."""
    folder, net = weights
    theirs = library.DDPMScheduler(variance_type=word, timestep_spacing="trailing")
    theirs.save_config(folder)
    denoise = diffusers(pictures(), folder=str(folder))
    grid = folder_schedule(str(folder)).grid(10)
    sampler = DDPM(variance=denoise.scheduler.variance)
    check_stepping(denoise, sampler, grid, Loop(clip=1.0))
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    draws = torch.Generator().manual_seed(4)
    drawn = torch.Generator().manual_seed(4)
    states = []
    with torch.no_grad():
        theirs.set_timesteps(10)
        x = noise
        for t in theirs.timesteps[:9]:
            x = theirs.step(net(x, t).sample, t, x, generator=draws).prev_sample
            states.append(x)
        ours = steps(
            sampler,
            Clipped(denoise, 1.0),
            noise.double() * (1 + grid[0] ** 2).sqrt(),
            grid,
            lambda: torch.randn(noise.shape, generator=drawn).double(),
        )
        for expected, step in zip(states, ours, strict=False):
            found = step.x / (1 + step.sigma**2) ** 0.5
            torch.testing.assert_close(found, expected.double(), rtol=0, atol=2e-3)


# what the command has to say


def asked(folder, *, sampler=None, loop=None, grid=None, **options):
    denoise = diffusers(pictures(), folder=str(folder), **options)
    grid = Discrete(timesteps=EvenTimesteps()).grid(10) if grid is None else grid
    check_stepping(denoise, sampler or Euler(), grid, loop or Loop())


@pytest.mark.parametrize(
    "config, says, write",
    [
        ({"clip_sample": True}, "clip_sample=true", "loop.clip=1"),
        (
            {"clip_sample": True, "clip_sample_range": 2.5},
            "clip_sample=true clip_sample_range=2.5",
            "loop.clip=2.5",
        ),
        (
            {"thresholding": True, "sample_max_value": 3, "dynamic_thresholding_ratio": 0.9},
            "thresholding=true dynamic_thresholding_ratio=0.9 sample_max_value=3",
            "model.scheduler=levels loop.threshold=0.9",
        ),
        ({"timestep_spacing": "leading"}, 'timestep_spacing="leading"', "sampler.schedule=diffus"),
        ({"steps_offset": 1}, "steps_offset=1", "sampler.schedule=diffusers"),
    ],
)
def test_what_the_file_asks_for_has_to_be_written(weights, config, says, write):
    folder, _ = weights
    scheduler(folder, **config)
    with pytest.raises(UsageError) as caught:
        asked(folder)
    said = str(caught.value)
    assert says in said and write in said and "\n" not in said and "model.scheduler=levels" in said
    asked(folder, scheduler="levels")


def test_a_command_that_does_what_the_file_says_is_taken(weights):
    folder, _ = weights
    # google/ddpm-cifar10-32
    google = {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": "0.1.1",
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "clip_sample": True,
        "num_train_timesteps": 1000,
        "trained_betas": None,
        "variance_type": "fixed_large",
    }
    scheduler(folder, **google)
    asked(folder, loop=Loop(clip=1.0))
    asked(folder, loop=Loop(clip=1.0), sampler=DDPM(variance="beta"))
    with pytest.raises(UsageError, match='variance_type="fixed_large".*write sampler.variance=bet'):
        asked(folder, loop=Loop(clip=1.0), sampler=DDPM())
    # a grid of the same levels by another name
    scheduler(folder, timestep_spacing="trailing")
    asked(folder, grid=folder_schedule(str(folder)).grid(10))
    asked(folder, grid=torch.cat([Discrete().grid(10)[:-1], torch.zeros(1)]))
    scheduler(folder)
    asked(folder)


# keys


@pytest.mark.parametrize(
    "config, says",
    [
        ({"prediction_type": "flow"}, 'prediction_type="flow": it is unknown'),
        ({"beta_schedule": "laplace"}, 'beta_schedule="laplace": it is unknown'),
        ({"timestep_spacing": "even"}, 'timestep_spacing="even": it is unknown'),
        ({"variance_type": "learned_range"}, 'variance_type="learned_range": it is unknown'),
        ({"beta_start": "0.1"}, 'beta_start="0.1": write a number'),
        ({"beta_start": 0.5}, "beta_start=0.5, beta_end=0.02: write 0 < first"),
        ({"num_train_timesteps": True}, "num_train_timesteps=true: write a whole number"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps=1000000000: write a whole number"),
        ({"trained_betas": []}, "trained_betas is no list"),
        ({"trained_betas": [0.1, 1, 0.2]}, r"trained_betas\[1\]=1: write"),
        ({"trained_betas": [0.1, float("nan")]}, r"trained_betas\[1\]=nan: write"),
        ({"trained_betas": [0.1, 0.2], "num_train_timesteps": 3}, "num_train_timesteps=3, and"),
        ({"clip_sample": "yes"}, 'clip_sample="yes": write true or false'),
        ({"clip_sample": True, "clip_sample_range": 0}, "clip_sample_range=0: write"),
        ({"steps_offset": -1}, "steps_offset=-1: write a whole number from 0"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas=true: diffgeo has false alone"),
        ({"timestep_type": "continuous"}, 'timestep_type="continuous": diffgeo has "discrete"'),
        ({"snr_shift_scale": 3.0}, "snr_shift_scale=3.0: diffgeo does not know this key"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, '_class_name="FlowMatchEuler'),
    ],
)
def test_keys_that_are_not_honoured_are_refused_by_name(tmp_path, config, says):
    with pytest.raises(UsageError, match=says) as caught:
        scheduler(tmp_path, **config)
    assert NAME in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "nothing"])
def test_a_file_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UsageError, match=NAME) as caught:
        read_scheduler(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", LEVELLED)
def test_every_key_of_diffusers_own_schedulers_is_known(tmp_path, kind):
    theirs = getattr(library, kind)()
    theirs.save_config(tmp_path)
    saved = {key for key in json.loads((tmp_path / NAME).read_text()) if key[0] != "_"}
    assert len(saved) > 7 and saved <= KNOWN
    ours = Discrete(betas=read_scheduler(tmp_path).betas)
    # the default levels are the same for all of them
    torch.testing.assert_close(ours.levels, Discrete().levels)


def test_another_scheduler_is_taken_for_its_levels_alone(weights):
    folder, _ = weights
    library.EulerAncestralDiscreteScheduler(beta_end=0.01).save_config(folder)
    with pytest.raises(UsageError, match="is of EulerAncestralDiscreteSched.*scheduler=levels"):
        asked(folder)
    asked(folder, scheduler="levels")
    denoise = diffusers(pictures(), folder=str(folder), scheduler="levels")
    assert denoise.parameterization.noise.trained.betas == LinearBetas(last=0.01)
    with pytest.raises(UsageError, match="whose steps diffgeo does not lay: write another schedu"):
        folder_schedule(str(folder))


def test_every_key_of_a_unet2dmodel_is_known():
    keys = set(inspect.signature(library.UNet2DModel.__init__).parameters) - {"self"}
    assert len(keys) > 25 and keys == MODEL_KEYS


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type=fourier is not that of"),
        ({"class_embed_type": "timestep"}, "class_embed_type=timestep is not that of"),
        ({"num_class_embeds": 10}, "num_class_embeds=10 is not that of"),
        ({"_class_name": "UNet2DConditionModel"}, "_class_name=UNet2DConditionModel"),
        ({"attention_type": "gated"}, "attention_type=gated in its config.json is unknown"),
        ({"norm_num_groups": None}, "norm_num_groups=None in its config.json: write"),
        ({"layers_per_block": 10**9}, "layers_per_block is above 100"),
        ({"layers_per_block": True}, "layers_per_block=True"),
        ({"block_out_channels": [32, "64", 64]}, "block_out_channels="),
        ({"block_out_channels": [32, 64]}, "down_block_types has 3 entries"),
        ({"attention_head_dim": 0}, "attention_head_dim=0"),
        ({"flip_sin_to_cos": 1}, "flip_sin_to_cos=1"),
        ({"sample_size": "16"}, "sample_size=16: write null"),
    ],
)
@pytest.mark.parametrize("implementation", ["diffgeo", "diffusers"])
def test_networks_of_another_kind_are_refused_by_the_key(weights, changed, says, implementation):
    folder, _ = weights
    change(folder, changed)
    with pytest.raises(UsageError, match=says) as caught:
        diffusers(pictures(), folder=str(folder), implementation=implementation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"act_fn": "mish"},
        {"center_input_sample": True},
        {"mid_block_scale_factor": 2},
        {"add_attention": False},
        {"attn_norm_num_groups": 8},
        {"time_embedding_dim": 64},
        {"downsample_type": "resnet"},
        {"upsample_type": "resnet"},
        {"mid_block_type": None},
        {"resnet_time_scale_shift": "scale_shift"},
        {"downsample_padding": 2},
        {"block_out_channels": [32, 48, 64]},
    ],
)
def test_what_our_network_does_not_do_is_left_to_the_library(weights, changed):
    folder, _ = weights
    change(folder, changed)
    with pytest.raises(UsageError, match=f"{next(iter(changed))}=.*implementation=diffusers"):
        diffusers(pictures(), folder=str(folder))
