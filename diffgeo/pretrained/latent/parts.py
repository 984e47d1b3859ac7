"""What was read of a diffusers folder of a Stable Diffusion family (`folder`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffgeo.schedule.scheduler_config import SchedulerConfig
from diffgeo.store.digest import of_file


@dataclass(frozen=True)
class TextPart:
    """A text encoder and its tokenizer.

    encoder, tokenizer: their folders.
    config: of the encoder.
    most: how many tokens it takes.
    width: of a token's state, projected: of the text's, where it has one.
    """

    encoder: Path
    tokenizer: Path
    kind: str
    config: dict
    most: int
    width: int
    projected: int | None


@dataclass(frozen=True)
class LatentFolder:
    """A folder that was read.

    path: the folder, as it was named.    family: sd or sdxl.
    unet, vae: their config.json.    texts: one text encoder, or SDXL's two.
    scheduler: what scheduler_config.json says.
    empty_is_zero: whether guidance that leads away from nothing leads away from a text of zeros.
    weights: the safetensors files of each part, by its name.
    """

    path: Path
    family: str
    unet: dict
    vae: dict
    texts: tuple[TextPart, ...]
    scheduler: SchedulerConfig
    empty_is_zero: bool
    weights: Mapping[str, tuple[Path, ...]]

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.unet["in_channels"]

    @property
    def sample_size(self) -> int:
        """The side of a latent that the U-Net was trained on."""
        return self.unet["sample_size"]

    @property
    def factor(self) -> int:
        """Pixels a latent, along a side."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def predicts(self) -> str:
        """epsilon, v_prediction or sample."""
        return self.scheduler.predicts

    @property
    def text_width(self) -> int:
        return self.unet["cross_attention_dim"]

    @property
    def scaling(self) -> float:
        return self.vae.get("scaling_factor", 0.18215)

    @property
    def shift(self) -> float:
        return self.vae.get("shift_factor") or 0.0

    @property
    def moments(self) -> tuple[list[float], list[float]] | None:
        """latents_mean and latents_std [C], where there are both and the pipeline looks at them."""
        mean = self.vae.get("latents_mean")
        std = self.vae.get("latents_std")
        return (mean, std) if self.family == "sdxl" and mean and std else None

    def source(self, part: str) -> str:
        """How messages call a part of the folder."""
        return f"model.folder={self.path}: {part}"

    def digests(self) -> dict[str, str]:
        """The sha256 of every weight file, by its name in the folder."""
        files = [file for part in self.weights.values() for file in part]
        return {file.relative_to(self.path).as_posix(): of_file(file) for file in files}
