"""What the model and the law of an experiment are called where a command says what it measured, and
above its figures.

    choice_of("sampler", node)    heun: the file of conf/ that a node was made from
    names_of(cfg)                 law, model and sampler, as they are typed
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from omegaconf import OmegaConf

from diffgeo.config.line import value_of
from diffgeo.config.plugins import conf_folders
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


TARGET = re.compile(r"_target_: *([\w.]+)")
BEGINS = re.compile(r"^defaults:\n *- (\w+) *$", re.MULTILINE)
PART = "\n---\n"


class Names(NamedTuple):
    """As they are typed: data=curve model=cem sampler=heun, with what makes the law another one."""

    law: str
    model: str
    sampler: str


def names_of(cfg) -> Names:
    """The names of a config, of a run's folder too, which says no choices; "" for what it has
    not."""
    data = cfg.get("data")
    law = choice_of("data", data)
    if law and data.get("ambient") is not None:
        law = f"{law} in R^{data.ambient}"
    if law and data.get("blur"):
        law = f"{law} with noise {data.blur}"
    if law and cfg.get("y") is not None:
        law = f"{law} given y"
    return Names(
        law, choice_of("model", cfg.get("model")), choice_of("sampler", cfg.get("sampler"))
    )


def choice_of(group: str, node) -> str:
    """The choice of a group whose file is nearest to a node of the config: it builds the same
    classes, and fewest of its values are other ones. Of several that say the same the one that
    Hydra was told. Without any, the last word of the class; "" where there is no node."""
    plain = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    if not isinstance(plain, dict) or "_target_" not in plain:
        return ""
    own = leaves(plain)
    built = str(plain["_target_"])
    classes = {str(value) for key, value in own.items() if key.endswith("_target_")}
    found = []
    for path in files_of(group):
        text = whole_text(path)
        named = set(TARGET.findall(text))
        if built in named:
            found.append((len(named & classes) - len(named - classes), path, text))
    most = max((shared for shared, _, _ in found), default=0)
    alike = []
    for shared, path, text in found:
        if shared == most:
            told: dict[str, object] = {}
            for part in text.split(PART):
                told |= leaves(yaml.safe_load(part))
            others = sum(own.get(key) != value for key, value in told.items())
            alike.append((others, path.stem != chosen(group), -len(told), path.stem))
    return min(alike)[-1] if alike else built.rpartition(".")[2]


def whole_text(path: Path) -> str:
    """A file of conf/, after the file of its group that it begins with: unipc_2 is unipc, but."""
    text = path.read_text(encoding="utf-8")
    begins = BEGINS.search(text)
    before = path.with_name(f"{begins[1]}.yaml") if begins else None
    if before is None or not before.is_file():
        return text
    return before.read_text(encoding="utf-8") + PART + text


def chosen(group: str) -> str | None:
    """What Hydra was told to take of a group; None where it runs no command."""
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def files_of(group: str) -> list[Path]:
    """The files of a group, ours and those of the plugins."""
    return [path for folder in conf_folders() for path in sorted((folder / group).glob("*.yaml"))]


def leaves(node: Mapping, prefix: str = "") -> dict[str, object]:
    """The values of a nested config by their dotted keys, without its defaults list."""
    found: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= leaves(value, f"{prefix}{key}.")
        elif key != "defaults":
            found[f"{prefix}{key}"] = value
    return found
