"""What a Stable Diffusion folder says, and every folder that is refused: each in one line that
names what is wrong, from JSON and the headers of files alone, before a library is imported."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
from latent_folders import edit, script
from safetensors.torch import save_file

from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.files import read_weights, weight_files
from diffgeo.pretrained.latent.folder import read_folder
from diffgeo.pretrained.latent.prompts import Prompts, read_prompts

MADE = script()
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def weights(folder, part, tensors=None):
    file = folder / part / f"{FILES.get(part, 'model')}.safetensors"
    save_file(tensors or {"weight": torch.arange(6.0).view(2, 3)}, file)
    return file


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder whose JSON is that of scripts/latent_folder.py, and whose weights are one tensor."""
    folder = tmp_path_factory.mktemp("folder") / "sd"
    folder.mkdir()
    MADE.write_json(
        folder / "unet/config.json", {"_class_name": "UNet2DConditionModel"} | MADE.UNET
    )
    MADE.write_json(folder / "vae/config.json", {"_class_name": "AutoencoderKL"} | MADE.VAE)
    MADE.write_json(
        folder / "text_encoder/config.json", {"model_type": "clip_text_model"} | MADE.TEXT
    )
    MADE.write_json(folder / "scheduler/scheduler_config.json", MADE.SCHEDULER)
    MADE.write_tokenizer(folder / "tokenizer", MADE.END)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    MADE.write_json(folder / "model_index.json", index)
    for part in ("unet", "vae", "text_encoder"):
        weights(folder, part)
    return folder


@pytest.fixture
def copy(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "sd")


def refusal(folder) -> str:
    with pytest.raises(UsageError) as caught:
        read_folder(folder)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400
    return said


def test_what_a_folder_says(plain):
    found = read_folder(str(plain))
    assert (found.family, found.channels, found.sample_size, found.factor) == ("sd", 4, 8, 8)
    assert (found.predicts, found.text_width, found.scaling) == ("epsilon", 32, 0.18215)
    assert found.moments is None and not found.empty_is_zero and found.shift == 0
    assert found.scheduler.kind == "PNDMScheduler"
    file = "unet/diffusion_pytorch_model.safetensors"
    assert len(found.digests()) == 3
    assert found.digests()[file] == hashlib.sha256((plain / file).read_bytes()).hexdigest()


@pytest.mark.slow
def test_no_library_is_imported(plain):
    code = (
        "import sys; from diffgeo.pretrained.latent import read_folder; "
        f"read_folder({str(plain)!r}); print({{'diffusers', 'transformers'}} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_no_folder(tmp_path):
    assert "needs model.folder=" in refusal(None)
    # a name that is no folder asks no hub
    assert "is no folder here, and nothing is fetched" in refusal("runwayml/stable-diffusion-v1-5")
    assert "has no model_index.json" in refusal(tmp_path)


BAD = [
    ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "StableDiffusion3Pipeline"),
    ("model_index.json", {"_class_name": "FluxPipeline"}, "_class_name=FluxPipeline: model=latent"),
    ("model_index.json", {"_class_name": None}, "_class_name=None"),
    ("model_index.json", {"_class_name": ["a", "b"]}, "_class_name=['a', 'b']: model=latent"),
    ("model_index.json", {"unet": ["evil", "Runner"]}, "unet=['evil', 'Runner']: StableDiffusion"),
    ("model_index.json", {"text_encoder": None}, "has a CLIPTextModel there"),
    ("model_index.json", {"requires_aesthetics_score": True}, "the refiner of SDXL"),
    ("unet/config.json", {"in_channels": 9}, "in_channels=9: an inpainting network"),
    ("unet/config.json", {"in_channels": 8}, "in_channels=8: an edit network"),
    ("unet/config.json", {"in_channels": 7}, "in_channels=7: an upscaler"),
    ("unet/config.json", {"in_channels": 5}, "in_channels=5: a depth network"),
    ("unet/config.json", {"in_channels": "4"}, "in_channels=4: write a whole number"),
    ("unet/config.json", {"out_channels": 8}, "in_channels=4 and out_channels=8"),
    ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type=timestep"),
    ("unet/config.json", {"time_cond_proj_dim": 256}, "a guidance-distilled network (LCM)"),
    ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type=text_time"),
    ("unet/config.json", {"encoder_hid_dim": 5}, "encoder_hid_dim=5: not honoured"),
    ("unet/config.json", {"cross_attention_dim": 768}, "cross_attention_dim=768, and the text is"),
    ("unet/config.json", {"sample_size": None}, "sample_size=None: write a whole number"),
    ("unet/config.json", {"_class_name": "UNet2DModel"}, "_class_name=UNet2DModel: write the"),
    ("vae/config.json", {"latent_channels": 16}, "latent_channels=16, and the U-Net has"),
    ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "_class_name=AutoencoderTiny"),
    ("vae/config.json", {"scaling_factor": 0}, "scaling_factor=0: write a number above 0"),
    ("vae/config.json", {"latents_mean": [1, 2]}, "latents_mean has 2 entries, and a latent 4"),
    ("vae/config.json", {"block_out_channels": None}, "it has no block_out_channels"),
    ("text_encoder/config.json", {"model_type": "t5"}, "model_type=t5: model=latent reads CLIP's"),
    ("text_encoder/config.json", {"vocab_size": 500}, "is number 517, and its encoder knows 500"),
    ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, 'prediction_type="flow"'),
    ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, '"LCMScheduler"'),
    ("scheduler/scheduler_config.json", {"strange_key": 1}, "strange_key=1"),
    (
        "scheduler/scheduler_config.json",
        {"rescale_betas_zero_snr": True},
        "prediction_type=epsilon divides by alpha = 0",
    ),
]


@pytest.mark.parametrize("file, keys, says", BAD, ids=[f"{f}-{k}" for f, k, _ in BAD])
def test_a_key_that_is_not_honoured_is_refused(copy, file, keys, says):
    edit(copy / file, **keys)
    assert says in refusal(copy)


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_file_that_is_not_there_or_is_damaged(copy, file):
    (copy / file).unlink()
    name, _, suffix = file.rpartition(".")
    assert name.split("/")[0] in refusal(copy)
    (copy / file).write_bytes(b"{[")
    if suffix != "txt":
        assert "cannot be read" in (said := refusal(copy)) or "damaged" in said


def test_pickles_are_not_opened(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    assert "has diffusion_pytorch_model.bin and no .safetensors file: pickles are" in refusal(copy)
    # nor where one is called safetensors
    torch.save({"weight": torch.zeros(3)}, file)
    assert "is damaged or no safetensors file" in refusal(copy)


def test_a_file_that_was_cut_short(copy):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert f"has {len(whole) - 5} bytes, and its header speaks of {len(whole)}" in refusal(copy)
    file.write_bytes(whole[:20])
    assert "is damaged" in refusal(copy)
    file.write_bytes(b"")
    assert "is damaged" in refusal(copy)


def test_half_precision_and_shards(copy):
    """fp16 files and shards that an index lists are taken as one file of float32 is."""
    folder = copy / "unet"
    single = folder / "diffusion_pytorch_model.safetensors"
    (expected,) = read_weights(weight_files(folder, "here"), "here").values()
    single.unlink()
    half = folder / "diffusion_pytorch_model.fp16.safetensors"
    save_file({"weight": expected.half()}, half)
    (held,) = read_weights(weight_files(folder, "here"), "here").values()
    assert held.dtype == torch.float32 and torch.equal(held, expected)
    half.unlink()
    for i, name in enumerate(("a", "b")):
        save_file({name: expected + i}, folder / f"part-{i}.safetensors")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    listed = {"weight_map": {"a": "part-0.safetensors", "b": "part-1.safetensors"}}
    index.write_text(json.dumps(listed))
    found = read_weights(weight_files(folder, "here"), "here")
    assert torch.equal(found["a"], expected) and torch.equal(found["b"], expected + 1)
    assert len(read_folder(copy).weights["unet"]) == 2
    (folder / "part-1.safetensors").unlink()
    assert "part-1.safetensors, which" in refusal(copy)
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd.safetensors"}}))
    assert "is no file beside it" in refusal(copy)
    index.write_text("[]")
    assert "cannot be read" in refusal(copy)


def test_numbers_that_are_none(copy):
    weights(copy, "unet", {"weight": torch.tensor([1.0, float("nan")])})
    with pytest.raises(UsageError, match="weight has 1 of 2 numbers that are not finite"):
        read_weights(read_folder(copy).weights["unet"], "unet")


# prompts


def test_prompts_are_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\r\n\r\nzwei Bäume\u2028im Wind\n".encode())
    assert read_prompts(file).texts == ("a cat", "", "zwei Bäume\u2028im Wind")
    file.write_bytes(b"\n")
    assert read_prompts(file).texts == ("",)
    found = Prompts(("a", "b", "c"))
    assert found.of(range(1, 3)) == ("b", "c")
    with pytest.raises(UsageError, match="has 3 prompts.*write n=3 or less"):
        found.of(range(2, 4))


def test_prompts_of_coco(tmp_path):
    """The images in the order of the file, the last caption of each."""
    file = tmp_path / "captions.json"
    captions = [(7, "A cat."), (3, "A dog."), (7, "The last cat."), (9, "Nobody's.")]
    said = [{"image_id": image, "caption": text} for image, text in captions]
    file.write_text(json.dumps({"images": [{"id": 7}, {"id": 3}], "annotations": said}))
    assert read_prompts(file).texts == ("The last cat.", "A dog.")


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("p.txt", b"", "has no prompt"),
        ("p.txt", b"a cat\n\xff\xfe\n", "is not UTF-8 in line 2"),
        ("p.json", b"{", "is no COCO captions file"),
        ("p.json", b"[1]", "is no COCO captions file"),
        ("p.json", b'{"images": [{"id": 1}], "annotations": []}', "has no 1 where one is needed"),
        ("p.json", b'{"images": []}', "has no 'annotations'"),
        ("p.json", b'{"images": [], "annotations": []}', "has no prompt"),
        (
            "p.json",
            b'{"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": 5}]}',
            "a caption that is no text",
        ),
    ],
)
def test_prompts_that_are_none(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=says) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_file_of_prompts(tmp_path):
    for path, says in ((None, "needs prompts=FILE"), (tmp_path / "no", "no such file")):
        with pytest.raises(UsageError, match=says):
            read_prompts(path)
