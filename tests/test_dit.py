"""A class-conditional DiT folder against diffusers' own pipeline, and folders that are none."""

import json
import shutil

import numpy as np
import pytest
import torch

from diffgeo.config.beginning import of_schedule
from diffgeo.denoiser import Guided, Labelled
from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.dit import decoder, dit
from diffgeo.pretrained.latent.model import latent
from diffgeo.sampler import Euler, steps
from diffgeo.schedule.scheduler_config import folder_schedule
from diffgeo.simulation import ClassLabel

library = pytest.importorskip("diffusers")
CLASSES = 1000  # the pipeline has no other
SIDE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("dit")
    transformer = library.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        out_channels=8,
        num_layers=2,
        norm_num_groups=8,
        sample_size=SIDE,
        num_embeds_ada_norm=CLASSES,
    )
    with torch.no_grad():
        for weight in transformer.parameters():  # zeros, as adaLN begins, would tell no class
            weight.add_(0.05 * torch.randn(weight.shape))
    vae = library.AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    scheduler = library.DDIMScheduler(clip_sample=False, set_alpha_to_one=False)
    pipeline = library.DiTPipeline(transformer.eval(), vae.eval(), scheduler)
    pipeline.save_pretrained(path)
    return path, pipeline


def ran(denoise, labels, scale, noise):
    """Ten steps of DDIM on the folder's own grid from x_t ~ N(0, I), told these classes."""
    schedule = folder_schedule(str(denoise.folder.path))
    sigmas = schedule.grid(10)
    start = of_schedule(schedule)(noise.double(), float(sigmas[0]))
    told = Labelled(Guided(denoise, scale), torch.tensor(labels))
    with torch.no_grad():
        *_, last = steps(Euler(), told, start, sigmas, None)
    return last.x / (1 + last.sigma**2) ** 0.5


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_samples_are_those_of_the_pipeline(folder, scale, monkeypatch):
    path, pipeline = folder
    denoise = dit(path)
    noise = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    pipeline.set_progress_bar_config(disable=True)
    module = "diffusers.pipelines.dit.pipeline_dit.randn_tensor"
    monkeypatch.setattr(module, lambda *a, **k: noise.clone())
    found = {}
    monkeypatch.setattr(
        pipeline.vae, "decode", lambda z: found.update(z=z) or library.AutoencoderKL.decode(vae, z)
    )
    vae = library.AutoencoderKL.from_pretrained(path / "vae")
    expected = pipeline([3, 7], guidance_scale=scale, num_inference_steps=10, output_type="np")
    latents = found["z"] * pipeline.vae.config.scaling_factor
    ours = ran(denoise, [3, 7], scale, noise)
    assert float((ours - latents).abs().max() / latents.abs().max()) < 3e-6
    pictures = decoder(denoise.folder)(ours).permute(0, 2, 3, 1).numpy().astype(int)
    theirs = np.round(255 * expected.images).astype(int)
    assert np.abs(pictures - theirs).max() <= 1
    # the class is heard
    other = ran(denoise, [4, 7], scale, noise)
    assert float((other[0] - ours[0]).abs().max()) > 1e-3
    torch.testing.assert_close(other[1], ours[1], rtol=0, atol=1e-5)


def test_a_class_is_a_label_as_of_any_network(folder):
    denoise = dit(folder[0])
    assert denoise.classes == CLASSES and denoise.conditional and denoise.pretrained
    condition = ClassLabel("all", 4.0, denoise.classes)
    assert condition.labels(range(998, 1002)).tolist() == [998, 999, 0, 1]
    with pytest.raises(UsageError, match="a class from 0 to 999"):
        ClassLabel(1000, 4.0, denoise.classes)
    # no label and -1 are the class after the last
    x = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    none = denoise(x, 2.0)
    torch.testing.assert_close(denoise(x, 2.0, label=torch.tensor([-1, -1])), none)
    F = denoise.net.net(
        x / 5**0.5,
        timestep=denoise.parameterization(torch.full((2,), 2.0)).noise,
        class_labels=torch.full((2,), CLASSES),
    ).sample
    torch.testing.assert_close(none, x - 2.0 * F[:, :4], rtol=1e-5, atol=1e-5)


def changed(folder, tmp_path, name, **entries):
    path = shutil.copytree(folder[0], tmp_path / "copy")
    config = json.loads((path / name).read_text()) | entries
    (path / name).write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    "name, entries, says",
    [
        ("transformer/config.json", {"out_channels": 7}, "out_channels=7: the noise of 4 channels"),
        ("transformer/config.json", {"sample_size": 7}, "sample_size=7 is not cut by its patches"),
        ("transformer/config.json", {"norm_type": "layer"}, "describes no network: .*layer"),
        ("transformer/config.json", {"num_layers": 3}, "transformer"),
        ("transformer/config.json", {"_class_name": "PixArt"}, "_class_name=PixArt: write the"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts the noise"),
        ("vae/config.json", {"latent_channels": 8}, "latent_channels=8"),
    ],
)
def test_folders_that_are_no_dit(folder, tmp_path, name, entries, says):
    path = changed(folder, tmp_path, name, **entries)
    with pytest.raises(UsageError, match=says) as caught:
        dit(path)
    assert "\n" not in str(caught.value)


def test_a_dit_is_told_no_prompt_and_no_other_size(folder):
    with pytest.raises(UsageError, match="write model=dit, and label="):
        latent(folder[0])
    with pytest.raises(UsageError, match="model=dit needs model.folder="):
        dit(None)

    class Larger:
        shape = (4, 16, 16)

    with pytest.raises(UsageError, match="leave height= and width= out, or write 16"):
        dit(folder[0], data=Larger())


@pytest.mark.slow
def test_the_command_draws_the_pictures_of_the_pipeline(folder, inside, tmp_path, monkeypatch):
    """Classes 0 and 1 from one noise, decoded as the pipeline decodes: a byte apart at most."""
    path, pipeline = folder
    noise = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    np.save(tmp_path / "noise.npy", noise.numpy())
    done = inside(
        *("sample", "model=dit", f"model.folder={path}", "label=all", "guidance=4"),
        *("noise=noise.npy", "sampler.steps=10", "device=cpu", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    module = "diffusers.pipelines.dit.pipeline_dit.randn_tensor"
    monkeypatch.setattr(module, lambda *a, **k: noise.clone())
    theirs = pipeline([0, 1], guidance_scale=4.0, num_inference_steps=10, output_type="np").images
    ours = np.load(tmp_path / "run" / "samples.npy").astype(int)
    assert np.abs(ours - np.round(255 * theirs).astype(int)).max() <= 1
    assert np.load(tmp_path / "run" / "labels.npy").tolist() == [0, 1]
