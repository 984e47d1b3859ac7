"""CLIP score: how well pictures go with their prompts (Hessel et al. 2021).

    score = mean over samples of 100 max(cos(image, text), 0)

with CLIP's projected features of picture i and prompt i; torchmetrics' definition. The network is a
local folder of a CLIPModel (config.json, .safetensors, tokenizer, preprocessor_config.json), as
clip-vit-base-patch16 is. Scores of different networks do not compare, so its digest goes with the
number. A picture is resized on its shorter side by Pillow's bicubic filter, cut to the centred
square and normalized, as the folder's preprocessor says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from diffgeo.core import Data, Known, Pictures, Run
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.nets import device_of
from diffgeo.pretrained.latent.files import weight_files
from diffgeo.pretrained.latent.networks import library, plain, tokenizer_in, with_weights
from diffgeo.simulation.condition import Worded
from diffgeo.store.caches import at_home
from diffgeo.store.digest import of_bytes, of_file
from diffgeo.store.files import read_json

OPTION = "metrics.clip.folder"
BICUBIC = 3  # Pillow's number for it
# what a preprocessor does, where its file does not say otherwise
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True)
class Preprocessor:
    """What preprocessor_config.json says: sides in pixels, moments of the three colours."""

    size: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 [n,3,H,W] -> what the network sees, float32 [n,3,crop,crop]."""
        values = torch.stack([self.one(picture) for picture in pictures]).float() / 255
        mean = torch.tensor(self.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.std).view(1, 3, 1, 1)
        return (values - mean) / std

    def one(self, picture: Tensor) -> Tensor:
        """A picture resized and cut, uint8 [3,crop,crop]."""
        import numpy as np
        from PIL import Image

        image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        short, long = sorted(image.size)
        other = int(self.size * long / short)
        sides = (self.size, other) if image.width <= image.height else (other, self.size)
        image = image.resize(sides, Image.Resampling.BICUBIC)
        left = (image.width - self.crop) // 2
        top = (image.height - self.crop) // 2
        image = image.crop((left, top, left + self.crop, top + self.crop))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def preprocessor(folder: Path) -> Preprocessor:
    """The preprocessor of a folder. Raises UsageError on a file that says what is not done here."""
    said = config_of(folder, "preprocessor_config.json")
    for step in STEPS:
        if said.get(step, True) is not True:
            refuse(folder, f"preprocessor_config.json: {step}={said[step]} is not honoured")
    if said.get("resample", BICUBIC) != BICUBIC:
        refuse(folder, f"preprocessor_config.json: resample={said['resample']}, not bicubic (3)")
    size = side(said.get("size"), "shortest_edge")
    crop = side(said.get("crop_size"), "height")
    mean = said.get("image_mean")
    std = said.get("image_std")
    whole = all(isinstance(value, int) and 0 < value <= 4096 for value in (size, crop))
    colours = all(isinstance(listed, list) and len(listed) == 3 for listed in (mean, std))
    if not whole or not colours or crop > size:
        refuse(folder, "preprocessor_config.json has no size, crop_size, image_mean or image_std")
    return Preprocessor(size, crop, tuple(mean), tuple(std))


def side(said, key: str):
    """A side, which a file writes as a number or as {key: number}."""
    return said.get(key) if isinstance(said, dict) else said


def config_of(folder: Path, name: str) -> dict:
    """A JSON object of the folder. Raises UsageError."""
    try:
        found = read_json(folder / name)
    except (OSError, ValueError, RecursionError, DiffgeoError):
        found = None
    if not isinstance(found, dict):
        refuse(folder, f"it has no {name} that can be read")
    return found


def refuse(folder: Path, why: str):
    raise UsageError(f"{OPTION}={folder}: {why}; write the folder of a CLIPModel")


class Clip:
    """A CLIPModel of a folder: features of pictures and of texts, each of length 1."""

    def __init__(self, folder: Path, device: str):
        if not folder.is_dir():
            refuse(folder, "there is no such folder here, and nothing is fetched")
        config = config_of(folder, "config.json")
        if config.get("model_type") != "clip":
            refuse(folder, f"config.json has model_type={config.get('model_type')}, not clip")
        self.preprocess = preprocessor(folder)
        source = f"{OPTION}={folder}"
        files = weight_files(folder, source)
        self.key = of_bytes(*(of_file(file).encode() for file in files))
        transformers = library("transformers")
        kind = transformers.CLIPModel
        net = with_weights(lambda: kind(transformers.CLIPConfig(**plain(config))), files, source)
        self.tokenizer = tokenizer_in(folder, source)
        self.most = net.config.text_config.max_position_embeddings
        self.device = torch.device(device)
        self.net = net.to(self.device)

    @torch.no_grad()
    def pictures(self, pictures: Tensor) -> Tensor:
        """uint8 [n,3,H,W] -> [n,d]."""
        seen = self.preprocess(pictures.cpu()).to(self.device)
        pooled = self.net.vision_model(pixel_values=seen).pooler_output
        return unit(self.net.visual_projection(pooled))

    @torch.no_grad()
    def texts(self, texts: tuple[str, ...]) -> Tensor:
        """-> [n,d]; a text that is too long is cut."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.most,
            return_tensors="pt",
        ).to(self.device)
        pooled = self.net.text_model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).pooler_output
        return unit(self.net.text_projection(pooled))


def unit(x: Tensor) -> Tensor:
    """Rows [n,d] of length 1, on the CPU."""
    return (x / x.norm(dim=1, keepdim=True)).cpu().double()


@lru_cache(maxsize=1)
def load(folder: Path, device: str) -> Clip:
    """The network of a folder, loaded once."""
    return Clip(folder, device)


@dataclass(frozen=True)
class ClipScore(Measure):
    """`clip/score` and its standard error `clip/score_se`, over all samples that have a prompt.

    folder: of a CLIPModel.
    batch: pictures at once.
    device: auto takes the GPU when there is one.
    optional: without a folder there is no value, and no error.
    Raises UsageError.
    """

    folder: str | None = None
    batch: int = 16
    device: str = "auto"
    optional: bool = False

    floors = False
    needs_run = True

    def __post_init__(self):
        if self.batch < 1:
            raise UsageError(f"metrics.clip.batch={self.batch}: write a number from 1")

    @property
    def net(self) -> Clip:
        """The network, loaded once. Raises UsageError."""
        if self.folder is None:
            raise UsageError("a CLIP score needs metrics.clip.folder=DIR, a folder of a CLIPModel")
        return load(at_home(self.folder, OPTION), device_of(self.device))

    @property
    def left_out(self) -> bool:
        """Whether nobody asks for a value."""
        return self.optional and self.folder is None

    def prepare(self, data: Data, n: int) -> None:
        """Load the network. Raises UsageError where there are no prompts to go with."""
        if self.left_out:
            return
        if not isinstance(data, Pictures) or isinstance(data, Known):
            raise UsageError(
                "a CLIP score holds pictures against their prompts, and data= has none: write "
                "model=latent, or another metrics="
            )
        _ = self.net

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if self.left_out or not isinstance(data, Pictures) or run.simulation is None:
            return {}
        condition = run.simulation.condition
        if not isinstance(condition, Worded):
            return {}
        parts = []
        for first in range(0, len(run.samples), self.batch):
            numbers = run.numbers[first : first + self.batch]
            pictures = data.quantize(run.samples[first : first + self.batch])
            cosine = (self.net.pictures(pictures) * self.net.texts(condition.words(numbers))).sum(1)
            parts.append(100 * cosine.clamp(min=0))
        scores = torch.cat(parts)
        values = {"clip/score": float(scores.mean())}
        if len(scores) > 1:
            values["clip/score_se"] = float(scores.std()) / math.sqrt(len(scores))
        return values

    def describe(self, run: Run, data: Data) -> dict:
        if self.left_out:
            return {}
        return {
            "n": len(run.samples),
            "network": Path(self.folder or "").name,
            "weights": self.net.key,
            "formula": "mean of 100 max(cos, 0)",
        }
