"""Make a small diffusers folder of a Stable Diffusion family, 5 MB, with random weights.

    python scripts/latent_folder.py FOLDER [FAMILY]

    sd          Stable Diffusion 1.x: the noise, PNDM with skip_prk_steps; pads with <|endoftext|>
    sd_v        2.x: v, a text encoder with "gelu"; pads with "!", token 0
    sd_zero     v on betas that end in noise alone (Lin et al. 2024), trailing
    sd_sample   the network predicts z_0 itself
    sdxl        two text encoders, a pooled text, time ids, an empty text of zeros

Its files are those of a published folder: the two libraries write them, and the loading code of
diffgeo reads them as it reads gigabytes. What such a network draws is no picture of anything. The
tokenizer knows the bytes and the words "cat" and "dog".
"""

import json
import sys
from pathlib import Path

START = "<|startoftext|>"
END = "<|endoftext|>"
MERGES = ("c a", "ca t</w>", "d o", "do g</w>")
PIXELS = 64  # side of a picture: 8 latents of 8 pixels
UNET = dict(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=8,
    cross_attention_dim=32,
    attention_head_dim=4,
)
VAE = dict(
    sample_size=PIXELS,
    block_out_channels=(16, 16, 16, 32),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=1,
    norm_num_groups=8,
    latent_channels=4,
)
TEXT = dict(
    vocab_size=518,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=77,
    projection_dim=32,
    bos_token_id=516,
    eos_token_id=517,
    pad_token_id=517,
)
SCHEDULER = dict(
    _class_name="PNDMScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
    trained_betas=None,
    clip_sample=False,
)
# what a family changes of the scheduler's file
SCHEDULERS = {
    "sd": {},
    "sd_v": dict(prediction_type="v_prediction"),
    "sd_zero": dict(
        _class_name="DDIMScheduler",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    ),
    "sd_sample": dict(prediction_type="sample"),
    "sdxl": dict(_class_name="EulerDiscreteScheduler", timestep_spacing="leading"),
}


def byte_characters() -> list[str]:
    """The 256 printable characters that stand for bytes in a vocabulary of GPT-2's kind."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def write_tokenizer(folder: Path, pad: str) -> None:
    """The four files of a CLIP tokenizer of 518 tokens."""
    characters = byte_characters()
    words = [*characters, *(character + "</w>" for character in characters)]
    words += ["ca", "cat</w>", "do", "dog</w>", START, END]
    numbered = {word: number for number, word in enumerate(words)}
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    config = special | dict(tokenizer_class="CLIPTokenizer", model_max_length=77)
    folder.mkdir()
    write_json(folder / "vocab.json", numbered)
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", special)
    lines = ["#version: 0.2", *MERGES]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_json(path: Path, value) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_text_encoder(folder: Path, kind: type, **options) -> None:
    from transformers import CLIPTextConfig

    kind(CLIPTextConfig(**(TEXT | options))).save_pretrained(folder)


def make(folder: str | Path, family: str = "sd", seed: int = 0) -> Path:
    """Write the folder, which must not be there yet; returns its path."""
    import torch

    import diffgeo  # noqa: F401  before the libraries: its guard lets torchvision be imported

    # isort: split
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = Path(folder)
    folder.mkdir(parents=True)
    xl = family == "sdxl"
    pad = "!" if family in ("sd_v", "sd_zero") else END
    unet = UNET
    vae = VAE | dict(scaling_factor=0.13025 if xl else 0.18215, force_upcast=xl)
    if xl:
        unet = UNET | dict(
            cross_attention_dim=32 + 48,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
    torch.manual_seed(seed)
    UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
    AutoencoderKL(**vae).save_pretrained(folder / "vae")
    act = "gelu" if pad == "!" else "quick_gelu"
    write_text_encoder(folder / "text_encoder", CLIPTextModel, hidden_act=act)
    write_tokenizer(folder / "tokenizer", pad)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    if xl:
        second = dict(hidden_size=48, intermediate_size=96, projection_dim=24, hidden_act="gelu")
        write_text_encoder(folder / "text_encoder_2", CLIPTextModelWithProjection, **second)
        write_tokenizer(folder / "tokenizer_2", "!")
        index |= {
            "_class_name": "StableDiffusionXLPipeline",
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": True,
        }
    else:
        index |= {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
        }
    scheduler = SCHEDULER | SCHEDULERS[family]
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", index)
    return folder


def main(words: list[str]) -> None:
    known = len(words) < 2 or words[1] in SCHEDULERS
    if len(words) not in (1, 2) or not known or words[0].startswith("-"):
        sys.exit(f"python scripts/latent_folder.py FOLDER [{'|'.join(SCHEDULERS)}]")
    if Path(words[0]).exists():
        sys.exit(f"{words[0]} is there already: write another folder")
    folder = make(*words)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
