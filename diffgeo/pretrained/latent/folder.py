"""What the files of a diffusers folder of a Stable Diffusion family say, read and checked before
anything is built: JSON, and the headers of safetensors files (`files`). No library is imported, and
nothing of the folder is: the names in model_index.json are compared with a list.

    model_index.json   the family: StableDiffusionPipeline (1.x, 2.x), StableDiffusionXLPipeline
    unet/              channels and side of a latent, how wide the text is that it is told
    vae/               picture = VAE(z0/scaling_factor), or z0 std/scaling_factor + mean where the
                       family's pipeline looks at latents_mean and latents_std (SDXL's does);
                       a latent is 2^(blocks - 1) pixels wide
    text_encoder/ ...  CLIP; SDXL has two, and time ids (h, w, 0, 0, h, w) of 6 numbers
    scheduler/         the levels that the network was trained on, and what it predicts

What a key says is honoured or refused by name: inpainting, depth and edit networks (9, 5, 8
channels), LCM, class embeddings, refiners, unCLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.pretrained.latent.files import weight_files
from diffgeo.pretrained.latent.parts import LatentFolder, TextPart
from diffgeo.schedule.scheduler_config import located, read_scheduler
from diffgeo.store.files import read_json

# what model_index.json may name, by the pipeline's class: part -> its class
PARTS = {
    "StableDiffusionPipeline": {
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
    },
    "StableDiffusionXLPipeline": {
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
    },
    "DiTPipeline": {"transformer": "DiTTransformer2DModel", "vae": "AutoencoderKL"},
}
FAMILIES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "DiTPipeline": "dit",  # told a class, not a text
}
TIME_IDS = 6  # SDXL: original height and width, crop, target height and width
# of input channels: what a network is that takes more than a latent
OTHER_NETWORKS = {
    5: "a depth network",
    7: "an upscaler",
    8: "an edit network",
    9: "an inpainting network",
}
# keys of a U-Net that change what it is told -> the values that this room honours
TOLD = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "time_cond_proj_dim": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "center_input_sample": (False,),
    "time_embedding_type": (None, "positional"),
}
WHY = {"time_cond_proj_dim": ": a guidance-distilled network (LCM)"}


def read_folder(folder: str | Path | None) -> LatentFolder:
    """What a local folder says. Raises UsageError of one line on a folder that is none, that is of
    another family, whose files are damaged or absent, or that says what cannot be honoured."""
    if folder is None:
        raise UsageError("model=latent needs model.folder=FOLDER, a local diffusers folder")
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(
            f"model.folder={folder} is no folder here, and nothing is fetched: write the path of a "
            "local Stable Diffusion folder"
        )
    return FolderReader(path).read()


@dataclass(frozen=True)
class FolderReader:
    """The files of a folder, one part after another."""

    path: Path

    def read(self) -> LatentFolder:
        index = self.json("model_index.json", "so it is no diffusers pipeline")
        kind = index.get("_class_name")
        if not isinstance(kind, str) or kind not in FAMILIES:
            self.refuse(
                "model_index.json",
                f"_class_name={kind}: model=latent reads {' and '.join(FAMILIES)} (Stable "
                "Diffusion 1.x, 2.x and SDXL)",
            )
        parts = PARTS[kind]
        for part, expected in parts.items():
            named = index.get(part)
            if not isinstance(named, list) or len(named) != 2 or not is_kind(named[1], expected):
                self.refuse("model_index.json", f"{part}={named}: {kind} has a {expected} there")
        if index.get("requires_aesthetics_score"):
            self.refuse("model_index.json", "requires_aesthetics_score=true: the refiner of SDXL")
        family = FAMILIES[kind]
        unet = self.transformer() if family == "dit" else self.unet(family)
        vae = self.vae(unet)
        texts = [self.text(f"text_encoder{suffix}", parts) for suffix in self.suffixes(family)]
        if texts:
            self.check_text(unet, texts)
        if located(self.path) is None:
            self.refuse("scheduler/scheduler_config.json", "it is not there; restore it")
        denoiser = next(iter(parts))  # unet, or transformer
        networks = [denoiser, "vae", *(text.encoder.name for text in texts)]
        weights = {part: weight_files(self.path / part, self.source(part)) for part in networks}
        return LatentFolder(
            path=self.path,
            family=family,
            unet=unet,
            vae=vae,
            texts=tuple(texts),
            scheduler=read_scheduler(self.path),
            # with SDXL's pipeline true where the file is silent
            empty_is_zero=family == "sdxl" and index.get("force_zeros_for_empty_prompt", True),
            weights=weights,
        )

    @staticmethod
    def suffixes(family: str) -> tuple[str, ...]:
        """Of the text encoders of a family."""
        return {"sd": ("",), "sdxl": ("", "_2")}.get(family, ())

    def transformer(self) -> dict:
        """DiT's config.json: it predicts the noise, and most often a variance after it."""
        name = "transformer/config.json"
        filled = {
            "in_channels": 4,
            "sample_size": 32,
            "patch_size": 2,
            "num_embeds_ada_norm": 1000,
        } | self.network("transformer", "DiTTransformer2DModel")
        for key in ("in_channels", "sample_size", "patch_size", "num_embeds_ada_norm"):
            self.whole(name, filled, key)
        taken = filled["in_channels"]
        given = filled.get("out_channels")
        if given not in (None, taken, 2 * taken):
            self.refuse(
                name, f"out_channels={given}: the noise of {taken} channels, or a variance besides"
            )
        if filled["sample_size"] % filled["patch_size"]:
            self.refuse(name, f"sample_size={filled['sample_size']} is not cut by its patches")
        return filled

    def unet(self, family: str) -> dict:
        name = "unet/config.json"
        unet = self.network("unet", "UNet2DConditionModel")
        filled = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280} | unet
        taken = self.whole(name, filled, "in_channels")
        given = self.whole(name, filled, "out_channels")
        if taken in OTHER_NETWORKS:
            self.refuse(
                name,
                f"in_channels={taken}: {OTHER_NETWORKS[taken]} takes more than a latent; write the "
                "folder of a text-to-image network",
            )
        if taken != given:
            self.refuse(
                name, f"in_channels={taken} and out_channels={given}: a denoiser has as many"
            )
        if isinstance(filled.get("sample_size"), list) and len(set(filled["sample_size"])) == 1:
            filled["sample_size"] = filled["sample_size"][0]
        self.whole(name, filled, "sample_size")
        self.whole(name, filled, "cross_attention_dim")
        for key, values in TOLD.items():
            if key in filled and filled[key] not in values:
                self.refuse(name, f"{key}={filled[key]}{WHY.get(key, '')}: not honoured here")
        told = filled.get("addition_embed_type")
        if (told == "text_time") != (family == "sdxl"):
            self.refuse(name, f"addition_embed_type={told}: SDXL has text_time, the others null")
        return filled

    def vae(self, unet: dict) -> dict:
        name = "vae/config.json"
        vae = self.network("vae", "AutoencoderKL")
        filled = {"latent_channels": 4, "out_channels": 3} | vae
        if not isinstance(filled.get("block_out_channels"), list):
            self.refuse(name, "it has no block_out_channels")
        if self.whole(name, filled, "latent_channels") != unet["in_channels"]:
            self.refuse(
                name,
                f"latent_channels={filled['latent_channels']}, and the U-Net has "
                f"in_channels={unet['in_channels']}",
            )
        if filled["out_channels"] != 3:
            self.refuse(name, f"out_channels={filled['out_channels']}: a picture has 3")
        scaling = filled.get("scaling_factor", 0.18215)
        if not isinstance(scaling, int | float) or not scaling > 0:
            self.refuse(name, f"scaling_factor={scaling}: write a number above 0")
        for key in ("latents_mean", "latents_std"):
            listed = filled.get(key)
            if listed and len(listed) != filled["latent_channels"]:
                self.refuse(
                    name,
                    f"{key} has {len(listed)} entries, and a latent {filled['latent_channels']} "
                    "channels",
                )
        return filled

    def text(self, part: str, parts: Mapping[str, str]) -> TextPart:
        name = f"{part}/config.json"
        config = self.json(name, f"so {part} is no text encoder")
        if config.get("model_type", "clip_text_model") != "clip_text_model":
            self.refuse(name, f"model_type={config['model_type']}: model=latent reads CLIP's")
        filled = {
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "hidden_size": 512,
            "projection_dim": 512,
        } | config
        width = self.whole(name, filled, "hidden_size")
        tokenizer = part.replace("text_encoder", "tokenizer")
        self.check_vocabulary(tokenizer, self.whole(name, filled, "vocab_size"))
        kind = parts[part]
        projects = kind.endswith("Projection")
        return TextPart(
            encoder=self.path / part,
            tokenizer=self.path / tokenizer,
            kind=kind,
            config=config,
            most=self.whole(name, filled, "max_position_embeddings"),
            width=width,
            projected=self.whole(name, filled, "projection_dim") if projects else None,
        )

    def check_vocabulary(self, tokenizer: str, size: int) -> None:
        """Every token of a tokenizer is one that its encoder knows."""
        name = f"{tokenizer}/vocab.json"
        tokens = self.json(name, "so it is no CLIP tokenizer")
        if not tokens or not all(type(number) is int for number in tokens.values()):
            self.refuse(name, "it is no list of tokens and their numbers")
        token, largest = max(tokens.items(), key=lambda item: item[1])
        if largest >= size:
            self.refuse(
                name, f"token {token!r} is number {largest}, and its encoder knows {size} tokens"
            )
        if not (self.path / tokenizer / "merges.txt").is_file():
            self.refuse(f"{tokenizer}/merges.txt", "it is not there; restore it")

    def check_text(self, unet: dict, texts: list[TextPart]) -> None:
        """The U-Net is told a text as wide as the encoders make it."""
        width = sum(text.width for text in texts)
        if unet["cross_attention_dim"] != width:
            self.refuse(
                "unet/config.json",
                f"cross_attention_dim={unet['cross_attention_dim']}, and the text is {width} wide",
            )
        if len(texts) == 1:
            return
        if len({text.most for text in texts}) > 1:
            self.refuse("text_encoder_2/config.json", "its texts are of another length")
        ids = self.whole("unet/config.json", unet, "addition_time_embed_dim")
        expected = TIME_IDS * ids + (texts[-1].projected or 0)
        if unet.get("projection_class_embeddings_input_dim") != expected:
            self.refuse(
                "unet/config.json",
                "projection_class_embeddings_input_dim="
                f"{unet.get('projection_class_embeddings_input_dim')}, and {TIME_IDS} time ids and "
                f"a pooled text make {expected} (the refiner of SDXL has 5 ids)",
            )

    def network(self, part: str, kind: str) -> dict:
        """The config.json of a network of this class."""
        name = f"{part}/config.json"
        config = self.json(name, f"so its {part} is no network")
        if config.get("_class_name", kind) != kind:
            self.refuse(name, f"_class_name={config['_class_name']}: write the folder of a {kind}")
        return config

    def json(self, name: str, so: str) -> dict:
        file = self.path / name
        if not file.is_file():
            raise UsageError(
                f"model.folder={self.path} has no {name}, {so}: write a Stable Diffusion folder"
            )
        try:
            found = read_json(file)
        except (DiffgeoError, RecursionError) as error:
            raise UsageError(
                f"model.folder={self.path}: {name} cannot be read; restore it"
            ) from error
        if not isinstance(found, dict):
            self.refuse(name, "it is no object, {...}")
        return found

    def whole(self, name: str, config: dict, key: str) -> int:
        value: Any = config.get(key)
        if type(value) is not int or value < 1:
            self.refuse(name, f"{key}={value}: write a whole number from 1")
        return value

    def source(self, part: str) -> str:
        return f"model.folder={self.path}: {part}"

    def refuse(self, name: str, why: str) -> NoReturn:
        raise UsageError(f"{self.source(name)}: {why}")


def is_kind(named: object, expected: str) -> bool:
    """Whether a class of model_index.json is the expected one, be it called fast."""
    return named in (expected, f"{expected}Fast")
