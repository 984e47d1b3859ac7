"""What the model and the law of an experiment are called where a command says what it measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffgeo.config.line import value_of
from diffgeo.core import Data, Denoiser, ImageSet
from diffgeo.denoiser import trainable


def model_name(model: Denoiser, cfg) -> str:
    """exact, gaussian, gaussian_classes, identity, or learned."""
    return "learned" if trainable(model) else cfg.model["_target_"].rpartition(".")[2]


def law_name(data: Data, cfg, overrides: Sequence[str]) -> str:
    """As `data=` was typed, else of a set of images its own name, else its class's; of points with
    their dimension, of images with their number and whether they are mirrored."""
    name = value_of("data", list(overrides)) or cfg.data.get("name")
    if name is None:
        name = cfg.data.get("law", cfg.data)["_target_"].rpartition(".")[2].lower()
    if not isinstance(data, ImageSet):
        return f"{name} in R^{math.prod(data.shape)}"
    mirrored = " and their mirror images" if data.flip else ""
    return f"{name} ({len(data)} images{mirrored})"
